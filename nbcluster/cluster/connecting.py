"""``connect``: how one comes to a cluster that runs."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from nbcluster.client.client import Client
from nbcluster.client.cluster import Cluster
from nbcluster.cluster.owning import open_clusters, owned_clients
from nbcluster.errors import ClusterConnectionError, OptionTypeError
from nbcluster.options import number
from nbcluster.transport.connection import Connection, read_connection
from nbcluster.transport.rundir import FileLock, cluster_dir, known_clusters

CONNECT_S = 9.0


def connect(target: str | os.PathLike[str] | None = None, *, timeout: float = CONNECT_S) -> Cluster:
    """Connect to a running cluster.

    Parameters
    ----------
    target
        Its name, the path of its connection file, or the address (``ipc://…``) of its master.
        None: what ``NBCLUSTER_NAME`` says, or else ``"default"``.
    timeout
        Seconds to wait for the master's answer.

    Returns
    -------
    Cluster
        ``shutdown()`` and the end of a ``with`` statement leave the cluster running; ``stop()``
        ends it.

    Raises
    ------
    OptionError
        If it cannot be the name of a cluster, or ``timeout`` is impossible.
    ClusterConnectionError
        If none runs there, or it does not answer.
    """
    if target is None:
        target = os.environ.get("NBCLUSTER_NAME") or "default"
    try:
        text = os.fsdecode(target)
    except TypeError:
        raise OptionTypeError(
            f"connect() takes a cluster's name, connection file or address, not {target!r}"
        ) from None
    timeout = min(number("timeout", timeout, least=0), threading.TIMEOUT_MAX)
    if "://" in text:
        text = str(_connection_file_of(text))
    if os.sep in text or text.endswith(".json"):
        path = Path(text).absolute()
        return attach(path, read_connection_of(path).name, timeout)
    where = cluster_dir(text)
    if not where.connection_file.exists() or not FileLock.is_held(where.lock_file):
        running = [c.name for c in known_clusters() if FileLock.is_held(c.lock_file)]
        hint = f" Running: {', '.join(running)}." if running else ""
        raise ClusterConnectionError(
            f"no cluster {text!r} is running on this machine.{hint} "
            f"Start it with nbcluster.start(name={text!r})."
        )
    return attach(where.connection_file, where.name, timeout)


def _connection_file_of(address: str) -> Path:
    """Return the connection file of the cluster at that address: it has the key."""
    for known in known_clusters():
        with contextlib.suppress(OSError, ClusterConnectionError):
            if read_connection(known.connection_file).address == address:
                return known.connection_file
    raise ClusterConnectionError(
        f"no cluster of yours is at {address}. Give the name of a cluster on this machine, or the "
        "path of a connection file."
    )


def read_connection_of(path: Path) -> Connection:
    """Return the connection file at ``path``, or the error that says it is not there."""
    try:
        return read_connection(path)
    except FileNotFoundError:
        raise ClusterConnectionError(f"there is no connection file {path}") from None


def attach(
    path: Path,
    name: str,
    timeout: float,
    *,
    owned: bool = False,
    reap: Callable[[bool], None] = lambda keep: None,
) -> Cluster:
    """Return a handle of the cluster with that connection file.

    Parameters
    ----------
    path, name
        The file, and the cluster's name.
    timeout
        Seconds to wait for the master's answer.
    owned
        Whether the cluster is to end with this process.
    reap
        Called when it was told to stop: takes in the end of its master. Its argument says
        whether the journal is to be kept.
    """
    client = Client(path)
    try:
        client.open(timeout)
    except BaseException:  # an interrupt too: its thread is not to go on
        client.close()
        raise
    cluster = Cluster(client, name, owned=owned, reap=reap)
    open_clusters.add(cluster)
    if owned:
        owned_clients.add(client)
    return cluster
