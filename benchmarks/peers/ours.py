"""nbcluster itself, with its journal on and every option at its default."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any

from benchmarks.peers.base import NOT_INSTALLED, FuturesPeer, Roles, descendants


class Nbcluster(FuturesPeer):
    """One engine of one slot for each worker."""

    name = "nbcluster"
    package = "nbcluster"
    cluster: Any = None  #: the cluster itself, for figures that only nbcluster has
    _module: Any = None

    def version(self) -> str:
        """Return the installed version, or say that it runs as it lies here."""
        version = super().version()
        return "source tree" if version == NOT_INSTALLED else version

    def load(self) -> None:
        """Import nbcluster."""
        self._module = import_module("nbcluster")

    def start(self, workers: int = 2) -> None:
        """Start a cluster of its own name; no workers at all is allowed."""
        self.cluster = self._module.start(engines=workers, name=f"bench-{os.getpid()}")

    def submit(self, fn: Callable[..., object], /, *args: object) -> Any:
        """Submit one call."""
        return self.cluster.submit(fn, *args)

    def map(self, fn: Callable[[Any], object], items: Sequence[object]) -> list[object]:
        """Map with the default, adaptive chunks."""
        return list(self.cluster.map(fn, items))

    def master_pid(self) -> int:
        """Return the process id of the master."""
        return int(self.cluster.stats()["master_pid"])

    def pids(self) -> Roles:
        """Ask the cluster, and add what it started and does not name."""
        engines = self.cluster.engines()
        roles: Roles = {
            "client": [os.getpid()],
            "master": [self.master_pid()],
            "engines": flat_pids(engines["pid"]),
            "executors": flat_pids(engines["executor_pid"]),
        }
        known = {pid for pids in roles.values() for pid in pids}
        roles["other"] = [pid for pid in descendants() if pid not in known]
        return roles

    def stop(self) -> None:
        """End the cluster with all its processes."""
        if self.cluster is not None:
            self.cluster.shutdown(cancel_futures=True)


def flat_pids(column: Iterable[Any]) -> list[int]:
    """Return the process ids in a column whose cells hold one or several of them, or none."""
    pids: list[int] = []
    for cell in column:
        several = cell if isinstance(cell, (list, tuple, set)) else [cell]
        pids.extend(int(pid) for pid in several if pid and not math.isnan(pid))
    return pids
