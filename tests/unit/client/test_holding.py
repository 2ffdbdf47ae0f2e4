"""What is still held: handles of a client, and results in shared buffers."""

from __future__ import annotations

from nbcluster import Future
from nbcluster.client.holding import Handles, Held


def test_handles_are_gone_with_the_last_lease_and_not_before_the_first() -> None:
    told: list[object] = []
    handles = Handles(told.append)
    assert not handles.are_gone

    first, second = handles.lease(), handles.lease()
    del first
    assert not handles.are_gone
    assert told == []

    del second
    assert handles.are_gone
    assert len(told) == 1


def test_a_new_lease_brings_a_client_back() -> None:
    handles = Handles(lambda _: None)
    handles.lease()
    assert handles.are_gone

    kept = handles.lease()

    assert kept is handles.lease()
    assert not handles.are_gone


def test_results_are_held_until_their_futures_are_gone_and_that_was_told() -> None:
    told: list[str] = []
    held = Held(lambda: told.append("gone"))
    assert held.is_empty
    future: Future[int] = Future()
    held.hold(future, "t-1")
    assert not held.is_empty

    del future
    assert told == ["gone"]
    assert held.free() == ["t-1"]
    assert held.is_empty


def test_a_result_that_no_future_holds_is_let_go_and_one_that_is_held_is_not() -> None:
    held = Held(lambda: None)
    future: Future[int] = Future()
    held.hold(future, "held")

    for task in ("held", "dropped"):
        held.forgo(task)

    assert held.free() == ["dropped"]
    assert not held.is_empty
