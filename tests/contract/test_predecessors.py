"""The checks of the five systems before us that this part of nbcluster answers for.

Each test is one row of the list of predecessors; the letter and number in its docstring are the
row's. Clusters are shared: what a test counts, it counts for its own tasks or as a difference.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

import nbcluster
from nbcluster import Backoff, Cluster, Future
from tests.conftest import Up
from tests.helpers import eventually

END_S: Final = 20.0
AT_ONCE: Final = Backoff(0)


def divide() -> float:
    return 1 / 0


def fails_until(path: str, times: int) -> int:
    """Raise OSError ``times`` times, then return how often it was called."""
    with open(path, "ab") as file:
        file.write(b".")
        count = file.tell()
    if count <= times:
        raise OSError(f"call {count}")
    return count


def waits_for(path: str, value: Any = None) -> Any:
    """Return once there is a file: a task that runs until the test lets it go."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return value


def kill(cluster: Cluster, engine: str, number: int = signal.SIGKILL) -> None:
    os.kill(int(cluster.engines().pid[engine]), number)


def row(cluster: Cluster, future: Future[Any]) -> Any:
    return cluster.tasks().loc[future.id]


@pytest.fixture(scope="module")
def two(module_up: Up) -> Cluster:
    """Return a cluster that is told to have two engines; a test may kill them."""
    return module_up(2)


@pytest.fixture
def engines(two: Cluster) -> Callable[[], list[str]]:
    """Return a function that gives the two engines of ``two`` once both are ready."""

    def ready() -> list[str]:
        two.scale(2)
        two.wait_for_engines(2, END_S)
        return list(two.engines().query("state == 'active'").index)

    return ready


# --------------------------------------------------------------------------- mawex


def test_a_slot_runs_one_task_and_the_others_are_pending(one: Cluster, gate: Path) -> None:
    """M2, T12."""
    before = one.stats()

    futures = [one.submit(waits_for, str(gate)) for _ in range(5)]

    eventually(lambda: one.stats()["running"] == 1)
    assert one.stats()["pending"] - before["pending"] == 4
    gate.touch()
    assert [f.result(END_S) for f in futures] == [None] * 5


def test_a_task_that_the_master_cannot_acknowledge_is_kept_and_runs_once(up: Up) -> None:
    """M3."""
    cluster = up(1)
    master = cluster.stats()["master_pid"]
    os.kill(master, signal.SIGSTOP)
    try:
        future = cluster.submit(len, "ab")
        why = future.why()
    finally:
        os.kill(master, signal.SIGCONT)

    assert "not acknowledged" in why
    assert future.result(END_S) == 2
    assert len(cluster.tasks()) == 1


def test_a_key_names_one_task_also_after_its_end(one: Cluster) -> None:
    """M4."""
    keyed = one.options(key="m4")

    first, second = keyed.submit(os.urandom, 8), keyed.submit(os.urandom, 8)

    assert first.result(END_S) == second.result(END_S)
    assert keyed.submit(os.urandom, 8).result(END_S) == first.result()
    assert first.id == second.id
    assert one.tasks().index.tolist().count(first.id) == 1


def test_a_key_of_another_call_is_refused(one: Cluster, gate: Path) -> None:
    """M4."""
    keyed = one.options(key="m4 gate")
    first = keyed.submit(waits_for, str(gate), 1)

    other_arguments, other_function = keyed.submit(waits_for, str(gate), 2), keyed.submit(len, "a")

    assert isinstance(other_arguments.exception(END_S), nbcluster.KeyReusedError)
    assert isinstance(other_function.exception(END_S), nbcluster.KeyReusedError)
    gate.touch()
    assert first.result(END_S) == 1


def test_a_key_of_other_arguments_is_refused_also_after_the_end(one: Cluster) -> None:
    """M4."""
    keyed = one.options(key="m4 over")
    keyed.submit(os.urandom, 8).result(END_S)

    with pytest.raises(nbcluster.KeyReusedError):
        keyed.submit(os.urandom, 9).result(END_S)


def test_a_task_of_a_group_without_engines_waits_says_why_and_runs_once_there_is_one(
    one: Cluster,
) -> None:
    """M5."""
    future = one.options(group="gpu").submit(len, "a")

    eventually(lambda: "gpu" in future.why())
    assert future.state == "pending"
    assert one.submit(len, "ab").result(END_S) == 2  # groups do not block one another
    one.scale(1, group="gpu")
    assert future.result(END_S) == 1
    one.scale(0, group="gpu")
    eventually(lambda: len(one.engines()) == 1)


