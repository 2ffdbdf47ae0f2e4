"""The Stop button while a cell waits for its tasks."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from nbcluster.client.cluster import Cluster
from nbcluster.client.future import Future
from nbcluster.core.model import State
from nbcluster.errors import ClusterConnectionError, NbclusterError

#: What the results are bound to that there were when a cell was stopped.
PARTIAL: Final = "_partial"


class CellInterrupted(KeyboardInterrupt):
    """The wait for a cell's tasks was interrupted.

    Parameters
    ----------
    lines
        What is shown.

    Attributes
    ----------
    partial : list
        Results of the tasks that had succeeded.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__(*lines)
        self.partial: list[Any] = []

    def _render_traceback_(self) -> list[str]:
        return [str(line) for line in self.args]


CellInterrupted.__name__ = "KeyboardInterrupt"  # as front ends show it


def cancelled(cluster: Cluster, futures: list[Future[Any]]) -> CellInterrupted:
    """Cancel what is open of a cell's tasks, and return what to raise."""
    still = [future for future in futures if not future.done()]
    try:
        count = len(cluster._client.cancel(future.id for future in still))
    except ClusterConnectionError:  # the next master is told
        count = len(still)
        for future in still:
            future._cancel_soon()
    except NbclusterError as error:
        return CellInterrupted("KeyboardInterrupt", f"the tasks could not be cancelled: {error}")
    kept = [future.result() for future in futures if future.state == State.SUCCEEDED]
    results = f"kept {len(kept)} result{'' if len(kept) == 1 else 's'}"
    stopped = CellInterrupted(
        "KeyboardInterrupt: the cell was stopped",
        f"cancelled {count}, {results}{' in ' + PARTIAL if kept else ''}",
        "engines run on; %cluster config on_interrupt=detach lets tasks go on, too",
    )
    stopped.partial = kept
    return stopped


def detached(futures: list[Future[Any]]) -> CellInterrupted:
    """Return what to raise where the tasks go on."""
    still = [future for future in futures if not future.done()]
    names = ", ".join(future.id for future in still[:3]) + (", ..." if len(still) > 3 else "")
    with suppress(IndexError):
        names += f"; cluster.future({still[0].id!r}) returns the first"
    return CellInterrupted(
        "KeyboardInterrupt: the cell waits no more",
        f"{len(still)} go on: {names}",
        "%cluster cancel ends them; %cluster config on_interrupt=cancel does so at once",
    )
