"""Medians and quantiles of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def quantile(samples: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of the samples lie, between neighbours by line.

    Raises
    ------
    ValueError
        If there are no samples, or ``share`` is not in 0 to 1.
    """
    if not samples:
        raise ValueError("no samples")
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in 0 to 1, not {share}")
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(samples: Sequence[float]) -> float:
    """Return the middle of the samples."""
    return quantile(samples, 0.5)


@dataclass(frozen=True, slots=True)
class Summary:
    """What is kept of the repeats of one figure."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Summary:
        """Summarise at least one sample."""
        return cls(median(samples), min(samples), max(samples), len(samples))


def scaled_count(rate: float, seconds: float, least: int, most: int) -> int:
    """Return how many items to run so that they take about ``seconds`` at ``rate`` a second."""
    return max(least, min(most, int(rate * seconds)))
