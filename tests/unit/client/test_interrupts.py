"""Signals are noted while the main thread holds what their handlers may need."""

from __future__ import annotations

import concurrent.futures
import linecache
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

from nbcluster.client.future import Future
from nbcluster.client.interrupts import (
    InterruptedWaitError,
    SignalSafeLock,
    SignalSafeRLock,
    defer,
)
from nbcluster.core.model import Ended, State

USR1, USR2, TERM = int(signal.SIGUSR1), int(signal.SIGUSR2), int(signal.SIGTERM)
SIGNS = (USR1, USR2, TERM)
INTERRUPTS = "nbcluster.client.interrupts"
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


def line_of(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno or 0).strip()


def interrupt_at(step: int, call: Callable[[], object], *modules: str, sign: int = USR1) -> bool:
    """Call it, and raise a signal before its bytecode of that number; False: it has not so many.

    Those of ``modules`` count.
    """
    left = step

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if left < 0 or frame.f_globals.get("__name__") not in modules:
            return None
        frame.f_trace_opcodes = True
        # Python itself lets no handler in between the last bytecodes that lead to a call.
        if event == "opcode" and line_of(frame) != "handler(number, frame)":
            left -= 1
            if left < 0:
                signal.raise_signal(sign)
        return trace

    former = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks now whether any frame has it
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(former)
    return left < 0


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("are_known", [False, True])
def test_a_signal_at_any_moment_is_handled_once_and_finds_the_lock_free(
    raises: bool, are_known: bool
) -> None:
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
        if are_known:  # from an earlier use
            use()
        while is_within and step < 1_000:
            seen.clear()
            is_within = False
            with suppress(KeyboardInterrupt):
                is_within = interrupt_at(step, use, INTERRUPTS)
            is_within |= bool(seen)
            assert seen == [(USR1, False)] * is_within, step
            assert [signal.getsignal(number) for number in SIGNS] == [handler] * 3, step
            assert not lock._lock.locked(), step
            step += 1
    assert 100 < step < 1_000


#: Ctrl-C comes while pandas is imported.
_IMPORT: Final = """
import signal, sys
from nbcluster.client.frames import frame

class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == "pandas._libs.tslibs":
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
try:
    frame({"id": []})
except KeyboardInterrupt:
    print(len(frame({"id": [1, 2]})))
"""


def test_an_import_of_pandas_that_is_interrupted_is_whole() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.stdout, done.returncode) == ("2\n", 0), done.stderr


def test_a_handler_that_raises_at_any_moment_keeps_an_earlier_signal_from_nothing() -> None:
    lock, seen = SignalSafeLock(), []

    def handler(number: int, _: object) -> None:
        seen.append(number)
        if number == USR2:
            raise KeyboardInterrupt

    def use() -> None:
        with lock:
            signal.raise_signal(USR1)
            raised.append(USR1)

    raised: list[int] = []
    step, is_within = 0, True
    with handled_by(handler):
        with lock:
            pass  # from now on the handlers are known
        while is_within and step < 1_000:
            seen.clear()
            raised.clear()
            with suppress(KeyboardInterrupt):
                interrupt_at(step, use, INTERRUPTS, sign=USR2)
            is_within = USR2 in seen
            assert [number for number in seen if number == USR1] == raised, step
            step += 1
    assert 100 < step < 1_000


def end(future: Future[int]) -> None:
    future._on_ended(Ended("t", State.SUCCEEDED, "", 1, 0, 0, "e", 1.0, 1.0, 1.0, b""))


@pytest.mark.parametrize(
    "use",
    [
        lambda futures: [future.running() or future.cancelled() for future in futures],
        lambda futures: [future.add_done_callback(id) for future in futures],
        lambda futures: concurrent.futures.wait(futures, 0),
        lambda futures: list(concurrent.futures.as_completed(futures, 0.001)),
    ],
)
def test_a_handler_may_wait_for_futures_whatever_the_standard_library_does_with_them(
    use: Callable[[list[Future[int]]], object],
) -> None:
    futures: list[Future[int]] = []
    are_ended: list[bool] = []

    def handler(*_: object) -> None:
        """Have another thread end them."""
        thread = threading.Thread(target=lambda: [*map(end, futures)], daemon=True)
        thread.start()
        thread.join(5)
        are_ended.append(not thread.is_alive())

    library = ("concurrent.futures._base", "threading")
    step, is_within = 0, True
    with handled_by(handler):
        while is_within and step < 5_000:
            futures[:] = [Future(None, "t") for _ in range(2)]
            are_ended.clear()
            with suppress(concurrent.futures.TimeoutError):
                interrupt_at(step, lambda: use(futures), *library)
            is_within = bool(are_ended)
            assert are_ended in ([True], []), step
            step += 1
    assert step < 5_000


def test_a_wait_on_a_condition_handles_signals_and_has_the_lock_again_if_one_raises() -> None:
    lock, seen = SignalSafeRLock(), []
    condition = threading.Condition(lock)  # type: ignore[arg-type]

    def handler(number: int, _: object) -> None:
        seen.append((number, lock._is_owned()))
        if number == USR2:
            raise KeyboardInterrupt

    def _on_ended(number: int) -> None:
        """Hold the lock as one who takes in news."""
        with condition, condition:
            signal.raise_signal(number)
            assert seen == []
            condition.wait(0)
            assert seen == [(USR1, False)]
            assert lock._is_owned()

    with handled_by(handler):
        _on_ended(USR1)
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            _on_ended(USR2)
        assert seen == [(USR2, False)]
        assert not lock._is_owned()
        with SignalSafeLock():  # nothing is kept back from before
            signal.raise_signal(USR1)
            assert len(seen) == 1
        assert len(seen) == 2
