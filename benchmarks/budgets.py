"""The budgets of the design's section 9, by the row they are about.

A budget judges nbcluster's figure alone or against peers measured in the same run; where one of
the numbers is missing there is no verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from benchmarks.peers import OURS


class Budget(Protocol):
    """One thing that a row has to reach."""

    @property
    def text(self) -> str:
        """What the table prints."""

    def is_met(self, values: Mapping[str, float]) -> bool | None:
        """Judge a row's medians by system; ``None`` where there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class AtMost:
    """nbcluster's own figure has a ceiling."""

    limit: float

    @property
    def text(self) -> str:
        """What the table prints."""
        return f"≤ {self.limit:g}"

    def is_met(self, values: Mapping[str, float]) -> bool | None:
        """Judge nbcluster's figure."""
        return values[OURS] <= self.limit if OURS in values else None


@dataclass(frozen=True, slots=True)
class AtLeast:
    """nbcluster's own figure has a floor."""

    limit: float

    @property
    def text(self) -> str:
        """What the table prints."""
        return f"≥ {self.limit:g}"

    def is_met(self, values: Mapping[str, float]) -> bool | None:
        """Judge nbcluster's figure."""
        return values[OURS] >= self.limit if OURS in values else None


@dataclass(frozen=True, slots=True)
class Times:
    """nbcluster's figure is to be a multiple of the highest of some peers."""

    factor: float
    peers: tuple[str, ...]

    @property
    def text(self) -> str:
        """What the table prints."""
        best = self.peers[0] if len(self.peers) == 1 else f"best of {', '.join(self.peers)}"
        return f"≥ {self.factor:g} × {best}"

    def is_met(self, values: Mapping[str, float]) -> bool | None:
        """Judge nbcluster's figure against those of the peers that have one."""
        rivals = [values[peer] for peer in self.peers if peer in values]
        if OURS not in values or not rivals:
            return None
        return values[OURS] >= self.factor * max(rivals)


BUDGETS: dict[str, tuple[Budget, ...]] = {
    "throughput": (Times(5, ("process",)), Times(25, ("dask", "ray", "ipyparallel"))),
    "round_trip_ratio": (AtMost(1.5),),
    "echo": (Times(4, ("process",)), Times(2, ("loky", "dask", "ray", "ipyparallel"))),
    "start": (AtMost(0.5),),
    "queued_memory": (AtMost(1.0),),
    "deep_queue_ratio": (AtLeast(0.8),),
    "cpu_client": (AtMost(12),),
    "cpu_master": (AtMost(20),),
    "cpu_executors": (AtMost(10),),
    "idle_cpu": (AtMost(0.5),),
    "idle_rss": (AtMost(200),),
}
