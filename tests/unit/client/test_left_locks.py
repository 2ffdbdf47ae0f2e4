"""Locks that others hold, or have left taken for ever, keep no signal back."""

from __future__ import annotations

import concurrent.futures
import signal
import threading

import pytest

from nbcluster.client.future import Future
from nbcluster.client.interrupts import SignalSafeLock, SignalSafeRLock
from nbcluster.client.leading import Leading
from tests.unit.client.test_interrupts import USR1, USR2, end, handled_by


def signal_soon(number: int) -> threading.Timer:
    timer = threading.Timer(0.01, signal.pthread_kill, (threading.get_ident(), number))
    timer.start()
    return timer


def test_signals_are_handled_while_another_thread_has_the_lock() -> None:
    lock, held, go_on = SignalSafeRLock(), threading.Event(), threading.Event()
    seen: list[int] = []

    def hold() -> None:
        with lock:
            held.set()
            go_on.wait(20)

    def handler(number: int, _: object) -> None:
        seen.append(number)
        if number == USR2:
            go_on.set()

    def _on_ended() -> None:
        """Take the lock as one who takes in news."""
        assert not lock.acquire(blocking=False)
        assert not lock.acquire(timeout=0.01)
        signal.raise_signal(USR1)
        assert seen == [USR1]
        timer = signal_soon(USR2)
        assert lock.acquire(timeout=10)
        assert seen == [USR1, USR2]
        lock.release()
        timer.join()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    with handled_by(handler):
        _on_ended()
    thread.join()


def test_who_waits_in_vain_for_a_lock_is_interrupted_whatever_else_it_holds() -> None:
    lock, abandoned, reached = SignalSafeRLock(), SignalSafeRLock(), []
    thread = threading.Thread(target=abandoned.acquire)
    thread.start()
    thread.join()

    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    def _on_ended() -> None:
        with lock:
            timer = signal_soon(USR1)
            try:
                abandoned.acquire(timeout=5)
                reached.append(True)
            finally:
                timer.join()

    with handled_by(handler), pytest.raises(KeyboardInterrupt):
        _on_ended()
    assert not reached
    assert not lock._is_owned()


def test_a_lock_that_was_left_taken_keeps_no_signal_from_a_wait() -> None:
    lock = SignalSafeRLock()
    future: Future[int] = Future(None, "t")

    with handled_by(lambda *_: end(future)):
        lock.acquire()
        timer = signal_soon(USR1)
        assert concurrent.futures.wait([future], 10).done
        timer.join()
        lock.release()


def test_a_lock_that_was_left_taken_keeps_no_signal_from_the_next_use() -> None:
    lock, seen = SignalSafeRLock(), []

    with handled_by(lambda number, _: seen.append(number)):
        lock.acquire()
        with SignalSafeLock():
            signal.raise_signal(USR1)
            assert seen == []
        assert seen == [USR1]
        lock.release()


def test_who_cannot_have_the_role_does_without_it() -> None:
    """Its holder may wait for what lies below on the stack of who would lead."""
    woken: list[bool] = []
    leading = Leading(lambda: woken.append(True))

    with leading.role:
        assert not leading.lead(lambda: True, lambda _: True)
        assert not leading.is_taken
    assert woken == [True]
    assert leading.lead(lambda: True, lambda _: True)
