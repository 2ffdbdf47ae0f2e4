"""What is left of a cluster whose master ended without notice, and how to end it."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from nbcluster.errors import ClusterError, ClusterTimeoutError
from nbcluster.journal import info
from nbcluster.transport.descriptors import watch
from nbcluster.transport.journals import journal_elsewhere, start_command
from nbcluster.transport.rundir import ClusterDir, FileLock

_MASTER: Final = "nbcluster.master"
_ENGINE: Final = "nbcluster.engine"
#: Seconds to wait for who only looks whether the lock is held.
_LOCK_S: Final = 1.0
#: Seconds to wait for processes that were killed.
_END_S: Final = 3.0
#: Seconds after which a start that has brought up nothing was killed.
_START_S: Final = 60.0


def is_dead(where: ClusterDir) -> bool:
    """Return whether there was a master that said nothing before it ended."""
    return where.connection_file.exists() and not FileLock.is_held(where.lock_file)


def is_kept(where: ClusterDir) -> bool:
    """Return whether it was stopped in order, and its journal kept for the next start."""
    there = where.journal_file.exists() or bool(journal_elsewhere(where))
    return there and not is_dead(where) and not FileLock.is_held(where.lock_file)


def is_abandoned(where: ClusterDir) -> bool:
    """Return whether a start was killed here before there was a cluster: nothing can go on."""
    if is_dead(where) or is_kept(where) or not where.logs.is_dir() or any(where.blobs.glob("*")):
        return False
    is_old = time.time() - where.logs.stat().st_mtime > _START_S  # else it may be beginning
    return is_old and not FileLock.is_held(where.lock_file)


def dead_remedy(where: ClusterDir) -> str:
    """Return what can be done about one that is dead."""
    journal = journal_elsewhere(where)
    drops = f"forgets it; they stay in {journal}" if journal else "drops them"
    return (
        f"{start_command(where.name, journal)} goes on with its tasks; "
        f"nbcluster stop {where.name} --keep ends its engines and keeps them, "
        f"nbcluster stop {where.name} --cancel {drops}"
    )


def end(where: ClusterDir, *, keep: bool | None) -> list[int]:
    """End the engines of a dead cluster, and remove what it left.

    Parameters
    ----------
    where
        The cluster.
    keep
        True: keep its journal, so that the next start of that name goes on. False: drop open
        tasks. None: nobody has said what becomes of open tasks.

    Returns
    -------
    list of int
        Process ids of the engines.

    Raises
    ------
    ClusterError
        If tasks are open and ``keep`` is None, or it is being started at this moment.
    """
    try:
        lock = FileLock.wait(where.lock_file, _LOCK_S)
    except ClusterTimeoutError:
        text = f"cluster {where.name!r} is being started or stopped at this moment"
        raise ClusterError(text) from None
    try:
        if keep is None:
            refuse_open_tasks(where)
        pids = end_engines(where)
        if keep:
            where.connection_file.unlink(missing_ok=True)
        else:
            where.remove()
    finally:
        lock.release()
    return pids


def refuse_open_tasks(where: ClusterDir, *, dead_letters: bool = False) -> None:
    """Raise if the journal of a cluster without a master has open tasks, or these."""
    choose = (
        "Choose: --keep (all go on at the next start), --cancel (drop them), or go on with: "
        f"{start_command(where.name, journal_elsewhere(where))}"
    )
    elsewhere = journal_elsewhere(where)
    journal = Path(elsewhere) if elsewhere else where.journal_file
    if journal.exists():
        found = info(journal)
        if found["open"]:
            text = f"cluster {where.name!r} has open tasks: {found['open']}. {choose}"
            raise ClusterError(text)
        if dead_letters and found["dead_letters"]:
            text = f"cluster {where.name!r} has dead letters: {found['dead_letters']}. {choose}"
            raise ClusterError(text)
    if not where.journal_file.exists() and any(where.blobs.glob("*")):
        raise ClusterError(
            f"The journal of cluster {where.name!r} lies elsewhere, and tasks in it may "
            f"need the large arguments that lie here. {choose}"
        )


# --------------------------------------------------------------------------- processes


def belongs_to(cmdline: list[str]) -> tuple[str, Path]:
    """Return what a process of ours is, and its cluster's directory; empty if it is none."""
    nothing = "", Path()
    if "-m" not in cmdline[:-1]:
        return nothing
    module, *rest = cmdline[cmdline.index("-m") + 1 :]
    if module == _ENGINE and "--connection" in rest[:-1]:
        return "engine", Path(rest[rest.index("--connection") + 1]).parent
    if module == _MASTER and rest:
        try:
            config: Any = json.loads(rest[0])
            return "master", Path(config["directory"])
        except (ValueError, KeyError, TypeError):
            return nothing
    return nothing


def own_processes() -> Iterator[tuple[psutil.Process, str, Path]]:
    """Yield each master and engine of this user: process, which of both, its cluster's directory.

    A `psutil.Process` knows when it was started: a signal never goes to another process that was
    given its number meanwhile.
    """
    for process in psutil.process_iter(["cmdline", "uids", "status"]):
        info = process.info
        if info["uids"] is None or info["uids"].effective != os.geteuid():
            continue
        what, directory = belongs_to(info["cmdline"] or [])
        if what and info["status"] != psutil.STATUS_ZOMBIE:
            yield process, what, directory


def masters_of(where: ClusterDir, parent: int | None = None) -> list[psutil.Process]:
    """Return the masters of this cluster; those that the process ``parent`` has started."""
    found = []
    for process, what, place in own_processes():
        with suppress(psutil.NoSuchProcess):
            if what == "master" and place == where.path and parent in (None, process.ppid()):
                found.append(process)
    return found


def engines_left(where: ClusterDir) -> list[psutil.Process]:
    """Return the engines of this cluster that live on; they wait for a next master."""
    return [p for p, what, place in own_processes() if what == "engine" and place == where.path]


def end_engines(where: ClusterDir) -> list[int]:
    """End the engines that wait for a next master, and with them their executors.

    Only for who holds the cluster's lock: nobody else starts a master meanwhile.

    Returns
    -------
    list of int
        Their process ids.
    """
    engines = engines_left(where)
    executors = [child for engine in engines for child in _children(engine)]
    for engine in engines:  # not drained: what they run can be told to nobody
        with suppress(psutil.NoSuchProcess):
            engine.kill()
    # The system ends executors with their engine.
    await_end([*engines, *executors], _END_S)
    return [engine.pid for engine in engines]


def await_end(processes: list[psutil.Process], timeout: float) -> None:
    """Wait until they run no more; that their parent takes them in may last, or never be."""
    deadline = time.monotonic() + timeout
    for process in processes:
        with suppress(OSError):  # it is gone
            fd = watch(process.pid)
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
            os.close(fd)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []
