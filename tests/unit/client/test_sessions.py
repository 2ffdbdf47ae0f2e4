"""What a client says to a master that has just welcomed it; the master's socket is real."""

from __future__ import annotations

import os
import select
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from nbcluster.client import asking
from nbcluster.client.client import Client
from nbcluster.errors import ClusterConnectionError, MalformedError
from nbcluster.options import CallOptions
from nbcluster.transport.connection import Connection, write_connection
from nbcluster.transport.sockets import Router
from nbcluster.wire import codec
from nbcluster.wire import messages as m
from tests.helpers import eventually

END_S: Final = 20.0


class Master:
    """Its socket: hears everything, and says what a test tells it to."""

    def __init__(self, directory: Path) -> None:
        address = f"ipc://{directory}/m"
        self.file = directory / "connection.json"
        connection = Connection(
            name="one",
            epoch=1,
            address=address,
            key="key",
            pid=os.getpid(),
            host="elsewhere",
            python="3.11",
            version="1",
            directory=str(directory),
            run=str(directory),
            blobs=str(directory),
            persist=False,
        )
        self.router = Router(address)
        self._poller = select.poll()
        self._poller.register(self.router.fd, select.POLLIN)
        self.heard: list[Any] = []
        self._peer = b""
        write_connection(self.file, connection)

    def until(self, condition: Callable[[], Any]) -> Any:
        """Hear what comes until ``condition()``; return what it returned."""

        def after_a_look() -> Any:
            if not self.router.ready():
                self._poller.poll(20)
            for peer, frame in self.router.receive(1000):
                self._peer = peer
                try:
                    self.heard.append(codec.from_client(frame))
                except MalformedError:
                    self.heard.append(codec.hello(frame))
            return condition()

        return eventually(after_a_look, END_S)

    def count(self, kind: type) -> int:
        return sum(type(message) is kind for message in self.heard)

    def say(self, message: Any) -> None:
        self.router.send(self._peer, codec.encode(message))

    def welcome(self, greetings: int) -> None:
        """Welcome the client once it has greeted so often."""
        self.until(lambda: self.count(m.ClientHello) == greetings)
        self.say(m.Welcome(1, "one", "1", 0.0))


@pytest.fixture
def master() -> Iterator[Master]:
    directory = Path(tempfile.mkdtemp(prefix="nbs"))
    master = Master(directory)
    yield master
    master.router.close()
    shutil.rmtree(directory)


@pytest.fixture
def client(master: Master) -> Iterator[Client]:
    """Return one that has been welcomed."""
    made = Client(master.file)
    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(made.open, END_S)
        master.welcome(1)
        opened.result()
    yield made
    made.on_end(ClusterConnectionError("over"))  # else it would wait for acknowledgements
    made.close()


def test_paths_are_told_again_before_what_needs_them_is_submitted_again(
    master: Master, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    client.submit(CallOptions(), len, ("ab",), {})
    master.until(lambda: master.count(m.Submit))
    master.heard.clear()

    master.say(m.GreetAgain())
    master.welcome(1)
    master.until(lambda: master.count(m.Submit))

    said = [x for x in master.heard if isinstance(x, (m.Ask, m.Submit))]
    assert isinstance(said[0], m.Ask)
    assert said[0].op == "setup"


def test_a_master_that_is_only_slow_is_waited_for(
    master: Master, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SILENT_S", 0.01)
    monkeypatch.setattr(asking, "LOST_S", 0.0)
    silences: list[bool] = []

    def note_silence() -> bool:
        silences.append(True)
        return False

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.ask, "stop", END_S, note_silence, mode="now")
        master.until(lambda: silences and master.count(m.Ask))
        master.say(m.Reply(master.heard[-1].request, "answer"))

        assert asked.result() == "answer"
    assert len(silences) == 1
