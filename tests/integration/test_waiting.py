"""Waiting, and not waiting: callbacks, dropped iterators, closed handles, absent masters."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import nbcluster
from nbcluster import Cluster
from nbcluster.client.future import Future
from nbcluster.errors import ClosedError
from tests.conftest import Up
from tests.helpers import eventually, has_ended

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
