"""Descriptors to poll beside sockets: the end of a process, a call from another thread."""

from __future__ import annotations

import os
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


def wakeup_pipe() -> tuple[int, int]:
    """Return both ends of a pipe that never blocks and is not inherited."""
    ends = os.pipe()
    for fd in ends:
        os.set_blocking(fd, False)
    return ends
