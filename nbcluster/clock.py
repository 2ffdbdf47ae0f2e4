"""The time by which a cluster lives: that of the wall clock, but it never goes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

#: Seconds. To be set by less is nothing: the time stands still, or hurries, for that long.
MOMENT_S: Final = 0.1


class Clock:
    """Tells the time in seconds since the epoch, as the wall clock does, for as long as that goes.

    Where the wall clock is set back, the time goes on at its pace: what is due in a second is
    due in a second. From then on it is ahead of the wall clock by as much; if that is set forward
    again, the lead is used up first. Stamps are off by the lead, until the wall clock has caught
    up: stamps that go back would be worse, since ends would lie before beginnings.

    Where the wall clock is set forward, or the machine slept, the time follows: else all stamps
    would be off from the first sleep of a laptop on. But nothing has run for that long, so how
    much it was is told, and who measures how long something runs can take it off.

    Parameters
    ----------
    wall, ticks
        Return what the wall clock and the monotonic clock show.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._ticks = ticks
        self._leapt_s = 0.0
        self.now = wall()  #: what was read last
        self.ahead_s = 0.0  #: by how much it is ahead of the wall clock, if that was set back
        self._zero = self.now - ticks()  #: the time at which the monotonic clock showed 0

    def read(self) -> float:
        """Return the time."""
        # In this order: a pause between the two looks like a step back, which the next call finds
        # undone, and not like a step forward, which would stay.
        wall = self._wall()
        ticks = self._ticks()
        zero = wall - ticks
        ahead_s = self._zero - zero
        if not self.ahead_s and -MOMENT_S <= ahead_s <= MOMENT_S:  # nearly always
            self._zero = zero
            self.now = max(self.now, wall)
        else:
            self._note(ahead_s)
            self.now = max(self.now, ticks + self._zero)
        return self.now

    def _note(self, ahead_s: float) -> None:
        """Take note of how far the time would be ahead, if the wall clock were not followed."""
        was_ahead_s = self.ahead_s
        if ahead_s > MOMENT_S:
            self.ahead_s = ahead_s
        else:
            self.ahead_s = 0.0
            self._zero -= ahead_s
            if ahead_s < -MOMENT_S:
                self._leapt_s -= ahead_s
                log.info("the clock was set forward, or the machine slept: %.1f s", -ahead_s)
        if abs(self.ahead_s - was_ahead_s) > MOMENT_S:
            log.info("somebody set the clock: the time is %.1f s ahead of it", self.ahead_s)

    def take_leap(self) -> float:
        """Return by how much the time went forward, since the last call, while nothing ran."""
        leapt_s, self._leapt_s = self._leapt_s, 0.0
        return leapt_s

    def not_before(self, at: float) -> None:
        """Go on from ``at`` if the wall clock is behind that."""
        lead_s = at - self.read()
        if lead_s > 0:
            self._zero += lead_s
            self.now = at
            self.read()
