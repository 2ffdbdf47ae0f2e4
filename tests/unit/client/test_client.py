"""What a client remembers from one submission to the next."""

from __future__ import annotations

import functools
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from nbcluster.client import client as module
from nbcluster.client.client import Client
from nbcluster.client.ending import stop_on_interrupt
from nbcluster.client.future import Future
from nbcluster.core.model import Definition, Ended, State
from nbcluster.errors import DependencyError, UnknownIdError
from nbcluster.options import CallOptions
from nbcluster.serial.blobs import BlobStore
from nbcluster.serial.digest import digest_of
from nbcluster.serial.pack import Packer
from nbcluster.wire import messages as m
from tests.helpers import eventually


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Return one that never connects."""
    made = Client(tmp_path / "connection.json")
    made._packer = Packer(BlobStore(tmp_path, "x"))
    return made


def test_functions_kept_for_their_next_call_are_bounded_by_bytes(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CALL_BYTES", 100)
    options = CallOptions()

    kept = []
    for n in range(8):
        client._call(Definition(f"h{n}", "f", bytes(30)), options)
        kept.append([call[1].hash for call, _ in client._calls.values()])

    assert kept[3] == ["h0", "h1", "h2", "h3"]
    assert kept[4] == ["h4"]
    assert kept[7] == ["h4", "h5", "h6", "h7"]


def ended(task: str, state: State = State.SUCCEEDED) -> Ended:
    """Return the end of a task that returned 1."""
    payload = pickle.dumps(1, 5)
    return Ended(task, state, "", 1, 0, 0, "e", 0.0, 0.0, 0.0, payload)


def test_a_future_whose_end_could_not_be_taken_in_is_asked_for_again(client: Client) -> None:
    def fail(ended: Ended) -> None:
        raise ValueError(ended.task)

    first, second = (client.submit(CallOptions(), len, ("ab",), {}) for _ in range(2))
    client.echo = fail
    news = m.Updates(1, 0, [ended(first.id), ended(second.id)], [], [], [])

    with pytest.raises(ValueError, match=first.id):
        client._on_updates(news)
    assert {first, second} == set(client.open_futures())

    client.echo = None
    client._on_updates(news)
    assert (first.result(0), second.result(0)) == (1, 1)
    assert not client._futures


class Alarming:
    """While it is unpickled, a signal comes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return signal.raise_signal, (signal.SIGUSR1,)


class Late:
    """A handler that is no function."""

    def __call__(self, *_: object) -> None:
        raise TimeoutError("mine")


def late(*_: object) -> None:
    raise TimeoutError("mine")


def late_once(*_: object) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    raise TimeoutError("mine")


@pytest.mark.parametrize(
    "handler", [late, Late(), Late().__call__, functools.partial(late, "more"), late_once]
)
def test_what_a_handler_raises_while_a_result_is_unpickled_is_not_the_end_of_that(
    client: Client, handler: Any
) -> None:
    future = client.submit(CallOptions(), len, ("ab",), {})
    end = ended(future.id)
    end.payload = pickle.dumps(Alarming(), 5)
    client._on_updates(m.Updates(1, 0, [end], [], [], []))
    former = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeoutError, match="mine"):
            future.result(0)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    assert future.state == "succeeded"

    assert future.result(0) is None
    signal.signal(signal.SIGUSR1, former)


@pytest.mark.parametrize("raises", [False, True])
def test_a_handler_that_asks_for_the_result_that_is_unpickled_gets_the_same(
    client: Client, raises: bool
) -> None:
    future = client.submit(CallOptions(), len, ("ab",), {})
    end = ended(future.id)
    end.payload = pickle.dumps((Alarming(), ["value"]), 5)
    client._on_updates(m.Updates(1, 0, [end], [], [], []))
    seen: list[Any] = []

    def handler(*_: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        seen.append(future.result(0))
        if raises:
            raise TimeoutError("mine")

    former = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeoutError, match="mine") if raises else nullcontext():
            future.result(0)
    finally:
        signal.signal(signal.SIGUSR1, former)

    value: Any = future.result(0)
    assert value == (None, ["value"])
    assert [value] == seen
    assert value is seen[0]


def test_a_second_signal_does_not_keep_an_interrupted_shutdown_from_stopping(
    client: Client,
) -> None:
    done: list[str] = []

    def stop() -> None:
        signal.raise_signal(signal.SIGUSR1)
        done.append("stopped")

    former = signal.signal(signal.SIGUSR1, late)
    try:
        with pytest.raises(TimeoutError, match="mine"), stop_on_interrupt(client, "c", stop):
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert done == ["stopped"]


def test_a_large_result_for_which_there_is_no_future_is_let_go(client: Client) -> None:
    end = ended("dropped")
    end.blobs = ("blob",)

    client._on_updates(m.Updates(1, 0, [end], [], [], []))

    assert client._held.free() == ["dropped"]


def test_only_a_call_with_a_key_has_a_digest(client: Client) -> None:
    for key in ("", "k"):
        client.submit(CallOptions(key=key), len, ("ab",), {})

    plain, keyed = (task for task, _ in client.link.outgoing._tasks)

    assert plain.digest == b""
    assert keyed.digest == digest_of(len, ("ab",), {})


def submit(client: Client, *after: object) -> Future[int]:
    return client.submit(CallOptions(after=after), len, ("ab",), {})


def test_what_is_known_to_have_succeeded_is_not_waited_for(client: Client, tmp_path: Path) -> None:
    other = Client(tmp_path / "other.json")
    other._packer = client.packer
    good, bad, still, foreign = submit(client), submit(client), submit(client), submit(other)
    client._on_updates(m.Updates(1, 0, [ended(good.id), ended(bad.id, State.FAILED)], [], [], []))
    other._on_updates(m.Updates(1, 0, [ended(foreign.id)], [], [], []))

    submit(client, good, bad, still, foreign, "name")

    task, _ = client.link.outgoing._tasks[-1]
    assert task.after == (bad.id, still.id, foreign.id, "name")


def test_what_is_known_to_have_failed_counts_as_such_though_the_master_has_forgotten_it(
    client: Client,
) -> None:
    bad, stopped, still = submit(client), submit(client), submit(client)
    ends = [ended(bad.id, State.FAILED), ended(stopped.id, State.CANCELLED)]
    client._on_updates(m.Updates(1, 0, ends, [], [], []))
    futures = [submit(client, bad, stopped, still) for _ in range(3)]

    refused: list[tuple[str, str, tuple[str | int | float, ...]]] = [
        (future.id, "UnknownIdError", ("task", before.id, ""))
        for future, before in zip(futures, (bad, stopped, still), strict=True)
    ]
    client._on_updates(m.Updates(2, 0, [], [], [], refused))

    errors = [future.exception(0) for future in futures]
    assert list(map(type, errors)) == [DependencyError, DependencyError, UnknownIdError]
    assert f"task {bad.id}, named in after=, did not succeed" in str(errors[0])


def test_a_client_is_needed_for_as_long_as_a_question_waits(client: Client) -> None:
    client.handles.lease()  # and let it go
    assert client.is_unneeded

    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(client.ask, "names", 20.0)
        eventually(lambda: not client.is_unneeded)
        client.asks.on_reply(m.Reply(1, "told"))

    assert answer.result() == "told"
    assert client.is_unneeded
