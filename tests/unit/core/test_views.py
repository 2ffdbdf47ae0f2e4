"""Tables and events: what people see of tasks, read off state and records."""

from __future__ import annotations

from typing import Any

import msgspec

from nbcluster.core import events as e
from nbcluster.core import records as r
from nbcluster.core import views
from nbcluster.core.history import EVENT_COLUMNS, events
from nbcluster.options import Backoff
from tests.unit.core.story import Story, only


def kinds(story: Story, name: str) -> list[str]:
    leases: dict[int, str] = {}
    tries: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    for seq, (data, at) in enumerate(story.journal):
        records = msgspec.msgpack.decode(data, type=list[r.Record])
        rows += [
            dict(zip(EVENT_COLUMNS, row, strict=True))
            for row in events(seq, at, records, leases, tries)
        ]
    offsets = [row["offset"] for row in rows]
    assert offsets == sorted(set(offsets))
    return [row["kind"] for row in rows if row["task"] == name]


def tries_of(story: Story) -> dict[str, int]:
    tries: dict[str, int] = {}
    for seq, (data, at) in enumerate(story.journal):
        list(events(seq, at, msgspec.msgpack.decode(data, type=list[r.Record]), {}, tries))
    return tries


def rows(story: Story) -> dict[str, dict[str, Any]]:
    found = views.task_rows(story.state, story.machine.memo, None, 0, 100, story.now)
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

    told = kinds(story, "t")
    assert told[:5] == ["accepted", "scheduled", "started", "attempt_failed", "retrying"]
    assert told[-4:] == ["scheduled", "started", "crashed", "failed"]


def test_an_attempt_that_was_given_back_is_told_and_counts_nowhere() -> None:
    story = Story()
    story.engine()
    run = only(story.submit("t"))
    story.beat(("e/0.1", run))
    story.die(token=run.token, expected=True)
    story.finish(only(story.tell(e.ExecutorCame("e/0.2", 7, ()))), executor="e/0.2")

    assert kinds(story, "t") == [
        *("accepted", "scheduled", "started", "given_back"),
        *("scheduled", "started", "succeeded"),
    ]
    assert tries_of(story) == {"t": 1}


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
        for row in views.attempt_rows(story.state, ["t", "nobody"])
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


def test_counters_tell_what_runs_where() -> None:
    story = Story()
    story.engine("a")
    story.engine("b")
    run = only(story.submit("t"))
    story.beat((story.task("t").executor, run), engine=story.task("t").executor[0])

    counted = views.counters(story.state)

    assert (counted["running"], counted["engines"], counted["slots"]) == (1, 2, 2)
    assert list(counted["running_by_engine"].values()) == [0, 1]


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
