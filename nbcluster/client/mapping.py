"""``map``: ordered, lazy, in chunks that find their own size and no more than have room."""

from __future__ import annotations

import functools
import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from nbcluster.calls import run_chunk
from nbcluster.client.future import Future
from nbcluster.errors import BusyError, ClusterConnectionError, ClusterTimeoutError

if TYPE_CHECKING:
    from nbcluster.client.client import Client

log = logging.getLogger(__name__)

#: What a chunk should take: long enough that sending it costs nothing in comparison, short
#: enough that all slots stay busy to the end.
CHUNK_S: Final = 0.02
MAX_CHUNK: Final = 5_000
#: Chunks on their way for each slot: more would only move work from here into the queue.
CHUNKS_PER_SLOT: Final = 4
_GROWTH: Final = 4
#: What is taken for the number of slots where it was never told.
SLOTS: Final = 4
#: Seconds after which the first wait looks for chunks that were refused for want of room.
LOOK_S: Final = 0.1
#: It looks again after twice as long each time, up to this.
LOOK_LAST_S: Final = 3.0
#: Chunks in a row that found no room, with none under way, until that is said.
_MANY_REFUSALS: Final = 5


def slots_of(client: Client) -> int:
    """Return how many attempts run at a time; as far as is known, if no master tells it now."""
    with suppress(ClusterConnectionError, ClusterTimeoutError):
        if not client.link.is_lost:
            return max(1, int(client.stats()["slots"]))
    return max(1, int(client.last_stats.get("slots", SLOTS)))


def _length(iterable: Iterable[Any]) -> float:
    """Return how many items there are; infinite, if that is not known."""
    try:
        return len(iterable) if isinstance(iterable, Sized) else math.inf
    except Exception:  # noqa: BLE001 - it has no length after all, and none is needed
        return math.inf


class Submitter(Protocol):
    """Submits a call with the options of the map."""

    def __call__(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]: ...


class _Chunk:
    """Some items of a map; ``future`` is None while the cluster has no room for it."""

    __slots__ = ("future", "items", "over_before", "size")

    def __init__(self, items: list[tuple[Any, ...]], future: Future[Any], over: int) -> None:
        self.items = items
        self.size = len(items)
        self.future: Future[Any] | None = future
        self.over_before = over  #: chunks that were over when it was sent

    @property
    def is_open(self) -> bool:
        """Whether it is on its way."""
        return self.future is not None and not self.future.done()

    @property
    def refusal(self) -> BusyError | None:
        """Why it was not accepted; None if it was, or that is not known."""
        future = self.future
        if future is None or future._ended is not None or not future.done():
            return None  # a task may raise the same error
        return future._exception if isinstance(future._exception, BusyError) else None


