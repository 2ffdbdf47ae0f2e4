"""Descriptors to poll beside sockets: the end of a process, a call from another thread."""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from threading import Thread
from typing import Final

_POLL_S: Final = 0.2


def watch(pid: int) -> int:
    """Return a descriptor that becomes readable when the process ends.

    Where the system has no such thing, a thread looks for the process five times a second.

    Raises
    ------
    ProcessLookupError
        If there is no such process.
    """
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    with suppress(PermissionError):  # there, and somebody else's
        os.kill(pid, 0)
    reader, writer = os.pipe()
    Thread(target=_wait_for, args=(pid, writer), name=f"watch-{pid}", daemon=True).start()
    return reader


def _wait_for(pid: int, writer: int) -> None:
    import psutil  # 20 ms, and needed only here

    try:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            # A child that ended stays to be waited for: that is left to whoever started it.
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(_POLL_S)
    finally:
        os.close(writer)  # the other end becomes readable


def await_readable(fd: int, timeout_s: float | None) -> None:
    """Wait until ``fd`` is readable; whatever its number is, which ``select`` would mind."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poller.poll(None if timeout_s is None else timeout_s * 1000)


def wakeup_pipe() -> tuple[int, int]:
    """Return both ends of a pipe that never blocks and is not inherited."""
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    return ends


class Wakeup:
    """Wakes the thread that polls ``fd``."""

    def __init__(self) -> None:
        self.fd, self._writer = wakeup_pipe()
        self._write = os.write  # a module may be empty when the interpreter ends and ``call`` comes

    def call(self) -> None:
        """Make ``fd`` readable. Takes no lock: a garbage collector may call it."""
        try:
            self._write(self._writer, b"w")
        except OSError:
            return  # full of calls, or closed: either way no more is needed

    def drain(self) -> None:
        """Take in all calls so far."""
        with suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def disown(self) -> None:
        """Let go of it without closing: the descriptors are the parent's."""
        self.fd = self._writer = -1

    def close(self) -> None:
        """Close both ends."""
        for fd in (self.fd, self._writer):
            if fd >= 0:
                os.close(fd)
        self.disown()
