"""Tables and events: what people see of tasks, read off state and records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nbcluster.core import events as e
from nbcluster.core import records as r
from nbcluster.core import views
from nbcluster.core.history import EVENT_COLUMNS, Follower, events
from nbcluster.options import Backoff
from tests.unit.core.story import Story, only

Begin = Callable[..., Story]


def kinds(story: Story, name: str) -> list[str]:
    return [row["kind"] for row in told(story, name)]


def told(story: Story, name: str) -> list[dict[str, Any]]:
    follower = Follower()
    rows: list[dict[str, Any]] = []
    for seq, (data, at) in enumerate(story.journal):
        raw = events(seq, at, msgspec.msgpack.decode(data, type=list[r.Record]))
        rows += [dict(zip(EVENT_COLUMNS, row, strict=True)) for row in follower.rows(raw)]
    offsets = [row["offset"] for row in rows]
    assert offsets == sorted(set(offsets))
    return [row for row in rows if row["task"] == name]


def rows(story: Story) -> dict[str, dict[str, Any]]:
    found = [
        views.task_row(story.state, story.machine.memo, task, story.now)
        for task in views.select_tasks(story.state, None)
    ]
    return {row[0]: dict(zip(views.TASK_COLUMNS, row, strict=True)) for row in found}


def test_a_success_is_four_events() -> None:
    story = Story()
    story.engine()

    story.finish(only(story.submit("t")))

    assert kinds(story, "t") == ["accepted", "scheduled", "started", "succeeded"]


def test_a_retry_and_a_crash_are_told_in_order() -> None:
    story = Story()
    story.engine()
    run = only(story.submit("t", retries=1, max_crashes=1, backoff=Backoff(0)))

    story.die(token=only(story.fail(run)).token)

    seen = kinds(story, "t")
    assert seen[:5] == ["accepted", "scheduled", "started", "attempt_failed", "retrying"]
    assert seen[-4:] == ["scheduled", "started", "crashed", "failed"]


@pytest.mark.parametrize("is_seen", [True, False])
def test_an_attempt_that_was_given_back_is_told_and_keeps_its_number(is_seen: bool) -> None:
    story = Story()
    story.engine("a")
    run = only(story.submit("t"))
    if is_seen:
        story.beat(("a/0.1", run), engine="a")
    story.die("a/0.1", token=run.token, expected=True)
    story.finish(only(story.engine("b")), executor="b/0.1")

    assert [(row["kind"], row["attempt"], row["engine"]) for row in told(story, "t")] == [
        *(("accepted", 0, ""), ("scheduled", 0, "a"), ("started", 1, "a"), ("given_back", 1, "a")),
        *(("scheduled", 1, "b"), ("started", 2, "b"), ("succeeded", 2, "b")),
    ]


def test_an_attempt_that_was_taken_to_have_begun_gives_its_number_back() -> None:
    story = Story()
    story.engine("a")
    run = only(story.submit("t", at_most_once=True))
    story.tell(e.DrainAsked("a"), e.RevokeAnswered("a/0.1", run.token, 0))
    story.finish(only(story.engine("b")), executor="b/0.1")

    last = told(story, "t")[-1]
    assert (last["kind"], last["attempt"], story.task("t").attempts) == ("succeeded", 1, 1)


def test_a_lease_that_never_began_is_given_back_in_silence() -> None:
    story = Story()
    story.engine()
    story.submit("t")
    story.die(expected=True)

    assert kinds(story, "t") == ["accepted", "scheduled"]


def test_a_row_tells_state_engine_and_times() -> None:
    story = Story()
    story.engine()
    run = only(story.submit("t", name="train"))
    before = rows(story)["t"]
    story.beat(("e/0.1", run))
    story.now += 2
    running = rows(story)["t"]
    story.finish(run)
    after = rows(story)["t"]

    assert (before["state"], before["reason"], before["engine"]) == (
        "pending",
        "next on engine e",
        "",
    )
    assert (running["state"], running["engine"], running["duration_s"]) == ("running", "e", 2.0)
    assert (after["state"], after["progress"], after["name"]) == ("succeeded", 1.0, "train")


def test_every_attempt_has_a_row_with_its_traceback() -> None:
    story = Story()
    story.engine()
    run = only(story.submit("t", retries=1, backoff=Backoff(0)))
    story.finish(only(story.fail(run)))

    found = [
        dict(zip(views.ATTEMPT_COLUMNS, row, strict=True))
        for row in views.attempt_rows(story.task("t"))
    ]

    assert [(row["attempt"], row["outcome"]) for row in found] == [
        (1, "exception"),
        (2, "succeeded"),
    ]
    assert found[0]["traceback"] == "Traceback"


def test_tasks_are_selected_by_state() -> None:
    story = Story()
    story.submit("a", "b")
    story.cancel("a")

    def names(wanted: str | None) -> list[str]:
        return [task.id for task in views.select_tasks(story.state, wanted)]

    assert names(None) == ["a", "b"]
    assert names("open") == names("pending") == ["b"]
    assert names("done") == names("cancelled") == ["a"]


def test_tasks_after_a_place_are_those_that_were_submitted_later(begin: Begin) -> None:
    story = begin(retention_s=60.0)
    story.submit("a", "b", "c", "d", "e")
    places = {name: story.task(name).seq for name in "abcde"}
    story.cancel("a", "c")
    story.later(60.0)  # both are forgotten

    def after(name: str) -> list[str]:
        return [task.id for task in views.select_tasks(story.state, None, places[name])]

    assert after("a") == after("a") == ["b", "d", "e"]
    assert after("b") == after("c") == ["d", "e"]
    assert after("e") == []


def test_counters_tell_what_runs_where() -> None:
    story = Story()
    story.engine("a")
    story.engine("b")
    run = only(story.submit("t"))
    story.beat((story.task("t").executor, run), engine=story.task("t").executor[0])

    counted = views.counters(story.state)

    assert (counted["running"], counted["engines"], counted["slots"]) == (1, 2, 2)
    assert list(counted["running_by_engine"].values()) == [0, 1]


def test_who_waits_for_the_only_slot_is_told_so_in_the_singular() -> None:
    story = Story()
    story.engine()
    story.submit("a", "b", "c")

    assert rows(story)["c"]["reason"] == "the only slot of group 'default' is busy, 1 waiting"


def test_who_waits_for_one_engine_or_executor_is_told_how_that_one_is() -> None:
    story = Story()
    story.engine("a")
    story.engine("b")
    story.submit("t", "u", "v", "w", pin="a")
    story.tell(e.EngineCame("c", 1, "host", ("default",), 1, "3.11"))
    story.submit("x", pin="c")
    story.tell(e.SlotsAsked("b", 0))
    story.submit("y", pin="b/0.1")

    reasons = {name: row["reason"] for name, row in rows(story).items()}

    assert reasons["w"] == "engine a, which it is bound to, is busy, 2 waiting"
    assert reasons["x"] == "engine c, which it is bound to, is starting"
    assert reasons["y"] == "executor b/0.1, which it is bound to, is paused: it has 0 slots"


def test_who_waits_for_an_engine_that_is_not_there_is_told_so() -> None:
    story = Story()
    story.engine("a")
    story.submit("t", pin="a")
    story.submit("u", pin="a")
    story.submit("v", pin="a")
    story.state.engines.pop("a")

    assert rows(story)["v"]["reason"] == "engine a, which it is bound to, is not there"


def test_an_engine_without_a_ready_executor_is_shown_as_starting() -> None:
    story = Story()
    story.tell(e.EngineCame("e", 1, "host", ("default",), 1, "3.11"))

    ((_, state, *_),) = views.engine_rows(story.state, story.now)

    assert state == "starting"


def test_dead_letters_are_listed_with_their_cause() -> None:
    story = Story()
    story.engine()
    story.fail(only(story.submit("t")))

    (row,) = (
        dict(zip(views.DEAD_LETTER_COLUMNS, row, strict=True))
        for row in views.dead_letter_rows(story.state)
    )

    assert (row["id"], row["cause"], row["error"]) == ("t", "exception", "ValueError: no")


def test_how_long_a_backoff_is_is_told_in_seconds() -> None:
    story = Story()
    story.engine()
    story.fail(only(story.submit("t", retries=1, backoff=Backoff(4.0))))

    (row,) = [row for row in told(story, "t") if row["kind"] == "retrying"]

    assert row["detail"] == f"in {story.task('t').due - story.now:.3g} s"
    assert 2.0 <= float(row["detail"].split()[1]) <= 4.0
