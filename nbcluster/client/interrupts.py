"""Ctrl-C while the main thread receives messages for everybody.

A ``KeyboardInterrupt`` may come between any two bytecodes. While the thread only waits, that is
wanted; while it hands out results, or takes or leaves a lock, it would lose something. So, for as
long as the main thread leads, SIGINT is noted. It is handled when the thread does not lead any
more: its handler may be one of the user's, which cancels tasks and waits for that.
"""

from __future__ import annotations

import signal
import threading
from _signal import getsignal as _getsignal  # type: ignore[import-not-found]
from _signal import signal as _set_handler
from types import FrameType
from typing import Any, Final

_SIGINT: Final = int(signal.SIGINT)


class InterruptedWaitError(BaseException):
    """Ends the wait for messages; never leaves `Link.lead`."""


class DeferredInterrupt:
    """Context in which SIGINT is noted; it ends a wait, and is handled after the context."""

    __slots__ = ("_active", "_former", "_frame", "_waiting", "is_noted")

    def __init__(self) -> None:
        self.is_noted = False
        self._waiting = False
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
        self.is_noted, self._frame = True, frame
        if self._waiting:
            self._waiting = False
            raise InterruptedWaitError

    def begin_wait(self) -> None:
        """From now on nothing can be lost: an interrupt raises `InterruptedWaitError`."""
        self._waiting = True
        if self.is_noted:
            self._waiting = False
            raise InterruptedWaitError

    def end_wait(self) -> None:
        """From now on an interrupt is only noted."""
        self._waiting = False

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._waiting = False
        if self._active:
            _set_handler(_SIGINT, self._former)
            self._active = False
        return kind is InterruptedWaitError

    def deliver(self) -> bool:
        """Do what the interrupt would have done, if there was one; return whether there was."""
        if self.is_noted:
            self._former(_SIGINT, self._frame)
        return self.is_noted
