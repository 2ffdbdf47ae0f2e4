"""The way from a verb to a running cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from nbcluster.client.cluster import Cluster
from nbcluster.cluster.start import connect
from nbcluster.errors import ClusterConnectionError
from nbcluster.transport.rundir import FileLock, cluster_dir, known_clusters


def require_running(name: str) -> None:
    """Raise, with the command to go on with, unless a master of that name runs here.

    Raises
    ------
    ClusterConnectionError
        If none does.
    """
    if FileLock.is_held(cluster_dir(name).lock_file):
        return
    running = [c.name for c in known_clusters() if FileLock.is_held(c.lock_file)]
    hint = f" Running: {', '.join(running)}." if running else ""
    raise ClusterConnectionError(
        f"no cluster {name!r} is running on this machine.{hint} "
        f"Start it with: nbcluster start --name {name} --persist"
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
