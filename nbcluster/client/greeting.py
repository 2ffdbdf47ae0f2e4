"""The words with which a client opens a session."""

from __future__ import annotations

import os
import socket
import sys

from nbcluster._version import __version__
from nbcluster.transport.connection import Connection
from nbcluster.wire import messages as m


def hello_of(client: str, connection: Connection) -> m.ClientHello:
    """Return the greeting of this client to the master of ``connection``."""
    return m.ClientHello(
        connection.key,
        client,
        __version__,
        m.PROTOCOL,
        f"{sys.version_info.major}.{sys.version_info.minor}",
        os.getpid(),
        socket.gethostname(),
    )
