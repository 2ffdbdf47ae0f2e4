"""``map``: ordered, lazy, in chunks that find their own size."""

from __future__ import annotations

import functools
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from nbcluster.calls import run_chunk
from nbcluster.client.future import Future
from nbcluster.errors import ClusterConnectionError, ClusterTimeoutError

if TYPE_CHECKING:
    from nbcluster.client.client import Client

#: What a chunk should take: long enough that sending it costs nothing in comparison, short
#: enough that all slots stay busy to the end.
CHUNK_S: Final = 0.02
MAX_CHUNK: Final = 5_000
#: Chunks on their way for each slot: more would only move work from here into the queue.
CHUNKS_PER_SLOT: Final = 4
_GROWTH: Final = 4
#: What is taken for the number of slots where it was never told.
SLOTS: Final = 4


def slots_of(client: Client) -> int:
    """Return how many attempts run at a time; as far as is known, if no master tells it now."""
    with suppress(ClusterConnectionError, ClusterTimeoutError):
        if not client.link.is_lost:
            return max(1, int(client.stats()["slots"]))
    return max(1, int(client.last_stats.get("slots", SLOTS)))


class Submitter(Protocol):
    """Submits a call with the options of the map."""

    def __call__(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]: ...


class Chunks:
    """One map in progress: takes from the iterables, sends chunks, yields values in order.

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
        Send everything now.
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
        self._under_way: deque[tuple[Future[Any], int]] = deque()
        self._exhausted = False
        self._failure: Exception | None = None  #: of the iterables; raised after what came before
        self.fill()
        if eager or not self._under_way:
            self._raise_failure()

    def fill(self) -> None:
        """Send chunks until enough are on their way or the iterables are exhausted."""
        while not self._exhausted and len(self._under_way) < self._limit:
            chunk: list[tuple[Any, ...]] = []
            try:
                try:
                    chunk.extend(islice(self._items, self._size))
                finally:  # what came before a failure counts
                    if chunk and self._submit is not None:
                        self._under_way.append((self._submit(self._run, chunk), len(chunk)))
            except Exception as error:  # noqa: BLE001 - the iterables are the user's
                self._failure = error
            if not chunk or self._failure is not None:
                self._exhausted = True
                self._submit = None  # with it goes the executor, if nobody else holds it

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def values(self) -> Iterator[Any]:
        """Yield the values in order."""
        deadline = self._deadline
        while self._under_way:
            future, count = self._under_way.popleft()
            left = None if deadline is None else deadline - time.monotonic()
            try:
                values = future.result(left)
            except BaseException as error:
                self._under_way.appendleft((future, count))
                if isinstance(error, TimeoutError) and not future.done():
                    raise self._late(future) from None
                raise
            self._learn(future, count)
            del future  # what was yielded is the caller's alone, also while we are suspended
            self.fill()
            values.reverse()
            while values:
                yield values.pop()
        self._raise_failure()

    def _late(self, future: Future[Any]) -> TimeoutError:
        return TimeoutError(
            f"the next value has not come within {self._timeout:g} s of the call of map(); "
            f"task {future.id} is {future.state}"
        )

    def drop(self) -> None:
        """Have what is on its way cancelled. Called by the garbage collector too: takes no lock."""
        while self._under_way:
            self._under_way.popleft()[0]._cancel_soon()

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

    def __next__(self) -> Any:
        self._is_kept = False
        try:
            return next(self._values)
        except BaseException:  # it goes on after none
            self.close()
            raise

    def close(self) -> None:
        """Take no more values."""
        self._chunks.drop()

    def __del__(self) -> None:
        if not self._is_kept:
            self.close()
