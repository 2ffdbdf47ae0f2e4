"""What one client was sent and has not taken in, and what waits until it has."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from nbcluster.core.events import News
from nbcluster.core.model import Ended, Moved
from nbcluster.wire.window import WINDOW_COST, cost

#: Bytes that are kept for a client that does not read; what comes then it has to ask for.
KEPT_BYTES: Final = 1 << 30
#: Bytes of results in one message, beside its last one.
PORTION_BYTES: Final = 8 << 20
#: Tasks that moved, in one message.
PORTION_MOVED: Final = 20_000
#: What an end counts beside its payload and output.
_END_BYTES: Final = 400


def size_of(end: Ended) -> int:
    """Return the bytes that the news of an end takes, about."""
    return len(end.payload) + len(end.stdout) + len(end.stderr) + _END_BYTES


@dataclass(slots=True)
class Unread:
    """The window of one client, and what does not go into it."""

    waits: bool = False  #: the window is full; all that comes is kept, to stay in order
    is_noted: bool = False  #: in the master's log
    has_gap: bool = False  #: not all could be kept: the client has to see that and ask
    _sent: int = 0
    _taken: int = 0
    _frames: deque[bytes] = field(default_factory=deque)  #: answers, and what else is no news
    _ended: deque[Ended] = field(default_factory=deque)
    _moved: dict[str, Moved] = field(default_factory=dict)
    _once: News = field(default_factory=News)  #: what cannot be asked for again
    _kept_bytes: int = 0

    def begin(self) -> None:
        """Count from here: the next message is the welcome."""
        self._sent = self._taken = 0

    @property
    def has_room(self) -> bool:
        """Whether another message may be sent now."""
        return self._sent - self._taken < WINDOW_COST

    def sent(self, frame: bytes) -> None:
        """Count a message that was sent."""
        self._sent += cost(frame)

    def taken(self, sum_of_costs: int) -> None:
        """The client has taken in so much since its welcome."""
        self._taken = min(sum_of_costs, self._sent)

    # ------------------------------------------------------------------ keeping

    def keep(self, frame: bytes, *, always: bool = False) -> None:
        """Keep a message that is no news; ``always``: it is told only once."""
        self.waits = True
        if self._has_place(len(frame)) or always:
            self._frames.append(frame)

    def keep_news(self, news: News) -> None:
        """Keep news. The last word on a task is enough."""
        self.waits = True
        for end in news.ended:
            self._moved.pop(end.task, None)
            if self._has_place(size_of(end)):
                self._ended.append(end)
        for moved in news.moved:
            if moved.task in self._moved or self._has_place(_END_BYTES):
                self._moved[moved.task] = moved
        self._once.aliases += news.aliases
        self._once.refused += news.refused
        self._once.undefined += news.undefined

    def _has_place(self, size: int) -> bool:
        if self._kept_bytes >= KEPT_BYTES:
            self.has_gap = True
            return False
        self._kept_bytes += size
        return True

    # ------------------------------------------------------------------ sending

    def next_frame(self) -> bytes | None:
        """Return the first message that is no news; it stays the first until `drop_frame`."""
        return self._frames[0] if self._frames else None

    def drop_frame(self) -> None:
        """The first message was sent."""
        self._kept_bytes -= len(self._frames.popleft())

    def next_news(self) -> News:
        """Take out news for one message; with the last of them nothing waits any more."""
        news, self._once = self._once, News()
        for name in list(islice(self._moved, PORTION_MOVED)):
            news.moved.append(self._moved.pop(name))
            self._kept_bytes -= _END_BYTES
        size = 0
        while self._ended and size < PORTION_BYTES:
            end = self._ended.popleft()
            news.ended.append(end)
            size += size_of(end)
        self._kept_bytes -= size
        if not (self._ended or self._moved):
            self.waits, self._kept_bytes = False, 0
        return news
