"""A start that fails or is interrupted leaves nothing of what it made, and keeps what was there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import nbcluster
from nbcluster.cluster.remains import own_processes
from nbcluster.errors import ClusterTimeoutError, JournalLockedError
from nbcluster.transport.rundir import cluster_dir
from tests.conftest import Up
from tests.helpers import eventually
from tests.integration import calls

END_S: Final = 20.0


def left_of(name: str) -> list[object]:
    """Return the files, links and processes that there are of a cluster."""
    where = cluster_dir(name)
    outside = where.blobs.parent.glob(where.blobs.name + "*")
    files = [path for path in (where.path, *outside) if os.path.lexists(path)]
    return [*files, *(pid for pid, _, place in own_processes() if place == where.path)]


def interrupt_when(is_time: Callable[[], object]) -> threading.Thread:
    """Have this process interrupted, as by Ctrl-C, once ``is_time()``."""

    def interrupt() -> None:
        eventually(is_time, END_S)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "sign", ["logs/master.err", "lock", "connection.json", "logs/engine-*.log"]
)
def test_a_start_that_is_interrupted_leaves_nothing(home: Path, sign: str) -> None:
    thread = interrupt_when(lambda: any((home / "cut").glob(sign)))
    with pytest.raises(KeyboardInterrupt):
        nbcluster.start(3, name="cut")
    thread.join()

    assert left_of("cut") == []
    assert nbcluster.clusters().empty


@pytest.mark.parametrize("timeout", [0.05, 0.6])
def test_a_start_that_takes_too_long_leaves_nothing_and_tells_what_the_logs_say(
    home: Path, timeout: float
) -> None:
    with pytest.raises(ClusterTimeoutError, match="logs") as caught:
        nbcluster.start(30, name="slow", timeout=timeout)

    assert str(home) not in str(caught.value)
    eventually(lambda: left_of("slow") == [], END_S)  # an engine may have been at its birth


def test_a_start_whose_journal_is_in_use_leaves_the_journal_alone(
    up: Up, home: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "j.db"
    cluster = up(1, name="first", journal=str(journal))
    with pytest.raises(JournalLockedError):
        nbcluster.start(1, name="second", journal=str(journal))

    assert left_of("second") == []
    assert cluster.submit(len, "ab").result(END_S) == 2


def test_a_start_that_fails_keeps_the_tasks_that_were_there_before(
    home: Path, tmp_path: Path
) -> None:
    cluster = nbcluster.start(1, name="kept")
    cluster.submit(calls.wait_for, str(tmp_path / "gate"), 5)
    cluster.stop(keep=True)
    with pytest.raises(ClusterTimeoutError):
        nbcluster.start(20, name="kept", timeout=0.4)
    (tmp_path / "gate").touch()

    with nbcluster.start(1, name="kept") as cluster:
        (task,) = cluster.tasks().index
        assert cluster.future(task).result(END_S) == 5


def test_what_a_start_that_was_killed_leaves_is_told_and_can_be_removed(home: Path) -> None:
    where = cluster_dir("killed")
    where.create()
    command = [sys.executable, "-m", "nbcluster"]
    doctor = [*command, "doctor", "killed"]
    assert (
        "nbcluster stop killed --cancel"
        not in subprocess.run(doctor, capture_output=True, text=True, check=False).stdout
    )  # it may be beginning
    os.utime(where.logs, (0, 0))

    told = subprocess.run(doctor, capture_output=True, text=True, check=False).stdout
    subprocess.run([*command, "stop", "killed", "--cancel"], check=True)

    assert "nbcluster stop killed --cancel" in told
    assert left_of("killed") == []
