"""What tests of several folders need: waiting for a condition, and finding what was left over."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

import psutil

from nbcluster import Cluster
from nbcluster.transport.rundir import cluster_dir, home

T = TypeVar("T")

#: Every process started by this test process inherits this variable, however it was started and
#: whoever its parent is by now: so an orphan is found too.
RUN_VARIABLE: Final = "NBCLUSTER_TEST_RUN"
RUN_ID: Final = uuid4().hex
LEAK_DEADLINE_S: Final = 5.0  #: the promise to the user: nothing is left after 5 s
_BLOBS: Final[set[Path]] = set()


def eventually(
    condition: Callable[[], T], timeout: float = 10.0, message: str | Callable[[], str] = ""
) -> T:
    """Return the first true value of ``condition()``; fail after ``timeout`` seconds.

    Parameters
    ----------
    condition
        Called again and again, at growing intervals of 1 to 50 ms.
    timeout
        Seconds until the test fails.
    message
        What was waited for; a function is called when the time is over, so that it can say what
        was seen last.

    Raises
    ------
    AssertionError
        If no true value came in time.
    """
    deadline, pause = time.monotonic() + timeout, 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            text = message() if callable(message) else message
            raise AssertionError(f"not within {timeout:g} s: {text or condition!r}; got {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def has_ended(process: psutil.Process) -> bool:
    """Return whether the process runs no more, taken in by its parent or not."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two questions
        return True


def executor_pids(cluster: Cluster) -> set[int]:
    """Return the process numbers of all executors: an engine has no other children."""
    engines = map(psutil.Process, cluster.engines().pid)
    return {child.pid for engine in engines for child in engine.children()}


@dataclass(frozen=True)
class Left:
    """What exists now and could be left over later: processes, threads, files."""

    processes: frozenset[psutil.Process] = field(default_factory=frozenset)
    threads: frozenset[threading.Thread] = field(default_factory=frozenset)
    files: frozenset[Path] = field(default_factory=frozenset)

    @classmethod
    def now(cls) -> Left:
        """Return what exists at this moment."""
        return cls(
            frozenset(run_processes()), frozenset(threading.enumerate()), frozenset(payload_files())
        )

    def new_processes(self, before: Left) -> list[psutil.Process]:
        """Return the processes that are neither of ``before`` nor children of such."""
        old = {p.pid for p in before.processes}
        return [p for p in self.processes - before.processes if not old & set(_ancestors(p))]

    def since(self, before: Left, *, clusters_open: bool) -> list[str]:
        """Return a line for each thing that exists now and did not exist ``before``.

        A cluster that was open before may replace its executors and keep payloads, so while
        ``clusters_open`` its descendants, threads and files are no leaks.
        """
        threads = [t for t in self.threads - before.threads if not _allowed(t, clusters_open)]
        files = () if clusters_open else self.files - before.files
        return [
            *(f"process {_describe(p)}" for p in self.new_processes(before)),
            *(f"thread {t.name!r}{' (daemon)' if t.daemon else ''}" for t in threads),
            *(f"file {f}" for f in files),
        ]


def run_processes() -> list[psutil.Process]:
    """Return all processes that come from this test process, orphans and zombies among them."""
    own = psutil.Process()
    found = {p.pid: p for p in own.children(recursive=True)}
    mark = f"{RUN_VARIABLE}={RUN_ID}".encode()
    for pid in psutil.pids():
        if pid in found or pid == own.pid:
            continue
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes():
                found[pid] = psutil.Process(pid)
        except (OSError, psutil.Error):
            continue  # gone meanwhile, or somebody else's
    return [p for p in found.values() if not _is_tracker(p)]


def note_clusters() -> None:
    """Remember where the clusters that exist now keep their payloads, to look there later.

    Their files may lie outside their directory, and the directory goes first. Only clusters of
    this process's ``NBCLUSTER_HOME`` count: other tests may run beside this one.
    """
    with suppress(FileNotFoundError):
        for entry in os.scandir(home()):
            if entry.is_dir(follow_symlinks=False):
                _BLOBS.add(cluster_dir(entry.name).blobs)


def payload_files() -> list[Path]:
    """Return the payload files of all clusters noted so far."""
    note_clusters()
    return [f for folder in _BLOBS for f in folder.glob("**/*") if f.is_file()]


def _allowed(thread: threading.Thread, clusters_open: bool) -> bool:
    if not thread.is_alive():
        return True
    return clusters_open and thread.daemon and thread.name.startswith("nbcluster-")


def _ancestors(process: psutil.Process) -> list[int]:
    try:
        return [p.pid for p in process.parents()]
    except psutil.Error:
        return []


def _is_tracker(process: psutil.Process) -> bool:
    # multiprocessing keeps one of them for the life of the process; it is not ours to end.
    try:
        return any("resource_tracker" in word for word in process.cmdline())
    except psutil.Error:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({process.status()}): {' '.join(process.cmdline()) or '?'}"
    except psutil.Error:
        return str(process.pid)
