"""A master that was killed, and the next one made from its journal."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from nbcluster.core import events as e
from nbcluster.core import records as r
from nbcluster.core.machine import Machine
from nbcluster.core.model import Definition, Progress, Verdict
from nbcluster.core.restoring import refill_queues, restore_task
from nbcluster.errors import InvariantError
from nbcluster.ids import epoch_of
from nbcluster.options import Backoff
from tests.unit.core.story import Story, came, names, only, orders, refused, told

Begin = Callable[..., Story]


def back(story: Story, run_token: int = 0, *holds: int) -> e.Step:
    """Engine and executor greet the new master; what runs will be held as a result."""
    held = (run_token, *holds) if run_token else holds
    return story.tell(came(running=(("e/0.1", run_token),)), e.ExecutorCame("e/0.1", 7, held))


def test_waiting_tasks_keep_their_order_over_a_restart(story: Story) -> None:
    story.submit("a", "b", "c")
    story.cancel("b")

    story.restart()

    assert story.waiting() == ["a", "c"]
    assert names(story.engine().runs["e/0.1"]) == ["a", "c"]


def test_tokens_rise_over_a_restart(story: Story) -> None:
    story.engine()
    old = only(story.submit("a"))
    story.restart()
    back(story, old.token, old.token)

    step = story.finish(old)
    new = only(story.submit("b"))

    assert told(step)
    assert new.token > old.token
    assert (epoch_of(old.token), epoch_of(new.token)) == (1, 2)


def test_what_runs_over_a_restart_is_neither_failed_nor_run_again(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.beat(("e/0.1", run))
    story.restart()

    step = back(story, run.token, run.token)

    assert step.runs == {}
    assert story.seen("t") == "running"
    assert [n.attempts for n in told(story.finish(run))] == [1]


def test_an_executor_that_is_not_back_gets_nothing(story: Story) -> None:
    story.engine()
    story.restart()

    assert story.submit("t").runs == {}
    assert only(back(story)).task == "t"


def test_a_lease_that_was_never_sent_is_given_again(story: Story) -> None:
    story.engine()
    old = only(story.submit("t"))
    story.restart()

    assert only(back(story)).token > old.token


def test_an_executor_that_died_meanwhile_is_charged_by_what_its_engine_tells(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.restart()
    story.tell(came())

    story.die(token=run.token)

    assert story.task("t").crashes == 1
    assert story.waiting() == ["t"]


def test_an_executor_nobody_speaks_of_is_written_off_after_a_moment(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.restart()
    story.tell(came())
    assert story.task("t").token == run.token

    story.later(1.0)

    assert story.waiting() == ["t"]
    assert story.task("t").crashes == 0
    assert story.state.executors == {}


def test_an_executor_that_was_seen_running_is_charged_when_written_off(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.beat(("e/0.1", run))
    story.restart()
    story.tell(came())

    story.later(1.0)

    assert story.task("t").crashes == 1


def test_an_engine_that_does_not_come_back_is_lost_after_a_while(story: Story) -> None:
    story.engine()
    story.submit("t")
    story.restart()

    story.later(15.0, silent=True)

    assert story.waiting() == ["t"]
    assert story.state.engines == {}


def test_backoffs_and_expiries_go_on_after_a_restart(story: Story) -> None:
    story.engine()
    story.fail(only(story.submit("t", retries=1, backoff=Backoff(8))))
    story.submit("x", expires=5.0, group="gpu")
    due = story.task("t").due
    story.restart()
    back(story)

    story.later(due - story.now)

    assert story.task("t").token > 0
    story.later(5.0)
    assert story.task("x").cause == "expired"


@pytest.mark.parametrize("away_s", [0.0, 3_600.0])
def test_a_timeout_goes_on_after_a_restart_by_what_the_engine_tells(
    story: Story, away_s: float
) -> None:
    story.engine()
    run = only(story.submit("t", timeout=5.0))
    story.beat(("e/0.1", run))
    story.now += away_s  # the machine may have slept for so long
    story.restart()
    back(story, run.token)
    began_at = story.now - 2.0
    for _ in range(2):
        story.tell(e.EngineBeat("e", [("e/0.1", run.token, began_at)], []))

    assert orders(story.later(2.9), e.KillOrder) == []
    step = story.later(0.2)

    assert [o.reason for o in orders(step, e.KillOrder)] == ["timeout"]


def test_an_order_to_stop_that_was_lost_is_given_again(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.beat(("e/0.1", run))
    story.cancel("t")
    story.restart()

    step = back(story, run.token)

    assert [o.token for o in orders(step, e.KillOrder)] == [run.token]
    story.finish(run, verdict=Verdict.INTERRUPTED)
    assert story.state.executors["e/0.1"].leases == {}


def test_a_kill_for_time_that_was_lost_with_the_connection_is_given_again(story: Story) -> None:
    story.engine()
    run = only(story.submit("t", timeout=5.0))
    story.beat(("e/0.1", run))
    story.later(5.0)

    step = story.tell(came(running=(("e/0.1", run.token),)))

    assert [o.reason for o in orders(step, e.KillOrder)] == ["timeout"]


def test_what_is_stuck_behind_a_long_task_is_freed_after_a_restart(story: Story) -> None:
    story.engine()
    first, second = story.submit("long", "short").runs["e/0.1"]
    story.restart()
    back(story, first.token, first.token, second.token)

    step = story.later(0.05)

    assert [o.watermark for o in orders(step, e.RevokeOrder)] == [second.token]


def test_a_drain_goes_on_after_a_restart(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.tell(e.DrainAsked("e"))
    story.restart()
    back(story, run.token, run.token)

    step = story.later(25.0)

    assert orders(step, e.LeaveOrder)
    assert story.waiting() == ["t"]


def test_keys_and_dependencies_survive_a_restart(story: Story) -> None:
    story.engine()
    run = only(story.submit("a", key="k"))
    story.submit("b", after=("a",))
    story.restart()
    back(story, run.token, run.token)

    assert refused(story.submit("c", key="k", payload=b"other")) == ["KeyReusedError"]
    assert only(story.finish(run)).task == "b"


def test_retention_goes_on_after_a_restart(begin: Begin) -> None:
    story = begin(retention_s=60.0)
    story.submit("a", "b")
    story.cancel("b")
    story.later(30.0)
    story.cancel("a")
    story.restart()

    story.later(30.0)

    assert list(story.state.tasks) == ["a"]


def test_a_snapshot_of_each_task_stands_for_its_records(story: Story) -> None:
    story.engine()
    story.submit("a", "b", "c", key="")
    story.submit("d", after=("a",), key="k")
    story.cancel("c")
    machine = Machine(story.limits)
    machine.state.replaying = True
    machine.state.templates = dict(story.state.templates)

    for task in story.state.tasks.values():
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(task), type=type(task))
        restore_task(machine.state, again)
    refill_queues(machine.state)

    assert machine.state.counts == story.state.counts
    assert machine.state.dependents == {"a": ["d"]}
    assert machine.state.keys == {"k": "d"}
    assert machine.state.executors["e/0.1"].leases.keys() == {
        story.task("a").token,
        story.task("b").token,
    }


# --------------------------------------------------------------------------- lost orders


def test_a_restart_of_executors_that_was_lost_is_ordered_again(story: Story) -> None:
    story.engine(executors=2)
    story.tell(e.RestartAsked())

    step = story.tell(came(slots=2, running=(("e/0.1", 0), ("e/1.1", 0))))

    assert [o.engine for o in orders(step, e.RestartOrder)] == ["e"]


def test_a_number_of_slots_that_was_lost_is_ordered_again(story: Story) -> None:
    story.engine()
    story.tell(e.SlotsAsked("e", 3))

    step = story.tell(came(slots=1, running=(("e/0.1", 0),)))

    assert [o.slots for o in orders(step, e.SlotsOrder)] == [3]
    assert story.state.engines["e"].slots == 3


def test_another_process_brings_its_own_number_of_slots(story: Story) -> None:
    story.engine()
    story.tell(e.SlotsAsked("e", 3))

    story.tell(came(pid=2, slots=1))

    assert story.state.engines["e"].slots == 1


def test_a_cancelled_lease_is_revoked_again_when_its_engine_is_back(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.cancel("t")

    step = story.tell(came(running=(("e/0.1", 0),)))

    assert [o.watermark for o in orders(step, e.RevokeOrder)] == [run.token]


def test_a_task_pinned_to_an_executor_waits_for_it_after_a_restart(story: Story) -> None:
    story.engine()
    story.fail(only(story.submit("t", pin="e/0.1", retries=1)))
    story.restart()

    story.later(2.0)
    assert story.seen("t") == "pending"

    assert only(back(story)).task == "t"


# --------------------------------------------------------------------------- setups


def setup(story: Story) -> e.Step:
    return story.tell(e.SetupAsked(Definition("init", "init", b"code"), b"args"))


def test_a_setup_runs_before_the_next_task(story: Story) -> None:
    story.engine()
    step = setup(story)
    assert step.setup_executors == {"e/0.1"}
    assert story.submit("t").runs == {}

    assert only(story.tell(e.SetupAnswered("e/0.1", 1, ""))).task == "t"


def test_a_new_executor_runs_all_setups_first(story: Story) -> None:
    setup(story)
    story.submit("t")
    step = story.engine()
    assert step.setup_executors == {"e/0.1"}
    assert step.runs == {}

    assert only(story.tell(e.SetupAnswered("e/0.1", 1, ""))).task == "t"


def test_an_answer_to_an_older_setup_is_not_enough(story: Story) -> None:
    story.engine()
    setup(story)
    setup(story)
    story.submit("t")

    assert story.tell(e.SetupAnswered("e/0.1", 1, "")).runs == {}
    assert only(story.tell(e.SetupAnswered("e/0.1", 2, ""))).task == "t"


def test_a_broken_initializer_fails_what_waits_and_refuses_more(story: Story) -> None:
    setup(story)
    story.engine()
    story.submit("t")
    story.submit("u", after=("t",))

    step = story.tell(e.SetupAnswered("e/0.1", 1, "boom"))

    assert [(n.task, n.code) for n in told(step)] == [
        ("t", "InitializerError"),
        ("u", "DependencyError"),
    ]
    assert refused(story.submit("v")) == ["InitializerError"]


def test_an_initializer_that_works_elsewhere_fails_nobody(story: Story) -> None:
    setup(story)
    story.engine(executors=2)
    story.submit("t")

    assert told(story.tell(e.SetupAnswered("e/0.1", 1, "boom"))) == []
    assert only(story.tell(e.SetupAnswered("e/1.1", 1, ""))).task == "t"


def test_after_a_mended_initializer_tasks_are_taken_again(story: Story) -> None:
    setup(story)
    story.engine()
    story.tell(e.SetupAnswered("e/0.1", 1, "boom"))

    story.tell(e.ExecutorCame("e/0.2", 7, ()), e.SetupAnswered("e/0.2", 1, ""))

    assert only(story.submit("t")).task == "t"


def test_a_task_that_failed_while_an_executor_held_it_frees_the_slot(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    setup(story)
    story.tell(e.SetupAnswered("e/0.1", 1, "boom"))

    story.finish(run)

    assert story.seen("t") == "failed"
    assert story.state.executors["e/0.1"].leases == {}
    assert story.state.engines["e"].load == 0


# --------------------------------------------------------------------------- apply


@pytest.mark.parametrize(
    "record",
    [
        r.Woken("t"),
        r.Progressed("t", 1, Progress(1, 2)),
        r.Redriven("t", "t~1", "c"),
        r.Cancelled("nobody"),
    ],
)
def test_a_record_that_does_not_fit_the_state_is_never_believed(
    story: Story, record: r.Record
) -> None:
    story.submit("t")

    with pytest.raises(InvariantError):
        story.state.apply(record, story.now)


def test_only_ended_tasks_can_be_forgotten(story: Story) -> None:
    story.submit("t")

    with pytest.raises(InvariantError):
        Machine().state.apply(r.Forgotten(("t",)), story.now)


def test_names_of_runs_are_in_the_order_of_tokens(story: Story) -> None:
    story.engine()
    story.finish(only(story.submit("warm")))

    runs = story.submit("a", "b", "c").runs["e/0.1"]

    assert names(runs) == ["a", "b", "c"]
    assert [run.token for run in runs] == sorted(run.token for run in runs)
