"""What becomes of a cluster, its handles and its futures when one of them goes without a word."""

from __future__ import annotations

import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

import psutil
import pytest

import nbcluster
from nbcluster import Cluster
from nbcluster.cli import main
from nbcluster.errors import KeyReusedError
from nbcluster.transport.rundir import FileLock, cluster_dir
from tests.conftest import Up
from tests.helpers import eventually, note_clusters

END_S: Final = 20.0


class Held(NamedTuple):
    """How many threads and descriptors this process has."""

    threads: int
    descriptors: int

    def is_within(self, before: Held) -> bool:
        return self.threads <= before.threads and self.descriptors <= before.descriptors


def held() -> Held:
    return Held(threading.active_count(), len(os.listdir("/proc/self/fd")))


def until_held(before: Held) -> None:
    """Wait until no more is held than ``before``."""
    eventually(lambda: held().is_within(before), message=lambda: f"{before} -> {held()}")


# --------------------------------------------------------------------------- handles


def test_a_connection_that_nobody_holds_leaves_neither_thread_nor_descriptor(one: Cluster) -> None:
    one.submit(len, "a").result(END_S)
    gc.collect()
    before = held()

    for n in range(5):
        assert nbcluster.connect(one.name).submit(pow, 2, n).result(END_S) == 2**n
        nbcluster.connect(one.name).options(retries=1)

    until_held(before)
    assert one.submit(len, "ab").result(END_S) == 2


def test_a_future_resolves_though_its_handle_is_gone(one: Cluster) -> None:
    before = held()
    future = nbcluster.connect(one.name).submit(time.sleep, 0.2)
    large = nbcluster.connect(one.name).submit(bytes, 3_000_000)
    called: list[object] = []
    future.add_done_callback(called.append)
    del future
    gc.collect()

    eventually(lambda: called)
    eventually(large.done)
    assert len(large.result()) == 3_000_000
    called.clear()
    del large
    eventually(lambda: not list(cluster_dir(one.name).blobs.iterdir()))
    until_held(before)


def test_options_and_remote_functions_hold_the_connection(one: Cluster) -> None:
    before = held()
    remote = nbcluster.connect(one.name).options(retries=1).remote(abs)
    gc.collect()

    for n in (-1, -2):
        assert remote(n).result(END_S) == -n

    del remote
    until_held(before)


def test_a_thread_that_receives_does_not_close_the_connection_that_it_uses(one: Cluster) -> None:
    before = held()
    handles = [nbcluster.connect(one.name)]
    client = handles[0]._client
    closed: list[bool] = []

    def is_over() -> bool:
        closed.append(client.is_closed)
        handles.clear()  # the last one: this thread is woken
        return len(closed) > 1

    assert client.wait_for(is_over, END_S)

    assert closed == [False, False]
    eventually(lambda: client.is_closed)
    until_held(before)


# --------------------------------------------------------------------------- attaching


