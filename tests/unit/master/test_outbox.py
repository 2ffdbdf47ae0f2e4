"""The messages that carry the orders of the core."""

from __future__ import annotations

from nbcluster.core import events as e
from nbcluster.master.outbox import message_of
from nbcluster.wire import messages as m


def test_an_attempt_that_is_to_stop_has_three_seconds_after_its_interrupt() -> None:
    order = e.KillOrder("e", "e/0.1", 7, "cancel")

    assert message_of(order) == m.Kill("e/0.1", 7, "cancel", 3.0)
