"""Who waits for a future with the standard library, and may be interrupted by a signal's handler.

`concurrent.futures.wait` and `as_completed` hold locks of their own for a moment, to look at or to
clear what they are told with. A handler that waits for a result then would wait for ever.
"""

from __future__ import annotations

from concurrent.futures._base import _Waiter
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from nbcluster.client.interrupts import SignalSafeLock


class _Event:
    """What such a waiter needs of a `threading.Event`, without a lock."""

    def __init__(self) -> None:
        self._told: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        self._told.put(None)

    def clear(self) -> None:
        self._told = SimpleQueue()

    def wait(self, timeout: float | None = None) -> None:
        with suppress(Empty):
            self._told.get(timeout=None if timeout is None else max(0.0, timeout))


class Waiters(list[Any]):
    """The waiters of one future, made safe when they are added: they wait for nothing yet."""

    __slots__ = ()

    def append(self, waiter: Any) -> None:
        """Add a waiter. Needs the locks of all futures that it is to wait for."""
        if isinstance(waiter, _Waiter):
            _make_safe(waiter)
        super().append(waiter)


def _make_safe(waiter: Any) -> None:
    if type(waiter.event) is not _Event:  # another future has done it
        waiter.event, waiter.lock = _Event(), SignalSafeLock()
