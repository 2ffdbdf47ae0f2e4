"""``map``: the size of its chunks, and what it does where the cluster takes no more tasks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import nbcluster
from nbcluster import Cluster, Future
from nbcluster.client.mapping import MAX_CHUNK
from tests.conftest import Up
from tests.helpers import eventually
from tests.integration import calls

END_S: Final = 60.0
ITEMS: Final = 10_000
ROOM: Final = 4


@pytest.fixture(scope="module")
def narrow(module_up: Up) -> Cluster:
    """Return a cluster of four engines that holds four open tasks at the most."""
    return module_up(4, max_pending=ROOM)


@pytest.fixture
def other(narrow: Cluster) -> Iterator[Cluster]:
    """Return another client of that cluster."""
    with nbcluster.connect(narrow.name) as second:
        yield second


def fill(cluster: Cluster, count: int = ROOM) -> list[Future[int]]:
    """Fill the queue with tasks that nobody can run."""
    futures = [cluster.options(group="nobody").submit(len, "a") for _ in range(count)]
    eventually(lambda: cluster.stats()["pending"] >= count)
    return futures


# --------------------------------------------------------------------------- chunks


def tasks_for(cluster: Cluster, seconds: float, items: int) -> int:
    """Return how many tasks it takes to map so many items that each take so long."""
    before = int(cluster.stats()["succeeded"])
    values = cluster.map(calls.slowly, [seconds] * items, range(items), timeout=END_S)
    assert list(values) == list(range(items))
    return int(cluster.stats()["succeeded"]) - before


def test_quick_items_travel_in_large_chunks(cluster: Cluster) -> None:
    assert tasks_for(cluster, 0.0, 2 * ITEMS) < ITEMS / 10


def test_slow_items_travel_alone(cluster: Cluster) -> None:
    assert tasks_for(cluster, 0.03, 40) == 40


# --------------------------------------------------------------------------- back-pressure


@pytest.mark.parametrize("chunksize", [None, 20])
def test_map_sends_no_more_than_the_cluster_has_room_for(
    narrow: Cluster, chunksize: int | None
) -> None:
    values = narrow.map(calls.double, range(ITEMS), chunksize=chunksize, timeout=END_S)

    assert list(values) == [2 * i for i in range(ITEMS)]


def test_map_goes_on_beside_a_client_that_fills_the_queue(narrow: Cluster, other: Cluster) -> None:
    is_over = threading.Event()

    def crowd() -> None:
        while not is_over.is_set():
            for future in [other.submit(calls.slowly, 0.005, 1) for _ in range(2 * ROOM)]:
                future.exception(END_S)

    thread = threading.Thread(target=crowd)
    thread.start()
    try:
        values = list(narrow.map(calls.double, range(ITEMS), timeout=END_S))
    finally:
        is_over.set()
        thread.join()

    assert values == [2 * i for i in range(ITEMS)]


def test_map_waits_for_room_where_it_has_nothing_under_way(narrow: Cluster, other: Cluster) -> None:
    others = fill(other)
    values = narrow.map(calls.double, range(100), timeout=END_S)
    timer = threading.Timer(0.2, other.cancel, [others])
    timer.start()

    assert list(values) == [2 * i for i in range(100)]
    timer.join()


def test_a_full_queue_ends_map_at_its_timeout(narrow: Cluster, other: Cluster) -> None:
    others = fill(other)

    with pytest.raises(TimeoutError, match=r"within 0\.3 s of the call of map\(\); .*max_pending"):
        next(narrow.map(calls.double, range(100), timeout=0.3))

    assert other.cancel(others) == ROOM


def test_map_that_waits_for_room_for_long_says_so(
    narrow: Cluster, other: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    others = fill(other)
    got: list[int] = []
    values = narrow.map(calls.double, range(3), timeout=END_S)

    thread = threading.Thread(target=lambda: got.extend(values))
    with caplog.at_level(logging.WARNING):
        thread.start()
        try:
            eventually(lambda: "map() waits" in caplog.text)
        finally:
            other.cancel(others)
            thread.join()

    assert got == [0, 2, 4]
    assert caplog.text.count("map() waits") == 1


def test_a_chunk_that_ended_makes_room_though_an_earlier_one_still_runs(
    narrow: Cluster, gate: Path, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    gates = [str(gate), *[str(tmp_path)] * 12]  # all but the first run at once
    values = narrow.map(
        calls.append_when, gates, [str(done)] * 13, map(str, range(13)), chunksize=1, timeout=END_S
    )
    got: list[str] = []
    thread = threading.Thread(target=lambda: got.extend(values))
    thread.start()

    try:
        eventually(lambda: done.exists() and len(done.read_text().split()) == 12)
    finally:
        gate.touch()
        thread.join()

    assert got == [str(i) for i in range(13)]


def test_an_error_of_a_full_queue_that_a_task_raised_is_its_result(narrow: Cluster) -> None:
    with pytest.raises(nbcluster.BusyError, match="holds 7"):
        next(narrow.map(busy, [7], timeout=END_S / 4))


def busy(limit: int) -> None:
    raise nbcluster.BusyError(limit, 0.0)


def test_an_endless_map_that_lacks_room_takes_no_more_than_others_do(narrow: Cluster) -> None:
    taken = iter(range(10**9))
    values = narrow.map(calls.double, taken, timeout=END_S)

    assert [next(values) for _ in range(100)] == [2 * i for i in range(100)]
    values.close()  # type: ignore[attr-defined]

    assert next(taken) < 20 * MAX_CHUNK
    eventually(lambda: len(narrow.tasks(state="open")) == 0)


# --------------------------------------------------------------------------- stand-alone executor


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> Iterator[nbcluster.ClusterExecutor]:
    """Return an executor whose cluster holds four open tasks at the most."""
    monkeypatch.setenv("NBCLUSTER_MAX_PENDING", str(ROOM))
    with nbcluster.ClusterExecutor(2) as executor:
        yield executor


def test_map_of_an_executor_waits_for_room_and_is_done_though_nobody_takes_its_values(
    crowded: nbcluster.ClusterExecutor, tmp_path: Path
) -> None:
    assert list(crowded.map(calls.double, range(100))) == [2 * i for i in range(100)]
    crowded.map(Path.touch, [tmp_path / str(n) for n in range(20)])
    crowded.shutdown()

    assert len(list(tmp_path.iterdir())) == 20


def test_map_of_an_executor_that_finds_no_room_ends_at_its_timeout(
    crowded: nbcluster.ClusterExecutor,
) -> None:
    others = fill(crowded)

    with pytest.raises(TimeoutError, match="max_pending"):
        crowded.map(calls.double, range(100), timeout=0.1)

    crowded.cancel(others)


def test_map_of_an_executor_takes_no_key(crowded: nbcluster.ClusterExecutor) -> None:
    crowded.config(key="k")

    with pytest.raises(nbcluster.OptionError, match="key="):
        crowded.map(calls.double, range(2))
