"""What a program still has, and is told, when its cluster ends sooner than the program expects."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import nbcluster
from nbcluster import Cluster
from nbcluster.client import silence
from nbcluster.cluster.owning import take_in_dead
from nbcluster.errors import DependencyError, UnknownIdError
from nbcluster.transport.rundir import cluster_dir
from tests.conftest import Up
from tests.helpers import eventually
from tests.integration import calls

END_S: Final = 20.0
LARGE: Final = 3_000_000


def has_mapped(cluster: Cluster) -> bool:
    """Return whether this process has mapped shared buffers of the cluster."""
    return str(cluster_dir(cluster.name).blobs) in Path("/proc/self/maps").read_text()


# --------------------------------------------------------------------------- large results


def test_large_results_are_read_after_the_shutdown(home: Path) -> None:
    with nbcluster.ClusterExecutor(2) as executor:
        futures = [executor.submit(bytes, LARGE) for _ in range(3)]
        values = executor.map(bytes, [LARGE, LARGE + 1])

    assert [len(future.result()) for future in futures] == [LARGE] * 3
    assert [len(value) for value in values] == [LARGE, LARGE + 1]


def test_large_results_that_had_come_are_read_after_somebody_else_has_stopped_it(up: Up) -> None:
    cluster = up(1)
    other = nbcluster.connect(cluster.name)
    future = other.submit(bytes, LARGE)
    eventually(future.done)

    cluster.shutdown()
    eventually(lambda: not cluster_dir(cluster.name).blobs.exists())

    assert len(future.result(END_S)) == LARGE
    other.close()


def test_a_large_result_that_was_copied_is_not_mapped_any_more(up: Up) -> None:
    cluster = up(1)
    future = cluster.submit(bytes, LARGE)
    eventually(future.done)

    assert len(future.result()) == LARGE

    eventually(lambda: not has_mapped(cluster))


def test_a_large_result_that_nobody_reads_is_let_go_with_its_future(up: Up) -> None:
    cluster = up(1)
    future = cluster.submit(bytes, LARGE)
    eventually(future.done)
    eventually(lambda: has_mapped(cluster))

    del future
    gc.collect()

    eventually(lambda: not has_mapped(cluster))
    eventually(lambda: not list(cluster_dir(cluster.name).blobs.iterdir()))


# --------------------------------------------------------------------------- remote tracebacks


def fail_with_a_cause() -> None:
    try:
        calls.divide(1, 0)
    except ZeroDivisionError as error:
        raise KeyError("nope") from error


def test_an_exception_with_a_cause_has_the_remote_traceback_too(up: Up) -> None:
    with pytest.raises(KeyError) as caught:
        up(1).submit(fail_with_a_cause).result(END_S)

    cause = caught.value.__cause__
    assert isinstance(cause, ZeroDivisionError)
    assert isinstance(cause.__cause__, nbcluster.errors.RemoteTraceback)
    assert "fail_with_a_cause" in str(cause.__cause__)


# --------------------------------------------------------------------------- the next cluster


def test_what_failed_with_its_cluster_is_not_run_by_the_next_one(up: Up, tmp_path: Path) -> None:
    cluster = up(1)
    other = nbcluster.connect(cluster.name)
    path = tmp_path / "ran"
    link = other._client.link
    master = psutil.Process(cluster.stats()["master_pid"])
    master.suspend()
    future = other.submit(calls.append, str(path), "ran")
    other._client.link.flush()
    assert link.outgoing.unacknowledged
    closing = nbcluster.errors.ClusterConnectionError("the cluster has stopped: shutdown")
    other._client.on_end(closing)  # as when the word comes before the master has read the task
    assert isinstance(future.exception(END_S), ConnectionError)
    assert not link.outgoing.unacknowledged
    sessions = link._sessions
    master.kill()
    eventually(lambda: cluster._client.link.is_lost)
    cluster.shutdown(wait=False)

    again = up(1, name=cluster.name)
    assert again.submit(len, "a").result(END_S) == 1

    assert link._sessions == sessions
    assert not path.exists()
    other.close()


def test_a_handle_that_is_dropped_after_its_cluster_has_stopped_leaves_no_thread(up: Up) -> None:
    cluster = up(1)
    before = threading.active_count()
    other = nbcluster.connect(cluster.name)
    link = other._client.link
    cluster.shutdown()
    eventually(lambda: link.is_lost and link.welcome is None)

    del other
    gc.collect()

    eventually(lambda: threading.active_count() < before)


def test_a_handle_does_not_stop_the_next_cluster_that_somebody_started_to_stay(up: Up) -> None:
    cluster = up(1)
    psutil.Process(cluster.stats()["master_pid"]).kill()
    code = f"import nbcluster; nbcluster.start(1, name={cluster.name!r}, persist=True)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    eventually(lambda: cluster._client.link.is_open)

    cluster.shutdown()

    take_in_dead()
    again = nbcluster.connect(cluster.name)
    try:
        assert again.submit(len, "a").result(END_S) == 1
    finally:
        again.stop()


# --------------------------------------------------------------------------- not in silence


def test_who_waits_is_told_once_that_the_master_is_gone(
    up: Up, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "LOST_S", 0.1)
    cluster = up(1)
    future = cluster.options(group="nobody").submit(len, "a")
    cluster.stats()
    psutil.Process(cluster.stats()["master_pid"]).kill()

    def wait_in_vain() -> list[str]:
        with pytest.raises(TimeoutError):
            future.result(0.5)
        return caplog.messages

    eventually(wait_in_vain)

    assert len(wait_in_vain()) == 1
    assert f"the master of cluster {cluster.name!r} has ended" in caplog.messages[0]


def test_who_waits_for_what_cannot_run_is_told_so_once(
    up: Up, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, gate: Path
) -> None:
    monkeypatch.setattr(silence, "STUCK_S", 0.1)
    cluster = up(1)
    running = cluster.submit(calls.wait_for, str(gate))
    turn = cluster.submit(len, "a")
    with pytest.raises(TimeoutError):
        turn.result(1.5)
    assert caplog.messages == []

    stuck = cluster.options(group="nobody").submit(len, "a")

    def wait_in_vain() -> list[str]:
        with pytest.raises(TimeoutError):
            stuck.result(1.8)
        return caplog.messages

    eventually(wait_in_vain)  # once, if the master is not late

    assert len(caplog.messages) == 1
    assert "no engines in group 'nobody'" in caplog.messages[0]
    assert stuck.cancel()
    gate.touch()
    running.result(END_S)


def test_a_shutdown_that_waits_for_what_cannot_run_says_so(
    up: Up, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "STUCK_S", 0.1)
    cluster = up(1)
    other = nbcluster.connect(cluster.name)
    stuck = other.options(group="nobody").submit(len, "a")

    def cancel_once_told(record: logging.LogRecord) -> bool:
        cluster.cancel(stuck.id)
        return True

    caplog.handler.addFilter(cancel_once_told)
    try:
        other.shutdown(wait=True)
    finally:
        caplog.handler.removeFilter(cancel_once_told)  # it is that of all tests

    assert "paused" in caplog.text or "no engines" in caplog.text


DROPS: Final = """
import nbcluster
from tests.integration import calls
def main():
    cluster = nbcluster.start(1, name="drops")
    futures = [cluster.submit(calls.wait_for, "/nowhere/at/all") for _ in range(3)]
    return futures{keep}
