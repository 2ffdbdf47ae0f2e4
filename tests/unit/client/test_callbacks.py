"""Done callbacks are added without a lock, and each is called once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from nbcluster.client.callbacks import call_all
from nbcluster.client.client import Client
from nbcluster.client.future import Future
from nbcluster.core.model import Ended, State
from tests.helpers import eventually

END_S: Final = 10.0


@pytest.fixture
def future(tmp_path: Path) -> Iterator[Future[int]]:
    """Return an open one, of a client that never connects."""
    client = Client(tmp_path / "connection.json")
    yield Future(client, "t")
    client.callbacks.close()


def end(future: Future[int]) -> None:
    future._on_ended(Ended("t", State.SUCCEEDED, "", 1, 0, 0, "e", 1.0, 1.0, 1.0, b""))


def test_a_callback_is_added_while_another_thread_holds_the_lock(future: Future[int]) -> None:
    called: list[Any] = []
    with future._condition:
        thread = threading.Thread(target=future.add_done_callback, args=(called.append,))
        thread.start()
        thread.join(END_S)
        is_added = not thread.is_alive()
    thread.join()

    assert is_added
    end(future)
    eventually(lambda: called == [future])


def test_a_callback_that_is_added_in_the_moment_of_the_end_is_called(future: Future[int]) -> None:
    class Callbacks(list[Any]):
        """The future ends just before one is added."""

        def append(self, item: Any) -> None:
            end(future)
            super().append(item)

    called: list[Any] = []
    _ = future._condition
    future._done_callbacks = Callbacks()

    future.add_done_callback(called.append)

    eventually(lambda: called == [future])


def test_callbacks_are_called_once_in_their_order_whatever_one_raises(
    future: Future[int], caplog: pytest.LogCaptureFixture
) -> None:
    called: list[int] = []

    def again(_: object) -> None:
        called.append(1)
        call_all(callbacks, future)  # as another thread
        raise IndexError("mine")

    callbacks: list[Callable[[Any], object]] = [
        again,
        lambda _: called.append(2),
        lambda _: called.append(3),
    ]

    call_all(callbacks, future)

    assert called == [1, 2, 3]
    assert "mine" in caplog.text
