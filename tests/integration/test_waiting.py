"""Waiting, and not waiting: callbacks, dropped iterators, closed handles, absent masters."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import nbcluster
from nbcluster import Cluster
from nbcluster.client.future import Future
from nbcluster.core.model import NewTask
from nbcluster.errors import ClosedError, OptionError
from tests.conftest import Up
from tests.helpers import eventually, has_ended
from tests.integration import calls

END_S: Final = 30.0


@pytest.fixture
def cluster(up: Up) -> Cluster:
    return up(2)


def in_callback(cluster: Cluster, call: Any) -> Any:
    """Return what ``call()`` returns in a done callback, while this thread waits for a result."""
    answer: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def callback(_: Any) -> None:
        try:
            answer.set_result(call())
        except Exception as error:  # noqa: BLE001 - the test's thread raises it
            answer.set_exception(error)

    first, second = cluster.submit(time.sleep, 0.2), cluster.submit(time.sleep, 0.4)
    first.add_done_callback(callback)
    second.result(END_S)
    return answer.result(END_S)


def test_a_done_callback_may_cancel_ask_and_wait(cluster: Cluster) -> None:
    endless = cluster.submit(time.sleep, 600)

    assert in_callback(cluster, endless.cancel) is True
    assert in_callback(cluster, cluster.stats)["age_s"] == 0
    assert in_callback(cluster, lambda: cluster.submit(pow, 2, 3).result(END_S)) == 8


def test_callbacks_have_run_when_shutdown_returns(up: Up) -> None:
    cluster = up(1)
    seen: list[int] = []

    def note(future: concurrent.futures.Future[int]) -> None:
        time.sleep(0.01)  # a slow callback is waited for
        seen.append(future.result())

    for number in range(5):
        cluster.submit(abs, number).add_done_callback(note)

    cluster.shutdown()

    assert seen == [0, 1, 2, 3, 4]


def test_an_iterator_that_is_collected_while_the_connection_is_in_use_locks_nothing(
    cluster: Cluster,
) -> None:
    values = cluster.map(time.sleep, [600.0] * 2, chunksize=1)
    eventually(lambda: cluster.stats()["running"] == 2)

    with cluster._client.link._lock:  # as the collector may come while this thread sends
        del values

    eventually(lambda: cluster.stats()["cancelled"] == 2)


def test_a_map_of_a_standard_pool_is_done_also_if_nobody_wants_its_values(tmp_path: Path) -> None:
    with nbcluster.ClusterExecutor(2) as executor:
        executor.map(Path.touch, [tmp_path / str(n) for n in range(20)])

    assert len(list(tmp_path.iterdir())) == 20


def test_who_waits_on_a_handle_that_is_closed_is_told(cluster: Cluster) -> None:
    for _ in range(20):
        handle = nbcluster.connect(cluster.name)
        future = handle.submit(time.sleep, 600)
        with concurrent.futures.ThreadPoolExecutor(2) as threads:
            waits = [threads.submit(future.exception, END_S) for _ in range(2)]
            handle.close()
        assert [type(wait.result()) for wait in waits] == [ClosedError] * 2
        cluster.cancel(future.id)


def test_a_submission_after_close_raises_and_is_no_open_future(cluster: Cluster) -> None:
    handle = nbcluster.connect(cluster.name)
    handle.close()

    with pytest.raises(ClosedError):
        handle.submit(abs, 1)

    assert handle._client.open_futures() == []


def test_a_cancel_without_a_master_reaches_the_next_one(up: Up, tmp_path: Path) -> None:
    cluster = up(1, journal=str(tmp_path / "journal.db"), persist=True)
    future = cluster.submit(time.sleep, 600)
    eventually(future.running)
    master = psutil.Process(int(cluster.stats()["master_pid"]))
    os.kill(master.pid, signal.SIGKILL)
    eventually(lambda: has_ended(master) and cluster._client.link.is_lost)

    assert future.cancel() is False
    again = up(1, name=cluster.name, journal=str(tmp_path / "journal.db"), persist=True)

    eventually(future.cancelled, END_S)
    again.stop()


def test_a_waiter_on_an_event_loop_that_is_cancelled_cancels_the_task_and_blocks_nothing(
    cluster: Cluster,
) -> None:
    future = cluster.submit(time.sleep, 600)

    async def give_up() -> None:
        await asyncio.wait_for(future, 0.05)

    master = int(cluster.stats()["master_pid"])
    os.kill(master, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            asyncio.run(give_up())
    finally:
        os.kill(master, signal.SIGCONT)

    eventually(future.cancelled)


def test_a_client_that_the_master_refuses_later_on_is_told(cluster: Cluster) -> None:
    handle = nbcluster.connect(cluster.name)
    future = handle.submit(time.sleep, 600)
    eventually(future.running)
    link = handle._client.link

    with link._lock:
        assert link._dealer is not None
        for _ in range(20):
            link._dealer.send(b"garbage")

    with pytest.raises(ConnectionError, match="refuses"):
        future.result(END_S)
    cluster.cancel(future.id)
    handle.close()


def test_a_task_that_is_about_to_be_submitted_is_not_asked_for(cluster: Cluster) -> None:
    client = cluster._client
    future: Future[int] = Future(client, "about-to-be", "f")
    client._futures[future.id] = future

    client.on_session(again=True)  # another thread finds that the connection was lost
    cluster.stats()  # answered after all that was asked before

    assert not future.done()
    del client._futures[future.id]


def test_an_executor_whose_master_is_killed_fails_what_is_open_and_ends(up: Up) -> None:
    with nbcluster.ClusterExecutor(1) as executor:
        future = executor.submit(time.sleep, 600)
        eventually(future.running)
        engine = psutil.Process(int(executor.engines().pid.iloc[0]))
        os.kill(int(executor.stats()["master_pid"]), signal.SIGKILL)

        assert isinstance(future.exception(END_S), concurrent.futures.BrokenExecutor)
        with pytest.raises(RuntimeError):
            executor.submit(abs, 1)

    eventually(lambda: has_ended(engine))
    assert not Path(executor.directory).exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_in_submit_leave_no_task_that_is_waited_for_in_vain(cluster: Cluster) -> None:
    """One that comes while the collector runs a finalizer is dropped there by the interpreter."""
    former = signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    interrupted = 0
    try:
        for number in range(60):
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0.003 + number % 30 / 3000)
                for _ in range(20_000):
                    cluster.submit(abs, 1)
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, former)

    assert interrupted > 30
    eventually(lambda: not cluster._client.open_futures(), END_S)


# --------------------------------------------------------------------------- where it is


def in_c_code() -> None:
    time.sleep(600)


def waits_for_another(cluster: str) -> None:
    with nbcluster.connect(cluster) as here:
        here.options(group="nobody").submit(abs, 1).result()


def test_a_stack_leads_down_to_the_users_line_also_in_c_code_and_in_ours(cluster: Cluster) -> None:
    sleeping = cluster.submit(in_c_code)
    waiting = cluster.submit(waits_for_another, cluster.name)
    direct = cluster.options(name="nap").submit(time.sleep, 600)
    eventually(sleeping.running)
    eventually(waiting.running)

    eventually(lambda: sleeping.stack().splitlines()[-1].endswith("in in_c_code"))
    eventually(lambda: waiting.stack().splitlines()[-1].endswith("in waits_for_another"))
    assert "in result" in waiting.stack()

    sleeping.cancel()
    eventually(direct.running)
    eventually(lambda: direct.stack().startswith("nap is inside C code"))
    cluster.cancel()


def test_a_task_is_known_from_the_moment_of_its_submission(cluster: Cluster, gate: Path) -> None:
    blockers = [cluster.submit(calls.wait_for, str(gate)) for _ in range(8)]
    for _ in range(10):
        with pytest.raises(OptionError, match="is pending; only a running one has a stack"):
            cluster.submit(len, "ab").stack()
        future = cluster.submit(len, "ab")
        assert cluster.future(future.id) is future
        assert cluster.submit(len, "ab").why().startswith("pending: ")
        assert cluster.attempts(cluster.submit(len, "ab")).empty
        assert cluster.cancel(cluster.submit(len, "ab")) == 1
    cluster.cancel()
    assert all(future.cancelled() for future in blockers)


def test_a_stack_that_a_stopped_process_cannot_write_is_not_silence(cluster: Cluster) -> None:
    sleeping = cluster.submit(in_c_code)
    eventually(sleeping.running)
    engines = cluster.engines()
    executor = psutil.Process(int(engines.executor_pid[sleeping.engine]))
    executor.suspend()

    text = sleeping.stack()

    executor.resume()
    assert f"process {executor.pid} did not write it" in text
    sleeping.cancel()


@contextlib.contextmanager
def interrupted(handler: Callable[[], None], seconds: float) -> Iterator[Callable[[], bool]]:
    """Interrupt this thread every other millisecond; give what says whether the time is over."""
    end = time.monotonic() + seconds
    main, is_over = threading.get_ident(), threading.Event()

    def interrupt() -> None:
        while not is_over.wait(0.002):
            signal.pthread_kill(main, signal.SIGINT)

    former = signal.signal(signal.SIGINT, lambda number, frame: handler())
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield lambda: time.monotonic() > end
    finally:
        is_over.set()
        thread.join()
        signal.signal(signal.SIGINT, former)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "call",
    [
        lambda cluster: cluster.submit(abs, 1).result(END_S),
        lambda cluster: concurrent.futures.wait([cluster.submit(abs, n) for n in range(20)]),
        lambda cluster: list(cluster.map(abs, range(50))),
        lambda cluster: cluster.stats(),
    ],
    ids=["result", "wait", "map", "stats"],
)
def test_interrupts_leave_a_client_that_works(
    cluster: Cluster, call: Callable[[Cluster], Any]
) -> None:
    is_armed, count = False, 0

    def handler() -> None:
        nonlocal is_armed
        if is_armed:
            is_armed = False
            raise KeyboardInterrupt

    with interrupted(handler, 1.5) as is_over:
        while not is_over():
            try:
                is_armed = True
                call(cluster)
                is_armed = False
            except KeyboardInterrupt:
                count += 1

    assert count > 20
    assert cluster.submit(len, "ab").result(END_S) == 2
    eventually(lambda: not cluster._client.open_futures(), END_S)


def test_a_handler_of_interrupts_may_cancel_and_ask_while_a_result_is_waited_for(
    cluster: Cluster,
) -> None:
    endless = cluster.submit(time.sleep, 600)
    eventually(endless.running)
    is_called = False
    told: list[Any] = []

    def handler() -> None:
        nonlocal is_called
        if not is_called:  # it is interrupted itself
            is_called = True
            told.append(cluster.stats()["running"])
            endless.cancel()

    with interrupted(handler, 1.0), pytest.raises(concurrent.futures.CancelledError):
        endless.result(END_S)

    assert told == [1]


def test_why_of_a_submission_that_did_not_arrive_says_that_it_is_sent_again(one: Cluster) -> None:
    client = one._client
    outgoing, call = client.link.outgoing, client._call(client.packer.define(abs), one._options)
    future = Future[int](client, "lost-1", "abs")
    client._futures[future.id] = future
    with client.link._lock:
        outgoing.add(NewTask(future.id, 0, client.packer.dumps_call((-1,), {})[0]), call)
        outgoing.next()
        outgoing.sent()  # but it was not

    assert "is kept here and is sent again" in future.why()
    assert "retention" not in future.why()
    assert future.result(END_S) == 1