kept = main()
"""


@pytest.mark.parametrize("keep", ["", ", cluster"])
def test_a_program_that_ends_is_told_what_is_dropped(home: Path, keep: str) -> None:
    code = DROPS.format(keep=keep)

    ended = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )

    assert "before 3 tasks of its cluster 'drops'" in ended.stderr
    assert "shutdown() waits" in ended.stderr
    eventually(lambda: not cluster_dir("drops").path.exists())


@pytest.mark.parametrize("end", ["", "import os; os.kept = c; c.shutdown()\n"])
def test_a_program_that_leaves_nothing_open_is_told_nothing(home: Path, end: str) -> None:
    code = (
        "import nbcluster, time\n"
        "c = nbcluster.start(1, name='ends'); c.submit(len, 'a').result()\n"
        f"e = nbcluster.ClusterExecutor(1); f = e.submit(time.sleep, 0.3)\n{end}"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )

    assert ended.stderr == ""
    eventually(lambda: not cluster_dir("ends").path.exists())


# --------------------------------------------------------------------------- map, run and names


def counting(limit: int) -> Iterator[int]:
    yield from range(limit)
    raise OSError("no more")


@pytest.mark.parametrize("chunksize", [None, 4])
def test_map_yields_what_came_before_its_iterable_raised(up: Up, chunksize: int | None) -> None:
    got: list[int] = []

    with pytest.raises(OSError, match="no more"):
        got.extend(up(1).map(calls.double, counting(50), chunksize=chunksize))

    assert got == [2 * i for i in range(50)]


def test_pull_that_is_not_answered_in_time_leaves_no_task(up: Up, gate: Path) -> None:
    cluster = up(1)
    cluster.push({"a": 1})
    running = cluster.submit(calls.wait_for, str(gate))
    eventually(running.running)

    with pytest.raises(TimeoutError):
        cluster.pull("a", timeout=0.1)

    eventually(lambda: cluster.stats()["pending"] == 0)
    gate.touch()
    running.result(END_S)
    assert list(cluster.pull("a", timeout=END_S).values()) == [1]


def test_what_is_put_back_keeps_its_name(up: Up) -> None:
    cluster = up(1)
    first = cluster.options(name="mine").submit(calls.divide, 1, 0)
    second = cluster.submit(calls.divide, 1, 0)
    first.exception(END_S), second.exception(END_S)

    names = [future.name for future in cluster.redrive(first, second)]

    assert names == ["mine", second.name]
    assert "divide" in second.name


def test_a_running_task_shows_its_progress_message(up: Up, gate: Path) -> None:
    future: nbcluster.Future[Any] = up(1).submit(calls.tell_progress, str(gate))
    eventually(lambda: future.progress)

    assert "25% a quarter" in repr(future)
    assert future.why().endswith("25% a quarter")
    gate.touch()
    future.result(END_S)
    assert "a quarter" not in repr(future)


def test_a_task_may_be_named_in_after_when_its_cluster_has_forgotten_it(up: Up) -> None:
    cluster = up(1, retention=0.01)
    good, bad = cluster.submit(len, "ab"), cluster.submit(calls.divide, 1, 0)
    assert (good.result(END_S), type(bad.exception(END_S))) == (2, ZeroDivisionError)
    eventually(lambda: cluster.tasks().empty)

    assert cluster.options(after=good).submit(abs, -3).result(END_S) == 3
    with pytest.raises(DependencyError, match=bad.id):
        cluster.options(after=[good, bad]).submit(abs, -3).result(END_S)
    with pytest.raises(UnknownIdError, match=good.id):
        cluster.options(after=good.id).submit(abs, -3).result(END_S)
