"""How far the master may be ahead of what a client has taken in.

Both sides count what is sent from the welcome on; the client tells from time to time how much of it
it has taken in. A socket would tell nothing of that: it queues in memory that nobody sees.
"""

from __future__ import annotations

from typing import Final

#: The master sends no more than this ahead, beside the last message.
WINDOW_COST: Final = 64 << 20
#: The client tells each time that it has taken in as much again.
REPORT_COST: Final = 8 << 20
#: What a message counts beside its bytes, so that the window bounds their number too: 1,024.
_MESSAGE_COST: Final = 64 << 10


def cost(frame: bytes) -> int:
    """Return what one message counts."""
    return len(frame) + _MESSAGE_COST


class Taken:
    """The client's side: counts what it has taken in."""

    def __init__(self) -> None:
        self._cost = self._told = 0

    def begin(self) -> None:
        """Count from here: this is the welcome."""
        self._cost = self._told = 0

    def take(self, frame: bytes) -> int | None:
        """Count a message; return the sum if it is to be told now."""
        self._cost += cost(frame)
        if self._cost - self._told < REPORT_COST:
            return None
        self._told = self._cost
        return self._cost
