"""The two ends of a connection: one ROUTER for the master, a DEALER for everybody else.

Both are used without blocking and beside other descriptors: a loop polls ``fd``, then takes
messages with ``receive`` until there are none. zmq's descriptor is edge-triggered, so ``ready``
must be asked before each poll and after each send.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import zmq

from nbcluster.wire.codec import MAX_FRAME_BYTES

#: Messages a peer may be behind before `Router.send` refuses more; a message holds many tasks. The
#: window of a client, even two, is full before.
HIGH_WATER_MARK: Final = 3_000
#: Messages of one peer that wait in the master's memory at the most; more wait with the peer.
AHEAD: Final = 16
#: Bytes after which `Router.receive` takes no more at a time: what is received together is decoded,
#: written and held in memory together.
RECEIVED_BYTES: Final = 16 << 20

_EVENTS: Final = zmq.EVENTS
_RCVMORE: Final = zmq.RCVMORE
_POLLIN: Final = int(zmq.POLLIN)  # a flag makes an enumeration of each answer it is compared with
_NOBLOCK: Final = zmq.NOBLOCK
_SNDMORE: Final = zmq.SNDMORE | zmq.NOBLOCK


#: By process id, since a forked child must not touch its parent's.
_contexts: Final[dict[int, zmq.Context[zmq.Socket[bytes]]]] = {}


def _context() -> zmq.Context[zmq.Socket[bytes]]:
    """Return the context of all our sockets: not zmq's common one, which user code may end."""
    known = _contexts.get(os.getpid())
    if known is None:
        known = _contexts[os.getpid()] = zmq.Context()
    return known


def end_context() -> None:
    """End the context, once all sockets are closed: what is queued has left after this."""
    known = _contexts.pop(os.getpid(), None)
    if known is not None:
        known.term()


class Dealer:
    """A peer's connection to the master.

    Parameters
    ----------
    address
        The master's address, as ``ipc:///…``. It need not be bound yet.

    Raises
    ------
    OSError
        If this process has no descriptor left.
    """

    def __init__(self, address: str) -> None:
        try:
            self._socket = _context().socket(zmq.DEALER)
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"no socket can be made: {error}") from None
        # Random for each session: a ROUTER ignores a second peer of an identity it knows.
        self._socket.identity = secrets.token_bytes(8)
        self._socket.linger = 0
        self._socket.sndhwm = self._socket.rcvhwm = 0  # bounded by acknowledgements, not here
        self._socket.maxmsgsize = MAX_FRAME_BYTES
        self._socket.reconnect_ivl = 20
        self._socket.connect(address)
        self.address = address
        self.fd: int = self._socket.fileno()
        self._send = self._socket.send
        self._recv: Callable[[int], bytes] = self._socket.recv
        self._get: Callable[[int], Any] = self._socket.get

    def ready(self) -> bool:
        """Return whether a message waits."""
        return bool(self._get(_EVENTS) & _POLLIN)

    def send(self, frame: bytes) -> None:
        """Queue one message; never blocks."""
        self._send(frame, _NOBLOCK, True, False)

    def receive(self) -> bytes | None:
        """Return the next message, or None."""
        if self._get(_EVENTS) & _POLLIN:
            return self._recv(_NOBLOCK)
        return None

    def flush_and_close(self, linger_ms: int = 200) -> None:
        """Close, giving what is queued ``linger_ms`` to leave."""
        self._socket.close(linger_ms)

    def close(self) -> None:
        """Close at once; what is queued is dropped."""
        self._socket.close(0)


class Sent(Enum):
    """What became of a message that was to be sent."""

    QUEUED = "queued"
    BEHIND = "behind"  #: the peer is there and has not taken what was sent before
    GONE = "gone"


class Router:
    """The master's socket. Peers are named by the random identity of their session."""

    def __init__(self, address: str) -> None:
        self._socket = _context().socket(zmq.ROUTER)
        self._socket.linger = 200
        self._socket.router_mandatory = True  # an unknown peer raises; it is not dropped in silence
        self._socket.sndhwm = HIGH_WATER_MARK
        self._socket.rcvhwm = AHEAD
        self._socket.maxmsgsize = MAX_FRAME_BYTES
        self._socket.bind(address)
        self.fd: int = self._socket.fileno()
        self._send = self._socket.send
        self._recv: Callable[[int], bytes] = self._socket.recv
        self._get: Callable[[int], Any] = self._socket.get

    def ready(self) -> bool:
        """Return whether a message waits."""
        return bool(self._get(_EVENTS) & _POLLIN)

    def receive(self, limit: int) -> list[tuple[bytes, bytes]]:
        """Return up to ``limit`` waiting messages with the peers that sent them.

        Fewer where they have more than `RECEIVED_BYTES`.
        """
        got: list[tuple[bytes, bytes]] = []
        size = 0
        recv, get = self._recv, self._get
        while len(got) < limit and size < RECEIVED_BYTES and get(_EVENTS) & _POLLIN:
            peer = recv(_NOBLOCK)
            parts = [recv(_NOBLOCK)]
            while get(_RCVMORE):
                parts.append(recv(_NOBLOCK))
            # A message has one frame after the identity; what has more is not of ours, and an
            # empty frame decodes to an error that is counted where all malformed ones are.
            frame = parts[0] if len(parts) == 1 else b""
            got.append((peer, frame))
            size += len(frame)
        return got

    def send(self, peer: bytes, frame: bytes) -> Sent:
        """Queue one message for ``peer``, if it is there and not too far behind."""
        try:
            self._send(peer, _SNDMORE)
            self._send(frame, _NOBLOCK, True, False)
        except zmq.ZMQError as error:
            return Sent.BEHIND if error.errno == errno.EAGAIN else Sent.GONE
        return Sent.QUEUED

    def close(self) -> None:
        """Unbind and close; messages on their way get 200 ms."""
        self._socket.close()
