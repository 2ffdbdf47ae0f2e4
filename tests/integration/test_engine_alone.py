"""An engine's promises, seen from the wire: real supervisor, real executors, no master."""

# ruff: noqa: T201 - the tasks print, since that is what is tested

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbcluster.core.model import Run, Verdict
from nbcluster.engine.capture import LIMIT_BYTES
from nbcluster.errors import PermanentFailure
from nbcluster.transport.page import Page, page_name
from nbcluster.wire import messages as m
from tests.helpers import eventually
from tests.integration.fake_master import DEADLINE_S, Engine, FakeMaster, start_engine

StartEngine = Callable[..., Engine]


@pytest.fixture
def root() -> Iterator[Path]:
    # Not below tmp_path: the path of an ipc socket may have 107 characters at the most.
    path = Path(tempfile.mkdtemp(prefix="nb", dir="/tmp"))
    path.chmod(0o700)
    (path / "work").mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def stack(root: Path) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def master(root: Path, stack: ExitStack) -> FakeMaster:
    new = FakeMaster(root)
    stack.callback(new.close)
    return new


@pytest.fixture
def start(root: Path, master: FakeMaster, stack: ExitStack) -> StartEngine:
    def start(*flags: str, **options: Any) -> Engine:
        engine = start_engine(root, *flags, cwd=root / "work", **options)
        stack.callback(engine.stop)
        return engine

    return start


@pytest.fixture
def engine(start: StartEngine) -> Engine:
    return start()


@pytest.fixture
def next_master(root: Path, stack: ExitStack) -> Callable[[int], FakeMaster]:
    """Return a function that lets another master take over."""

    def next_master(epoch: int) -> FakeMaster:
        new = FakeMaster(root, epoch)
        stack.callback(new.close)
        return new

    return next_master


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pid_of(master: FakeMaster, executor: str) -> int:
    return next(x.pid for x in master.heard(m.ExecutorHello) if x.executor == executor)


def files_of(root: Path) -> list[str]:
    return sorted(os.listdir(root / "run"))


# --------------------------------------------------------------------------- what executors run


def _wait(path: str, value: Any = None) -> Any:
    import os
    import time

    while not os.path.exists(path):
        time.sleep(0.01)
    return value


def _sleep(path: str) -> None:
    import time

    open(path, "w").close()
    time.sleep(60)


def _stubborn(path: str) -> None:
    import time

    while True:
        try:
            open(path, "w").close()
            time.sleep(60)
        except KeyboardInterrupt:
            continue


# --------------------------------------------------------------------------- results


def test_a_value_comes_back(engine: Engine, master: FakeMaster) -> None:
    token = master.run(lambda a, b: a + b, 40, 2)

    assert master.value(token) == 42
    assert master.outcome(token).verdict == Verdict.VALUE


def test_an_engine_may_be_started_before_its_master(root: Path, stack: ExitStack) -> None:
    (root / "run").mkdir()
    engine = start_engine(root, cwd=root / "work")
    stack.callback(engine.stop)
    eventually(lambda: files_of(root))  # its executor is there already

    master = FakeMaster(root)
    stack.callback(master.close)

    assert master.value(master.run(lambda: 1)) == 1


def test_an_exception_comes_back_with_the_frames_of_user_code(
    engine: Engine, master: FakeMaster
) -> None:
    def inner() -> None:
        raise ZeroDivisionError("by zero")

    token = master.run(lambda f: f(), inner)
    error = master.outcome(token).error

    assert error is not None
    assert (error.type, error.message) == ("ZeroDivisionError", "by zero")
    assert "in inner" in error.traceback
    assert "nbcluster" not in error.traceback
    assert isinstance(master.value(token), ZeroDivisionError)
    assert master.outcome(token).retryable


def test_what_may_be_retried_is_told_by_classes(engine: Engine, master: FakeMaster) -> None:
    def fail(kind: str) -> None:
        raise {"os": FileNotFoundError, "key": KeyError, "exit": SystemExit}[kind]()

    tokens = [
        master.run(fail, "os", retry_on=(OSError,)),
        master.run(fail, "key", retry_on=(OSError,)),
        master.run(fail, "exit", retry_on=(SystemExit,)),
        master.run(fail, "exit"),
    ]

    assert [master.outcome(t).retryable for t in tokens] == [True, False, True, False]
    assert {master.outcome(t).verdict for t in tokens} == {Verdict.EXCEPTION}