def test_engines_that_are_equally_free_take_turns(up: Up) -> None:
    """M6."""
    cluster = up(2)

    for _ in range(4):
        cluster.submit(len, "a").result(END_S)

    assert cluster.engines().done.tolist() == [2, 2]


def test_a_timeout_stops_the_attempt_and_the_engine_goes_on(one: Cluster) -> None:
    """M11."""
    future = one.options(timeout=0.3).submit(time.sleep, 60)

    assert isinstance(future.exception(END_S), TimeoutError)
    assert row(one, future)["cause"] == "timeout"
    assert one.submit(len, "a").result(END_S) == 1


def test_what_is_submitted_is_not_retried_unless_asked_for(one: Cluster) -> None:
    """M12."""
    future = one.submit(divide)

    assert isinstance(future.exception(END_S), ZeroDivisionError)
    assert (future.attempts, future.retries) == (1, 0)


def test_an_at_most_once_task_is_lost_with_its_engine(
    two: Cluster, engines: Callable[[], list[str]]
) -> None:
    """M13."""
    engines()
    future = two.options(delivery="at_most_once").submit(time.sleep, 60)
    eventually(lambda: future.state == "running")

    kill(two, future.engine)

    assert isinstance(future.exception(END_S), nbcluster.TaskLostError)
    assert row(two, future)["cause"] == "lost"
    assert future.attempts == 1


def test_a_dead_executor_costs_neither_its_engine_nor_other_tasks(one: Cluster) -> None:
    """M14, T14."""
    engine = list(one.engines().index)

    future = one.submit(os._exit, 3)

    assert "exit code 3" in str(future.exception(END_S))
    assert one.submit(len, "ab").result(END_S) == 2
    assert list(one.engines().index) == engine


def test_the_initializer_runs_in_each_executor_also_in_the_next(up: Up) -> None:
    """M17."""
    cluster = up(1, initializer=os.putenv, initargs=("M17", "1"))

    def value() -> str:
        return os.popen("echo $M17").read().strip()

    assert cluster.submit(value).result(END_S) == "1"
    cluster.options(max_crashes=1).submit(os._exit, 1).exception(END_S)
    assert cluster.submit(value).result(END_S) == "1"


def test_events_tell_a_life_in_order_and_again_from_an_offset(one: Cluster) -> None:
    """M18."""
    future = one.submit(len, "ab")
    future.result(END_S)

    events = one.events()

    mine = events[events.task == future.id]
    assert mine.kind.tolist() == ["accepted", "scheduled", "started", "succeeded"]
    later = one.events(since=int(mine.offset.iloc[1]))
    assert later[later.task == future.id].kind.tolist() == ["started", "succeeded"]


def test_an_exception_arrives_as_itself_with_the_remote_traceback(one: Cluster) -> None:
    """M19, G9."""
    future = one.submit(lambda known: known["k"], {})

    error = future.exception(END_S)

    assert type(error) is KeyError
    assert error.args == ("k",)
    assert "Traceback" in future.traceback()
    assert isinstance(error.__cause__, nbcluster.errors.RemoteTraceback)


def test_clusters_are_apart(one: Cluster, two: Cluster) -> None:
    """M23, G19."""
    future = one.submit(len, "a")
    future.result(END_S)

    assert future.id in one.tasks().index
    assert future.id not in two.tasks().index


def test_an_engine_that_drains_finishes_what_runs(
    two: Cluster, engines: Callable[[], list[str]], gate: Path
) -> None:
    """M24."""
    engines()
    future = two.submit(waits_for, str(gate), 1)
    eventually(lambda: future.state == "running")
    engine = future.engine

    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(two.drain, engine)
        eventually(lambda: two.engines().loc[engine, "state"] == "draining")
        gate.touch()
        drained.result(END_S)

    assert future.result(END_S) == 1
    assert future.attempts == 1
    assert engine not in two.engines().index


def test_tasks_wait_for_the_first_engine_and_code_is_shipped_to_it(up: Up) -> None:
    """M25, G12, G14."""
    cluster = up(0)
    future = cluster.submit(lambda: "hi")

    eventually(lambda: "no engines" in future.why())
    cluster.scale(1)

    assert future.result(END_S) == "hi"


