"""Signals that come while the main thread holds what their handlers may need.

Python runs a handler in the main thread between any two bytecodes, and a user's handler may raise,
cancel tasks, or wait for a result. If it came while the thread hands out results, or holds a lock,
something would be lost, or the handler would wait for ever for what lies below it on the stack. So
signals are noted meanwhile, and handled when nothing of ours is held any more.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from _signal import getsignal as _getsignal  # type: ignore[import-not-found]
from _signal import signal as _set_handler
from threading import get_ident
from types import FrameType
from typing import Any, Final

from nbcluster.client.guard import LOOK_S, is_abandoned, may_hold

_NUMBERS: Final = tuple(sorted(int(number) for number in signal.valid_signals()))

#: The handlers as they were found last, and those of them that are written in Python.
_found: list[Any] = []
_python: dict[int, Any] = {}
_main_thread = threading.main_thread().ident
#: What the main thread is in now.
_current: Deferral | None = None


class InterruptedWaitError(BaseException):
    """Ends a wait between `Deferral.begin_wait` and `end_wait`; never leaves `Leading.lead`."""


class Deferral:
    """A time in which the signals that have handlers are noted; made by `defer`."""

    __slots__ = ("_count", "_formers", "_is_waiting", "_locks", "_note", "_noted")

    def __init__(self) -> None:
        self._count = 0  #: of `defer` without `end`; 0: what comes is handled at once
        self._locks = 0  #: of those, by a `SignalSafeRLock`
        self._is_waiting = False
        self._formers: dict[int, Any] = {}
        self._noted: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> Deferral:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def has_noted(self) -> bool:
        """Whether a signal has come."""
        return bool(self._noted)

    def begin_wait(self) -> None:
        """From now on nothing can be lost: a signal raises `InterruptedWaitError`."""
        self._is_waiting = True
        if self._noted:
            self._is_waiting = False
            raise InterruptedWaitError

    def end_wait(self) -> None:
        """From now on a signal is only noted."""
        self._is_waiting = False

    def _begin(self) -> None:
        global _found, _python  # noqa: PLW0603 - what is known is kept, since to find out costs
        found = list(map(_getsignal, _NUMBERS))
        if found != _found:
            _python = {n: h for n, h in zip(_NUMBERS, found, strict=True) if callable(h)}
            _found = found
        self._formers = formers = _python.copy()
        self._note = note = self._take_note
        try:
            # A handler that came before runs in here, and may raise, or set another one.
            for number in formers:
                formers[number] = _set_handler(number, note)
            self._count = 1
        except BaseException:
            self._put_back()
            raise

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        if self._count:
            self._noted.append((number, frame))
            if self._is_waiting:
                self._is_waiting = False
                raise InterruptedWaitError
            if self._is_forgotten(frame):
                self._let_go()
        elif callable(former := self._formers[number]):
            former(number, frame)

    def _put_back(self) -> None:
        try:
            for number, former in self._formers.items():
                _put_back(number, former, self._note)
        except BaseException:  # by a handler that is back
            self._put_back()
            raise

    def end(self) -> bool:
        """Undo one `defer`; the last one handles what was noted, and says whether there was any."""
        global _current  # noqa: PLW0603 - there is one main thread
        if self._count != 1:
            self._count -= self._count > 0
            return False
        _current = None
        try:
            self._put_back()
            self._count = 0
            is_noted = bool(self._noted)
            self._handle_noted()
        finally:  # a handler that came after it was put back may raise at any moment
            self._count = 0
            if self._noted:
                self._handle_noted()
        return is_noted

    def _handle_noted(self) -> None:
        """Call the handlers in the order of their signals; one that raises keeps none back."""
        noted = self._noted
        try:
            while True:  # see `_put_back`
                if not noted:
                    break
                number, frame = noted[0]
                handler = _getsignal(number)  # the one before may have set another
                if not callable(handler):
                    handler = _raise
                del noted[0]  # no handler comes between this and the call
                handler(number, frame)
        finally:
            if noted:
                self._handle_noted()

    def _is_forgotten(self, frame: FrameType | None) -> bool:
        """Return whether it lasts by locks only that nobody in ``frame`` will give back."""
        return self._locks == self._count and not may_hold(frame)

    def _let_go(self) -> None:
        """End it, whoever has not called `end` yet."""
        self._count = 1
        self.end()


def _put_back(number: int, former: Any, note: Any) -> None:
    # Not in the loop that calls it: in Python 3.13 what a handler raises where a condition at the
    # end of a loop jumps back is raised outside of the `try` around the loop.
    replaced = _set_handler(number, former)
    if replaced is not note:  # somebody has set it meanwhile, or it is back
        _set_handler(number, replaced)


def _raise(number: int, _: FrameType | None) -> None:
    """Have done what is done for a signal without a handler."""
    signal.raise_signal(number)


_NOTHING: Final = Deferral()


def defer(*, looks: bool = True) -> Deferral:
    """Note signals until the `Deferral.end` of what is returned.

    In other threads than the main one, where no handler runs, it does nothing.

    Parameters
    ----------
    looks
        Whether to end one first that lasts by forgotten locks only.
    """
    global _current  # noqa: PLW0603 - there is one main thread
    if get_ident() != _main_thread:
        return _NOTHING
    if looks and _current is not None and _current._is_forgotten(sys._getframe(1)):
        _current._let_go()
    if _current is None:
        deferral = Deferral()
        deferral._begin()
        _current = deferral
    else:
        deferral = _current
        deferral._count += 1
    return deferral


class SignalSafeLock:
    """A lock; while the main thread has it, no handler of a signal runs, which may need it."""

    __slots__ = ("_deferral", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deferral = _NOTHING

    def __enter__(self) -> None:
        deferral = defer()
        self._lock.acquire()
        self._deferral = deferral

    def __exit__(self, *_: object) -> None:
        deferral = self._deferral
        self._lock.release()
        deferral.end()


class SignalSafeRLock:
    """The same, re-entrant and for a `threading.Condition`.

    Code of others may leave it taken for ever. Signals are not kept back for that; see `guard`.
    """

    __slots__ = ("_deferral", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._deferral = _NOTHING  #: of the main thread's last `acquire`

    def __repr__(self) -> str:
        return f"<SignalSafeRLock of {self._lock!r}>"  # the only way to tell the owner

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, as a `threading.RLock`; handlers may come while it is waited for."""
        if get_ident() != _main_thread:
            return self._lock.acquire(blocking, timeout)
        deferral = self._defer()
        if self._lock.acquire(False):
            return True
        until = time.monotonic() + (math.inf if timeout < 0 else timeout)
        while True:
            wait_s = min(LOOK_S, until - time.monotonic()) if blocking else 0.0
            if self._lock.acquire(timeout=max(0.0, wait_s)):
                return True
            deferral._locks -= 1
            deferral.end()
            if wait_s <= 0:
                return False
            if deferral.has_noted and is_abandoned(self):  # other locks are held, in vain
                deferral._let_go()
            deferral = self._defer()

    def _defer(self) -> Deferral:
        # Of many futures, one after the other: to look each time would cost more than the rest.
        self._deferral = deferral = defer(looks=False)
        deferral._locks += 1
        return deferral

    def release(self) -> None:
        """Give it back once."""
        self._lock.release()
        if get_ident() == _main_thread:
            deferral = self._deferral
            deferral._locks -= 1
            deferral.end()

    __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        self.release()

    def _is_owned(self) -> bool:
        return self._lock._is_owned()  # type: ignore[attr-defined,no-any-return]

    def _release_save(self) -> tuple[int, int]:
        """Give it back altogether, for `Condition.wait`, which has it again if this raises."""
        state: tuple[int, int] = self._lock._release_save()  # type: ignore[attr-defined]
        if get_ident() == _main_thread:
            deferral = self._deferral
            try:
                deferral._locks -= state[0]
                for _ in range(state[0]):
                    deferral.end()
            except BaseException:
                self._acquire_restore(state)
                raise
        return state

    def _acquire_restore(self, state: tuple[int, int]) -> None:
        if get_ident() == _main_thread:
            for _ in range(state[0]):
                self._defer()
        self._lock._acquire_restore(state)  # type: ignore[attr-defined]


def _begin_anew() -> None:
    """In a fork: the thread that forked is the main one, and what was noted is the parent's."""
    global _current, _main_thread
    _main_thread, _current = get_ident(), None
    for number in _NUMBERS:
        former = handler = _getsignal(number)
        while isinstance(deferral := getattr(former, "__self__", None), Deferral):
            former = deferral._formers[number]
        if former is not handler:
            _set_handler(number, former)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
