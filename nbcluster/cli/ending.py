"""Staying beside a cluster until it ends, and seeing it end."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from nbcluster.client.cluster import Cluster
from nbcluster.engine.signals import StopSignals
from nbcluster.errors import ClusterTimeoutError, NbclusterError
from nbcluster.transport.descriptors import watch
from nbcluster.transport.journals import start_command
from nbcluster.transport.rundir import ClusterDir, FileLock, cluster_dir

#: Seconds that a master may need to end: what runs has 25 of them, engines and files the rest.
STOP_S: Final = 60.0


def open_tasks(stats: dict[str, Any]) -> tuple[int, int]:
    """Return how many tasks wait (pending, or for their backoff), and how many run."""
    return int(stats["pending"]) + int(stats["retrying"]), int(stats["running"])


@contextmanager
def end_of(pid: int) -> Iterator[Callable[[float], None]]:
    """Give a function that waits until a process has ended; it was alive when this began.

    A master says goodbye before it has removed its files and let go of its lock.
    """
    try:
        fd = watch(pid)
    except ProcessLookupError:
        yield lambda timeout: None
        return
    poller = select.poll()
    poller.register(fd, select.POLLIN)

    def wait(timeout: float) -> None:
        if not poller.poll(timeout * 1000):
            raise ClusterTimeoutError(
                f"the master (pid {pid}) is still there after {timeout:g} s; see: nbcluster doctor"
            )

    try:
        yield wait
    finally:
        os.close(fd)


def settle(name: str, journal: str, *, forget: bool) -> None:
    """Say what a journal still holds, after its master has ended.

    Parameters
    ----------
    name, journal
        The cluster, and where its journal is.
    forget
        Remove it if it is the cluster's own and nothing in it is open or a dead letter: it was
        kept in case that what ran would not end in time.
    """
    from nbcluster.journal import info

    is_own = Path(journal) == cluster_dir(name).journal_file
    with suppress(NbclusterError, FileNotFoundError):  # another master has it already
        found = info(journal)
        if found["open"] or found["dead_letters"] or not forget:
            counts = (
                f"open tasks that are kept: {found['open']}, ended ones: {found['finished']}, "
                f"of which dead letters: {found['dead_letters']}"
            )
            print(f"{counts}; {start_command(name, '' if is_own else journal)} goes on")
        elif is_own:
            _remove(cluster_dir(name))


def _remove(where: ClusterDir) -> None:
    lock = FileLock.acquire(where.lock_file)
    if lock is not None:
        where.remove()
        lock.release()


def stay(cluster: Cluster, pid: int) -> int:
    """Wait until the cluster ends; the first SIGINT or SIGTERM drains it, the second stops it.

    Returns
    -------
    int
        0 if it was stopped, 1 if its master died.
    """
    signals = StopSignals()
    print("  stop:    Ctrl-C here; it lets running tasks finish first", flush=True)
    poller = select.poll()
    obeyed = 0
    journal = ""
    master = watch(pid)
    for fd in (signals.fd, master):
        poller.register(fd, select.POLLIN)
    try:
        while master not in dict(poller.poll()):
            signals.clear()
            count = signals.count  # one that comes while the first is obeyed is the second
            if count != obeyed:
                journal = _obey(cluster, is_first=count == 1) or journal
                obeyed = count
        cluster._client.take_in()  # its last words
        return _over(cluster, stopped=obeyed > 0 or cluster._client.is_closed, journal=journal)
    finally:
        cluster.close()
        signals.close()
        os.close(master)


def _obey(cluster: Cluster, *, is_first: bool) -> str:
    """Ask the master to stop; return its journal, which is kept, or nothing."""
    with suppress(NbclusterError):  # it ends at this moment, and is seen to
        journal = str(cluster._client.ask("info")["journal"])
        if is_first:
            running = open_tasks(cluster.stats())[1]
            print(f"draining, tasks that run: {running}; once more stops at once", flush=True)
        # Ctrl-C is no order to lose what was accepted.
        cluster._client.ask("stop", mode="drain" if is_first else "now", keep=True)
        return journal
    return ""


def _over(cluster: Cluster, *, stopped: bool, journal: str) -> int:
    if not stopped:
        log = cluster.directory / "logs" / "master.log"
        print(
            f"nbcluster: the master of cluster {cluster.name!r} died. Its log: {log}",
            file=sys.stderr,
        )
        return 1
    print(f"cluster {cluster.name!r} has stopped", flush=True)
    if journal:
        settle(cluster.name, journal, forget=True)
    return 0
