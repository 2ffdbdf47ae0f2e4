"""Signals are noted while the main thread holds what their handlers may need."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest

from nbcluster.client.interrupts import InterruptedWaitError, SignalSafeLock, defer

USR1, USR2, TERM = int(signal.SIGUSR1), int(signal.SIGUSR2), int(signal.SIGTERM)
SIGNS = (USR1, USR2, TERM)
Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Have all `SIGNS` handled by ``handler``, and see that they still are at the end."""
    formers = {number: signal.signal(number, handler) for number in SIGNS}
    try:
        yield
        assert [signal.getsignal(number) for number in SIGNS] == [handler] * 3
    finally:
        for number, former in formers.items():
            signal.signal(number, former)


def test_signals_are_handled_in_their_order_once_the_lock_is_free() -> None:
    lock = SignalSafeLock()
    seen: list[tuple[int, bool, str]] = []

    def handler(number: int, frame: FrameType | None) -> None:
        assert frame is not None
        with lock:  # it is free
            seen.append((number, lock._lock.locked(), frame.f_code.co_name))

    with handled_by(handler):
        with lock:
            for number in (TERM, USR1, USR2, USR1):
                signal.raise_signal(number)
            assert seen == []
        name = "test_signals_are_handled_in_their_order_once_the_lock_is_free"
        assert seen == [(number, True, name) for number in (TERM, USR1, USR2, USR1)]
        signal.raise_signal(USR2)
    assert len(seen) == 5


def test_a_handler_that_raises_keeps_the_others_from_nothing() -> None:
    lock, seen = SignalSafeLock(), []

    def handler(number: int, _: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt(number)

    def fail() -> None:
        with lock:
            for number in SIGNS:
                signal.raise_signal(number)
            raise ValueError

    with handled_by(handler):
        with pytest.raises(KeyboardInterrupt) as raised:
            fail()
        assert seen == [*SIGNS]
        assert raised.value.args == (SIGNS[-1],)
        causes, error = [], raised.value.__context__
        while error is not None:
            causes.append(type(error))
            error = error.__context__
        assert causes == [KeyboardInterrupt, KeyboardInterrupt, ValueError]
        with lock:
            pass


def test_a_handler_may_set_another_one_for_the_next_signal() -> None:
    seen: list[str] = []

    def first(number: int, _: object) -> None:
        seen.append("first")
        signal.signal(number, lambda *_: seen.append("second"))

    former = signal.signal(USR1, first)
    try:
        with SignalSafeLock():
            signal.raise_signal(USR1)
            signal.raise_signal(USR1)
    finally:
        signal.signal(USR1, former)

    assert seen == ["first", "second"]


def test_a_handler_that_is_set_meanwhile_stays() -> None:
    def other(*_: object) -> None: ...

    former = signal.signal(USR1, lambda *_: None)
    try:
        with SignalSafeLock():
            signal.signal(USR1, other)
        assert signal.getsignal(USR1) is other
    finally:
        signal.signal(USR1, former)


def test_locks_may_be_given_back_in_any_order() -> None:
    first, second, seen = SignalSafeLock(), SignalSafeLock(), []

    with handled_by(lambda number, _: seen.append(number)):
        first.__enter__()
        second.__enter__()
        first.__exit__()
        signal.raise_signal(USR1)
        assert seen == []
        second.__exit__()
        assert seen == [USR1]


def test_a_signal_ends_a_wait_and_what_came_before_does_so_at_once() -> None:
    seen: list[int] = []

    with handled_by(lambda number, _: seen.append(number)):
        signals = defer()
        signals.begin_wait()
        with pytest.raises(InterruptedWaitError):
            signal.raise_signal(USR1)
        signal.raise_signal(USR2)
        with pytest.raises(InterruptedWaitError):
            signals.begin_wait()
        signals.end_wait()
        assert seen == []
        assert signals.end()
        assert seen == [USR1, USR2]


def test_other_threads_leave_the_handlers_alone() -> None:
    lock, seen = SignalSafeLock(), []
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            go_on.wait(20)

    thread = threading.Thread(target=hold)
    with handled_by(lambda number, _: seen.append(number)):
        thread.start()
        held.wait(20)
        signal.raise_signal(USR1)
        assert seen == [USR1]
        go_on.set()
        thread.join()


def interrupt_at(step: int, call: Callable[[], None]) -> bool:
    """Call it, and raise a signal before its bytecode of that number; False: it has not so many."""
    left = step

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if left < 0 or frame.f_globals.get("__name__") != "nbcluster.client.interrupts":
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left < 0:
                signal.raise_signal(USR1)
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(former)
    return left < 0


@pytest.mark.parametrize("raises", [False, True])
def test_a_signal_at_any_moment_is_handled_once_and_finds_the_lock_free(raises: bool) -> None:
    lock, seen = SignalSafeLock(), []

    def handler(number: int, _: object) -> None:
        seen.append((number, lock._lock.locked()))
        with lock:
            pass
        if raises:
            raise KeyboardInterrupt

    def use() -> None:
        with lock:
            pass

    step, is_within = 0, True
    with handled_by(handler):
        while is_within and step < 1_000:
            seen.clear()
            is_within = False
            with suppress(KeyboardInterrupt):
                is_within = interrupt_at(step, use)
            is_within |= bool(seen)
            assert seen == [(USR1, False)] * is_within, step
            assert [signal.getsignal(number) for number in SIGNS] == [handler] * 3, step
            assert not lock._lock.locked(), step
            step += 1
    assert 100 < step < 1_000
