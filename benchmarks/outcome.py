"""What one measurement comes to, and what all of them come to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from benchmarks.stats import Summary

MEASURED, MISSING, FAILED = "measured", "missing", "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Numbers by row, or why there are none."""

    status: str
    numbers: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def _samples() -> dict[str, dict[str, list[float]]]:
    return defaultdict(lambda: defaultdict(list))


def _failures() -> dict[str, dict[str, Outcome]]:
    return defaultdict(dict)


@dataclass(slots=True)
class Report:
    """All that one run of the benchmark found out."""

    systems: dict[str, str]  #: name and version, in the order of the columns
    machine: dict[str, str] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    samples: dict[str, dict[str, list[float]]] = field(default_factory=_samples)  #: row, system
    failures: dict[str, dict[str, Outcome]] = field(default_factory=_failures)  #: figure, system
    notes: list[str] = field(default_factory=list)

    def add(self, figure: str, system: str, outcome: Outcome) -> None:
        """Take in one measurement."""
        if outcome.status != MEASURED:
            self.failures[figure].setdefault(system, outcome)
        for row, number in outcome.numbers.items():
            self.samples[row][system].append(number)

    def summary(self, row: str, system: str) -> Summary | None:
        """Return what the repeats of a row come to, or ``None`` where there are none."""
        samples = self.samples.get(row, {}).get(system)
        return Summary.of(samples) if samples else None

    def medians(self, row: str) -> dict[str, float]:
        """Return a row's medians by system."""
        found = {system: self.summary(row, system) for system in self.systems}
        return {system: summary.median for system, summary in found.items() if summary}
