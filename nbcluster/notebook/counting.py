"""How far futures and maps are, counted in items."""

from __future__ import annotations

import math
import time
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future as AnyFuture
from dataclasses import dataclass
from typing import Any, Final

from nbcluster.client.future import Future
from nbcluster.client.mapping import MapIterator
from nbcluster.errors import OptionTypeError

#: Running tasks that are shown with bars of their own.
MAX_PARTS: Final = 5


@dataclass(frozen=True, slots=True)
class Part:
    """How far one running task says it is."""

    name: str
    share: float | None  #: 0 to 1; None if it does not know how much there is to do
    message: str


@dataclass(frozen=True, slots=True)
class Reading:
    """How far all is at one moment."""

    done: int
    total: float  #: infinite while it is not known
    failed: int
    cancelled: int
    running: int
    parts: tuple[Part, ...]
    elapsed_s: float
    rate: float  #: items a second, since the count began
    is_over: bool

    @property
    def share(self) -> float | None:
        """From 0 to 1; None while the total is not known."""
        if math.isinf(self.total):
            return None
        return min(1.0, self.done / self.total) if self.total else 1.0

    @property
    def left_s(self) -> float | None:
        """Seconds that it still takes, if it goes on like this."""
        if self.is_over or not self.rate or math.isinf(self.total):
            return None
        return max(0.0, self.total - self.done) / self.rate


def sort_out(things: Iterable[Any]) -> tuple[list[Future[Any]], list[MapIterator]]:
    """Return the futures and the maps among what somebody names, each once.

    Raises
    ------
    OptionTypeError
        If one is neither a future, an iterator of ``map()``, nor a collection of them.
    """
    futures: dict[Future[Any], None] = {}
    maps: dict[MapIterator, None] = {}
    for thing in things:
        if isinstance(thing, Future):
            futures[thing] = None
        elif isinstance(thing, MapIterator):
            maps[thing] = None
        elif isinstance(thing, Iterable) and not isinstance(thing, str | bytes | AnyFuture):
            inner = sort_out(thing.values() if isinstance(thing, Mapping) else thing)
            futures |= dict.fromkeys(inner[0])
            maps |= dict.fromkeys(inner[1])
        else:
            raise OptionTypeError(
                "progress() takes futures of a cluster, lists of them and the iterators of map(), "
                f"not {type(thing).__name__}"
            )
    return list(futures), list(maps)


class _MapCount:
    """The count of one map. It does not keep the map: one that is dropped is cancelled."""

    def __init__(self, iterator: MapIterator) -> None:
        self._iterator = weakref.ref(iterator)
        self.done, self.total = 0, math.inf
        self.is_over = False

    def read(self) -> None:
        iterator = self._iterator()
        if iterator is None:
            self.is_over = True
        elif not self.is_over:
            done, self.total, is_closed = iterator._counts
            self.done = max(self.done, done)  # a value is on its way from one count to the other
            self.is_over = is_closed or self.done >= self.total


class Tally:
    """Counts futures and the items of maps that are done. For one thread at a time."""

    def __init__(self, futures: list[Future[Any]], maps: list[MapIterator]) -> None:
        self._open = futures
        self._ended = Counter[str]()
        self._maps = [_MapCount(iterator) for iterator in maps]
        self._began = time.monotonic()
        self._count = len(futures)
        self._before = 0  #: done when the count began: tells nothing about how fast it goes
        self._before = self.read().done

    def read(self) -> Reading:
        """Return how far all is now."""
        running, parts = self._look()
        for count in self._maps:
            count.read()
        done = self._ended.total() + sum(count.done for count in self._maps)
        elapsed_s = time.monotonic() - self._began
        rate = (done - self._before) / elapsed_s if elapsed_s else 0.0
        return Reading(
            done=done,
            total=self._count + sum(count.total for count in self._maps),
            failed=self._ended["failed"],
            cancelled=self._ended["cancelled"],
            running=running,
            parts=tuple(parts),
            elapsed_s=elapsed_s,
            rate=rate,
            is_over=not self._open and all(count.is_over for count in self._maps),
        )

    def _look(self) -> tuple[int, list[Part]]:
        """Look at what had not ended; return how many of it run, and some that tell more."""
        left, parts, running = [], list[Part](), 0
        for future in self._open:
            if future.done():
                self._ended[future.state] += 1
                continue
            left.append(future)
            if future.running():
                running += 1
                if len(parts) < MAX_PARTS:
                    parts += _parts_of(future)
        self._open = left
        return running, parts


def _parts_of(future: Future[Any]) -> Iterable[Part]:
    """Give what a running task tells, if it does."""
    told = future._moved.progress if future._moved else None
    if told is not None:
        share = told.done / told.total if told.total else None
        yield Part(future.name or future.id, share, told.message)
