"""Whatever happens, the promises hold: 300 clusters, each with its own misfortunes."""

from __future__ import annotations

from typing import Final

import pytest

from tests.simulation.acts import live

SEEDS: Final = 300
_PORTION: Final = 25


@pytest.mark.parametrize("first", range(0, SEEDS, _PORTION))
def test_promises_hold_under_chaos_and_everything_ends_after_it(first: int) -> None:
    for seed in range(first, first + _PORTION):
        try:
            live(seed)
        except Exception as error:
            error.add_note(f"seed {seed}: tests.simulation.acts.live({seed}) shows it again")
            raise
