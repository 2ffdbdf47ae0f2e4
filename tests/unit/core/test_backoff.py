"""How long a failed attempt waits."""

from __future__ import annotations

import pytest

from nbcluster.core.backoff import backoff_s, luck_of
from nbcluster.options import Backoff


def test_the_wait_grows_up_to_its_cap() -> None:
    waits = [backoff_s(Backoff(1, 2, 100), n, luck=1.0) for n in (1, 2, 3, 9_999)]

    assert waits == [1.0, 2.0, 4.0, 100.0]


def test_bad_luck_halves_the_wait_at_most() -> None:
    assert backoff_s(Backoff(8), 1, luck=0.0) == 4.0


def test_failures_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="from 1"):
        backoff_s(Backoff(), 0, luck=1.0)


def test_luck_is_spread_and_the_same_in_every_replay() -> None:
    lots = [luck_of(f"task{i}", n) for i in range(100) for n in (1, 2)]

    assert lots == [luck_of(f"task{i}", n) for i in range(100) for n in (1, 2)]
    assert min(lots) < 0.1
    assert max(lots) > 0.9
    assert len(set(lots)) == len(lots)