def test_a_permanent_failure_is_not_retryable(engine: Engine, master: FakeMaster) -> None:
    def fail() -> None:
        from nbcluster.errors import PermanentFailure

        raise PermanentFailure("never again")

    token = master.run(fail)

    assert master.outcome(token).verdict == Verdict.PERMANENT
    assert not master.outcome(token).retryable
    assert isinstance(master.value(token), PermanentFailure)


def test_an_exception_may_ask_for_a_wait(engine: Engine, master: FakeMaster) -> None:
    def fail(wait: Any) -> None:
        error = OSError("busy")
        error.retry_after = wait  # type: ignore[attr-defined]
        raise error

    waits = [1.5, 0, -1, float("nan"), "soon", None]
    tokens = [master.run(fail, wait) for wait in waits]

    asked = [master.outcome(t).retry_after for t in tokens]
    assert asked == [1.5, 0.0, None, None, None, None]


def test_a_value_that_cannot_travel_is_named(engine: Engine, master: FakeMaster) -> None:
    def bad() -> object:
        return {"stream": (i for i in range(3))}

    outcome = master.outcome(master.run(bad))

    assert outcome.verdict == Verdict.UNDECODABLE
    assert outcome.error is not None
    assert "generator" in outcome.error.message
    assert "result" in outcome.error.message


def test_of_an_exception_that_cannot_travel_the_text_does(
    engine: Engine, master: FakeMaster
) -> None:
    def bad() -> None:
        raise ValueError("so sad", (i for i in range(3)))

    outcome = master.outcome(master.run(bad))

    assert outcome.verdict == Verdict.UNDECODABLE
    assert outcome.error is not None
    assert outcome.error.type == "ValueError"
    assert "so sad" in outcome.error.message
    assert "in bad" in outcome.error.traceback


def test_what_cannot_be_loaded_is_told(engine: Engine, master: FakeMaster) -> None:
    token = master.run(lambda: 1)
    master.outcome(token)
    executor = master.executor()
    run = Run("broken", token + 100, 1, master.define(lambda: 1), b"\x80no pickle")

    master.send(executor, m.Runs(0, [], [run]))
    outcome = master.outcome(token + 100)

    assert outcome.verdict in (Verdict.UNDECODABLE, Verdict.UNKNOWN_FUNCTION)


def test_an_unknown_function_is_asked_for(engine: Engine, master: FakeMaster) -> None:
    executor = master.executor()

    master.send(executor, m.Runs(0, [], [Run("t", 7, 1, "no such hash", b"")]))

    assert master.outcome(7).verdict == Verdict.UNKNOWN_FUNCTION


def test_a_coroutine_is_run_to_its_end(engine: Engine, master: FakeMaster) -> None:
    async def twice(x: int) -> int:
        import asyncio

        await asyncio.sleep(0)
        return 2 * x

    assert master.value(master.run(twice, 4)) == 8


def test_results_of_many_runs_come_in_order(engine: Engine, master: FakeMaster) -> None:
    tokens = master.run_all([(lambda i: i, (i,)) for i in range(300)])
    master.outcome(tokens[-1])

    assert list(master.outcomes()) == tokens


def test_results_do_not_wait_behind_a_long_attempt(engine: Engine, master: FakeMaster) -> None:
    gate = master.root / "gate"
    master.outcome(master.run(lambda: 0))
    first, second, long = master.run_all([(lambda: 1, ()), (lambda: 2, ()), (_wait, (str(gate),))])

    assert master.value(first) == 1
    assert master.value(second) == 2
    gate.touch()
    master.outcome(long)


def test_results_leave_even_if_they_are_not_acknowledged(
    engine: Engine, master: FakeMaster
) -> None:
    master.acks = False

    assert [master.value(master.run(lambda i: i, i)) for i in range(3)] == [0, 1, 2]


# --------------------------------------------------------------------------- what runs


