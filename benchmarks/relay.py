"""The yardstick of the round trip: two bare pyzmq hops there and two back, and nothing else.

A client's DEALER, one ROUTER in a process between, a worker's DEALER; ipc, one small frame, plain
blocking receives. Whoever has a master between client and worker cannot be faster than this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any

import zmq

FRAME = b"x" * 60  #: about the size of a task's header
STOP = b"stop"
QUIET_MS = 60_000  #: a relay nobody talks to for so long ends itself
CLIENT, WORKER = b"c", b"w"


def forward(address: str) -> None:
    """Greet the client once both sides are there; pass frames on until `STOP` has passed."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.rcvtimeo = QUIET_MS
        router.bind(address)
        # A ROUTER drops what is for a peer it has not heard of: both speak first.
        there: set[bytes] = set()
        while there != {CLIENT, WORKER}:
            there.add(router.recv_multipart()[0])
        router.send_multipart([CLIENT, FRAME])
        frame = b""
        while frame != STOP:
            sender, frame = router.recv_multipart()
            router.send_multipart([WORKER if sender == CLIENT else CLIENT, frame])


def echo(address: str) -> None:
    """Send every frame back, until `STOP` comes."""
    with zmq.Context() as context, dealer(context, WORKER, address) as socket:
        while (frame := socket.recv()) != STOP:
            socket.send(frame)


def dealer(context: Any, identity: bytes, address: str) -> Any:
    """Return a DEALER that has said it is there; it gives up when a minute brings nothing."""
    socket = context.socket(zmq.DEALER)
    socket.identity = identity
    socket.rcvtimeo = QUIET_MS
    socket.connect(address)
    socket.send(FRAME)
    return socket


class Relay:
    """The client's end; a context manager that starts and ends the other two processes."""

    def __enter__(self) -> Relay:
        """Start both processes and wait for the greeting."""
        self._directory = tempfile.TemporaryDirectory(prefix="relay-")
        address = f"ipc://{os.path.join(self._directory.name, 's')}"
        self._context = zmq.Context()
        self._processes = [_spawn(part, address) for part in ("forward", "echo")]
        self._socket = dealer(self._context, CLIENT, address)
        self._socket.recv()
        self._check()
        return self

    def round_trip(self) -> None:
        """Send one frame and wait for it."""
        self._socket.send(FRAME)
        self._socket.recv()

    def _check(self) -> None:
        """Make sure that what comes is what was just sent, so that a round trip is a whole one."""
        for number in range(10):
            frame = b"%060d" % number
            self._socket.send(frame)
            if self._socket.recv() != frame:
                raise RuntimeError("the relay is out of step")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End both processes."""
        self._socket.send(STOP)
        for process in self._processes:
            process.wait(timeout=10)
        self._socket.close()
        self._context.term()
        self._directory.cleanup()


def _spawn(part: str, address: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "benchmarks.relay", part, address])


if __name__ == "__main__":
    {"forward": forward, "echo": echo}[sys.argv[1]](sys.argv[2])
