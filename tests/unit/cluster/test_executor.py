"""What a `ClusterExecutor` shows of what its tasks print."""

from __future__ import annotations

import io
import os

import pytest

from nbcluster.cluster.executor import _relay
from nbcluster.core.model import Ended, State


def printed(stdout: str, stderr: str = "") -> Ended:
    """Return the end of a task that wrote this."""
    return Ended(
        *("t", State.SUCCEEDED, "", 1, 0, 0, "e", 0.0, 0.0, 0.0, b""),
        stdout=stdout.encode(),
        stderr=stderr.encode(),
    )


def test_what_a_stream_cannot_encode_is_shown_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))

    _relay(printed("caf\u00e9\n"))

    assert raw.getvalue() == b"caf\\xe9\n"


def test_a_closed_stream_loses_text_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stdout", closed)

    _relay(printed("lost", "kept"))

    assert capsys.readouterr().err == "kept"


def test_a_pipe_nobody_reads_loses_text_only(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    raw = os.fdopen(write, "wb", buffering=0)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, write_through=True))

    for _ in range(3):
        _relay(printed("nobody sees it"))

    raw.close()
