"""The way to the master: its connection file, and the socket to whoever is master now."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import nbcluster
from nbcluster.errors import ClusterConnectionError
from nbcluster.transport.connection import Connection, read_connection
from nbcluster.transport.sockets import Dealer

VERSION: Final[str] = getattr(nbcluster, "__version__", "0")
PYTHON: Final = "{}.{}".format(*sys.version_info)


class MasterLink:
    """A connection that follows the master from one incarnation to the next.

    Parameters
    ----------
    path
        The connection file. It need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection: Connection | None = None
        self.dealer: Dealer | None = None
        self.welcomed = False  #: the master of this connection has taken us in
        self.problem = ""  #: why the file that is there is not used
        self._seen: tuple[int, int, int] | None = None

    def look(self) -> bool:
        """Read the file if it changed; return whether it names another master.

        Then there is a new socket, on which nothing has been sent yet.
        """
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return False
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            found = read_connection(self.path)
        except FileNotFoundError:
            return False
        except ClusterConnectionError as error:
            self.problem = str(error)
            return False
        self.problem = ""
        old = self.connection
        if old is not None and (old.epoch, old.address) == (found.epoch, found.address):
            return False
        self._connect(found)
        return True

    def _connect(self, connection: Connection) -> None:
        self.close()
        self.connection = connection
        self.dealer = Dealer(connection.address)

    def send(self, frame: bytes) -> None:
        """Queue one message, if there is a socket."""
        if self.dealer is not None:
            self.dealer.send(frame)

    def frames(self) -> Iterator[bytes]:
        """Yield the messages that have come."""
        # Asked again each time: a message may lead to another connection.
        while self.dealer is not None and (frame := self.dealer.receive()) is not None:
            yield frame

    def close(self, linger_ms: int = 0) -> None:
        """Close the socket, giving what is queued that long to leave."""
        dealer, self.dealer, self.welcomed = self.dealer, None, False
        if dealer is not None:
            dealer.flush_and_close(linger_ms)
