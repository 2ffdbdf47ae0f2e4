"""What this process has started and is to end: masters, and the pipe that tells of our own end."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import subprocess
import weakref

from nbcluster import errors
from nbcluster.client.asking import SILENT_S
from nbcluster.client.client import Client
from nbcluster.client.cluster import Cluster
from nbcluster.transport.rundir import ClusterDir

log = logging.getLogger(__name__)

#: Reading ends of owner pipes lie in the masters; as long as we hold the other end, we live.
_owner_pipe: tuple[int, int] | None = None
open_clusters: weakref.WeakSet[Cluster] = weakref.WeakSet()
#: Clients of clusters that end with this process: they may outlive their handles.
owned_clients: weakref.WeakSet[Client] = weakref.WeakSet()
#: Masters that were started here and not waited for; one that persists may stay to the end.
masters: list[subprocess.Popen[bytes]] = []


def take_in_dead() -> None:
    """Wait for the masters of this process that have ended, however that came about."""
    masters[:] = [process for process in masters if process.poll() is None]


def await_ending(name: str, timeout: float) -> None:
    """Wait for a cluster of that name that ``shutdown(wait=False)`` has told to end.

    Raises
    ------
    ClusterTimeoutError
        If it has not ended after ``timeout`` seconds.
    """
    for cluster in list(open_clusters):
        ending = cluster._client.ending
        if cluster.name == name and ending is not None:
            ending.join(timeout)
            if ending.is_alive():
                raise errors.ClusterTimeoutError(
                    f"cluster {name!r} was told to end and still works on its open tasks; wait "
                    "for them, cancel them, or choose another name"
                )


def owner_fd() -> int:
    """Return the reading end of a pipe whose other end closes when this process ends."""
    global _owner_pipe  # noqa: PLW0603 - one for the process
    if _owner_pipe is None:
        _owner_pipe = os.pipe()
        for fd in _owner_pipe:
            os.set_inheritable(fd, False)
    return _owner_pipe[0]


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a master that is of no use, politely at first."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def reap(process: subprocess.Popen[bytes], where: ClusterDir, *, keep: bool) -> None:
    """Take in the end of a master that was told to stop, or was killed before.

    One that was killed has removed nothing, and its engines wait for the next: both is done here.
    """
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        kill(process)
    if process.returncode < 0 and where.path.is_dir():
        from nbcluster.cluster import remains  # seldom needed, and brings the journal

        # Or the next one is being started, or engines have removed all meanwhile.
        with contextlib.suppress(errors.ClusterError, FileNotFoundError):
            remains.end(where, keep=keep)
    take_in_dead()


def _tell_dropped(client: Client) -> None:
    """Say what is lost with a cluster that ends with this process."""
    connection, count = client.link.connection, len(client.open_futures())
    if count and connection is not None and not connection.persist and not client.is_closed:
        log.warning(
            "the program has ended before %d task%s of its cluster %r, which %s dropped with it: "
            "cluster.shutdown() waits for open tasks, start(persist=True) keeps the cluster",
            count,
            "" if count == 1 else "s",
            connection.name,
            "is" if count == 1 else "are",
        )


@atexit.register
def _at_exit() -> None:
    """Stop what this process owns: sooner than the masters would find out by themselves."""
    for client in list(owned_clients):
        _tell_dropped(client)
    for cluster in list(open_clusters):
        with contextlib.suppress(errors.NbclusterError):
            if cluster._owned:
                # One that is busy is not waited for: it will find its owner gone.
                cluster._stop("now", timeout=SILENT_S)
            else:
                cluster.close()
    take_in_dead()
    for process in masters:
        process.returncode = 0  # it outlives us on purpose: nothing to warn of


def _after_fork() -> None:
    """Leave the clusters to the parent: a child that ends must not stop them."""
    global _owner_pipe  # noqa: PLW0603 - one for the process
    for cluster in list(open_clusters):
        cluster._client.disown()
    open_clusters.clear()
    owned_clients.clear()
    for process in masters:
        process.returncode = 0  # not a child of ours
    masters.clear()
    if _owner_pipe is not None:
        for fd in _owner_pipe:  # or the masters would take our end for the owner's
            os.close(fd)
        _owner_pipe = None


os.register_at_fork(after_in_child=_after_fork)
