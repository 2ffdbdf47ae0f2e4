"""Signals and owners: what ends an engine from outside of the cluster."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType

from nbcluster.transport.descriptors import wakeup_pipe, watch

_STOPPING = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Counts SIGTERM and SIGINT; ``fd`` becomes readable at each of them."""

    def __init__(self) -> None:
        self.count = 0
        self.fd, self._writer = wakeup_pipe()
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _STOPPING:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def clear(self) -> None:
        """Take the wake-up from ``fd``."""
        with suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def close(self) -> None:
        """Give the signals their default meaning again."""
        signal.set_wakeup_fd(-1)
        for number in _STOPPING:
            signal.signal(number, signal.SIG_DFL)
        os.close(self.fd)
        os.close(self._writer)


def watch_owner(fd: int | None, pid: int | None) -> list[int]:
    """Return descriptors that become readable when the owner ends.

    Parameters
    ----------
    fd
        Read end of a pipe, of which the owner holds the other end.
    pid
        Of the owner.

    Raises
    ------
    ProcessLookupError
        If there is no process of that number any more.
    """
    found = []
    if fd is not None:
        found.append(fd)
    if pid is not None:
        found.append(watch(pid))
    return found