class Chunks:
    """One map in progress: takes from the iterables, sends chunks, yields values in order.

    A chunk that is refused with `BusyError` is sent again once one of ours is over, or after
    ``retry_after``. Meanwhile no more are under way than were accepted; with each that ends, it
    may be a little more again.

    Parameters
    ----------
    submit
        Submits one chunk.
    fn, iterables
        As for the builtin ``map``.
    slots
        How many attempts run at a time.
    chunksize
        Items in a chunk; None: as many as fit into `CHUNK_S`, found out on the way.
    timeout
        Seconds from now within which each value must have come.
    eager
        Send everything now; what is refused stays refused.
    """

    def __init__(
        self,
        submit: Submitter,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        slots: int,
        chunksize: int | None,
        timeout: float | None = None,
        *,
        eager: bool = False,
    ) -> None:
        self._submit: Submitter | None = submit
        self._run = functools.partial(run_chunk, fn)
        self._items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._limit = sys.maxsize if eager else max(1, slots) * CHUNKS_PER_SLOT
        self._size = chunksize or 1
        self._adaptive = chunksize is None
        self._under_way: deque[_Chunk] = deque()
        self._window: float = self._limit  #: chunks that may be open: what there seems room for
        self._lacks_room = False  #: some are not sent
        self._retry_s = 0.0
        self._again_at = 0.0  #: when to try without one of ours having ended
        self._over = 0  #: chunks whose values were yielded
        self._items_over = 0  #: items in them
        self._total = min(map(_length, iterables))
        self._refusals = 0  #: in a row
        self._exhausted = False
        self._failure: Exception | None = None  #: of the iterables; raised after what came before
        self.fill()
        if eager:
            self._submit = None  # with it goes the executor, if nobody else holds it
            for chunk in self._under_way:
                chunk.items = []
        if eager or not self._under_way:
            self._raise_failure()

    @property
    def _is_throttled(self) -> bool:
        return self._window < self._limit

    def fill(self) -> None:
        """Send chunks until enough are on their way or the iterables are exhausted."""
        submit = self._submit
        room = math.inf
        if self._is_throttled:
            room = int(self._window) - sum(chunk.is_open for chunk in self._under_way)
        if submit is None or self._lacks_room:
            return
        while not self._exhausted and len(self._under_way) < self._limit and room > 0:
            items: list[tuple[Any, ...]] = []
            try:
                try:
                    items.extend(islice(self._items, self._size))
                finally:  # what came before a failure counts
                    if items:
                        future = submit(self._run, items)
                        self._under_way.append(_Chunk(items, future, self._over))
                        room -= 1
            except Exception as error:  # noqa: BLE001 - the iterables are the user's
                self._failure = error
            self._exhausted = not items or self._failure is not None

    def _send_again(self) -> None:
        """Send, in order, what was refused, as far as there may be room by now."""
        over, count = self._over, 0
        for chunk in self._under_way:
            refusal = chunk.refusal
            if refusal is not None:
                chunk.future, self._lacks_room = None, True
                self._retry_s = refusal.retry_after
                self._again_at = time.monotonic() + self._retry_s
                self._window = 0.0
            elif chunk.is_open:
                count += 1
            elif chunk.future is not None:
                over += 1
        self._window = max(self._window, count, 1)
        if not self._lacks_room or self._submit is None:
            return
        is_due = time.monotonic() >= self._again_at
        if is_due:
            self._window = max(self._window, count + 1)  # others may have made room
            self._again_at = time.monotonic() + self._retry_s
        for chunk in self._under_way:
            if chunk.future is None:
                if count >= int(self._window) or not (is_due or over > chunk.over_before):
                    return
                chunk.future, chunk.over_before = self._submit(self._run, chunk.items), over
                count += 1
        self._lacks_room = False

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def values(self) -> Iterator[Any]:
        """Yield the values in order."""
        while self._under_way:
            values = self._await_first()
            chunk = self._under_way.popleft()
            assert chunk.future is not None
            self._learn(chunk.future, chunk.size)
            self._items_over += chunk.size
            del chunk  # what was yielded is the caller's alone, also while we are suspended
            self._over += 1
            self._refusals = 0
            if self._is_throttled:
                self._window = min(self._limit, self._window + 1 / self._window)
                self._send_again()
            self.fill()
            values.reverse()
            while values:
                yield values.pop()
        self._submit = None
        self._raise_failure()

    def _await_first(self) -> list[Any]:
        """Return the values of the first chunk once they come; keep the others going."""
        chunk, look_s = self._under_way[0], LOOK_S
        while True:
            left = math.inf if self._deadline is None else self._deadline - time.monotonic()
            future = chunk.future
            if future is not None and (future.done() or not self._must_mind_others):
                values = self._values_within(min(left, look_s), chunk, future)
                if values is not None:
                    return values
                # In the end no more, or who waits would never be told why.
                look_s = 2 * look_s if look_s < LOOK_LAST_S else math.inf
            elif left > 0:
                self._await_any(left)
            if left <= 0:
                raise self._late(future)
            if self._submit is not None:
                self._send_again()
                self.fill()

    def _values_within(
        self, seconds: float, chunk: _Chunk, future: Future[Any]
    ) -> list[Any] | None:
        """Return the values of ``chunk``; None if they are not there, or it must be sent again."""
        if not future._ended_within(seconds):
            return None
        try:
            values: list[Any] = future.result(0)
        except BusyError:
            if chunk.refusal is None or self._submit is None:
                raise
            return None
        return values

    @property
    def _must_mind_others(self) -> bool:
        """Whether something is to be sent when a chunk ends that is not the first."""
        return self._lacks_room or (self._is_throttled and not self._exhausted)

    def _await_any(self, left: float) -> None:
        """Wait until a chunk is over, or it is time to send a refused one again."""
        if self._lacks_room:
            left = min(left, max(0.0, self._again_at - time.monotonic()))
        under_way = [chunk.future for chunk in self._under_way if chunk.future and chunk.is_open]
        if under_way:
            wait(under_way, None if left == math.inf else left, FIRST_COMPLETED)
            return
        self._refusals += 1
        if self._refusals == _MANY_REFUSALS:
            log.warning("map() waits: the cluster holds as many open tasks as it may (max_pending)")
        time.sleep(left)

    def _late(self, future: Future[Any] | None) -> TimeoutError:
        what = "the cluster holds as many open tasks as it may (max_pending)"
        if future is not None:
            what = f"task {future.id} is {future.state}"
        return TimeoutError(
            f"the next value has not come within {self._timeout:g} s of the call of map(); {what}"
        )

    @property
    def counts(self) -> tuple[int, float]:
        """Items that are done, and of how many: infinite, as long as that is not known."""
        chunks, over = self._under_way.copy(), self._items_over
        sent = over + sum(chunk.size for chunk in chunks)
        ended = sum(c.size for c in chunks if self._is_over(c))
        return over + ended, sent if self._exhausted else self._total

    def _is_over(self, chunk: _Chunk) -> bool:
        """Whether it has ended, or was refused and is not sent again."""
        future = chunk.future
        if future is None or not future.done():
            return False
        return future._ended is not None or self._submit is None

    def drop(self) -> None:
        """Have what is on its way cancelled. Called by the garbage collector too: takes no lock."""
        while self._under_way:
            future = self._under_way.popleft().future
            if future is not None:
                future._cancel_soon()

    def _learn(self, future: Future[Any], count: int) -> None:
        if not self._adaptive or future.duration is None:
            return
        for_one = max(future.duration / count, 1e-7)
        best = int(CHUNK_S / for_one)
        self._size = max(1, min(best, self._size * _GROWTH, MAX_CHUNK))


class MapIterator(Iterator[Any]):
    """The values of a map; what is still on its way when it is dropped is cancelled.

    Parameters
    ----------
    chunks
        The map.
    is_kept
        Cancel nothing as long as no value was asked for, as the standard pools do: there, many
        call ``map`` only for what it does.
    """

    def __init__(self, chunks: Chunks, *, is_kept: bool = False) -> None:
        self._chunks = chunks
        self._values = chunks.values()
        self._is_kept = is_kept
        self._is_over = False

    def __next__(self) -> Any:
        self._is_kept = False
        try:
            return next(self._values)
        except BaseException:  # it goes on after none
            self.close()
            raise

    def close(self) -> None:
        """Take no more values."""
        self._is_over = True
        self._chunks.drop()

    @property
    def _counts(self) -> tuple[int, float, bool]:
        """Items that are done, of how many, and whether no more will be."""
        return *self._chunks.counts, self._is_over

    def __del__(self) -> None:
        if not self._is_kept:
            self.close()
