"""The lock of a future, and a future whose lock was abandoned."""

from __future__ import annotations

import threading

from nbcluster.client.future import Future
from nbcluster.client.guard import acquire_unless_abandoned
from nbcluster.core.model import Ended, State


def abandon(future: Future[int]) -> None:
    """Take the lock of a future in a thread that ends without giving it back."""
    thread = threading.Thread(target=future._condition.acquire)
    thread.start()
    thread.join()


def test_a_future_whose_lock_was_abandoned_ends_all_the_same() -> None:
    future: Future[int] = Future(None, "t")
    called: list[str] = []
    future.add_done_callback(lambda done: called.append(done.state))  # type: ignore[attr-defined]
    abandon(future)

    future._on_ended(Ended("t", State.SUCCEEDED, "", 1, 0, 0, "e", 1.0, 1.0, 1.0, b""))

    assert future.done()
    assert called == ["succeeded"]


def test_a_lock_that_somebody_holds_for_a_moment_is_waited_for() -> None:
    future: Future[int] = Future(None, "t")
    condition = future._condition
    held, go_on = threading.Event(), threading.Event()

    class Waiters(list):  # type: ignore[type-arg]
        """Looked at by the standard library while it holds the lock."""

        def append(self, item: object) -> None:
            held.set()
            while not go_on.is_set():
                pass

    future._done_callbacks = Waiters()
    adds = threading.Thread(target=future.add_done_callback, args=(print,))
    adds.start()
    held.wait()
    taken: list[bool] = []
    takes = threading.Thread(target=lambda: taken.append(acquire_unless_abandoned(condition)))
    takes.start()
    go_on.set()
    adds.join()
    takes.join()

    assert taken == [True]
