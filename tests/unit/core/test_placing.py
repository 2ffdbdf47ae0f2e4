"""Which executor gets which task, and how much ahead."""

from __future__ import annotations

from typing import Any

from nbcluster.core import events as e
from nbcluster.core.dispatch import MAX_HELD
from nbcluster.core.model import Run
from nbcluster.core.views import reason_of
from tests.unit.core.story import Story, came, names, only, orders, told


def why(story: Story, name: str) -> str:
    return reason_of(story.state, story.machine.memo, story.task(name))


def warm(story: Story, duration_s: float, **more: Any) -> None:
    """Have the pace of function f known, on an engine of one executor."""
    story.engine()
    story.finish(only(story.submit("warm", **more)), duration_s=duration_s)


# --------------------------------------------------------------------------- groups, reasons


def test_a_group_without_engines_waits_and_says_so(story: Story) -> None:
    story.engine()
    story.submit("t", group="gpu")
    assert "no engines in group 'gpu'" in why(story, "t")

    assert only(story.engine("g", groups=("gpu",))).task == "t"


def test_groups_do_not_block_one_another(story: Story) -> None:
    story.engine("g", groups=("gpu",))
    story.submit("stuck")

    assert only(story.submit("t", group="gpu")).task == "t"


def test_reasons_name_what_is_missing(story: Story) -> None:
    story.tell(came())
    story.submit("t")
    assert "starting" in why(story, "t")
    story.tell(e.SlotsAsked("e", 0))
    assert "paused" in why(story, "t")
    story.tell(e.SlotsAsked("e", 1), e.ExecutorCame("e/0.1", 7, ()))
    assert why(story, "t") == "next on engine e"
    story.submit("u", at_most_once=True)
    assert "busy" in why(story, "u")
    story.later(9.0, silent=True)
    assert "suspect" in why(story, "u")
    story.submit("v", after=("u",))
    assert why(story, "v") == "waits for task u"


def test_who_does_not_want_to_wait_fails_without_an_engine(story: Story) -> None:
    step = story.submit("t", wait=False)

    assert [(n.state, n.code) for n in told(step)] == [("failed", "NoEngineError")]


def test_who_does_not_want_to_wait_waits_for_a_busy_engine(story: Story) -> None:
    story.engine()
    story.submit("a")

    assert told(story.submit("t", wait=False)) == []


# --------------------------------------------------------------------------- pins


def test_a_pinned_task_runs_only_where_it_is_pinned_to(story: Story) -> None:
    story.engine("a")
    story.engine("b", groups=("other",))

    assert only(story.submit("t", pin="b")).task == "t"
    assert story.task("t").executor == "b/0.1"
    assert only(story.submit("u", pin="a/0.1"), "a/0.1").task == "u"


def test_a_task_pinned_to_nobody_fails(story: Story) -> None:
    assert [n.cause for n in told(story.submit("t", pin="nobody"))] == ["lost"]


def test_a_pinned_task_waits_while_its_engine_is_not_ready(story: Story) -> None:
    story.tell(came())

    step = story.submit("t", pin="e")

    assert step.runs == {}
    assert story.seen("t") == "pending"
    assert only(story.tell(e.ExecutorCame("e/0.1", 7, ()))).task == "t"


def test_pinned_tasks_fail_with_their_engine(story: Story) -> None:
    story.tell(came())
    story.submit("t", "u", pin="e")

    step = story.tell(e.EngineDied("e", "killed", {}))

    assert sorted(n.task for n in told(step)) == ["t", "u"]
    assert story.task("t").cause == "lost"


def test_a_pinned_task_in_its_backoff_fails_once_its_engine_is_gone(story: Story) -> None:
    story.engine()
    story.fail(only(story.submit("t", pin="e", retries=3)))
    story.tell(e.EngineLeft("e"))

    story.later(2.0)

    assert story.task("t").cause == "lost"


