"""The life of a task: from its submission to its one end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from nbcluster.core import events as e
from nbcluster.core import records as r
from nbcluster.core.machine import Machine
from nbcluster.core.model import ErrorInfo, Outcome, Verdict
from nbcluster.core.restoring import restore_task
from nbcluster.options import Backoff
from tests.unit.core.story import CLIENT, Story, names, only, outcome, refused, submission, told

Begin = Callable[..., Story]


def test_a_task_is_pending_until_it_is_seen_running_and_ends_with_its_value(story: Story) -> None:
    story.submit("t")
    run = only(story.engine())
    assert story.seen("t") == "pending"
    story.beat(("e/0.1", run))
    assert story.seen("t") == "running"

    step = story.finish(run)

    assert [(n.task, n.state, n.payload, n.attempts) for n in told(step)] == [
        ("t", "succeeded", b"value", 1)
    ]


def test_an_attempt_nobody_saw_running_counts_when_its_result_comes(story: Story) -> None:
    story.submit("t")
    run = only(story.engine())

    story.finish(run)

    assert (story.task("t").attempts, story.task("t").retries) == (1, 0)


def test_a_submission_sent_again_is_not_run_again(story: Story) -> None:
    story.engine()
    first = story.submit("t")

    again = story.submit("t")

    assert only(first).task == "t"
    assert again.records == []
    assert again.runs == {}


def test_a_submission_sent_again_after_the_end_is_answered_with_the_end(story: Story) -> None:
    story.engine()
    story.finish(only(story.submit("t")))

    again = story.submit("t")

    assert [n.state for n in told(again)] == ["succeeded"]


def test_a_key_names_the_same_task_while_it_is_open(story: Story) -> None:
    story.submit("a", key="k")

    step = story.submit("b", key="k")

    assert step.news[CLIENT].aliases == [("b", "a")]
    assert list(story.state.tasks) == ["a"]


def test_a_key_names_the_same_task_after_its_end(story: Story) -> None:
    story.engine()
    story.finish(only(story.submit("a", key="k")))

    step = story.submit("b", key="k", client="c2")

    assert step.news["c2"].aliases == [("b", "a")]
    assert [n.task for n in told(step, "c2")] == ["a"]


def test_who_used_a_key_again_is_told_the_end(story: Story) -> None:
    story.engine()
    run = only(story.submit("a", key="k"))
    story.submit("b", key="k", client="c2")

    step = story.finish(run)

    assert [n.task for n in told(step, "c2")] == ["a"]
    assert [n.task for n in told(step)] == ["a"]


@pytest.mark.parametrize("other", [{"payload": b"other"}, {"fn": "g"}])
def test_a_key_for_another_call_is_refused(story: Story, other: dict[str, Any]) -> None:
    story.submit("a", key="k")

    step = story.submit("b", key="k", **other)

    assert refused(step) == ["KeyReusedError"]
    assert list(story.state.tasks) == ["a"]


def test_a_key_is_compared_by_the_digest_of_its_call(story: Story) -> None:
    story.engine()
    run = only(story.submit("a", key="k", digest=b"1", payload=b"pickled here", fn="f"))

    assert refused(story.submit("b", key="k", digest=b"1", payload=b"there", fn="g")) == []
    assert refused(story.submit("c", key="k", digest=b"2")) == ["KeyReusedError"]

    story.finish(run)
    story.restart()

    assert refused(story.submit("d", key="k", digest=b"1", payload=b"elsewhere")) == []
    assert refused(story.submit("e", key="k", digest=b"2")) == ["KeyReusedError"]
    assert list(story.state.tasks) == ["a"]


def test_a_task_whose_template_was_not_sent_is_refused(story: Story) -> None:
    sent = submission("t")
    sent.tasks[0].template = 3

    step = story.handle(e.Batch(submissions=[sent]))

    assert refused(step) == ["OptionError"]
    assert not story.state.tasks


def test_no_more_open_tasks_than_allowed_are_taken(begin: Begin) -> None:
    story = begin(max_pending=2)

    step = story.submit("a", "b", "c")

    assert refused(step) == ["BusyError"]
    assert list(story.state.tasks) == ["a", "b"]


def test_an_ended_task_makes_room_for_another(begin: Begin) -> None:
    story = begin(max_pending=1)
    story.engine()
    story.finish(only(story.submit("a")))

    assert refused(story.submit("b")) == []


def test_a_full_cluster_still_recognises_what_it_has(begin: Begin) -> None:
    story = begin(max_pending=1)
    story.submit("a", key="k")

    assert refused(story.submit("a", key="k")) == []
    assert story.submit("b", key="k").news[CLIENT].aliases == [("b", "a")]


# --------------------------------------------------------------------------- late and doubled


def test_a_late_result_is_ignored_once_another_executor_has_the_task(story: Story) -> None:
    story.engine(executors=2)
    story.submit("t")
    old = story.task("t").token
    holder = story.task("t").executor
    late = Outcome("t", old, 0, story.now, 0.0, b"late")
    story.die(holder)
    assert story.task("t").executor != holder

    step = story.handle(e.Batch(outcomes=[(holder, [late])]))

    assert step.stale == [("t", old)]
    assert story.seen("t") == "pending"


def test_a_result_of_an_executor_written_off_does_not_bring_it_back(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.die()

    story.finish(run)

    assert story.state.executors == {}
    assert story.state.engines["e"].executors == {}


def test_a_doubled_result_ends_the_task_once(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))

    step = story.finish(run, run)
    again = story.finish(run)

    assert len(told(step)) == 1
    assert step.stale == []
    assert again.records == []
    assert told(again) == []
    assert again.stale == []


def test_the_doubled_result_of_a_failed_attempt_is_not_a_second_failure(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", retries=5))
    story.fail(run)

    step = story.fail(run)

    assert step.stale == [("t", run.token)]
    assert story.task("t").retries == 1


def test_a_result_sent_again_keeps_the_shared_buffers_of_the_first(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.finish(run, blobs=("b",))

    assert story.finish(run, blobs=("b",)).garbage == []


def test_the_shared_buffers_of_a_stale_result_are_garbage(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.cancel("t")

    assert story.finish(run, blobs=("b",)).garbage == ["b"]


def test_the_arguments_of_a_task_that_succeeded_are_garbage(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", blobs=("in",)))

    assert story.finish(run).garbage == ["in"]


# --------------------------------------------------------------------------- retries


def test_without_retries_the_first_failure_is_the_end(story: Story) -> None:
    story.engine()

    step = story.fail(only(story.submit("t")))

    assert [(n.state, n.cause, n.attempts, n.retries) for n in told(step)] == [
        ("failed", "exception", 1, 0)
    ]
    assert list(story.state.dead_letters) == ["t"]


def test_what_was_submitted_as_no_dead_letter_is_none_and_can_be_put_back(story: Story) -> None:
    story.engine()
    story.fail(only(story.submit("t", dead_letter=False)))
    rebuilt = Machine()
    rebuilt.state.templates = dict(story.state.templates)

    restore_task(rebuilt.state, story.task("t"))

    assert rebuilt.state.tasks["t"].state == "failed"
    assert [*story.state.dead_letters, *rebuilt.state.dead_letters] == []
    assert story.redrive("t") == {"t": "t~1"}


def test_a_failed_attempt_waits_without_a_slot_and_then_goes_to_the_tail(story: Story) -> None:
    story.engine()
    run = story.submit("t", retries=1, backoff=Backoff(2)).runs["e/0.1"][0]
    step = story.fail(run, duration_s=9.0)
    assert story.seen("t") == "retrying"
    assert step.runs == {}

    running = story.submit("u", "v").runs["e/0.1"]
    assert names(running) == ["u"]  # the slot was free; of the slow function nothing goes ahead
    story.later(2.0)

    assert story.seen("t") == "pending"
    assert story.waiting() == ["v", "t"]


def test_retries_are_attempts_after_the_first(story: Story) -> None:
    story.engine()
    step = story.submit("t", retries=2, backoff=Backoff(0))
    attempts = []
    while step.runs:
        attempts.append(only(step).attempt)
        step = story.fail(only(step))

    assert attempts == [1, 2, 3]
    assert (story.seen("t"), story.task("t").retries) == ("failed", 2)


def test_infinite_retries_go_on(story: Story) -> None:
    story.engine()
    step = story.submit("t", retries=math.inf, backoff=Backoff(0))

    for _ in range(60):
        step = story.fail(only(step))

    assert story.seen("t") == "pending"
    assert story.task("t").retries == 60
    assert len(story.task("t").history) <= 50


def test_the_backoff_grows_with_the_failures(story: Story) -> None:
    story.engine()
    step = story.submit("t", retries=5, backoff=Backoff(10, 2, 1000))
    waits = []
    for _ in range(3):
        story.fail(only(step))
        waits.append(story.task("t").due - story.now)
        step = story.later(waits[-1])

    assert 5 <= waits[0] <= 10 <= waits[1] <= 20 <= waits[2] <= 40


def test_an_exception_may_say_when_to_try_again(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", retries=1))

    story.fail(run, retry_after=50.0)

    assert story.task("t").due == story.now + 50
    assert story.later(49.9).runs == {}
    assert only(story.later(0.1)).attempt == 2


@pytest.mark.parametrize("wait", [math.nan, -5.0])
def test_an_impossible_wait_does_not_stop_the_clock(story: Story, wait: float) -> None:
    story.engine()
    run = only(story.submit("t", retries=1))

    assert only(story.fail(run, retry_after=wait)).attempt == 2


def test_an_exception_that_is_not_named_in_retry_on_is_the_end(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", retries=5))

    story.fail(run, retryable=False)

    assert (story.seen("t"), story.task("t").cause) == ("failed", "exception")


@pytest.mark.parametrize(
    ("verdict", "cause"),
    [(Verdict.PERMANENT, "permanent"), (Verdict.UNDECODABLE, "undecodable")],
)
def test_what_cannot_get_better_is_not_tried_again(
    story: Story, verdict: Verdict, cause: str
) -> None:
    story.engine()
    run = only(story.submit("t", retries=9))

    story.fail(run, verdict=verdict)

    task = story.task("t")
    assert (story.seen("t"), task.cause, task.attempts) == ("failed", cause, 1)


@pytest.mark.parametrize("error", ["ImportError", "ModuleNotFoundError"])
def test_what_a_missing_module_keeps_from_being_read_has_an_error_of_its_own(
    story: Story, error: str
) -> None:
    story.engine()
    run = only(story.submit("t"))

    story.finish(run, verdict=Verdict.UNDECODABLE, error=ErrorInfo(error, "no module", ""))

    assert story.task("t").code == "MissingModuleError"


def test_a_retry_goes_to_another_engine_if_one_is_free(story: Story) -> None:
    story.engine("a")
    story.engine("b")
    run = only(story.submit("t", retries=1, backoff=Backoff(0)))
    first = story.task("t").executor

    story.fail(run, executor=first)

    assert story.task("t").executor != first


def test_a_function_the_executor_lacks_is_sent_again_and_counts_nowhere(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))

    again = only(story.finish(run, verdict=Verdict.UNKNOWN_FUNCTION))

    assert again.attempt == 1
    assert again.token > run.token


def test_the_history_keeps_the_error_of_every_attempt(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", retries=1, backoff=Backoff(0)))
    story.fail(only(story.fail(run)))

    history = story.task("t").history
    assert [(a.number, a.outcome) for a in history] == [(1, "exception"), (2, "exception")]


def test_times_of_a_foreign_clock_stay_between_submission_and_now(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    wrong = outcome(run, story.now)
    wrong.started_at = 5.0

    story.handle(e.Batch(outcomes=[("e/0.1", [wrong])]))

    task = story.task("t")
    assert task.submitted_at <= task.started_at <= task.finished_at


def test_the_start_that_was_told_while_an_attempt_ran_stays_though_the_machine_slept(
    story: Story,
) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.beat(("e/0.1", run))
    began = story.now

    story.sleep(3600.0)
    story.finish(run)

    task = story.task("t")
    assert (task.started_at, task.finished_at) == (began, began + 3600.0)


def test_order_of_submission_is_the_order_of_runs(story: Story) -> None:
    story.submit("a", "b", "c")
    order = []
    step = story.engine()
    while step.runs:
        order += names(step.runs["e/0.1"])
        step = story.finish(*step.runs["e/0.1"], duration_s=1.0)

    assert order == ["a", "b", "c"]


# --------------------------------------------------------------------------- many dependencies


def succeed(story: Story, *names: str) -> None:
    """Let tasks succeed that nobody has run, and tell those that wait for them."""
    records: list[r.Record] = []
    for token, name in enumerate(names, 1 << 40):
        story.state.queue_of(story.task(name)).pop(story.now)
        records.append(r.Leased(name, token, "x/0.1"))
        records.append(r.Succeeded(name, token, story.now, b"", (), b"", b""))
        for waiting in story.state.dependents.get(name, ()):
            records.append(r.DependencyMet(waiting, name))
    for record in records:
        story.state.apply(record, story.now)
    story.write(records)


@pytest.mark.parametrize("is_over", [False, True])
def test_who_waits_for_many_costs_as_much_for_each_as_who_waits_for_few(
    story: Story, is_over: bool
) -> None:
    many = [f"t{n}" for n in range(40_000)]
    story.submit(*many)
    began = time.process_time()

    if is_over:
        succeed(story, *many)
        story.submit("last", after=tuple(many))
    else:
        story.submit("last", after=tuple(many))
        assert len(story.task("last").after) == len(many)
        succeed(story, *many)

    assert time.process_time() - began < 4.0  # some ten times what it takes
    assert story.task("last").after == set()
