"""Handlers of signals that use the cluster, whatever the main thread does with it at the time."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from nbcluster import Cluster
from nbcluster.client.future import LARGE_BYTES
from nbcluster.client.interrupts import defer
from nbcluster.errors import UndecodableError
from tests.helpers import eventually
from tests.integration import calls

END_S: Final = 20.0


@pytest.mark.parametrize(
    ("what", "how", "sign"),
    [
        ("submit", "handle_waiting", "SIGUSR1"),
        ("result", "handle_waiting", "SIGTERM"),
        ("map_", "handle_waiting", "SIGALRM"),
        ("led_by_another", "handle_waiting", "SIGINT"),
        ("as_completed", "handle_waiting", "SIGUSR1"),
        ("as_completed", "handle_submitting", "SIGUSR2"),
        ("wait", "handle_waiting", "SIGUSR1"),
        ("ask", "handle_waiting", "SIGUSR2"),
        ("add_callbacks", "handle_waiting", "SIGALRM"),
    ],
)
def test_handlers_may_use_the_cluster_whenever_they_come(
    cluster: Cluster, what: str, how: str, sign: str
) -> None:
    command = [sys.executable, "-m", "tests.integration.stormed", cluster.name, sign, what, how]

    said = subprocess.run(
        [*command, "1.5"], capture_output=True, text=True, check=False, timeout=60
    )

    assert said.returncode == 0, said.stderr
    assert int(said.stdout) > 20


@contextmanager
def handled_by(handler: Callable[..., Any]) -> Iterator[None]:
    """Have SIGUSR1 handled by ``handler``."""
    former = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, former)


def test_a_handler_comes_at_once_while_a_result_is_waited_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbcluster.client.link._SLICE_S", 60.0)
    monkeypatch.setattr("nbcluster.client.silence.STUCK_S", 60.0)
    endless, main = cluster.submit(time.sleep, 600), threading.get_ident()
    leading = cluster._client.link._leading
    eventually(endless.running)  # no news of it will end the wait

    def send() -> None:
        eventually(lambda: leading.is_taken)
        signal.pthread_kill(main, signal.SIGUSR1)

    thread = threading.Thread(target=send)
    with handled_by(lambda *_: endless.cancel()):  # it waits for the master's answer
        thread.start()
        began = time.monotonic()
        with pytest.raises(concurrent.futures.CancelledError):
            endless.result(END_S)
        assert time.monotonic() - began < END_S / 2
    thread.join()


def test_a_handler_comes_at_once_while_a_large_result_is_unpickled(cluster: Cluster) -> None:
    seen: list[int] = []

    def make() -> Any:
        def unpickle(_: bytes) -> None:
            import signal

            signal.raise_signal(signal.SIGUSR1)
            raise ValueError("it goes on after the handler")

        class Loud:
            def __reduce__(self) -> Any:
                return unpickle, (bytes(2 * LARGE_BYTES),)

        return Loud()

    def handler(number: int, frame: Any) -> None:
        assert frame.f_code.co_name == "unpickle"
        assert sys._getframe(1).f_code.co_name == "unpickle"
        seen.append(number)

    future = cluster.submit(make)
    with handled_by(handler):
        assert not concurrent.futures.wait([future], END_S).not_done  # it has a lock
        with pytest.raises(UndecodableError):
            future.result(END_S)
    assert set(seen) == {signal.SIGUSR1}


def test_map_raises_what_a_handler_raises_though_it_is_a_timeout(
    cluster: Cluster, gate: Path
) -> None:
    def handler(*_: object) -> None:
        raise TimeoutError("mine")

    values = cluster.map(calls.wait_for, [str(gate)], [7], timeout=END_S)
    with handled_by(handler):
        comes = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        comes.start()
        with pytest.raises(TimeoutError, match="mine"):
            next(values)
        comes.join()
    gate.touch()


def test_wait_for_what_is_no_future_keeps_no_signal_back(cluster: Cluster) -> None:
    """The standard library leaves the locks of futures taken then."""
    futures: list[Any] = [cluster.submit(time.sleep, 0) for _ in range(20)]
    no_future = max((type("NoFuture", (), {})() for _ in range(10_000)), key=id)
    assert id(no_future) > min(map(id, futures))  # they are locked in this order

    def interrupt() -> None:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    for use in (lambda: None, lambda: cluster.submit(abs, -1).result(END_S)):
        with pytest.raises(AttributeError):
            concurrent.futures.wait([*futures, no_future])
        assert any(future._condition._is_owned() for future in futures)
        use()
        interrupt()
        interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    assert concurrent.futures.wait(futures, END_S).not_done == set()
    assert cluster.submit(abs, -2).result(END_S) == 2


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_the_handlers_as_they_were() -> None:
    """Another thread forks while the main one notes signals."""
    seen: list[int] = []

    def fork() -> int:
        pid = os.fork()
        if pid == 0:
            signal.raise_signal(signal.SIGUSR1)
            with defer():
                signal.raise_signal(signal.SIGUSR1)
                is_noted = len(seen) == 1
            os._exit(0 if is_noted and len(seen) == 2 else 1)
        return pid

    with handled_by(lambda number, _: seen.append(number)), ThreadPoolExecutor(1) as threads:
        with defer():
            pid = threads.submit(fork).result(END_S)
        _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert seen == []
