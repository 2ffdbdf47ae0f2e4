"""The systems, by the name they have on the command line and in the table."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers.base import Peer
from benchmarks.peers.dask import Dask
from benchmarks.peers.ipyparallel import IPyParallel
from benchmarks.peers.loky import Loky
from benchmarks.peers.ours import Nbcluster
from benchmarks.peers.process import ProcessPool
from benchmarks.peers.ray import Ray

OURS = "nbcluster"  #: the system that ratios and budgets are about

PEERS: dict[str, Callable[[], Peer]] = {
    "nbcluster": Nbcluster,
    "process": ProcessPool,
    "loky": Loky,
    "dask": Dask,
    "ray": Ray,
    "ipyparallel": IPyParallel,
}

__all__ = ["OURS", "PEERS", "Peer"]
