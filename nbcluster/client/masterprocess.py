"""The master's process, as a client on the same host sees it."""

from __future__ import annotations

import os
import select
import signal
import socket
from contextlib import suppress

from nbcluster.transport.connection import Connection
from nbcluster.transport.descriptors import await_readable


class MasterProcess:
    """Tells the end of a master by its process, where that can be seen."""

    def __init__(self) -> None:
        self.fd = -1  #: becomes readable when the process ends; -1: it cannot be seen

    def watch(self, connection: Connection, poller: select.poll) -> bool:
        """Have ``poller`` see its end; return False if it has ended already."""
        self.close()
        if connection.host == socket.gethostname() and hasattr(os, "pidfd_open"):
            try:
                self.fd = os.pidfd_open(connection.pid)
            except ProcessLookupError:
                return False
            poller.register(self.fd, select.POLLIN)
        return True

    def await_end(self, timeout_s: float) -> None:
        """Wait until nothing of it is in the way any more."""
        with suppress(OSError):  # another thread has closed it meanwhile
            fd = os.dup(self.fd)
            try:
                await_readable(fd, timeout_s)
            finally:
                os.close(fd)

    @property
    def is_halted(self) -> bool:
        """Whether it is a child of this process that was halted, as by SIGSTOP.

        One that is only busy, for however long, is not; of others' children it cannot be seen.
        """
        with suppress(OSError, AttributeError):  # AttributeError: the system has no such things
            look = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PIDFD, self.fd, look) is not None
        return False

    def kill(self) -> None:
        """End it at once."""
        with suppress(OSError):  # it has ended, or another thread has closed the descriptor
            signal.pidfd_send_signal(self.fd, signal.SIGKILL)

    def disown(self) -> None:
        """Let go of it without closing: the descriptor is the parent's."""
        self.fd = -1

    def close(self) -> None:
        """Look no longer."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
