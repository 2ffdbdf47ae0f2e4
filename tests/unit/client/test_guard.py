"""The lock of a future, and a future whose lock was abandoned."""

from __future__ import annotations

import threading

import pytest

from nbcluster.client import guard
from nbcluster.client.future import Future
from nbcluster.core.model import Ended, State


def abandon(future: Future[int]) -> None:
    """Take the lock of a future in a thread that ends without giving it back."""
    thread = threading.Thread(target=future._condition.acquire)
    thread.start()
    thread.join()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "ABANDONED_S", 0.01)


def test_a_future_whose_lock_was_abandoned_ends_all_the_same() -> None:
    future: Future[int] = Future(None, "t")
    called: list[str] = []
    future.add_done_callback(lambda done: called.append(done.state))  # type: ignore[attr-defined]
    abandon(future)

    future._on_ended(Ended("t", State.SUCCEEDED, "", 1, 0, 0, "e", 1.0, 1.0, 1.0, b""))

    assert future.done()
    assert called == ["succeeded"]


def test_a_guard_is_taken_once_by_each_thread_and_again_by_its_own() -> None:
    one = guard.Guard()
    with one, one:
        thread = threading.Thread(target=lambda: taken.append(one.acquire(blocking=False)))
        taken: list[bool] = []
        thread.start()
        thread.join()

    assert taken == [False]
    assert one.acquire_unless_abandoned()
    one.release()


def test_a_guard_that_is_held_for_a_moment_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "ABANDONED_S", 30.0)
    one = guard.Guard()
    one.acquire()
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(one.acquire_unless_abandoned()))
    thread.start()
    one.release()
    thread.join()

    assert taken == [True]
