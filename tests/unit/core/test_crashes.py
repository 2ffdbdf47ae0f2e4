"""What dies under a task: executors and engines; who is charged, and who goes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nbcluster.core import events as e
from nbcluster.core.model import Outcome, Run, Verdict
from nbcluster.errors import from_code
from nbcluster.options import Backoff
from tests.unit.core.story import Story, came, names, only, orders, told

Begin = Callable[..., Story]


def loaded(story: Story, *tasks: str, **more: Any) -> list[Run]:
    """Have one executor hold all these tasks: their function is known to be short."""
    story.engine()
    story.finish(only(story.submit("warm", **more)), duration_s=0.0001)
    return story.submit(*tasks, **more).runs["e/0.1"]


def test_only_the_started_task_is_charged_for_a_crash(story: Story) -> None:
    runs = loaded(story, "a", "b", "c")

    story.die(token=runs[0].token)

    assert [story.task(x).crashes for x in "abc"] == [1, 0, 0]
    assert [story.task(x).attempts for x in "abc"] == [1, 0, 0]


def test_what_was_only_held_goes_back_to_the_front_in_its_order(story: Story) -> None:
    runs = loaded(story, "a", "b", "c")
    story.submit("later")

    story.die(token=runs[0].token)

    assert story.waiting() == ["a", "b", "c", "later"]


def test_a_crash_of_an_idle_moment_charges_nobody(story: Story) -> None:
    loaded(story, "a", "b")

    story.die(token=0)

    assert [story.task(x).crashes for x in "ab"] == [0, 0]
    assert story.waiting() == ["a", "b"]


def test_an_attempt_that_ended_before_the_crash_is_not_charged(story: Story) -> None:
    first, second = loaded(story, "a", "b")
    outcome = Outcome("a", first.token, 0, story.now, 0.0, b"v")

    died = e.ExecutorEnded("e/0.1", second.token, "SIGKILL", 0, b"", b"", False)
    story.handle(e.Batch(outcomes=[("e/0.1", [outcome])], rare=[died]))

    assert story.seen("a") == "succeeded"
    assert story.task("b").crashes == 1


def test_a_task_that_kills_its_executors_is_failed_when_its_budget_is_used(story: Story) -> None:
    story.submit("t", max_crashes=3, retries=9)
    for incarnation in (1, 2, 3):
        name = f"e/0.{incarnation}"
        step = story.tell(came(), e.ExecutorCame(name, 7, ()))
        run = only(step)
        assert run.attempt == incarnation
        last = story.die(name, run.token)

    (end,) = told(last)
    assert (end.state, end.cause, end.crashes, end.retries) == ("failed", "crash", 3, 0)
    assert end.code == "TaskCrashedError"
    assert "SIGSEGV" in end.args
    assert end.stderr == b"tail"


def test_crashes_and_retries_are_counted_apart(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", max_crashes=2, retries=1, backoff=Backoff(0)))
    story.die(token=run.token)
    again = only(story.tell(e.ExecutorCame("e/0.2", 7, ())))

    step = story.fail(again, executor="e/0.2")

    assert only(step).attempt == 3
    assert (story.task("t").crashes, story.task("t").retries) == (1, 1)


def test_an_executor_ended_by_order_charges_nobody(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.beat(("e/0.1", run))

    story.die(token=run.token, expected=True)

    task = story.task("t")
    assert (story.seen("t"), task.crashes, task.retries) == ("pending", 0, 0)


@pytest.mark.parametrize("is_seen", [True, False])
def test_an_attempt_that_had_begun_and_is_given_back_uses_its_number_and_no_budget(
    story: Story, is_seen: bool
) -> None:
    story.engine()
    run = only(story.submit("t", retries=1, max_crashes=1, backoff=Backoff(0)))
    if is_seen:
        story.beat(("e/0.1", run))
    story.die(token=run.token, expected=True)

    again = only(story.tell(e.ExecutorCame("e/0.2", 7, ())))
    last = only(story.fail(again, executor="e/0.2"))

    assert (run.attempt, again.attempt, last.attempt) == (1, 2, 3)
    assert [a.outcome for a in story.task("t").history] == ["given_back", "exception"]
    assert (story.task("t").retries, story.task("t").crashes) == (1, 0)


def test_what_was_only_held_uses_no_number(story: Story) -> None:
    runs = loaded(story, "a", "b")
    story.beat(("e/0.1", runs[0]))

    story.die(token=runs[0].token, expected=True)

    sent = story.tell(e.ExecutorCame("e/0.2", 7, ())).runs["e/0.2"]
    assert [(run.task, run.attempt) for run in sent] == [("a", 2), ("b", 1)]


# --------------------------------------------------------------------------- engines


def test_an_engine_that_died_puts_its_tasks_back_to_the_front(story: Story) -> None:
    story.engine(executors=2)
    story.submit("a", "b", "c", "d", "x")
    assert story.waiting() == ["x"]

    story.tell(e.EngineDied("e", "killed", {}))

    assert story.waiting() == ["a", "b", "c", "d", "x"]
    assert story.state.engines == {}
    assert story.state.executors == {}


def test_what_an_engine_had_begun_is_charged_by_the_last_words_of_its_pages(story: Story) -> None:
    story.engine(executors=2)
    story.submit("a", "b")
    holders = {story.task(x).executor: story.task(x).token for x in "ab"}
    began = story.task("a").executor

    story.tell(e.EngineDied("e", "killed", {x: holders[x] * (x == began) for x in holders}))

    assert (story.task("a").crashes, story.task("b").crashes) == (1, 0)


def test_without_last_words_what_was_seen_running_is_charged(story: Story) -> None:
    story.engine()
    runs = story.submit("a", "b").runs["e/0.1"]
    story.beat(("e/0.1", runs[0]))

    story.tell(e.EngineDied("e", "killed", {}))

    assert (story.task("a").crashes, story.task("b").crashes) == (1, 0)


def test_an_engine_that_left_charges_nobody(story: Story) -> None:
    story.engine()
    run = only(story.submit("a"))
    story.beat(("e/0.1", run))

    story.tell(e.EngineLeft("e"))

    assert (story.task("a").crashes, story.task("a").attempts) == (0, 1)
    assert story.waiting() == ["a"]


def test_a_silent_engine_is_suspected_and_gets_no_work(story: Story) -> None:
    story.engine()

    story.later(9.0, silent=True)

    assert story.state.engines["e"].state == "suspect"
    assert story.submit("t").runs == {}


def test_a_suspect_that_beats_again_gets_work_at_once(story: Story) -> None:
    story.engine()
    story.later(9.0, silent=True)
    story.submit("t")

    assert only(story.beat()).task == "t"


def test_a_silent_engine_is_lost_after_a_while_and_its_tasks_run_elsewhere(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.later(14.9, silent=True)
    assert "e" in story.state.engines

    story.later(0.1, silent=True)
    again = only(story.engine("f"))

    assert "e" not in story.state.engines
    assert again.task == "t"
    assert story.finish(run).stale == [("t", run.token)]


def test_each_engine_is_suspected_at_its_own_time(story: Story) -> None:
    story.engine("a")
    story.later(4.0, silent=True)
    story.engine("b")

    story.later(9.0, silent=True)

    assert [x.state for x in story.state.engines.values()] == ["suspect", "suspect"]


def test_an_engine_that_beats_is_never_lost(story: Story) -> None:
    story.engine()

    for _ in range(20):
        story.later(3.0)

    assert story.state.engines["e"].state == "active"


def test_engines_are_not_blamed_for_the_time_the_master_was_away(story: Story) -> None:
    story.engine()

    story.now += 18.0  # all were stopped: no beat came, and no turn
    story.tell()

    assert "e" in story.state.engines
    story.later(14.9, silent=True)
    assert "e" in story.state.engines
    story.later(0.1, silent=True)
    assert story.state.engines == {}


@pytest.mark.parametrize("slept_s", [0.5, 9.0, 1e6])
def test_engines_are_not_blamed_for_the_time_the_machine_slept(
    story: Story, slept_s: float
) -> None:
    story.engine()
    story.later(8.9, silent=True)

    story.sleep(slept_s)

    assert story.state.engines["e"].state == "active"
    story.later(8.9, silent=True)
    assert story.state.engines["e"].state == "active"


@pytest.mark.parametrize("away_s", [12.2, 14.0, 1e6])
@pytest.mark.parametrize("before_s", [0.0, 7.0, 8.5, 9.5])
@pytest.mark.parametrize("is_draining", [False, True])
def test_no_absence_of_the_master_is_taken_for_a_silence(
    story: Story, away_s: float, before_s: float, is_draining: bool
) -> None:
    story.engine()
    story.beat(("e/0.1", only(story.submit("t"))))
    if is_draining:
        story.tell(e.DrainAsked("e"))
    story.later(before_s)
    story.beat()
    story.later(2.9, silent=True)  # the next beat was about to come

    story.now += away_s
    story.tell()

    assert "e" in story.state.engines


def test_an_engine_comes_back_after_its_loss_and_gets_work(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.later(15.0, silent=True)

    step = story.tell(came(running=(("e/0.1", run.token),)), e.ExecutorCame("e/0.1", 7, ()))

    assert [o.token for o in orders(step, e.KillOrder)] == [run.token]
    assert only(step).task == "t"


def test_another_process_under_the_same_name_is_another_engine(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.beat(("e/0.1", run))

    story.tell(came(pid=2))

    assert story.task("t").crashes == 1
    assert story.waiting() == ["t"]


def test_leases_lost_on_the_way_are_given_to_somebody(story: Story) -> None:
    runs = loaded(story, "a", "b", "c")

    step = story.tell(e.ExecutorCame("e/0.1", 7, (runs[0].token,)))

    assert names(step.runs["e/0.1"]) == ["b", "c"]
    assert story.task("a").token == runs[0].token


def test_a_cancelled_lease_lost_on_the_way_makes_its_slot_free(story: Story) -> None:
    story.engine()
    story.submit("t", load=5)
    story.cancel("t")

    story.tell(e.ExecutorCame("e/0.1", 7, ()))

    assert story.state.engines["e"].load == 0
    assert only(story.submit("u")).task == "u"


# --------------------------------------------------------------------------- at most once


def test_at_most_once_is_on_record_as_started_before_it_is_sent(story: Story) -> None:
    story.engine()

    step = story.submit("t", at_most_once=True)

    kinds = [type(record).__name__ for record in step.records]
    assert kinds.index("Started") < len(kinds)
    assert story.seen("t") == "running"
    assert only(step).attempt == 1


@pytest.mark.parametrize("begun", [True, False])
def test_at_most_once_fails_as_lost_with_its_engine(story: Story, begun: bool) -> None:
    story.engine()
    run = only(story.submit("t", at_most_once=True))

    story.tell(e.EngineDied("e", "killed", {"e/0.1": run.token if begun else 0}))

    assert (story.seen("t"), story.task("t").cause) == ("failed", "lost")


@pytest.mark.parametrize("expected", [True, False])
def test_at_most_once_never_runs_again_after_its_executor(story: Story, expected: bool) -> None:
    story.engine()
    run = only(story.submit("t", at_most_once=True, max_crashes=9))

    story.die(token=run.token, expected=expected)

    assert story.task("t").cause == ("lost" if expected else "crash")
    if not expected:
        text = str(from_code(story.task("t").code, story.task("t").args))
        assert "at most once, so it is not run again" in text
        assert "Allow more" not in text
    assert story.tell(e.ExecutorCame("e/0.2", 7, ())).runs == {}


def test_at_most_once_is_not_retried(story: Story) -> None:
    story.engine()

    story.fail(only(story.submit("t", at_most_once=True, retries=5)))

    assert story.seen("t") == "failed"


def test_at_most_once_interrupted_by_a_stranger_is_not_run_again(story: Story) -> None:
    story.engine()

    story.finish(only(story.submit("t", at_most_once=True)), verdict=Verdict.INTERRUPTED)

    assert (story.seen("t"), story.task("t").cause) == ("failed", "lost")


def test_at_most_once_is_not_run_again_when_the_time_to_drain_is_over(story: Story) -> None:
    story.engine("a")
    story.submit("t", at_most_once=True)
    story.engine("b")
    story.tell(e.DrainAsked("a"))

    step = story.later(25.0)

    assert step.runs == {}
    assert story.task("t").cause == "lost"


def test_at_most_once_revoked_before_it_began_runs_elsewhere(story: Story) -> None:
    story.engine("a")
    run = only(story.submit("t", at_most_once=True))
    story.tell(e.DrainAsked("a"))
    story.engine("b")

    step = story.tell(e.RevokeAnswered("a/0.1", run.token, 0))

    assert only(step, "b/0.1").task == "t"
    assert story.task("t").attempts == 1
