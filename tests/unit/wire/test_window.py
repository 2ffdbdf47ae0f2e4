"""The window between the master and a client: both sides count alike."""

from __future__ import annotations

from nbcluster.wire.window import REPORT_COST, WINDOW_COST, Taken, cost


def test_small_messages_are_told_long_before_the_window_is_full() -> None:
    taken, told = Taken(), []
    for _ in range(1_000):
        told.append(taken.take(b"small"))

    sums = [x for x in told if x is not None]
    assert sums[0] >= REPORT_COST
    assert 1_000 * cost(b"small") - sums[-1] < REPORT_COST
    assert len(sums) >= WINDOW_COST // REPORT_COST - 1


def test_a_message_larger_than_the_window_is_told_at_once() -> None:
    frame = bytes(WINDOW_COST)

    assert Taken().take(frame) == cost(frame)


def test_a_welcome_begins_a_new_count() -> None:
    taken = Taken()
    taken.take(bytes(REPORT_COST))
    taken.begin()

    assert taken.take(b"") is None
    assert taken.take(bytes(REPORT_COST)) == cost(b"") + cost(bytes(REPORT_COST))
