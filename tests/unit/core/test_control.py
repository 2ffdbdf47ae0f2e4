"""What people ask for: cancel, timeout, expiry, dependencies, redrive."""

from __future__ import annotations

import msgspec
import pytest

from nbcluster.core import events as e
from nbcluster.core import records as r
from nbcluster.core import submitting
from nbcluster.core.model import Run, Verdict
from nbcluster.options import Backoff
from tests.unit.core.story import CLIENT, Story, only, orders, refused, told


def test_a_waiting_task_is_cancelled_and_leaves_its_queue(story: Story) -> None:
    story.submit("a", "b")

    step = story.cancel("a")

    assert [n.state for n in told(step)] == ["cancelled"]
    assert story.waiting() == ["b"]
    assert len(story.state.queues["default"]) == 1


def test_a_task_is_cancelled_by_the_id_it_was_submitted_with_before_its_key_was_recognised(
    story: Story,
) -> None:
    story.submit("t", key="k")
    story.submit("again", key="k")

    step = story.cancel("again")

    assert [n.task for n in told(step)] == ["t"]
    assert story.seen("t") == "cancelled"


def test_a_running_task_is_cancelled_at_once_and_stopped(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.beat(("e/0.1", run))

    step = story.cancel("t")

    assert [(o.token, o.reason) for o in orders(step, e.KillOrder)] == [(run.token, "cancel")]
    assert story.seen("t") == "cancelled"


def test_the_slot_of_a_cancelled_task_is_not_free_until_its_executor_says_so(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.beat(("e/0.1", run))
    story.cancel("t")
    story.submit("u", at_most_once=True)
    assert story.waiting() == ["u"]

    step = story.finish(run, verdict=Verdict.INTERRUPTED)

    assert only(step).task == "u"
    assert step.stale == []


def test_a_cancelled_task_that_had_not_begun_is_revoked(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))

    step = story.cancel("t")
    assert [o.watermark for o in orders(step, e.RevokeOrder)] == [run.token]
    story.tell(e.RevokeAnswered("e/0.1", run.token, 0))

    assert story.state.engines["e"].load == 0
    assert only(story.submit("u")).task == "u"


def test_the_result_of_a_cancelled_task_counts_no_more(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.cancel("t")

    story.finish(run)

    assert story.seen("t") == "cancelled"
    assert story.task("t").result == b""


def test_a_retrying_task_is_cancelled_and_never_wakes(story: Story) -> None:
    story.engine()
    story.fail(only(story.submit("t", retries=1)))

    story.cancel("t")

    assert story.later(5.0).runs == {}
    assert story.seen("t") == "cancelled"


def test_an_ended_task_cannot_be_cancelled(story: Story) -> None:
    story.engine()
    story.finish(only(story.submit("t")))
    asked = e.CancelAsked(["t", "unknown"])

    story.tell(asked)

    assert asked.cancelled == []
    assert story.seen("t") == "succeeded"


# --------------------------------------------------------------------------- timeout, expiry


def test_an_attempt_that_runs_too_long_is_stopped_and_fails(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", timeout=5.0))
    story.beat(("e/0.1", run))
    assert orders(story.later(4.9), e.KillOrder) == []

    kill = orders(story.later(0.1), e.KillOrder)
    step = story.finish(run, verdict=Verdict.INTERRUPTED)

    assert [(o.token, o.reason) for o in kill] == [(run.token, "timeout")]
    assert [(n.cause, n.code, n.attempts) for n in told(step)] == [
        ("timeout", "TaskTimeoutError", 1)
    ]


def test_the_time_a_machine_sleeps_is_not_taken_off_the_time_an_attempt_has(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", timeout=5.0))
    story.beat(("e/0.1", run))
    story.later(2.0)

    assert story.sleep(3600.0).orders == []
    assert story.later(2.9).orders == []
    assert [o.reason for o in orders(story.later(0.1), e.KillOrder)] == ["timeout"]


def test_the_time_a_machine_sleeps_is_not_taken_off_the_time_an_engine_has_to_drain(
    story: Story,
) -> None:
    story.engine()
    story.beat(("e/0.1", only(story.submit("t"))))
    story.tell(e.DrainAsked("e"))

    assert story.sleep(3600.0).orders == []
    assert story.later(24.9).orders == []
    assert orders(story.later(0.1), e.LeaveOrder)[0].reason == "drain time is over"


def test_a_task_expires_while_the_machine_sleeps(story: Story) -> None:
    story.submit("t", expires=5.0)

    assert [n.cause for n in told(story.sleep(3600.0))] == ["expired"]


def test_a_timeout_counts_as_a_retry(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", timeout=5.0, retries=1, backoff=Backoff(0)))
    story.beat(("e/0.1", run))
    story.later(5.0)

    step = story.finish(run, verdict=Verdict.INTERRUPTED)

    assert only(step).attempt == 2
    assert (story.task("t").retries, story.task("t").crashes) == (1, 0)


def test_a_timeout_that_had_to_kill_the_executor_is_no_crash(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", timeout=5.0))
    story.beat(("e/0.1", run))
    story.later(5.0)

    story.die(token=run.token, expected=True)

    assert (story.task("t").cause, story.task("t").crashes) == ("timeout", 0)
    assert story.machine.memo.timed_out == {}


def test_a_value_that_came_before_the_kill_counts(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", timeout=5.0))
    story.beat(("e/0.1", run))
    story.later(5.0)

    story.finish(run)

    assert story.seen("t") == "succeeded"
    assert story.machine.memo.timed_out == {}


def test_of_a_task_given_up_no_kill_is_remembered(story: Story) -> None:
    story.engine()
    story.submit("t", at_most_once=True, timeout=1.0)
    story.later(1.0)
    assert list(story.machine.memo.timed_out.values()) == ["t"]

    story.tell(e.DrainAsked("e"))
    story.later(25.0)

    assert story.task("t").cause == "lost"
    assert story.machine.memo.timed_out == {}


def test_a_task_not_started_in_time_expires(story: Story) -> None:
    story.submit("t", expires=10.0)
    assert told(story.later(9.9)) == []

    step = story.later(0.1)

    assert [(n.cause, n.code) for n in told(step)] == [("expired", "TaskExpiredError")]
    assert len(story.state.queues["default"]) == 0


def test_a_task_that_has_started_does_not_expire(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", expires=10.0))
    story.beat(("e/0.1", run))

    story.later(11.0)

    assert story.seen("t") == "running"


def test_a_task_at_an_executor_expires_only_if_it_comes_back(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", expires=10.0))
    story.later(10.0)
    assert story.seen("t") == "pending"
    story.tell(e.SlotsAsked("e", 0))
    story.tell(e.RevokeAnswered("e/0.1", run.token, 0))

    story.later(1.0)

    assert story.task("t").cause == "expired"


@pytest.mark.parametrize("is_seen", [True, False])
def test_an_interruption_by_a_master_that_is_gone_gives_the_task_back(
    story: Story, is_seen: bool
) -> None:
    story.engine()
    run = only(story.submit("t"))
    if is_seen:
        story.beat(("e/0.1", run))

    step = story.finish(run, verdict=Verdict.INTERRUPTED)

    assert only(step).attempt == 2
    assert (story.task("t").retries, story.task("t").crashes) == (0, 0)


# --------------------------------------------------------------------------- dependencies


def test_a_task_waits_for_those_it_comes_after(story: Story) -> None:
    story.engine()
    a = only(story.submit("a"))
    assert story.submit("b", after=("a",)).runs == {}

    assert only(story.finish(a)).task == "b"


def test_a_task_waits_for_all_it_comes_after(story: Story) -> None:
    story.engine(executors=2)
    a, b = (only(story.submit(x), None) for x in "ab")
    story.submit("c", after=("a", "b"))
    first, second = story.task("a").executor, story.task("b").executor

    assert story.finish(a, executor=first).runs == {}
    assert only(story.finish(b, executor=second)).task == "c"


def test_what_comes_after_an_ended_task_goes_at_once(story: Story) -> None:
    story.engine()
    story.finish(only(story.submit("a")))

    assert only(story.submit("b", after=("a", "a"))).task == "b"


def test_a_failure_fails_the_whole_chain_behind_it(story: Story) -> None:
    story.engine()
    a = only(story.submit("a"))
    story.submit("b", after=("a",))
    story.submit("c", after=("b",))

    step = story.fail(a)

    assert [(n.task, n.state, n.code) for n in told(step)][1:] == [
        ("b", "failed", "DependencyError"),
        ("c", "failed", "DependencyError"),
    ]


def test_a_cancelled_dependency_fails_what_waits_for_it(story: Story) -> None:
    story.submit("a")
    story.submit("b", after=("a",))

    story.cancel("a")

    assert story.seen("b") == "failed"


def test_what_comes_after_a_failed_task_fails_at_once(story: Story) -> None:
    story.engine()
    story.fail(only(story.submit("a")))

    step = story.submit("b", after=("a",))

    assert [n.code for n in told(step)] == ["DependencyError"]


def test_what_comes_after_an_unknown_task_is_refused(story: Story) -> None:
    assert refused(story.submit("b", after=("nobody",))) == ["UnknownIdError"]


@pytest.mark.parametrize("has_ended", [False, True])
def test_what_was_recognised_by_its_key_is_known_by_its_own_id_too(
    story: Story, has_ended: bool
) -> None:
    story.engine()
    first = only(story.submit("a", key="k"))
    if has_ended:
        story.finish(first)
    story.submit("again", key="k")

    step = story.submit("b", after=("again",))  # the client has not yet heard of the other id

    assert only(step if has_ended else story.finish(first)).task == "b"


def test_the_own_ids_of_recognised_tasks_are_not_kept_for_ever(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "ALIASES", 2)
    story.submit("a", key="k")
    for n in range(4):
        story.submit(f"again{n}", key="k")

    assert story.machine.memo.aliases == {"again2": "a", "again3": "a"}


def test_a_dependent_that_was_cancelled_stays_so(story: Story) -> None:
    story.engine()
    a = only(story.submit("a"))
    story.submit("b", after=("a",))
    story.cancel("b")

    story.finish(a)

    assert story.seen("b") == "cancelled"


# --------------------------------------------------------------------------- redrive


def test_a_dead_letter_is_put_back_once_as_a_new_task(story: Story) -> None:
    story.engine()
    story.fail(only(story.submit("t", key="k", blobs=("b",))))

    assert story.redrive("t") == {"t": "t~1"}
    assert story.redrive("t") == {}
    new = story.task("t~1")
    assert (new.attempts, new.payload, new.blobs) == (0, b"args", ("b",))
    assert story.seen("t") == "failed"
    assert "t" not in story.state.dead_letters
    assert story.state.keys == {"k": "t~1"}


def test_a_dead_letter_that_is_put_back_keeps_the_digest_of_its_call(story: Story) -> None:
    story.engine()
    story.fail(only(story.submit("t", key="k", digest=b"1")))

    story.redrive("t")

    assert refused(story.submit("u", key="k", digest=b"1", payload=b"other")) == []
    assert refused(story.submit("v", key="k", digest=b"2")) == ["KeyReusedError"]


def test_a_task_put_back_again_gets_the_next_number(story: Story) -> None:
    story.submit("t")
    story.cancel("t")
    story.redrive("t")
    story.cancel("t~1")

    assert story.redrive("t~1") == {"t~1": "t~2"}


@pytest.mark.parametrize("name", ["x~y", "~", "x~²"])
def test_any_id_can_be_put_back(story: Story, name: str) -> None:
    story.submit(name)
    story.cancel(name)

    assert story.redrive(name) == {name: f"{name}~1"}


def test_putting_back_never_takes_the_id_of_another_task(story: Story) -> None:
    story.submit("t", "t~1")
    story.cancel("t")

    assert story.redrive("t") == {"t": "t~2"}


def test_a_task_put_back_expires_as_the_old_one_did(story: Story) -> None:
    story.submit("t", expires=5.0)
    story.later(5.0)
    story.redrive("t")

    story.later(5.0)

    assert story.task("t~1").cause == "expired"


def test_redriving_a_retrying_task_wakes_it(story: Story) -> None:
    story.engine()
    story.fail(only(story.submit("t", retries=1, backoff=Backoff(100))))

    step = story.tell(e.RedriveAsked(["t"], CLIENT))

    assert only(step).attempt == 2


def failed_chain(story: Story) -> None:
    story.engine()
    a = only(story.submit("a"))
    story.submit("b", after=("a",))
    story.submit("c", after=("b",))
    story.fail(a)


def only_lease(story: Story, name: str) -> Run:
    task = story.task(name)
    assert task.token
    return Run(name, task.token, 1, task.template.fn, task.payload)


def asked(story: Story, *names: str) -> e.RedriveAsked:
    event = e.RedriveAsked(list(names), CLIENT)
    story.tell(event)
    return event


def test_a_task_put_back_waits_for_the_successor_of_its_dependency(story: Story) -> None:
    failed_chain(story)
    story.redrive("a")
    again = only_lease(story, "a~1")

    assert story.redrive("b") == {"b": "b~1"}

    assert (story.task("b~1").after, story.waiting()) == ({"a~1"}, [])
    story.restart()
    story.finish(again)
    assert (story.task("b~1").after, story.seen("b~1")) == (set(), "pending")


def test_a_task_is_not_put_back_before_what_it_waits_for(story: Story) -> None:
    failed_chain(story)
    story.submit("x")
    story.cancel("x")

    event = asked(story, "c", "x")

    assert (event.successors, event.refused) == ({"x": "x~1"}, {"c": "b"})
    assert "c" in story.state.dead_letters


@pytest.mark.parametrize("names", [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a", "c")])
def test_a_chain_can_be_put_back_in_one_call_in_any_order(
    story: Story, names: tuple[str, ...]
) -> None:
    failed_chain(story)

    assert sorted(story.redrive(*names)) == ["a", "b", "c"]

    assert [story.task(n).after for n in ("a~1", "b~1", "c~1")] == [set(), {"a~1"}, {"b~1"}]


def test_a_dependency_that_was_put_back_and_failed_again_goes_first_too(story: Story) -> None:
    failed_chain(story)
    story.redrive("a")
    story.fail(only_lease(story, "a~1"))

    assert story.redrive("b") == {}
    assert story.redrive("b", "a~1") == {"a~1": "a~2", "b": "b~1"}
    assert story.task("b~1").after == {"a~2"}


def test_a_task_whose_dependency_has_succeeded_when_put_back_runs_at_once(story: Story) -> None:
    failed_chain(story)
    story.redrive("a")
    story.finish(only_lease(story, "a~1"))

    story.redrive("b")

    assert story.task("b~1").after == set()
    assert story.task("b~1").token


def test_a_record_of_a_task_put_back_that_names_no_dependencies_is_read_as_before() -> None:
    old = msgspec.msgpack.encode([[21, "t", "t~1", "c"]])

    assert msgspec.msgpack.decode(old, type=list[r.Record]) == [r.Redriven("t", "t~1", "c", ())]
