"""Ctrl-C while the main thread receives messages for everybody.

A ``KeyboardInterrupt`` may come between any two bytecodes. While the thread only waits, that is
wanted; while it hands out results it would lose some of them. So, for as long as the main thread
leads, SIGINT is noted, and raised at the next place where nothing can be lost.
"""

from __future__ import annotations

import signal
import threading
from _signal import getsignal as _getsignal  # type: ignore[import-not-found]
from _signal import signal as _set_handler
from types import FrameType
from typing import Any, Final

_SIGINT: Final = int(signal.SIGINT)


class DeferredInterrupt:
    """Context in which SIGINT interrupts only where `waiting` is set."""

    __slots__ = ("_active", "_former", "_frame", "_noted", "waiting")

    def __init__(self) -> None:
        self.waiting = False
        self._noted = False
        self._frame: FrameType | None = None
        self._former: Any = None
        self._active = False

    def __enter__(self) -> DeferredInterrupt:
        if threading.current_thread() is threading.main_thread():
            former = _getsignal(_SIGINT)
            if callable(former):  # neither ignored, nor left to the system, nor set from C
                self._former = former
                self._active = True
                _set_handler(_SIGINT, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.waiting:
            self.waiting = False
            self._former(number, frame)
        else:
            self._noted, self._frame = True, frame

    def raise_if_noted(self) -> None:
        """Do now what the interrupt would have done, if there was one."""
        if self._noted:
            self._noted = False
            self._former(signal.SIGINT, self._frame)

    def __exit__(self, *exc: object) -> None:
        if self._active:
            _set_handler(_SIGINT, self._former)
            self._active = False
            if exc[0] is None:
                self.raise_if_noted()
