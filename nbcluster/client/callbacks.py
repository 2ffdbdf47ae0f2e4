"""The thread in which done callbacks run.

User code must not run in the thread that receives: it may wait for the next result, or cancel
another task, and would wait for what only this thread can bring.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures._base import LOGGER
from contextlib import suppress
from typing import Any, Final

from nbcluster.client.interrupts import SignalSafeLock

log = logging.getLogger(__name__)

#: Seconds a client that is closed waits for callbacks that run.
END_S: Final = 30.0


def call_all(callbacks: list[Callable[[Any], object]], future: object) -> None:
    """Call the done callbacks of a future, each once however many threads do so."""
    with suppress(IndexError):
        while callbacks:
            callback = callbacks.pop(0)
            try:
                callback(future)
            except Exception:  # noqa: BLE001 - told as the standard library does
                LOGGER.exception("exception calling callback for %r", future)


class Callbacks:
    """Runs what it is given, one after another; the thread begins when it is first needed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = SignalSafeLock()
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def call(self, callback: Callable[[], None]) -> None:
        """Have ``callback()`` called soon; at once, if the thread has ended."""
        with self._lock:
            is_late = self._closed
            if not is_late:
                self._begin()
                self._queue.put(callback)
        if is_late:
            callback()

    def begin(self) -> None:
        """Have the thread ready: in Python 3.12 none can begin once the program's end has."""
        if self._thread is not None:
            return  # without the lock, which would cost more than the rest of a future's callback
        with self._lock:
            if not self._closed:
                self._begin()

    def _begin(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (callback := self._queue.get()) is not None:
            try:
                callback()
            except BaseException:
                log.exception("a done callback ended with an error that is no Exception")

    def close(self) -> None:
        """Wait until all that was given has run, and end the thread."""
        with self._lock:
            thread, is_first = self._thread, not self._closed
            self._closed = True
            if is_first:
                self._queue.put(None)
        if thread is None or thread is threading.current_thread():
            return
        thread.join(END_S)
        if thread.is_alive():
            log.warning("a done callback has run for %g s; it is not waited for any longer", END_S)
