"""Who receives: the I/O thread, or one thread that waits for a result and takes over.

A hand-over between threads costs more than a message. While somebody leads, and for a moment
after, since the same thread often waits again, the I/O thread keeps away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from nbcluster.client.interrupts import Deferral, InterruptedWaitError, defer

#: After somebody led, the I/O thread keeps away for this long.
KEEP_AWAY_S: Final = 0.004
_SLICE_S: Final = 0.5


class Leading:
    """The right to receive; ``role`` is held by the one thread that does.

    Parameters
    ----------
    wake
        Has the I/O thread let go of the role soon.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.role = threading.Lock()
        self._lock = threading.Lock()
        self._leader: int | None = None
        self._left = threading.Event()  #: nobody leads any more
        self._led_at = 0.0
        self._wake = wake

    @property
    def is_taken(self) -> bool:
        """Whether somebody leads."""
        return self._leader is not None

    def lead(self, may_lead: Callable[[], bool], receive: Callable[[Deferral], bool]) -> bool:
        """Lead while ``receive(signals)`` runs, if nobody does, and return what it returns.

        Signals are noted meanwhile. They end a wait, and once nobody leads, their handlers are
        called; if they raise nothing, it begins anew.
        """
        while True:
            is_done = False
            signals = defer()
            try:
                if may_lead() and self._take():
                    try:
                        is_done = receive(signals)
                    finally:
                        self._leave()
            except InterruptedWaitError:
                pass
            finally:
                is_noted = signals.end()
            if not is_noted:
                return is_done

    def _take(self) -> bool:
        with self._lock:
            if self._leader is not None:
                return False
            self._leader = threading.get_ident()
            self._left.clear()
        if not self.role.acquire(blocking=False):
            self._wake()
            if not self.role.acquire(timeout=_SLICE_S):  # it may wait for what lies below us
                self._make_free()
                return False
        return True

    def _leave(self) -> None:
        self.role.release()
        self._led_at = time.monotonic()
        self._make_free()

    def _make_free(self) -> None:
        with self._lock:
            self._leader = None
            self._left.set()

    def keep_away(self) -> bool:
        """Wait for a moment if somebody leads, or did so just now; False: there is no need."""
        if self._leader is not None:
            self._left.wait(_SLICE_S)
            return True
        pause_s = self._led_at + KEEP_AWAY_S - time.monotonic()
        if pause_s > 0:
            time.sleep(pause_s)
        return pause_s > 0

    def end(self) -> None:
        """Let the I/O thread see at once that there is nothing to keep away from any more."""
        self._left.set()
