"""The way from a verb to a running cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from nbcluster.client.cluster import Cluster
from nbcluster.cluster.connecting import connect
from nbcluster.cluster.remains import dead_remedy, is_kept
from nbcluster.errors import ClusterConnectionError
from nbcluster.transport.connection import read_connection
from nbcluster.transport.journals import journal_elsewhere, start_command
from nbcluster.transport.rundir import ClusterDir, FileLock, cluster_dir, known_clusters


def require_running(name: str) -> None:
    """Raise, with the command to go on with, unless a master of that name runs here.

    Raises
    ------
    ClusterConnectionError
        If none does.
    """
    where = cluster_dir(name)
    if FileLock.is_held(where.lock_file):
        return
    with suppress(FileNotFoundError):
        raise ClusterConnectionError(dead_text(where, read_connection(where.connection_file).pid))
    if is_kept(where):
        raise ClusterConnectionError(kept_text(where))
    running = [c.name for c in known_clusters() if FileLock.is_held(c.lock_file)]
    hint = f" Running: {', '.join(running)}." if running else ""
    raise ClusterConnectionError(
        f"no cluster {name!r} is running on this machine.{hint} "
        f"Start it with: nbcluster start --name {name} --persist"
    )


def dead_text(where: ClusterDir, pid: int) -> str:
    """Return what to say of a cluster without a master, and the commands to go on with."""
    what = f"cluster {where.name!r} is dead: its master (pid {pid}) ended without notice"
    return f"{what}. {dead_remedy(where)}"


def kept_text(where: ClusterDir) -> str:
    """Return what to say of a cluster that was stopped and whose journal is kept."""
    return (
        f"cluster {where.name!r} is stopped already, and its journal is kept. "
        f"{start_command(where.name, journal_elsewhere(where))} goes on with its tasks; "
        f"nbcluster stop {where.name} --cancel removes them"
    )


@contextmanager
def reached(name: str) -> Iterator[Cluster]:
    """Connect to a cluster by its name, or the path of its connection file, for a while."""
    if os.sep not in name:
        require_running(name)
    cluster = connect(name)
    try:
        yield cluster
    finally:
        cluster.close()