def test_an_outcome_tells_when_its_attempt_began_and_for_how_long_it_ran(
    engine: Engine, master: FakeMaster
) -> None:
    gate = master.root / "gate"
    before = time.time()
    token = master.run(_wait, str(gate))
    master.begun(token)
    seen = time.time()
    gate.touch()

    outcome = master.outcome(token)

    assert before <= outcome.started_at <= seen
    assert seen <= outcome.started_at + outcome.duration_s <= time.time()


def test_a_start_is_told_while_the_attempt_runs(engine: Engine, master: FakeMaster) -> None:
    master.outcome(master.run(lambda: 0))
    gate = master.root / "gate"
    token = master.run(_wait, str(gate))

    master.begun(token)

    assert token not in master.outcomes()
    beat = next(b for b in master.heard(m.Beat) if b.running)
    assert beat.running[0][:2] == (master.executor(), token)
    assert 0 < beat.running[0][2] < 10
    assert beat.rss_bytes > 1 << 20
    gate.touch()
    master.outcome(token)


def test_progress_is_told_while_the_attempt_runs(engine: Engine, master: FakeMaster) -> None:
    def work(path: str) -> tuple[str, str, int, int]:
        import os
        import time

        from nbcluster.current import current_task

        task = current_task()
        assert task is not None
        task.progress(3, 10, "épochs")
        while not os.path.exists(path):
            time.sleep(0.01)
        return task.id, task.name, task.attempt, task.token

    gate = master.root / "gate"
    token = master.run(work, str(gate))
    master.until(lambda: any(b.progress for b in master.heard(m.Beat)))
    gate.touch()
    told = next(b.progress for b in master.heard(m.Beat) if b.progress)

    assert [(t, p.done, p.total, p.message) for t, p in told] == [(token, 3.0, 10.0, "épochs")]
    assert master.value(token) == ("t1", "task", 1, token)


def test_there_is_no_current_task_in_this_process() -> None:
    from nbcluster.current import current_task

    assert current_task() is None


# --------------------------------------------------------------------------- output


def test_output_comes_with_the_result(engine: Engine, master: FakeMaster) -> None:
    def talk(word: str) -> None:
        import ctypes
        import os
        import subprocess
        import sys

        print(word)
        print("unfinished", end="")
        print("trouble", file=sys.stderr)
        sys.stdout.flush()
        os.write(1, b" raw")
        subprocess.run(["echo", " child"], check=True)
        ctypes.CDLL(None).printf(b"from C")

    first, second = master.run_all([(talk, ("one",)), (talk, ("two",))])

    assert master.outcome(first).stdout == b"one\nunfinished raw child\nfrom C"
    assert master.outcome(second).stdout == b"two\nunfinished raw child\nfrom C"
    assert master.outcome(second).stderr == b"trouble\n"


def test_output_is_sent_while_the_attempt_runs(engine: Engine, master: FakeMaster) -> None:
    def talk(path: str) -> None:
        import os
        import sys
        import time

        print("first line")
        print("oh", file=sys.stderr)
        while not os.path.exists(path):
            time.sleep(0.01)
        print("last")

    gate = master.root / "gate"
    token = master.run(talk, str(gate))
    master.until(lambda: len([c for o in master.heard(m.Output) for c in o.chunks]) >= 2)
    gate.touch()
    chunks = [c for o in master.heard(m.Output) for c in o.chunks]

    assert sorted(chunks[:2]) == [(token, 1, 0, b"first line\n"), (token, 2, 0, b"oh\n")]
    assert master.outcome(token).stdout == b"first line\nlast\n"


def test_no_more_than_a_bound_is_sent_of_what_an_attempt_writes(
    engine: Engine, master: FakeMaster
) -> None:
    def shout(path: str) -> None:
        import os
        import time

        from nbcluster.current import current_task

        print("x" * (1 << 20))
        while not os.path.exists(path):
            time.sleep(0.01)
        task = current_task()
        assert task is not None
        task.progress(1)
        while os.path.exists(path):
            time.sleep(0.01)

    def sent() -> int:
        return sum(len(c[3]) for o in master.heard(m.Output) for c in o.chunks)

    gate = master.root / "gate"
    token = master.run(shout, str(gate))
    master.until(lambda: sent() >= 256 << 10)
    gate.touch()
    master.until(lambda: any(b.progress for b in master.heard(m.Beat)))  # so it was looked at
    gate.unlink()
    master.outcome(token)

    assert sent() == 256 << 10
    assert all(len(c[3]) <= 64 << 10 for o in master.heard(m.Output) for c in o.chunks)