def test_a_hundred_tasks_over_seven_groups_all_arrive(two: Cluster) -> None:
    """M27."""
    names = ["default", *(f"g{i}" for i in range(6))]
    futures = [two.options(group=names[i % 7]).submit(pow, i, 2) for i in range(100)]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: two.scale(1, group=name), names[1:]))
    results = [f.result(END_S) for f in futures]
    for name in names[1:]:
        two.scale(0, group=name)

    assert results == [i * i for i in range(100)]
    assert two.tasks(state="succeeded").group.nunique() == 7


# --------------------------------------------------------------------------- async


def test_attempts_count_the_first_and_retries_do_not(two: Cluster) -> None:
    """A3, A4, G6."""
    future = two.options(retries=9, backoff=AT_ONCE).submit(divide)

    assert isinstance(future.exception(END_S), ZeroDivisionError)
    assert (future.attempts, future.retries) == (10, 9)


def test_retries_may_be_infinite(two: Cluster, tmp_path: Path) -> None:
    """A3, G6."""
    endless = two.options(retries=math.inf, backoff=AT_ONCE)

    future = endless.submit(fails_until, str(tmp_path / "calls"), 30)

    assert future.result(END_S) == 31
    assert (future.attempts, future.retries) == (31, 30)


def test_slots_run_side_by_side(up: Up, gate: Path) -> None:
    """A9, G4."""
    cluster = up(2, slots=5)

    futures = [cluster.submit(waits_for, str(gate)) for _ in range(4)]

    eventually(lambda: sorted(cluster.engines().running) == [2, 2])
    gate.touch()
    assert [f.result(END_S) for f in futures] == [None] * 4


def test_one_task_too_many_is_refused_and_told_when_to_come_again(up: Up) -> None:
    """A10."""
    cluster = up(0, max_pending=2)

    futures = [cluster.submit(len, "a") for _ in "abc"]

    error = futures[2].exception(END_S)
    assert isinstance(error, nbcluster.BusyError)
    assert error.retry_after > 0
    assert [f.done() for f in futures[:2]] == [False, False]


def test_retention_counts_from_the_end_of_a_task(up: Up, gate: Path) -> None:
    """A11."""
    cluster = up(1, retention=0.5)
    cluster.submit(len, "a").result(END_S)
    future = cluster.submit(waits_for, str(gate))

    eventually(lambda: list(cluster.tasks().index) == [future.id])

    gate.touch()
    future.result(END_S)


def test_an_attempt_that_ran_out_of_time_is_an_attempt(one: Cluster) -> None:
    """A14."""
    future = one.options(timeout=0.2, retries=1, backoff=AT_ONCE).submit(time.sleep, 60)

    assert isinstance(future.exception(END_S), TimeoutError)
    assert (future.attempts, future.retries, future.crashes) == (2, 1, 0)


# --------------------------------------------------------------------------- gascheduler


def test_who_cannot_be_reached_is_a_connection_error() -> None:
    """G1."""
    with pytest.raises(ConnectionError):
        nbcluster.connect("tcp://10.255.255.1:7")
    with pytest.raises(nbcluster.NbclusterError, match="no cluster 'nowhere'"):
        nbcluster.connect("nowhere")


def test_submit_does_not_wait_for_the_task(one: Cluster, gate: Path) -> None:
    """G2."""
    future = one.submit(waits_for, str(gate))

    assert not future.done()
    gate.touch()
    future.result(END_S)


def test_a_task_between_two_attempts_is_retrying_and_holds_no_slot(one: Cluster) -> None:
    """G3, G7."""
    future = one.options(retries=1, backoff=Backoff(30)).submit(divide)

    eventually(lambda: future.state == "retrying")
    assert one.submit(len, "a").result(END_S) == 1
    assert future.state == "retrying"
    assert "retrying in" in future.why()
    assert future.cancel()


def test_no_slots_pause_an_engine_and_more_of_them_wake_it(one: Cluster) -> None:
    """G5."""
    one.set_slots(0)
    eventually(lambda: one.stats()["slots"] == 0)
    future = one.submit(len, "a")

    eventually(lambda: "slot" in future.why())
    assert future.state == "pending"
    one.set_slots(1)

    assert future.result(END_S) == 1


