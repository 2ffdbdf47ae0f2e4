"""What is said to who waits in vain."""

from __future__ import annotations

import pytest

from nbcluster.client import silence
from nbcluster.client.silence import Loss


def test_a_loss_is_told_once_and_again_only_after_the_next_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "LOST_S", -1.0)
    loss = Loss()
    loss.tell("not lost")
    for _ in range(2):
        loss.begin()
        loss.tell("lost")
        loss.tell("lost")

    assert caplog.messages == ["lost", "lost"]


def test_a_loss_that_ends_soon_is_not_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Loss()
    loss.begin()
    loss.tell("lost")
    monkeypatch.setattr(silence, "LOST_S", -1.0)
    loss.begin()
    loss.end()
    loss.tell("lost")

    assert caplog.messages == []