def test_endless_output_fills_neither_disk_nor_memory(engine: Engine, master: FakeMaster) -> None:
    def shout(limit: int) -> int:
        import os
        import time

        def on_disk() -> int:
            return os.fstat(1).st_blocks * 512

        total = 0
        print("begin")
        for _ in range(6):
            while on_disk() <= limit:
                total += os.write(1, b"x" * (1 << 20))
            while on_disk() > limit:  # until the supervisor has given the middle back
                time.sleep(0.005)
        total += os.write(1, b"x" * (1 << 20))
        print("end")
        return total

    executor = master.executor()
    out = master.root / "run" / page_name(executor).replace(".page", ".out")
    master.outcome(master.run(lambda: print("before")))
    token = master.run(shout, LIMIT_BYTES)
    total, text = master.value(token), master.outcome(token).stdout

    head, _, rest = text.partition("\n… ".encode())
    number, _, tail = rest.partition(" bytes left out …\n".encode())
    assert head.startswith(b"begin\n")
    assert tail.endswith(b"xend\n")
    assert len(tail) == 64 << 10
    assert total > 190 << 20
    assert len(head) + int(number) + len(tail) == len("begin\nend\n") + total
    assert len(head) == 64 << 10
    assert out.stat().st_size < 1 << 20
    assert master.outcome(master.run(lambda: print("next"))).stdout == b"next\n"


def test_a_file_that_an_attempt_left_long_is_emptied(engine: Engine, master: FakeMaster) -> None:
    executor = master.executor()
    out = master.root / "run" / page_name(executor).replace(".page", ".out")

    master.outcome(master.run(lambda: print("x" * (2 << 20))))

    assert out.stat().st_size == 0
    assert master.outcome(master.run(lambda: print("next"))).stdout == b"next\n"


# --------------------------------------------------------------------------- what is left behind


def test_an_attempt_leaves_nothing_behind(engine: Engine, master: FakeMaster) -> None:
    def spoil() -> None:
        import io
        import os
        import signal
        import sys

        os.chdir("/")
        sys.stdout = io.StringIO()
        sys.stderr.close()
        sys.setrecursionlimit(77_000)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 60)

    def look() -> tuple[str, int, bool, float]:
        import os
        import signal
        import sys

        print("seen")
        print("seen too", file=sys.stderr)
        is_ours = callable(signal.getsignal(signal.SIGINT))
        return os.getcwd(), sys.getrecursionlimit(), is_ours, signal.getitimer(0)[0]

    first, second = master.run_all([(spoil, ()), (look, ())])
    cwd, limit, is_ours, timer = master.value(second)

    assert master.outcome(first).verdict == Verdict.VALUE
    assert cwd == str(master.root / "work")
    assert (limit, is_ours, timer) == (1000, True, 0.0)
    assert master.outcome(second).stdout == b"seen\n"
    assert master.outcome(second).stderr == b"seen too\n"


@pytest.mark.parametrize("how", ["close", "redirect"])
def test_descriptors_of_the_output_are_put_back(
    engine: Engine, master: FakeMaster, how: str
) -> None:
    def spoil(how: str, path: str) -> None:
        import os

        print("before")
        if how == "close":
            os.close(1)
        else:
            os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), 1)
            print("to a file")

    path = master.root / "elsewhere"
    first, second = master.run_all([(spoil, (how, str(path))), (lambda: print("seen"), ())])

    assert master.outcome(first).stdout == b"before\n"
    assert master.outcome(second).stdout == b"seen\n"


def test_a_forked_child_does_not_come_back_as_a_second_executor(
    engine: Engine, master: FakeMaster
) -> None:
    def fork() -> int:
        import os

        child = os.fork()
        if child == 0:
            return -1
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    token = master.run(fork)

    assert master.value(token) == 0
    assert len([o for f in master.heard(m.Finished) for o in f.outcomes]) == 1
    assert master.value(master.run(lambda: 5)) == 5


