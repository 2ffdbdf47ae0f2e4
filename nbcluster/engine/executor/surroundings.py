"""What user code finds around it, and what it must not leave behind for the next attempt."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ctypes
import os
import signal
import sys
import types
from contextlib import suppress
from types import FrameType
from typing import Final

from nbcluster.engine.executor.streams import Streams
from nbcluster.transport.page import CURRENT, KILL, Page


class Interrupts:
    """SIGINT: stops the attempt that the supervisor means, and never another one.

    The order may come when that attempt has just ended; then the page names another one, or
    none, and the signal is ignored.
    """

    __slots__ = ("armed", "handler", "hit", "words")

    def __init__(self, page: Page) -> None:
        self.words = page.words
        self.armed = False  #: user code runs, so that an exception may be raised
        self.hit = False  #: this attempt was interrupted
        self.handler = self._handle  # one object, so that `is` tells whether it is installed
        signal.signal(signal.SIGINT, self.handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        current = self.words[CURRENT]
        if self.armed and current and self.words[KILL] == current:
            self.armed = False  # once: what runs after the exception is ours
            self.hit = True
            raise KeyboardInterrupt


class Surroundings:
    """Remembers how the process was, and puts it back after each attempt."""

    def __init__(self, streams: Streams, interrupts: Interrupts) -> None:
        self._streams = streams
        self._handler = interrupts.handler
        self._cwd = os.getcwd()
        self._recursion_limit = sys.getrecursionlimit()
        self._watchers = sys.gettrace(), sys.getprofile()
        self._fflush = ctypes.CDLL(None).fflush
        self.forked = False  #: this is a child that user code forked
        os.register_at_fork(after_in_child=self._note_fork)

    def _note_fork(self) -> None:
        self.forked = True

    def tidy(self) -> None:
        """Undo what the attempt changed. Called after each one, so it only compares.

        Costs about 1.3 µs, half of it for the working directory.
        """
        if (sys.gettrace(), sys.getprofile()) != self._watchers:  # they would slow down all others
            sys.settrace(self._watchers[0])
            sys.setprofile(self._watchers[1])
        streams = self._streams
        out, err = streams.stdout, streams.stderr
        if sys.stdout is not out or sys.stderr is not err or sys.stdin is not streams.stdin:
            streams.restore()
        try:
            out.flush()
            err.flush()
        except (OSError, ValueError):
            self._mend_streams()
        self._fflush(None)  # what C code holds back
        # `signal.getsignal` makes an enumeration of it, which takes longer than all of this.
        if _signal.getsignal(2) is not self._handler:
            signal.signal(signal.SIGINT, self._handler)
        _signal.alarm(0)  # or it would go off in somebody else's attempt
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
        try:
            moved = os.getcwd() != self._cwd
        except OSError:  # the directory was removed
            moved = True
        if moved:
            with suppress(OSError):
                os.chdir(self._cwd)

    def _mend_streams(self) -> None:
        with suppress(OSError):
            self._streams.restore()


_replaced: Final[list[types.ModuleType]] = []  # keeps our own module alive: its code still runs


def fresh_main() -> None:
    """Give user code a `__main__` and arguments of its own, in place of ours."""
    _replaced.append(sys.modules["__main__"])
    main = types.ModuleType("__main__")
    main.__builtins__ = sys.modules["builtins"]  # type: ignore[attr-defined]
    sys.modules["__main__"] = main
    sys.argv = [""]
