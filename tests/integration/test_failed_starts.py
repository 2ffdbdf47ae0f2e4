"""A start that fails or is interrupted leaves nothing of what it made, and keeps what was there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import nbcluster
from nbcluster.cluster.failing import in_words
from nbcluster.cluster.remains import own_processes
from nbcluster.errors import ClusterError, ClusterTimeoutError, JournalLockedError
from nbcluster.transport.rundir import cluster_dir
from tests.conftest import Up
from tests.helpers import eventually
from tests.integration import calls
from tests.integration.small_disk import run_on_a_small_disk

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


# Between `open` and its `with` too, where nothing but the garbage collection can close the file.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
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


def test_a_start_whose_executors_have_too_little_memory_names_the_limit(home: Path) -> None:
    with pytest.raises(ClusterTimeoutError, match=r"memory_limit=1048576 \(1 MiB\)") as caught:
        nbcluster.start(1, memory_limit=1 << 20, timeout=2)

    assert "exit code 1: MemoryError" in str(caught.value)


def test_a_start_whose_initializer_does_not_end_names_it(home: Path, tmp_path: Path) -> None:
    never = str(tmp_path / "never")

    with pytest.raises(ClusterTimeoutError, match="initializer wait_for is still running"):
        nbcluster.start(1, initializer=calls.wait_for, initargs=(never, 0), timeout=2)


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


# --------------------------------------------------------------------------- a poor system

ON_A_FULL_DISK: Final = """
import contextlib, os, sys, nbcluster
from nbcluster.errors import JournalFullError
disk, name = sys.argv[1:]
os.environ["NBCLUSTER_HOME"] = os.path.join(disk, "home")
os.mkdir(os.path.join(disk, "home"), 0o700)
ballast = open(os.path.join(disk, "ballast"), "wb", buffering=0)
for size in (1 << 16, 1 << 12, 1):
    with contextlib.suppress(OSError):
        while True: ballast.write(bytes(size))
for what in ("full", "nearly full"):
    try: print(f"{what}:", nbcluster.start(1, name=name))
    except JournalFullError as error: print(f"{what}:", error)
    except Exception as error: print(f"{what}: not as expected:", repr(error))
    ballast.truncate(ballast.tell() - 3 * 4096)
print("left:", os.listdir(os.environ["NBCLUSTER_HOME"]))
"""


def test_a_start_on_a_full_disk_says_that_it_is_full(home: Path, tmp_path: Path) -> None:
    said, everything = run_on_a_small_disk(ON_A_FULL_DISK, tmp_path, "full")

    for what in ("full", "nearly full"):
        assert said.get(what, "").startswith("the disk under"), everything
    assert said.get("left") == "[]", everything


@pytest.mark.parametrize("limit", [14, 24])
def test_a_start_with_too_few_descriptors_says_so(home: Path, limit: int) -> None:
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))\n"
        "import nbcluster; nbcluster.start(4, name='few')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )

    last = done.stderr.strip().splitlines()[-1]
    assert "cannot be started: too many open files" in last, done.stderr
    assert "ulimit -n 1024" in last
    eventually(lambda: left_of("few") == [], END_S)


def test_a_start_waits_for_a_master_whose_directory_was_removed(up: Up, home: Path) -> None:
    cluster = up(2, name="swept")
    shutil.rmtree(cluster.directory)
    cluster.submit(len, "ab").exception(END_S)  # it notices, and cleans up from now on

    with nbcluster.start(1, name="swept") as again:
        assert again.submit(len, "ab").result(END_S) == 2


def test_a_start_beside_a_master_that_goes_on_without_its_directory_says_what_to_do(
    up: Up, home: Path
) -> None:
    cluster = up(0, name="swept")
    where, pid = cluster_dir("swept"), cluster.stats()["master_pid"]
    if where.blobs.parent == where.path:
        pytest.skip("without shared memory it cannot be found")
    shutil.rmtree(where.path)

    with pytest.raises(ClusterError, match=f"kill {pid}"):
        nbcluster.start(1, name="swept", timeout=0.5)


def test_a_start_whose_directory_is_removed_is_tried_once_more(home: Path) -> None:
    logs = cluster_dir("swept").logs

    def sweep() -> None:
        eventually((logs / "master.err").exists, END_S)
        shutil.rmtree(logs.parent, ignore_errors=True)

    thread = threading.Thread(target=sweep)
    thread.start()
    nbcluster.start(1, name="swept").shutdown()
    thread.join()


def test_a_directory_that_is_removed_again_while_a_cluster_starts_is_told(home: Path) -> None:
    where = cluster_dir("swept")

    with pytest.raises(ClusterError, match="was removed while"), in_words(where):
        (where.logs / "master.err").read_text()