def test_user_code_has_a_main_module_of_its_own_and_no_input(
    engine: Engine, master: FakeMaster
) -> None:
    def look() -> tuple[list[str], str]:
        import sys

        names = [n for n in vars(sys.modules["__main__"]) if not n.startswith("__")]
        try:
            input()
        except EOFError:
            return names, sys.path[0]
        return names, "input() waited"

    names, first = master.value(master.run(look))

    assert not {"main", "birth", "argv"} & set(names)
    assert first == str(master.root / "work")


# --------------------------------------------------------------------------- deaths


@pytest.mark.parametrize(
    ("code", "signal_name", "exit_code"),
    [
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV", -signal.SIGSEGV),
        ("import os; os._exit(3)", "exit code 3", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL", -signal.SIGKILL),
    ],
)
def test_a_death_is_told_with_its_attempt_and_last_words(
    engine: Engine, master: FakeMaster, code: str, signal_name: str, exit_code: int
) -> None:
    def die(code: str) -> None:
        import sys

        print("to stdout")
        print("last words", file=sys.stderr)
        exec(code)

    executor = master.executor()
    token = master.run(die, code)
    death = master.death()

    assert (death.executor, death.token, death.expected) == (executor, token, False)
    assert (death.signal, death.exit_code) == (signal_name, exit_code)
    assert death.stdout == b"to stdout\n"
    assert "last words" in death.stderr
    assert "nbcluster" not in death.stderr
    assert death.peak_bytes > 5 << 20
    assert master.value(master.run(lambda: 1)) == 1  # a new one is there
    assert master.executor() == executor.replace(".1", ".2")


def test_what_a_dead_executor_forked_dies_with_it(engine: Engine, master: FakeMaster) -> None:
    def die(path: str) -> None:
        import os
        import subprocess

        child = subprocess.Popen(["sleep", "60"])
        with open(path, "w") as file:
            file.write(str(child.pid))
        os._exit(1)

    path = master.root / "pid"
    master.run(die, str(path))
    master.death()

    eventually(lambda: not is_alive(int(path.read_text())))


def test_executors_that_die_at_birth_are_not_started_without_end(
    start: StartEngine, master: FakeMaster
) -> None:
    engine = start("--import", "no_such_module_anywhere")

    master.until(lambda: len(master.heard(m.ExecutorDied)) >= 3)

    waits = re.findall(r"started in (\S+) s", engine.log.read_text())
    assert waits[:3] == ["0.1", "0.2", "0.4"]
    assert "no_such_module_anywhere" in master.death().stderr
    assert master.death().token == 0


def test_too_much_memory_is_an_exception_of_the_task(
    start: StartEngine, master: FakeMaster
) -> None:
    start("--memory-limit", str(400 << 20))

    token = master.run(lambda: len(bytearray(1 << 30)))

    error = master.value(token)
    assert isinstance(error, MemoryError)
    assert "limit of 400 MiB (memory_limit=)" in str(error)
    assert master.value(master.run(lambda: 1)) == 1


# --------------------------------------------------------------------------- kill and revoke


def test_a_kill_order_interrupts_the_attempt(engine: Engine, master: FakeMaster) -> None:
    executor, gate = master.executor(), master.root / "began"
    token = master.run(_sleep, str(gate))
    eventually(gate.exists)

    master.order(m.Kill(executor, token, "cancel", 10.0))

    assert master.outcome(token).verdict == Verdict.INTERRUPTED
    assert master.value(master.run(lambda: 1)) == 1
    assert master.executor() == executor


def test_who_ignores_the_interrupt_is_killed_after_the_grace(
    engine: Engine, master: FakeMaster
) -> None:
    executor, gate = master.executor(), master.root / "began"
    token = master.run(_stubborn, str(gate))
    eventually(gate.exists)

    master.order(m.Kill(executor, token, "timeout", 0.1))
    death = master.death()

    assert (death.token, death.signal, death.expected) == (token, "SIGKILL", True)


def test_an_order_for_what_only_waits_does_not_call_off_the_interrupt_of_what_runs(
    engine: Engine, master: FakeMaster
) -> None:
    executor, gate = master.executor(), master.root / "began"
    running, waiting = master.run_all([(_sleep, (str(gate),)), (lambda: 1, ())])
    eventually(gate.exists)
    os.kill(pid_of(master, executor), signal.SIGSTOP)  # so that both orders come before it looks

    master.order(m.Revoke(executor, waiting))
    master.order(m.Kill(executor, running, "cancel", 60.0))
    master.order(m.Kill(executor, waiting, "cancel", 60.0))
    master.order(m.Revoke(executor, waiting))
    master.until(lambda: len(master.heard(m.Revoked)) == 2)  # so the orders were carried out
    os.kill(pid_of(master, executor), signal.SIGCONT)

    assert master.outcome(running).verdict == Verdict.INTERRUPTED
    assert master.heard(m.ExecutorDied) == []


def test_a_late_kill_order_hits_nobody(engine: Engine, master: FakeMaster) -> None:
    executor, gate = master.executor(), master.root / "gate"

    over = master.run(lambda: 1)
    master.outcome(over)
    token = master.run(_wait, str(gate), "whole")
    master.begun(token)
    master.order(m.Kill(executor, over, "cancel", 0.0))
    os.kill(pid_of(master, executor), signal.SIGINT)  # as if it had come a moment too late
    master.order(m.Revoke(executor, over))
    master.until(lambda: master.heard(m.Revoked))  # so the order was carried out
    gate.touch()

    assert master.value(token) == "whole"
    assert master.heard(m.ExecutorDied) == []


def test_an_interrupt_of_user_code_itself_is_an_exception(
    engine: Engine, master: FakeMaster
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    outcome = master.outcome(master.run(interrupt))

    assert (outcome.verdict, outcome.retryable) == (Verdict.EXCEPTION, False)


def test_what_is_revoked_never_begins(engine: Engine, master: FakeMaster) -> None:
    executor, gate = master.executor(), master.root / "gate"

    first, second, third = master.run_all([(_wait, (str(gate),)), (lambda: 1, ()), (lambda: 2, ())])
    master.begun(first)
    master.order(m.Revoke(executor, second))
    answer = master.until(lambda: master.heard(m.Revoked))[0]
    gate.touch()
    master.outcome(third)

    assert (answer.executor, answer.watermark, answer.current) == (executor, second, first)
    assert list(master.outcomes()) == [first, third]


def test_the_answer_to_a_revoke_counts_what_has_ended(engine: Engine, master: FakeMaster) -> None:
    executor = master.executor()
    token = master.run(lambda: 1)
    master.outcome(token)

    master.order(m.Revoke(executor, token + 5))

    assert master.until(lambda: master.heard(m.Revoked))[0].current == token


def test_each_attempt_either_ends_or_is_told_to_have_been_stopped(
    engine: Engine, master: FakeMaster
) -> None:
    def busy(seconds: float) -> None:
        import time

        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass

    draw = random.Random(7)
    executor, sent, orders = master.executor(), list[int](), 0
    for _ in range(300):
        calls = [(busy, (draw.choice([0, 0, 2e-4]),)) for _ in range(draw.randint(1, 30))]
        tokens = master.run_all(calls)
        sent += tokens
        if draw.random() < 0.7:
            master.order(m.Revoke(executor, draw.choice(tokens)))
            orders += 1
        for _ in range(draw.randint(0, 3)):
            master.turn(0.0005)
    master.outcome(master.run(lambda: None))
    master.until(lambda: len(master.heard(m.Revoked)) == orders)

    ended = set(master.outcomes())
    stopped = {
        t
        for answer in master.heard(m.Revoked)
        for t in sent
        if answer.current < t <= answer.watermark
    }
    assert ended & stopped == set()
    assert set(sent) - ended - stopped == set()
    assert stopped


# --------------------------------------------------------------------------- setups


def test_setups_run_once_and_before_the_next_run(engine: Engine, master: FakeMaster) -> None:
    def push() -> None:
        import builtins

        builtins.pushed = getattr(builtins, "pushed", 0) + 1  # type: ignore[attr-defined]

    def look() -> int:
        import builtins

        return builtins.pushed  # type: ignore[attr-defined, no-any-return]

    master.set_up(1, push)
    master.until(lambda: master.heard(m.SetupDone))
    master.set_up(1, push)
    master.until(lambda: len(master.heard(m.SetupDone)) == 2)

    assert [(s.version, s.error) for s in master.heard(m.SetupDone)] == [(1, ""), (1, "")]
    assert master.value(master.run(look)) == 1


def test_a_setup_that_fails_is_told_and_ends_the_executor(
    engine: Engine, master: FakeMaster
) -> None:
    def fail() -> None:
        raise RuntimeError("no database")

    master.set_up(4, fail)
    answer = master.until(lambda: master.heard(m.SetupDone))[0]

    assert answer.version == 4
    assert "RuntimeError: no database" in answer.error
    assert master.death().exit_code == 78


def test_a_setup_that_can_be_done_without_is_told_and_the_executor_goes_on(
    engine: Engine, master: FakeMaster
) -> None:
    def fail() -> None:
        raise RuntimeError("no such module")

    master.set_up(4, fail, is_vital=False)
    answer = master.until(lambda: master.heard(m.SetupDone))[0]

    assert (answer.version, answer.error) == (4, "")
    ((version, error),) = answer.without
    assert version == 4
    assert "RuntimeError: no such module" in error
    assert master.value(master.run(lambda: 7)) == 7


# --------------------------------------------------------------------------- slots


def test_slots_grow_and_shrink(engine: Engine, master: FakeMaster) -> None:
    first = master.executor()

    master.order(m.SetSlots(3))
    master.until(lambda: len(master.executors()) == 3)
    master.order(m.SetSlots(1))
    master.until(lambda: len(master.executors()) == 1)

    assert master.executors() == [first]
    assert all(d.expected and d.token == 0 for d in master.heard(m.ExecutorDied))


def test_an_executor_too_many_finishes_what_it_runs(engine: Engine, master: FakeMaster) -> None:
    gate = master.root / "gate"
    token = master.run(_wait, str(gate), "done")
    master.begun(token)
    master.order(m.SetSlots(0))
    master.order(m.Revoke(master.executor(), token))
    master.until(lambda: master.heard(m.Revoked))
    gate.touch()

    assert master.value(token) == "done"
    assert master.death().expected
    assert master.death().token == 0


def test_a_restart_replaces_all_executors(start: StartEngine, master: FakeMaster) -> None:
    start("--slots", "2")
    old = master.until(lambda: master.executors() if len(master.executors()) == 2 else [])

    master.order(m.Restart())

    master.until(lambda: len(master.executors()) == 2 and not set(master.executors()) & set(old))
    assert all(death.expected for death in master.heard(m.ExecutorDied))


# --------------------------------------------------------------------------- the end


def test_leave_ends_everything(engine: Engine, master: FakeMaster, root: Path) -> None:
    pid = pid_of(master, master.executor())
    master.outcome(master.run(lambda: 1))

    master.order(m.Leave("test"))

    assert engine.wait() == 0
    master.until(lambda: master.heard(m.Bye))
    assert not is_alive(pid)
    assert files_of(root) == []
    assert engine.process.stdout is not None
    assert b"processed 1" in engine.process.stdout.read()


def test_the_first_signal_asks_for_a_drain_and_the_second_stops(
    engine: Engine, master: FakeMaster
) -> None:
    gate = master.root / "began"
    token = master.run(_sleep, str(gate))
    eventually(gate.exists)

    os.kill(engine.pid, signal.SIGTERM)
    master.until(lambda: master.heard(m.DrainWanted))
    assert engine.process.poll() is None
    assert token not in master.outcomes()
    os.kill(engine.pid, signal.SIGINT)

    assert engine.wait() == 0


def test_a_refused_engine_says_why_and_ends(start: StartEngine, master: FakeMaster) -> None:
    master.refuse = "this key is wrong"
    engine = start()
    master.until(lambda: engine.process.poll() is not None)

    assert engine.wait() == 3
    assert engine.process.stderr is not None
    assert b"this key is wrong" in engine.process.stderr.read()


@pytest.mark.parametrize("how", ["fd", "pid"])
def test_an_engine_ends_with_its_owner(
    start: StartEngine, master: FakeMaster, root: Path, how: str
) -> None:
    owner = subprocess.Popen(["sleep", "60"])
    reader, writer = os.pipe()
    flags = ["--owner-fd", str(reader)] if how == "fd" else ["--owner-pid", str(owner.pid)]
    engine = start(*flags, pass_fds=[reader])
    os.close(reader)
    pid = pid_of(master, master.executor())
    master.run(_stubborn, str(root / "began"))
    eventually((root / "began").exists)

    os.close(writer)
    owner.kill()
    owner.wait()

    assert engine.wait() == 0
    assert not is_alive(pid)
    assert files_of(root) == []


def test_executors_die_with_a_killed_supervisor_and_their_pages_stay(
    engine: Engine, master: FakeMaster, root: Path
) -> None:
    executor = master.executor()
    token = master.run(_stubborn, str(root / "began"))
    eventually((root / "began").exists)

    os.kill(engine.pid, signal.SIGKILL)
    engine.wait()

    eventually(lambda: not is_alive(pid_of(master, executor)))
    assert Page.read_current(root / "run" / page_name(executor))[0] == token


# --------------------------------------------------------------------------- another master


def test_a_new_master_finds_engine_and_executors_with_what_they_hold(
    engine: Engine, master: FakeMaster, next_master: Callable[[int], FakeMaster], root: Path
) -> None:
    master.outcome(master.run(lambda: 0))
    master.acks = False
    lost = master.run(lambda: "lost")
    master.outcome(lost)
    running, waiting = master.run_all([(_wait, (str(root / "gate"), "kept")), (lambda: "last", ())])
    master.begun(running)
    name, executor = master.engine(), master.executor()
    master.close()

    second = next_master(2)
    hello = second.until(lambda: second.heard(m.EngineHello))[0]
    (root / "gate").touch()
    greeting = second.until(lambda: second.heard(m.ExecutorHello))[0]

    assert hello.engine == name
    assert hello.executors == ((executor, running),)
    assert set(greeting.holds) >= {lost, running}
    assert [second.value(t) for t in (lost, running, waiting)] == ["lost", "kept", "last"]
    assert second.value(second.run(lambda: "new")) == "new"


def test_an_idle_executor_follows_the_master_at_once(
    engine: Engine, master: FakeMaster, next_master: Callable[[int], FakeMaster]
) -> None:
    master.outcome(master.run(lambda: 0))
    master.close()

    second = next_master(2)

    assert second.value(second.run(lambda: 1)) == 1


def test_a_death_while_there_is_no_master_is_told_to_the_next(
    root: Path, stack: ExitStack, next_master: Callable[[int], FakeMaster]
) -> None:
    stand_in = subprocess.Popen(["sleep", "60"])  # the process that the engine takes for the master
    stack.callback(stand_in.wait)
    stack.callback(stand_in.kill)
    master = FakeMaster(root, pid=stand_in.pid)
    stack.callback(master.close)
    engine = start_engine(root, cwd=root / "work")
    stack.callback(engine.stop)
    executor = master.executor()
    token = master.run(_sleep, str(root / "began"))
    eventually((root / "began").exists)

    stand_in.kill()
    stand_in.wait()
    master.close()
    eventually(lambda: "the master is dead" in engine.log.read_text(), DEADLINE_S)
    os.kill(pid_of(master, executor), signal.SIGSEGV)
    eventually(lambda: "SIGSEGV" in engine.log.read_text(), DEADLINE_S)
    second = next_master(2)

    assert second.death().token == token
    # It is named in the greeting too, or the new master would have written it off by now.
    assert (executor, token) in second.heard(m.EngineHello)[0].executors


def is_removed(root: Path) -> bool:
    """Remove a directory in which others may still make files; return whether it is gone."""
    shutil.rmtree(root, ignore_errors=True)
    return not root.exists()


def test_an_engine_ends_when_its_cluster_is_gone(root: Path, stack: ExitStack) -> None:
    stand_in = subprocess.Popen(["sleep", "60"])
    stack.callback(stand_in.wait)
    stack.callback(stand_in.kill)
    master = FakeMaster(root, pid=stand_in.pid)
    stack.callback(master.close)
    engine = start_engine(root, cwd="/")
    stack.callback(engine.stop)
    master.executor()

    stand_in.kill()
    eventually(lambda: is_removed(root))

    assert engine.wait() == 0
