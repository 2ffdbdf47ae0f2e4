"""What a client remembers from one submission to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbcluster.client import client as module
from nbcluster.client.client import Client
from nbcluster.core.model import Definition
from nbcluster.options import CallOptions
from nbcluster.serial.blobs import BlobStore
from nbcluster.serial.pack import Packer


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