def test_starts_at_the_same_time_meet_and_miss_nothing(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def begin(_: int) -> Cluster:
        return nbcluster.start(2, name="met", slots=1)

    with ThreadPoolExecutor(3) as threads:
        clusters = list(threads.map(begin, range(3)))
    note_clusters()
    try:
        said = capfd.readouterr().err
        assert said.count("cluster 'met' is running already: attached to it") == 2
        assert "asked for" not in said
    finally:
        for cluster in sorted(clusters, key=lambda c: c._owned):
            cluster.shutdown()


def test_a_start_says_what_the_running_cluster_has_instead(
    up: Up, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster = up(2)
    cluster.scale(1)
    eventually(lambda: cluster.stats()["engines"] == 1)

    nbcluster.start(2, name=cluster.name, slots=3, initializer=len).close()

    said = capfd.readouterr().err
    assert "it has 1 engine, 2 were asked for: cluster.scale(2)" in said
    assert "slots=1 stays, not 3" in said
    assert "initializer= was not applied" in said


# --------------------------------------------------------------------------- after the end


def test_futures_tell_how_they_ended_after_the_shutdown(up: Up) -> None:
    cluster = up(1)
    good, bad = cluster.submit(len, "a"), cluster.submit(int, "x")
    waiting = cluster.options(group="nobody").submit(len, "a")
    assert isinstance(bad.exception(END_S), ValueError)
    cluster.stats()

    cluster.stop()

    assert good.why() == "succeeded after 1 attempt"
    assert bad.why().startswith("failed (exception) after 1 attempt, 0 crashes: ValueError: ")
    assert "the cluster was shut down" in waiting.why()
    assert isinstance(waiting.exception(END_S), ConnectionError)


# --------------------------------------------------------------------------- a dead cluster


def killed(name: str) -> list[psutil.Process]:
    """Start a cluster that stays, kill its master, and return what lives on."""
    cluster = nbcluster.start(1, name=name, persist=True)
    note_clusters()
    try:
        if name == "open":
            cluster.options(group="nobody").submit(len, "a")
        master = psutil.Process(cluster.stats()["master_pid"])
        engine = psutil.Process(int(cluster.engines().pid.iloc[0]))
        left = [engine, *engine.children()]
        master.kill()
        master.wait(END_S)
    finally:
        cluster.close()
    eventually(lambda: not FileLock.is_held(cluster_dir(name).lock_file))
    assert all(process.is_running() for process in left)
    return left


def test_stop_ends_a_cluster_whose_master_was_killed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = killed("dead")
    assert nbcluster.clusters().state["dead"] == "dead"

    assert main(["stop", "dead"]) == 0

    assert f"engines that were ended: {left[0].pid}" in capsys.readouterr().out
    eventually(lambda: not any(process.is_running() for process in left))
    assert not cluster_dir("dead").path.exists()


def test_stop_of_a_dead_cluster_drops_no_open_task_unasked(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = killed("open")

    assert main(["stop", "open"]) == 1
    assert "open tasks: 1" in capsys.readouterr().err
    assert left[0].is_running()

    assert main(["stop", "open", "--keep"]) == 0
    eventually(lambda: not any(process.is_running() for process in left))
    cluster = nbcluster.start(0, name="open", persist=True)
    try:
        assert cluster.stats()["pending"] == 1
    finally:
        cluster.stop()


def test_the_next_start_takes_over_what_lives_on(home: Path) -> None:
    left = killed("again")

    cluster = nbcluster.start(1, name="again", persist=True)
    try:
        assert cluster.engines().pid.tolist() == [left[0].pid]
    finally:
        cluster.stop()

    eventually(lambda: not any(process.is_running() for process in left))


# --------------------------------------------------------------------------- shared results


def shared(cluster: Cluster) -> list[Path]:
    return list(cluster_dir(cluster.name).blobs.iterdir())


def test_a_result_that_was_released_is_a_clear_error_for_who_asks_later(one: Cluster) -> None:
    future = one.submit(bytes, 3_000_000)
    assert len(future.result(END_S)) == 3_000_000
    task = future.id
    del future
    eventually(lambda: not shared(one))

    with pytest.raises(nbcluster.UndecodableError, match=r"was released .* submit it again"):
        one.future(task).result(END_S)


def test_a_result_is_not_released_while_another_client_holds_it(one: Cluster) -> None:
    other = nbcluster.connect(one.name)
    future = one.submit(bytes, 3_000_000)
    future.result(END_S)
    theirs = other.future(future.id)
    theirs.result(END_S)
    (kept,) = shared(one)

    del future
    one.stats()
    one.submit(len, "ab").result(END_S)
    assert kept.exists()
    other.close()

    eventually(lambda: not kept.exists())


def test_a_result_with_a_key_can_be_had_again_and_again(up: Up) -> None:
    cluster = up(1)
    call = cluster.options(key="big")

    for _ in range(3):
        assert len(call.submit(bytes, 3_000_000).result(END_S)) == 3_000_000
        gc.collect()
        assert cluster.submit(len, "ab").result(END_S) == 2

    assert cluster.stats()["succeeded"] == 4


def test_a_key_tells_large_arguments_apart(up: Up) -> None:
    cluster = up(1)
    call = cluster.options(key="sum")

    first = call.submit(sum, bytes(2_000_000))
    again = call.submit(sum, bytes(2_000_000))

    with pytest.raises(KeyReusedError):
        call.submit(sum, b"x" * 2_000_000).result(END_S)
    assert first.result(END_S) == again.result(END_S) == 0
    assert first.id == again.id
    eventually(lambda: not shared(cluster))


def test_a_task_that_expires_in_weeks_waits_for_an_engine(up: Up) -> None:
    cluster = up(0)
    master = cluster.stats()["master_pid"]
    future = cluster.options(expires=40 * 86_400).submit(len, "ab")
    assert cluster.stats()["pending"] == 1

    cluster.scale(1)

    assert future.result(END_S) == 2
    assert cluster.stats()["master_pid"] == master


def test_what_was_submitted_through_a_handle_that_is_closed_at_once_is_run(one: Cluster) -> None:
    before = one.stats()["succeeded"]
    handle = nbcluster.connect(one.name)
    for number in range(20_000):
        handle.submit(abs, number)

    handle.close()

    eventually(lambda: one.stats()["succeeded"] == before + 20_000, END_S)
