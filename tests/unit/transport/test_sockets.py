"""What a master takes off its socket, and what waits with the peers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from nbcluster.transport.sockets import AHEAD, RECEIVED_BYTES, Dealer, Router
from tests.helpers import eventually

KERNEL_BYTES = 4 << 20  #: more than any system keeps between two sockets


def address(directory: Path) -> str:
    return f"ipc://{directory}/m"


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a directory whose path is short enough for a socket."""
    directory = Path(tempfile.mkdtemp(prefix="nbs"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def router(directory: Path) -> Iterator[Router]:
    """Return a master's socket."""
    router = Router(address(directory))
    yield router
    router.close()


def test_no_more_is_taken_at_a_time_than_so_many_bytes_and_a_message(
    directory: Path, router: Router
) -> None:
    dealer = Dealer(address(directory))
    frame = bytes(RECEIVED_BYTES // 2)
    for _ in range(3):
        dealer.send(frame)
    dealer.send(b"last")

    got: list[int] = []
    most = 0
    while not got or got[-1] != 4:
        sizes = eventually(lambda: [len(frame) for _, frame in router.receive(64)])
        most = max(most, sum(sizes[:-1]))
        got += sizes

    assert got == [len(frame)] * 3 + [4]
    assert most < RECEIVED_BYTES
    dealer.close()


def test_what_a_peer_sends_far_ahead_waits_with_it(directory: Path, router: Router) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        peer.sndhwm = 1
        peer.connect(address(directory))
        frame = bytes(1 << 20)
        sent = 0
        limit = 2 * AHEAD + KERNEL_BYTES // len(frame)
        while sent <= limit and peer.poll(200, zmq.POLLOUT):
            peer.send(frame)
            sent += 1

        assert AHEAD <= sent <= limit
        received = 0
        while received < sent:
            received += len(eventually(lambda: router.receive(4)))
        assert peer.poll(10_000, zmq.POLLOUT)  # it may go on
