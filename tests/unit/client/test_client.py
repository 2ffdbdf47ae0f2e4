"""What a client remembers from one submission to the next."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from nbcluster.client import client as module
from nbcluster.client.client import Client
from nbcluster.core.model import Definition, Ended, State
from nbcluster.options import CallOptions
from nbcluster.serial.blobs import BlobStore
from nbcluster.serial.digest import digest_of
from nbcluster.serial.pack import Packer
from nbcluster.wire import messages as m


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


def ended(task: str) -> Ended:
    """Return the end of a task that returned 1."""
    payload = pickle.dumps(1, 5)
    return Ended(task, State.SUCCEEDED, "", 1, 0, 0, "e", 0.0, 0.0, 0.0, payload)


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


def test_only_a_call_with_a_key_has_a_digest(client: Client) -> None:
    for key in ("", "k"):
        client.submit(CallOptions(key=key), len, ("ab",), {})

    plain, keyed = (task for task, _ in client.link.outgoing._tasks)

    assert plain.digest == b""
    assert keyed.digest == digest_of(len, ("ab",), {})
