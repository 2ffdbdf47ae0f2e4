"""The time of a cluster: that of the wall clock, but never back, and never faster than it goes."""

from __future__ import annotations

from typing import Final

import pytest

from nbcluster.clock import MOMENT_S, Clock

START: Final = 1000.0
HOUR: Final = 3600.0


class Clocks:
    """A machine's two clocks, moved by hand."""

    def __init__(self) -> None:
        self.wall = START
        self.ticks = 77.0
        self.clock = Clock(lambda: self.wall, lambda: self.ticks)

    def run(self, seconds: float) -> float:
        """Let time pass; return what the cluster's clock tells then."""
        self.wall += seconds
        self.ticks += seconds
        return self.clock.read()

    def set(self, by_s: float) -> float:
        """Set the wall clock, or let the machine sleep: the other one does not notice either."""
        self.wall += by_s
        return self.clock.read()


@pytest.fixture
def clocks() -> Clocks:
    """Return clocks of which nobody has set any."""
    return Clocks()


def test_the_time_is_that_of_the_wall_clock(clocks: Clocks) -> None:
    assert clocks.run(5.0) == pytest.approx(START + 5)
    assert clocks.clock.now == clocks.clock.read()
    assert clocks.clock.ahead_s == 0.0
    assert clocks.clock.take_leap() == 0.0


def test_set_back_the_time_goes_on_at_its_pace_and_is_ahead_by_as_much(clocks: Clocks) -> None:
    assert clocks.set(-HOUR) == pytest.approx(START)
    assert clocks.run(0.25) == pytest.approx(START + 0.25)
    clocks.set(-HOUR)
    assert clocks.run(0.25) == pytest.approx(START + 0.5)
    assert clocks.clock.ahead_s == pytest.approx(2 * HOUR)
    assert clocks.clock.take_leap() == 0.0


def test_set_forward_again_what_it_was_ahead_is_used_up_first(clocks: Clocks) -> None:
    clocks.set(-HOUR)

    assert clocks.set(HOUR / 2) == pytest.approx(START)
    assert clocks.clock.ahead_s == pytest.approx(HOUR / 2)
    assert clocks.set(HOUR) == pytest.approx(START + HOUR / 2)
    assert clocks.clock.ahead_s == 0.0
    assert clocks.clock.take_leap() == pytest.approx(HOUR / 2)


def test_set_forward_the_time_follows_and_tells_once_by_how_much(clocks: Clocks) -> None:
    clocks.set(HOUR)
    assert clocks.set(HOUR) == pytest.approx(START + 2 * HOUR)

    assert clocks.clock.take_leap() == pytest.approx(2 * HOUR)
    assert clocks.clock.take_leap() == 0.0
    assert clocks.run(1.0) == pytest.approx(START + 2 * HOUR + 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_to_be_set_by_less_than_a_moment_adds_up_to_nothing(clocks: Clocks, sign: int) -> None:
    last = clocks.clock.now
    for _ in range(1_000):
        clocks.set(sign * MOMENT_S / 3)
        now = clocks.run(MOMENT_S)
        assert last <= now
        last = now

    assert last == pytest.approx(clocks.wall)
    assert clocks.clock.ahead_s == 0.0
    assert clocks.clock.take_leap() == 0.0


@pytest.mark.parametrize("pause_s", [MOMENT_S / 2, 30.0])
def test_a_pause_between_the_looks_at_the_two_clocks_changes_nothing(
    clocks: Clocks, pause_s: float
) -> None:
    seen = clocks.wall
    clocks.clock._wall = lambda: seen
    clocks.run(pause_s)  # the wall clock was looked at before, the other one after it
    clocks.clock._wall = lambda: clocks.wall

    assert clocks.run(1.0) == pytest.approx(clocks.wall)
    assert clocks.clock.ahead_s == 0.0
    assert clocks.clock.take_leap() == 0.0


@pytest.mark.parametrize("lead_s", [MOMENT_S / 2, HOUR])
def test_the_time_goes_on_from_where_another_clock_was(clocks: Clocks, lead_s: float) -> None:
    clocks.clock.not_before(START + lead_s)

    assert clocks.clock.now == clocks.clock.read() == pytest.approx(START + lead_s)
    assert clocks.run(HOUR) == pytest.approx(START + HOUR + (lead_s if lead_s > MOMENT_S else 0))


def test_a_clock_that_was_behind_changes_nothing(clocks: Clocks) -> None:
    clocks.clock.not_before(START - HOUR)

    assert clocks.run(1.0) == pytest.approx(START + 1)
    assert clocks.clock.ahead_s == 0.0
