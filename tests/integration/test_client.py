"""The cluster and its futures as a program uses them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

import nbcluster
from nbcluster import Backoff, Cluster
from nbcluster.client.mapping import CHUNKS_PER_SLOT, MAX_CHUNK
from nbcluster.errors import OptionError
from nbcluster.transport.connection import read_connection
from tests.conftest import Up
from tests.helpers import eventually
from tests.integration import calls

END_S: Final = 20.0
AT_ONCE: Final = Backoff(0)


# --------------------------------------------------------------------------- as the standard's


def test_it_is_an_executor_and_its_futures_are_futures(cluster: Cluster) -> None:
    future = cluster.submit(pow, 2, 10)

    assert isinstance(cluster, concurrent.futures.Executor)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(END_S) == 1024


def test_keyword_names_all_belong_to_the_function(cluster: Cluster) -> None:
    def keywords(**given: int) -> dict[str, int]:
        return given

    names = {"fn": 1, "self": 2, "timeout": 3, "retries": 4, "args": 5}

    assert cluster.submit(keywords, **names).result(END_S) == names


def test_as_completed_gives_futures_as_they_end(cluster: Cluster, gate: Path) -> None:
    slow: nbcluster.Future[Any] = cluster.submit(calls.wait_for, str(gate))
    fast: nbcluster.Future[Any] = cluster.submit(len, "ab")

    both: list[concurrent.futures.Future[Any]] = [slow, fast]
    order = concurrent.futures.as_completed(both, END_S)

    assert next(order) is fast
    gate.touch()
    assert next(order) is slow


def test_wait_tells_apart_what_has_ended(cluster: Cluster, gate: Path) -> None:
    slow, failed = cluster.submit(calls.wait_for, str(gate)), cluster.submit(calls.divide, 1, 0)

    done = concurrent.futures.wait([slow, failed], END_S, concurrent.futures.FIRST_EXCEPTION)

    assert done.done == {failed}
    assert done.not_done == {slow}


def test_futures_can_be_awaited(cluster: Cluster) -> None:
    async def main() -> tuple[list[int], BaseException]:
        values = await asyncio.gather(*(cluster.submit(calls.double, i) for i in range(5)))
        try:
            await cluster.submit(calls.divide, 1, 0)
        except ZeroDivisionError as error:
            return values, error
        raise AssertionError

    values, error = asyncio.run(main())

    assert values == [0, 2, 4, 6, 8]
    assert type(error) is ZeroDivisionError


def test_asyncio_wait_refuses_a_future_that_it_would_wait_on_for_ever(cluster: Cluster) -> None:
    future = cluster.submit(len, "ab")

    async def main(waited: Any) -> None:
        await asyncio.wait([waited()], timeout=END_S)

    with pytest.raises(TypeError, match=r"asyncio\.wrap_future"):
        asyncio.run(main(lambda: future))
    asyncio.run(main(lambda: asyncio.wrap_future(future)))


def test_callbacks_are_called_once_with_the_future(cluster: Cluster) -> None:
    got: list[Any] = []
    future = cluster.submit(len, "ab")
    future.add_done_callback(got.append)

    future.result(END_S)

    eventually(lambda: got == [future])


def test_a_result_that_is_not_there_in_time_raises_and_still_comes(
    cluster: Cluster, gate: Path
) -> None:
    future = cluster.submit(calls.wait_for, str(gate), 7)

    with pytest.raises(TimeoutError):
        future.result(0.05)

    gate.touch()
    assert future.result(END_S) == 7


def test_an_exception_has_the_remote_traceback_as_its_cause(cluster: Cluster) -> None:
    future = cluster.submit(calls.divide, 1, 0)

    with pytest.raises(ZeroDivisionError) as caught:
        future.result(END_S)

    assert isinstance(caught.value.__cause__, nbcluster.errors.RemoteTraceback)
    assert "return a / b" in str(caught.value.__cause__)
    assert "nbcluster/engine" not in str(caught.value.__cause__)


# --------------------------------------------------------------------------- map


def test_map_keeps_the_order_of_several_iterables(cluster: Cluster) -> None:
    assert list(cluster.map(pow, range(50), itertools.repeat(2))) == [i**2 for i in range(50)]
    assert list(cluster.map(calls.double, range(7), chunksize=3)) == [0, 2, 4, 6, 8, 10, 12]
    assert list(cluster.map(len, [])) == []


def test_map_takes_from_an_endless_iterable_only_what_it_needs(cluster: Cluster) -> None:
    taken = itertools.count()
    values = cluster.map(calls.double, taken)

    first = list(itertools.islice(values, 1000))
    values.close()  # type: ignore[attr-defined]

    assert first == [2 * i for i in range(1000)]
    # At the most: what was taken, the rest of the chunk it ended in, and the chunks on their way.
    assert next(taken) <= 1000 + MAX_CHUNK + 2 * CHUNKS_PER_SLOT * MAX_CHUNK
    eventually(lambda: len(cluster.tasks(state="open")) == 0)


def test_map_does_not_run_ahead_of_who_takes_its_values(cluster: Cluster) -> None:
    taken = itertools.count()

    values = cluster.map(calls.double, taken, chunksize=1)

    assert next(values) == 0
    eventually(lambda: len(cluster.tasks(state="open")) == 0)
    assert next(taken) <= 20
    values.close()  # type: ignore[attr-defined]


def test_map_raises_in_the_place_of_the_item_that_failed(cluster: Cluster) -> None:
    values = cluster.map(calls.divide, [4, 4, 4], [2, 0, 1], chunksize=1)

    assert next(values) == 2
    with pytest.raises(ZeroDivisionError):
        next(values)


def test_map_has_a_timeout_and_cancels_what_is_on_its_way(cluster: Cluster, gate: Path) -> None:
    values = cluster.map(calls.wait_for, [str(gate)] * 5, timeout=0.2, chunksize=1)

    with pytest.raises(TimeoutError, match=r"within 0\.2 s of the call of map"):
        next(values)

    eventually(lambda: len(cluster.tasks(state="open")) == 0)


def test_what_run_cannot_call_is_said_of_run(cluster: Cluster) -> None:
    with pytest.raises(OptionError, match=r"^run\(\) takes"):
        cluster.run(3)  # type: ignore[arg-type]


# --------------------------------------------------------------------------- remote, run, push


def test_a_remote_function_returns_futures_and_keeps_its_face(cluster: Cluster) -> None:
    @cluster.remote(retries=2, name="twice")
    def twice(x: int) -> int:
        """Double."""
        return 2 * x

    @cluster.remote
    def thrice(x: int) -> int:
        return 3 * x

    assert twice(4).result(END_S) == 8
    assert twice(4).name == "twice"
    assert (twice.__doc__, vars(twice)["__wrapped__"](1)) == ("Double.", 2)
    assert list(thrice.map(range(3))) == [0, 3, 6]


def test_run_calls_once_on_every_engine(cluster: Cluster) -> None:
    pids = cluster.run(os.getppid)

    assert pids == cluster.engines().pid.to_dict()


def test_what_fails_in_run_and_pull_is_no_dead_letter(cluster: Cluster) -> None:
    before, known = set(cluster.dead_letters().index), set(cluster.tasks("failed").index)

    with pytest.raises(ZeroDivisionError):
        cluster.run(calls.divide, 1, 0)
    with pytest.raises(NameError):
        cluster.pull("never_pushed")

    failed = set(cluster.tasks("failed").index) - known
    assert failed
    assert set(cluster.dead_letters().index) == before


def test_a_cluster_is_reached_by_name_connection_file_and_address(cluster: Cluster) -> None:
    where = Path(cluster.directory)
    address = read_connection(where / "connection.json").address

    for target in (cluster.name, where / "connection.json", address):
        with nbcluster.connect(target) as other:
            assert other.submit(pow, 2, 3).result(30) == 8
    with pytest.raises(nbcluster.errors.ClusterConnectionError, match="no cluster of yours"):
        nbcluster.connect("http://127.0.0.1:1")


def test_pushed_names_are_there_for_pull_and_for_executors_to_come(cluster: Cluster) -> None:
    cluster.push({"pushed": [1, 2]})

    assert cluster.pull("pushed") == {e: [1, 2] for e in cluster.engines().index}
    cluster.restart()
    assert set(map(tuple, cluster.pull("pushed").values())) == {(1, 2)}


def test_a_push_that_executors_cannot_load_raises_and_harms_nothing_else(cluster: Cluster) -> None:
    class OnlyHere:
        def __reduce__(self) -> Any:
            return __import__, ("a_module_that_does_not_exist",)

    waiting = cluster.submit(time.sleep, 0.2)

    with pytest.raises(nbcluster.errors.PushError, match="a_module_that_does_not_exist"):
        cluster.push({"lost": OnlyHere()})

    assert waiting.result(30) is None
    assert cluster.submit(pow, 2, 3).result(30) == 8
    with pytest.raises(NameError):
        cluster.pull("lost")
    cluster.push({"lost": "found"})
    assert set(cluster.pull("lost").values()) == {"found"}


# --------------------------------------------------------------------------- cancel


def test_a_running_task_that_is_cancelled_stops_and_its_engine_stays(one: Cluster) -> None:
    executor = one.submit(os.getpid).result(END_S)
    future = one.submit(time.sleep, 60)
    eventually(future.running)

    assert future.cancel()

    assert future.cancelled()
    assert future.state == "cancelled"
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(END_S)
    assert one.submit(os.getpid).result(END_S) == executor


def test_a_task_that_has_ended_cannot_be_cancelled(one: Cluster) -> None:
    future = one.submit(len, "a")
    future.result(END_S)

    assert not future.cancel()
    assert future.result() == 1


def test_many_tasks_are_cancelled_at_once(one: Cluster, gate: Path) -> None:
    futures = [one.submit(calls.wait_for, str(gate)) for _ in range(3000)]

    assert one.cancel(futures) == 3000

    assert all(f.cancelled() for f in futures)
    assert one.submit(len, "ab").result(END_S) == 2
    assert one.cancel() == 0


# --------------------------------------------------------------------------- single tasks


def test_a_future_is_found_again_by_id_and_by_name(one: Cluster) -> None:
    first = one.options(name="train-17").submit(calls.double, 1)
    latest = one.options(name="train-17").submit(calls.double, 2)
    assert (first.result(END_S), latest.result(END_S)) == (2, 4)

    assert one.future(first.id).result(END_S) == 2
    assert one.future("train-17").result(END_S) == 4
    second = nbcluster.connect(one.name)
    assert second.future(first.id).result(END_S) == 2
    second.close()


def test_a_task_knows_itself(one: Cluster) -> None:
    future = one.options(name="me").submit(calls.who_am_i)

    assert future.result(END_S) == (future.id, 1, "me")
    assert nbcluster.current_task() is None


def test_a_dead_letter_that_is_put_back_runs_again(one: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "calls"
    future = one.submit(calls.fail_until, str(path), 1)
    assert isinstance(future.exception(END_S), OSError)

    (again,) = one.retry(future)

    assert again.result(END_S) == 2
    assert again.id != future.id
    with pytest.raises(nbcluster.OptionError, match=future.id):
        one.redrive(future)


def test_only_exceptions_that_are_worth_it_are_retried(one: Cluster, tmp_path: Path) -> None:
    retrying = one.options(retries=3, retry_on=(OSError, KeyError), backoff=AT_ONCE)

    worth = retrying.submit(calls.fail_until, str(tmp_path / "calls"), 2)
    not_worth = retrying.submit(calls.divide, 1, 0)

    assert worth.result(END_S) == 3
    assert (worth.attempts, worth.retries) == (3, 2)
    assert isinstance(not_worth.exception(END_S), ZeroDivisionError)
    assert not_worth.attempts == 1


def test_each_attempt_keeps_its_error(one: Cluster, tmp_path: Path) -> None:
    future = one.options(retries=2, backoff=AT_ONCE).submit(
        calls.fail_until, str(tmp_path / "calls"), 5
    )
    future.exception(END_S)

    table = one.attempts(future)

    assert table.attempt.tolist() == [1, 2, 3]
    assert table.outcome.tolist() == ["exception"] * 3
    assert [f"attempt {i}" in e for i, e in enumerate(table.error, 1)] == [True] * 3
    assert all("raise OSError" in t for t in table.traceback)


def test_progress_is_seen_while_a_task_runs(one: Cluster, gate: Path) -> None:
    future = one.submit(calls.tell_progress, str(gate))

    eventually(lambda: future.progress == 0.25)
    assert "progress" in one.events().query("task == @future.id").kind.tolist()
    gate.touch()
    future.result(END_S)
    assert future.progress == 1.0


def test_output_is_seen_while_a_task_runs_and_kept_afterwards(one: Cluster, gate: Path) -> None:
    future = one.submit(calls.talk, str(gate))

    eventually(lambda: future.stdout == "hello\n" and future.stderr == "trouble\n")
    assert not future.done()
    gate.touch()
    future.result(END_S)
    assert (future.stdout, future.stderr) == ("hello\ngoodbye\n", "trouble\n")


def test_what_a_cancelled_task_wrote_is_kept(one: Cluster, gate: Path) -> None:
    future = one.submit(calls.talk, str(gate))
    eventually(lambda: future.stdout == "hello\n" and future.stderr == "trouble\n")

    assert future.cancel()

    assert (future.stdout, future.stderr) == ("hello\n", "trouble\n")


def test_a_future_tells_where_it_ran_and_how_long(one: Cluster, gate: Path) -> None:
    future = one.submit(calls.wait_for, str(gate))
    assert future.duration is None or future.duration >= 0
    eventually(lambda: future.state == "running")
    assert "running on engine" in future.why()
    gate.touch()

    future.result(END_S)

    assert future.engine in one.engines().index
    assert future.duration is not None
    assert "succeeded after 1 attempt" in future.why()


# --------------------------------------------------------------------------- order


def test_higher_priority_goes_first_and_equals_in_order(one: Cluster, tmp_path: Path) -> None:
    path = str(tmp_path / "order")
    one.set_slots(0)  # with slots, the first would go before the others are known
    eventually(lambda: one.stats()["slots"] == 0)
    futures = [
        one.options(priority=p).submit(calls.append, path, word)
        for p, word in ((0, "low"), (5, "high"), (0, "low2"), (9, "top"), (5, "high2"))
    ]
    eventually(lambda: one.stats()["pending"] == 5)

    one.set_slots(1)

    concurrent.futures.wait(futures, END_S)
    assert Path(path).read_text().split() == ["top", "high", "high2", "low", "low2"]


def test_a_task_runs_after_those_it_names(cluster: Cluster, gate: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "order")
    first = cluster.submit(calls.append_when, str(gate), path, "first")
    after = cluster.options(after=[first]).submit(calls.append, path, "after")

    eventually(lambda: first.id in after.why() or "after" in after.why())
    gate.touch()

    assert after.result(END_S) == "after"
    assert Path(path).read_text().split() == ["first", "after"]


def test_a_task_is_not_run_after_one_that_failed(cluster: Cluster) -> None:
    failed = cluster.submit(calls.divide, 1, 0)
    after = cluster.options(after=failed).submit(len, "a")
    late = cluster.options(after=after).submit(len, "a")

    assert isinstance(after.exception(END_S), nbcluster.DependencyError)
    assert isinstance(late.exception(END_S), nbcluster.DependencyError)
    assert after.attempts == 0


def test_a_task_that_waited_too_long_expires(one: Cluster, gate: Path) -> None:
    running = one.submit(calls.wait_for, str(gate))
    eventually(running.running)

    future = one.options(expires=0.1).submit(len, "a")

    assert isinstance(future.exception(END_S), nbcluster.TaskExpiredError)
    assert (future.attempts, one.tasks().loc[future.id, "cause"]) == (0, "expired")


# --------------------------------------------------------------------------- tables


#: The columns of the tables beside their index, in their order.
TABLES: Final = {
    "tasks": (
        "name state reason attempts retries crashes group engine priority progress submitted_at "
        "started_at finished_at duration_s error cause job"
    ),
    "engines": "state group slots running load done pid host executor_pid rss_mb last_seen_s",
    "dead_letters": (
        "name group cause error attempts retries crashes submitted_at finished_at payload_bytes"
    ),
    "attempts": "task attempt engine executor started_at ended_at outcome error traceback",
    "events": "offset time kind task attempt engine detail",
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_the_columns_that_are_promised_in_their_order(
    cluster: Cluster, table: str
) -> None:
    cluster.submit(len, "a").result(END_S)
    cluster.submit(calls.divide, 1, 0).exception(END_S)

    found = getattr(cluster, table)()

    assert list(found.columns) == TABLES[table].split()
    assert found.index.name == (None if table in ("attempts", "events") else "id")


def test_the_counters_have_the_names_that_are_promised_and_those_that_are_documented(
    cluster: Cluster,
) -> None:
    promised = (
        "turns pending running retrying succeeded failed cancelled engines slots "
        "running_by_engine master_pid epoch stale_results"
    )
    documented = "age_s clients disk_full journal_bytes malformed_messages"

    assert set(cluster.stats()) == {*promised.split(), *documented.split()}
    assert all(name in str(Cluster.stats.__doc__) for name in documented.split())


def test_what_needs_no_table_does_not_load_pandas(one: Cluster) -> None:
    program = (
        f"import sys, nbcluster\nc = nbcluster.connect({one.name!r})\n"
        "c.push({'x': 1}); c.run(abs, 1); c.pull('x'); c.scale(1); c.wait_for_engines(1)\n"
        "try: c.wait_for_engines(9, 0)\n"
        "except TimeoutError: print('pandas' in sys.modules)\n"
        "c.close()"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout == "False\n", done.stderr


def test_the_tables_can_be_narrowed(cluster: Cluster) -> None:
    failed = cluster.submit(calls.divide, 1, 0)
    failed.exception(END_S)
    cluster.submit(len, "a").result(END_S)

    assert failed.id in cluster.tasks(state="failed").index
    assert set(cluster.tasks(state="failed").state) == {"failed"}
    assert len(cluster.tasks(limit=1)) == 1
    assert len(cluster.tasks(limit=0)) == 0
    assert len(cluster.tasks(state="done")) == len(cluster.tasks()) >= 2


def test_events_are_replayed_in_order_from_an_offset(cluster: Cluster) -> None:
    last = int(cluster.events().offset.iloc[-1])
    future = cluster.submit(len, "a")
    future.result(END_S)

    later = cluster.events(since=last)

    assert later.offset.is_monotonic_increasing
    assert later.offset.min() > last
    kinds = later[later.task == future.id].kind.tolist()
    assert kinds == ["accepted", "scheduled", "started", "succeeded"]


def test_clusters_lists_those_that_run(cluster: Cluster, one: Cluster) -> None:
    table = nbcluster.clusters()

    assert set(table.loc[[cluster.name, one.name]].state) == {"running"}


# --------------------------------------------------------------------------- ending


def test_the_with_statement_waits_for_what_is_open(up: Up) -> None:
    with up(1) as cluster:
        futures = [cluster.submit(calls.double, i) for i in range(20)]

    assert [f.result(0) for f in futures] == [2 * i for i in range(20)]
    with pytest.raises(RuntimeError, match="the cluster has stopped: it was told to stop"):
        cluster.submit(len, "a")


def test_an_error_in_the_with_statement_cancels_what_is_open(up: Up, gate: Path) -> None:
    futures: list[nbcluster.Future[Any]] = []

    def fail() -> None:
        with up(1) as cluster:
            futures.extend(cluster.submit(calls.wait_for, str(gate)) for _ in range(3))
            raise KeyError

    with pytest.raises(KeyError):
        fail()

    assert all(f.cancelled() for f in futures)


def test_a_stand_alone_executor_runs_its_initializer_and_stops_its_cluster() -> None:
    with nbcluster.ClusterExecutor(2, os.putenv, ("N", "7")) as pool:
        name = pool.name
        assert repr(pool).startswith(f"<ClusterExecutor {name!r} ")
        assert pool.submit(lambda: os.popen("echo $N").read()).result(END_S) == "7\n"
        assert list(pool.map(calls.double, range(5))) == [0, 2, 4, 6, 8]

    assert name not in nbcluster.clusters().index


# --------------------------------------------------------------------------- threads and forks


def test_threads_that_submit_together_each_get_their_own_results(cluster: Cluster) -> None:
    count = 2000
    start = threading.Barrier(8)

    def work(thread: int) -> bool:
        named = cluster.options(priority=thread % 3, name=f"thread-{thread}")
        start.wait(END_S)
        futures = []
        for i in range(count):
            if i % 2:
                futures.append(cluster.submit(calls.double, i * 8 + thread))
            else:
                futures.append(named.submit(calls.negate, i * 8 + thread, times=3))
        results = [f.result(60) for f in futures]
        expected = [2 * (i * 8 + thread) if i % 2 else -3 * (i * 8 + thread) for i in range(count)]
        names = {f.name for f in futures}
        return results == expected and names == {"double", f"thread-{thread}"}

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [True] * 8
    assert cluster.stats()["pending"] == 0


def test_a_forked_child_of_the_client_ends_without_harm(cluster: Cluster, gate: Path) -> None:
    future = cluster.submit(calls.wait_for, str(gate), 5)
    eventually(future.running)

    pid = os.fork()
    if pid == 0:
        os._exit(in_child(cluster, future))
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    gate.touch()
    assert future.result(END_S) == 5
    assert cluster.submit(len, "ab").result(END_S) == 2


def in_child(cluster: Cluster, future: nbcluster.Future[int]) -> int:
    """Use in a fork what is the parent's, and run the exit handlers; 0 if that was refused."""
    import atexit
    import signal

    signal.alarm(30)  # a child that hangs fails the test, and does not hang it
    try:
        cluster.submit(len, "a")
    except nbcluster.ClosedError:
        refused = isinstance(future.exception(END_S), nbcluster.ClosedError)
        atexit._run_exitfuncs()
        return 0 if refused else 1
    return 2


def test_a_function_that_the_master_has_not_any_more_is_sent_again(cluster: Cluster) -> None:
    def triple(x: int) -> int:
        return 3 * x

    client = cluster._client
    # As if it had been sent, and dropped since nobody ran it.
    client.link.outgoing._known[client.packer.define(triple).hash] = time.monotonic()

    assert cluster.submit(triple, 14).result(END_S) == 42