def test_a_permanent_failure_is_not_retried(one: Cluster) -> None:
    """G8."""

    def give_up() -> None:
        raise nbcluster.PermanentFailure("x")

    future = one.options(retries=9, backoff=AT_ONCE).submit(give_up)

    assert isinstance(future.exception(END_S), nbcluster.PermanentFailure)
    assert (future.attempts, future.state) == (1, "failed")
    assert row(one, future)["cause"] == "permanent"


def test_an_exit_is_an_exception_like_others(one: Cluster) -> None:
    """G9."""
    error = one.submit(sys.exit, 3).exception(END_S)

    assert type(error) is SystemExit
    assert error.code == 3
    assert one.submit(len, "a").result(END_S) == 1


def test_a_future_knows_the_engine_that_ran_it(one: Cluster) -> None:
    """G10."""
    future = one.submit(len, "ab")

    assert future.result(END_S) == 2
    assert future.engine in one.engines().index


def test_a_task_that_kills_its_executor_is_given_up_after_three_times(two: Cluster) -> None:
    """G11."""
    future = two.submit(lambda: os.kill(os.getpid(), signal.SIGKILL))

    error = future.exception(END_S)

    assert isinstance(error, nbcluster.TaskCrashedError)
    assert (error.crashes, error.signal) == (3, "SIGKILL")
    assert (future.crashes, future.retries) == (3, 0)
    assert row(two, future)["cause"] == "crash"


def test_tasks_outlive_all_engines(
    two: Cluster, engines: Callable[[], list[str]], gate: Path
) -> None:
    """G13."""
    alive = engines()
    futures = [two.submit(waits_for, str(gate), i) for i in range(20)]
    eventually(lambda: futures[0].state == "running")

    for engine in alive:
        kill(two, engine)
    eventually(lambda: not set(alive) & set(two.engines().index))
    gate.touch()

    assert [f.result(END_S) for f in futures] == list(range(20))
    assert not set(alive) & set(engines())


def test_counters_say_what_is_open_and_how_many_engines_there_are(one: Cluster) -> None:
    """G15."""
    before = one.stats()["succeeded"]

    for future in [one.submit(len, "a") for _ in range(25)]:
        future.result(END_S)

    stats = one.stats()
    assert (stats["pending"], stats["running"], stats["engines"]) == (0, 0, 1)
    assert stats["succeeded"] - before == 25


def test_the_open_tasks_can_be_listed_and_cancelled(one: Cluster, gate: Path) -> None:
    """G16."""
    futures = [one.submit(waits_for, str(gate)) for _ in range(100)]

    eventually(lambda: len(one.tasks(state="open")) == 100)
    assert one.cancel(futures) == 100
    assert len(one.tasks(state="open")) == 0


# --------------------------------------------------------------------------- taskmanager


def test_the_times_of_a_task_are_in_order(one: Cluster) -> None:
    """T7, D23."""
    future = one.submit(len, "a")
    future.result(END_S)

    known = row(one, future)
    assert known.submitted_at <= known.started_at <= known.finished_at


def test_engines_that_join_get_work_at_once(one: Cluster, gate: Path) -> None:
    """T8."""
    futures = [one.submit(waits_for, str(gate)) for _ in range(12)]

    one.scale(4)

    eventually(lambda: sum(one.engines().running) == 4)
    gate.touch()
    assert [f.result(END_S) for f in futures] == [None] * 12
    one.scale(1)
    eventually(lambda: len(one.engines()) == 1)


def test_at_most_once_runs_once_although_it_kills_its_executor(
    two: Cluster, tmp_path: Path
) -> None:
    """T10."""
    ran = tmp_path / "ran"

    def die() -> None:
        with ran.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    future = two.options(delivery="at_most_once").submit(die)

    assert isinstance(future.exception(END_S), nbcluster.TaskCrashedError)
    assert (future.attempts, future.crashes) == (1, 1)
    assert two.submit(len, "ab").result(END_S) == 2
    assert ran.read_text() == "x"


def test_what_failed_for_good_is_a_dead_letter_until_it_is_put_back(one: Cluster) -> None:
    """T11."""
    future = one.submit(divide)
    future.exception(END_S)

    assert future.id in one.dead_letters().index
    (again,) = one.redrive(future)
    assert isinstance(again.exception(END_S), ZeroDivisionError)
    assert future.id not in one.dead_letters().index
    assert again.id in one.dead_letters().index
