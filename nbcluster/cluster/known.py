"""The clusters of this user on this machine, those that run and those that are dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nbcluster.cluster.remains import is_kept
from nbcluster.errors import ClusterError
from nbcluster.transport.connection import read_connection
from nbcluster.transport.rundir import FileLock, known_clusters

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Final = ("name", "state", "pid", "epoch", "persist", "directory")


def clusters() -> pd.DataFrame:
    """Return the clusters of this user on this machine, by name.

    ``state`` is ``running``; or ``dead``: its master ended without notice; or ``kept``: it was
    stopped, and its journal kept. `start` of the same name goes on with its tasks; ``nbcluster
    stop --keep`` ends what is left of a dead one, ``nbcluster stop --cancel`` removes either.
    """
    from nbcluster.client.frames import frame

    rows = cluster_rows()
    return frame({name: [row[name] for row in rows] for name in COLUMNS}, index="name")


def cluster_rows() -> list[dict[str, Any]]:
    """Return a row for each cluster that has a connection file one can trust, or was kept."""
    rows: list[dict[str, Any]] = []
    for where in known_clusters(kept=True):
        if is_kept(where):
            kept = (where.name, "kept", 0, 0, False, str(where.path))
            rows.append(dict(zip(COLUMNS, kept, strict=True)))
            continue
        try:
            known = read_connection(where.connection_file)
        except (FileNotFoundError, ClusterError):
            continue  # `doctor` tells about it
        state = "running" if FileLock.is_held(where.lock_file) else "dead"
        row = (where.name, state, known.pid, known.epoch, known.persist, str(where.path))
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    return rows
