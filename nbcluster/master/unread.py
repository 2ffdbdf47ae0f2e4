"""What one client was sent and has not taken in, and what waits until it has."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from nbcluster.core.events import News
from nbcluster.core.model import Ended, Moved
from nbcluster.wire.window import WINDOW_COST, cost

#: Bytes that are kept for a client that does not read; what comes then it has to ask for.
KEPT_BYTES: Final = 1 << 30
#: Bytes of results in one message, beside its last one.
PORTION_BYTES: Final = 8 << 20
#: What an end counts beside its payload and output.
_END_BYTES: Final = 400


def size_of(end: Ended) -> int:
    """Return the bytes that the news of an end takes, about."""
    return len(end.payload) + len(end.stdout) + len(end.stderr) + _END_BYTES


@dataclass(slots=True)
class _Kept:
    """A message that is no news, and what has to be told before it."""

    frame: bytes
    ended: int  #: how many ends
    told: int  #: how many messages with news


@dataclass(slots=True)
class Unread:
    """The window of one client, and what does not go into it."""

    is_noted: bool = False  #: in the master's log
    has_gap: bool = False  #: not all could be kept: the client has to see that and ask
    has_news: bool = False  #: something is to be told, be it only what is durable
    _sent: int = 0
    _taken: int = 0
    _first: deque[bytes] = field(default_factory=deque)  #: what is told only once, and before all
    _frames: deque[_Kept] = field(default_factory=deque)  #: answers, and pieces of output
    _ended: deque[Ended] = field(default_factory=deque)
    _moved: dict[str, Moved] = field(default_factory=dict)
    _once: News = field(default_factory=News)  #: what cannot be asked for again
    _kept_bytes: int = 0
    _ends_kept: int = 0
    _ends_told: int = 0
    _told: int = 0  #: messages with news

    def begin(self) -> None:
        """Count from here: the next message is the welcome."""
        self._sent = self._taken = 0

    @property
    def has_room(self) -> bool:
        """Whether another message may be sent now."""
        return self._sent - self._taken < WINDOW_COST

    @property
    def waits(self) -> bool:
        """Whether anything is kept: then all that comes is, to stay in order."""
        return self.has_news or bool(self._first or self._frames)

    def sent(self, frame: bytes) -> None:
        """Count a message that was sent."""
        self._sent += cost(frame)

    def taken(self, sum_of_costs: int) -> None:
        """The client has taken in so much since its welcome."""
        self._taken = min(sum_of_costs, self._sent)

    # ------------------------------------------------------------------ keeping

    def keep_first(self, frame: bytes) -> None:
        """Keep a message that is told only once, ahead of all others, however much there is."""
        self._first.append(frame)

    def keep(self, frame: bytes) -> None:
        """Keep a message that is no news; it goes after the news that came before it."""
        if self._has_place(len(frame)):
            # What moved goes with the next message of news, whole; ends may take several.
            self._frames.append(_Kept(frame, self._ends_kept, self._told + self.has_news))

    def keep_news(self, news: News) -> None:
        """Keep news. The last word on a task is enough."""
        self.has_news = True
        for end in news.ended:
            if self._moved.pop(end.task, None) is not None:
                self._kept_bytes -= _END_BYTES
            if self._has_place(size_of(end)):
                self._ended.append(end)
                self._ends_kept += 1
        for moved in news.moved:
            if moved.task in self._moved or self._has_place(_END_BYTES):
                self._moved[moved.task] = moved
        self._once.aliases += news.aliases
        self._once.refused += news.refused
        self._once.undefined += news.undefined

    def _has_place(self, size: int) -> bool:
        if self._kept_bytes >= KEPT_BYTES:
            self.has_gap = self.has_news = True
            return False
        self._kept_bytes += size
        return True

    # ------------------------------------------------------------------ sending

    def next_frame(self) -> bytes | None:
        """Take out the message that goes next; None: news do."""
        if self._first:
            return self._first.popleft()
        if self._frames:
            kept = self._frames[0]
            if kept.ended <= self._ends_told and kept.told <= self._told:
                self._kept_bytes -= len(kept.frame)
                return self._frames.popleft().frame
        return None

    def next_news(self) -> News:
        """Take out news for one message."""
        news, self._once = self._once, News()
        news.moved.extend(self._moved.values())
        self._kept_bytes -= _END_BYTES * len(self._moved)
        self._moved.clear()
        size = 0
        while self._ended and size < PORTION_BYTES:
            end = self._ended.popleft()
            news.ended.append(end)
            size += size_of(end)
        self._kept_bytes -= size
        self._ends_told += len(news.ended)
        self._told += 1
        self.has_news = bool(self._ended)
        return news