def test_a_task_pinned_to_an_executor_fails_with_it(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", pin="e/0.1"))

    story.die(token=run.token)

    assert (story.task("t").cause, story.task("t").crashes) == ("lost", 1)


def test_a_task_pinned_to_an_executor_fails_when_another_has_its_slot(story: Story) -> None:
    story.engine()
    story.fail(only(story.submit("t", pin="e/0.1", retries=3)))
    story.die()
    story.tell(e.ExecutorCame("e/0.2", 7, ()))

    story.later(2.0)

    assert story.task("t").cause == "lost"


# --------------------------------------------------------------------------- order


def test_a_higher_priority_goes_first(story: Story) -> None:
    story.submit("low")
    story.submit("high", priority=5)

    assert story.engine().runs["e/0.1"][0].task == "high"


def test_waiting_is_worth_priority(story: Story) -> None:
    story.submit("old")
    story.later(130.0)
    story.submit("new", priority=2)

    assert story.engine().runs["e/0.1"][0].task == "old"


def test_the_engine_with_the_lowest_load_gets_the_task(story: Story) -> None:
    story.engine("a", executors=2)
    story.engine("b", executors=2)
    story.submit("heavy", load=5)
    busy = story.task("heavy").executor[0]

    story.submit("x", "y")

    assert {story.task(n).executor[0] for n in "xy"} == {"a", "b"} - {busy}


def test_among_equals_the_least_recently_used_engine_goes_first(story: Story) -> None:
    story.engine("a")
    story.engine("b")
    used = []
    for name in "wxyz":
        run = only(story.submit(name))
        used.append(story.task(name).executor)
        story.finish(run, executor=used[-1])

    assert used[0] != used[1]
    assert used[:2] == used[2:]
    assert [x.done for x in story.state.engines.values()] == [2, 2]


# --------------------------------------------------------------------------- ahead


def held(story: Story, *tasks: str, **more: Any) -> list[str]:
    runs: dict[str, list[Run]] = story.submit(*tasks, **more).runs
    return names(runs.get("e/0.1", []))


def test_of_an_unknown_function_one_task_goes_ahead(story: Story) -> None:
    story.engine()

    assert held(story, "a", "b", "c") == ["a", "b"]


def test_of_a_function_of_10_ms_one_task_goes_ahead(story: Story) -> None:
    warm(story, 0.010)

    assert held(story, "a", "b", "c") == ["a", "b"]


def test_of_a_long_function_nothing_goes_ahead(story: Story) -> None:
    warm(story, 0.060)

    assert held(story, "a", "b", "c") == ["a"]


def test_of_a_function_of_1_ms_some_milliseconds_go_ahead(story: Story) -> None:
    warm(story, 0.001)

    assert len(held(story, *(f"t{i}" for i in range(50)))) == 9


def test_of_a_function_of_no_time_no_more_than_the_bound_goes_ahead(story: Story) -> None:
    warm(story, 0.0)

    assert len(held(story, *(f"t{i}" for i in range(2_000)))) == MAX_HELD


def test_at_most_once_never_goes_ahead(story: Story) -> None:
    warm(story, 0.0)

    assert held(story, "a", "b", at_most_once=True) == ["a"]


def test_what_another_executor_could_start_does_not_go_ahead(story: Story) -> None:
    story.engine(executors=4)

    step = story.submit("a", "b", "c", "d")

    assert [len(runs) for runs in step.runs.values()] == [1, 1, 1, 1]


# --------------------------------------------------------------------------- revoke


def test_what_waits_behind_a_long_task_goes_to_another_executor(story: Story) -> None:
    story.engine("a")
    first, second = story.submit("long", "short").runs["a/0.1"]

    (revoke,) = orders(story.later(0.03), e.RevokeOrder)
    story.engine("b")
    step = story.tell(e.RevokeAnswered("a/0.1", revoke.watermark, first.token))

    assert revoke.watermark == second.token
    assert only(step, "b/0.1").task == "short"
    assert story.task("long").token == first.token


def test_a_stalled_executor_gets_nothing_ahead(story: Story) -> None:
    story.engine()
    first, second = story.submit("long", "short").runs["e/0.1"]
    story.later(0.03)

    step = story.tell(e.RevokeAnswered("e/0.1", second.token, first.token))

    assert step.runs == {}
    assert story.waiting() == ["short"]


def test_revoked_tasks_come_back_in_their_order(story: Story) -> None:
    warm(story, 0.001)
    held(story, *"abcdefghijkl")
    first = story.task("a").token

    story.later(0.03)
    story.tell(e.RevokeAnswered("e/0.1", story.task("i").token, first))

    assert story.waiting() == list("bcdefghijkl")


def test_an_executor_that_answers_in_time_is_not_revoked(story: Story) -> None:
    story.engine()
    first, _ = story.submit("a", "b").runs["e/0.1"]
    story.now += 0.015

    story.finish(first)

    assert orders(story.later(0.015), e.RevokeOrder) == []


# --------------------------------------------------------------------------- slots, drain


def test_no_slots_pause_and_more_wake_at_once(story: Story) -> None:
    story.engine()
    step = story.tell(e.SlotsAsked("e", 0))
    assert [o.slots for o in orders(step, e.SlotsOrder)] == [0]
    assert story.submit("t").runs == {}

    assert only(story.tell(e.SlotsAsked("e", 1))).task == "t"


def test_fewer_slots_count_before_the_executors_are_gone(story: Story) -> None:
    story.engine(executors=4)

    story.tell(e.SlotsAsked("e", 2))
    step = story.submit("a", "b", "c", "d", at_most_once=True)

    assert len(step.runs) == 2


def test_a_draining_engine_takes_nothing_new_and_leaves_when_it_is_done(story: Story) -> None:
    story.engine()
    first, second = story.submit("a", "b").runs["e/0.1"]
    step = story.tell(e.DrainAsked("e"))
    assert [o.watermark for o in orders(step, e.RevokeOrder)] == [second.token]
    assert orders(step, e.LeaveOrder) == []

    story.tell(e.RevokeAnswered("e/0.1", second.token, first.token))
    assert story.waiting() == ["b"]
    step = story.finish(first)

    assert story.seen("a") == "succeeded"
    assert step.runs == {}
    assert [o.engine for o in orders(step, e.LeaveOrder)] == ["e"]


def test_what_still_runs_when_the_time_to_drain_is_over_is_given_back(story: Story) -> None:
    story.engine()
    run = only(story.submit("a"))
    story.beat(("e/0.1", run))
    story.tell(e.DrainAsked("e"))

    step = story.later(25.0)

    task = story.task("a")
    assert (story.seen("a"), task.attempts, task.crashes) == ("pending", 1, 0)
    assert "e" in {o.engine for o in orders(step, e.LeaveOrder)}


def test_an_idle_engine_leaves_at_once_when_drained(story: Story) -> None:
    story.engine()

    assert orders(story.tell(e.DrainAsked("e")), e.LeaveOrder)


def test_a_draining_engine_that_reconnects_still_drains(story: Story) -> None:
    story.engine()
    run = only(story.submit("a"))
    story.tell(e.DrainAsked("e"))

    story.tell(came(running=(("e/0.1", run.token),)))

    assert story.state.engines["e"].state == "draining"


def test_a_restart_replaces_executors_and_gives_back_what_ran(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.beat(("e/0.1", run))

    step = story.tell(e.RestartAsked())
    assert [o.engine for o in orders(step, e.RestartOrder)] == ["e"]
    story.die(token=run.token, expected=True)
    again = only(story.tell(e.ExecutorCame("e/0.2", 7, ())))

    assert again.task == "t"
    assert story.task("t").crashes == 0
