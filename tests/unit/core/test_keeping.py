"""Who is told what, and how long ended tasks are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nbcluster.core import events as e
from nbcluster.core import timing, views
from nbcluster.core.engines import started
from nbcluster.core.memo import Limits
from nbcluster.core.model import Definition, ErrorInfo, Progress, Verdict
from nbcluster.master.config import MasterConfig
from nbcluster.options import StartOptions
from tests.unit.core.story import CLIENT, START, Story, names, only, refused, submission, told

Begin = Callable[..., Story]


def test_a_watcher_is_told_what_has_ended_and_what_ends_later(story: Story) -> None:
    story.engine()
    story.finish(only(story.submit("a")))
    run = only(story.submit("b"))

    now = story.tell(e.WatchAsked("c2", ["a", "b", "nobody"]))
    then = story.finish(run)

    assert [n.task for n in told(now, "c2")] == ["a"]
    assert [code for _, code, _ in now.news["c2"].refused] == ["UnknownIdError"]
    assert [n.task for n in told(then, "c2")] == ["b"]
    assert len(told(then)) == 1


def test_progress_is_told_to_owner_and_watchers(story: Story) -> None:
    story.engine()
    run = only(story.submit("t"))
    story.tell(e.WatchAsked("c2", ["t"]))
    story.beat(("e/0.1", run))

    step = story.tell(e.EngineBeat("e", [], [(run.token, Progress(1, 2, "half"))]))

    moved = [n.progress for c in (CLIENT, "c2") for n in step.news[c].moved]
    assert [p.message for p in moved if p] == ["half", "half"]


# --------------------------------------------------------------------------- retention


def test_ended_tasks_leave_when_they_are_old_enough(begin: Begin) -> None:
    story = begin(retention_s=60.0)
    story.engine()
    story.finish(only(story.submit("t", key="k")), blobs=("out",))
    story.later(59.0)
    assert "t" in story.state.tasks

    step = story.later(1.0)

    assert story.state.tasks == {}
    assert story.state.keys == {}
    assert step.garbage == ["out"]
    assert sum(story.state.counts.values()) == 0


def test_ended_tasks_are_kept_for_a_day_where_nobody_says_otherwise(begin: Begin) -> None:
    story = begin()
    story.submit("t")
    story.cancel("t")
    story.later(24 * 3_600.0 - 1)
    assert "t" in story.state.tasks

    story.later(1.0)

    assert "t" not in story.state.tasks


@pytest.mark.parametrize("options", [Limits(), StartOptions(), MasterConfig])
def test_where_nobody_says_otherwise_as_many_tasks_are_kept_as_is_promised(options: Any) -> None:
    if options is MasterConfig:
        options = MasterConfig(name="c", directory="", journal="", own_journal=True, engines=1)

    assert (options.retention_s, options.retention_tasks) == (24 * 3_600, 100_000)


def test_a_forgotten_key_is_free_for_another_call(begin: Begin) -> None:
    story = begin(retention_s=60.0)
    story.submit("t", key="k")
    story.cancel("t")
    story.later(60.0)

    assert refused(story.submit("u", key="k", payload=b"other")) == []


def test_open_tasks_never_leave(begin: Begin) -> None:
    story = begin(retention_s=60.0)
    story.submit("t")

    story.later(1_000.0)

    assert story.waiting() == ["t"]


@pytest.mark.parametrize("count", [600, 11, 1])
def test_of_too_many_ended_tasks_the_oldest_leave(begin: Begin, count: int) -> None:
    story = begin(retention_tasks=10)
    many = [f"t{i}" for i in range(count)]
    story.submit(*many)
    story.cancel(*many)

    assert list(story.state.tasks) == many[-10:]
    assert len(story.state.ended) == min(count, 10)


def test_of_ended_tasks_that_keep_too_many_bytes_the_oldest_leave(begin: Begin) -> None:
    story = begin(retention_bytes=10_000)
    story.engine()
    kept = []
    for n in range(40):
        story.finish(only(story.submit(f"t{n}")), payload=bytes(500), stdout=bytes(500))
        kept.append(story.state.ended_bytes)

    assert max(kept) == 10_000
    assert list(story.state.tasks) == [f"t{n}" for n in range(40 - len(story.state.tasks), 40)]
    assert len(story.state.tasks) >= 9
    step = story.tell(e.WatchAsked(CLIENT, ["t0"]))
    assert "retention" in str(step.news[CLIENT].refused)


def test_arguments_and_errors_of_what_failed_are_bytes_that_are_kept(begin: Begin) -> None:
    story = begin(retention_bytes=1_000)
    story.submit("a", payload=bytes(600))
    story.cancel("a")
    story.engine()
    run = only(story.submit("b"))
    error = ErrorInfo("ValueError", "no", "x" * 500)

    story.finish(run, verdict=Verdict.PERMANENT, error=error)

    assert list(story.state.tasks) == ["b"]
    assert story.state.ended_bytes >= 500


def test_the_bytes_of_ended_tasks_are_counted_again_after_a_restart(begin: Begin) -> None:
    story = begin(retention_bytes=1_000)
    story.engine()
    story.finish(only(story.submit("a")), payload=bytes(600))

    story.restart()
    story.engine()
    story.finish(only(story.submit("b")), payload=bytes(600))

    assert list(story.state.tasks) == ["b"]


def large(story: Story, name: str, **options: Any) -> Any:
    """Let a task end with a result in shared buffers."""
    story.engine()
    return story.finish(only(story.submit(name, **options)), blobs=(f"{name}-out",))


@pytest.mark.parametrize("options", [{}, {"key": "k"}])
def test_a_large_result_stays_while_a_client_is_to_read_it(
    begin: Begin, options: dict[str, Any]
) -> None:
    story = begin(retention_s=60.0)
    story.tell(e.ClientCame(CLIENT))
    large(story, "t", **options)

    step = story.later(100.0)
    assert story.state.tasks.keys() == {"t"}
    assert step.garbage == []

    step = story.tell(e.ReleaseAsked(CLIENT, ["t"]))
    step.garbage += story.later(1.0).garbage
    assert story.state.tasks == {}
    assert set(step.garbage) == {"t-out"}
    assert story.machine.memo.spared_bytes == 0


def test_what_was_spared_for_a_client_leaves_when_that_is_gone(begin: Begin) -> None:
    story = begin(retention_bytes=100)
    story.tell(e.ClientCame(CLIENT))
    story.engine()
    for name in ("t", "u"):
        story.finish(only(story.submit(name)), payload=bytes(60), blobs=(f"{name}-out",))
    story.later(1.0)
    assert story.state.tasks.keys() == {"t", "u"}

    assert story.tell(e.ClientGone(CLIENT)).garbage == ["t-out"]
    assert story.state.tasks.keys() == {"u"}


# --------------------------------------------------------------------------- timers


@pytest.mark.parametrize("options", [{"expires": 86_400.0}, {"timeout": 86_400.0}])
def test_the_times_of_tasks_that_have_ended_are_not_kept_until_they_come(
    story: Story, options: dict[str, Any]
) -> None:
    story.engine()
    for first in range(0, 12_000, 1_000):
        names = [f"t{n}" for n in range(first, first + 1_000)]
        story.submit(*names, **options)
        for name in names if "timeout" in options else ():
            started(story.machine.memo, story.task(name), story.now)
        story.cancel(*names)
    open_one = story.submit("open", **options)

    assert len(story.machine.memo.timers) < 5_000
    assert open_one.records
    if "expires" in options:
        assert told(story.later(86_400.0))[-1].task == "open"


# --------------------------------------------------------------------------- definitions


def big(story: Story, name: str, **more: Any) -> e.Step:
    """Submit a task whose function has captured much."""
    told = submission(name, fn=f"fn-{name}", **more)
    told.definitions[0].blob = bytes(timing.SWEEP_BYTES)
    return story.handle(e.Batch(submissions=[told]))


def held(story: Story) -> set[str]:
    return {known.hash for known in story.state.definitions.values() if known.blob}


def test_of_a_function_that_ran_the_name_alone_stays(story: Story) -> None:
    story.engine()
    story.finish(only(big(story, "a")))
    story.finish(only(big(story, "b")))
    story.later(60.0)
    assert held(story) == {"fn-a", "fn-b"}  # the client may count on them

    story.later(400.0)

    assert held(story) == set()
    assert views.name_of(story.state, story.task("a")) == "module.fn-a"
    story.check_replay()
    story.restart()
    assert views.name_of(story.state, story.task("a")) == "module.fn-a"


def test_a_function_whose_name_alone_is_known_can_be_submitted_again(story: Story) -> None:
    story.engine()
    story.finish(only(big(story, "a")))
    story.finish(only(big(story, "b")))
    story.later(460.0)

    run = only(story.submit("c", fn="fn-a"))

    assert story.state.definitions[run.fn].blob == b"code"


def test_a_setup_brings_a_function_back_whose_name_alone_is_known(story: Story) -> None:
    story.engine()
    story.finish(only(big(story, "a")))
    story.finish(only(big(story, "b")))
    story.later(460.0)

    story.tell(e.SetupAsked(Definition("fn-a", "module.fn-a", b"code"), b"", ()))

    assert held(story) == {"fn-a"}


def test_functions_are_swept_though_nothing_happens_any_more(story: Story) -> None:
    story.engine()
    story.finish(only(big(story, "a")))
    story.finish(only(big(story, "b")))
    story.tell(e.EngineDied("e", "gone", {}))

    while held(story):
        due = story.machine.due(story.now)
        assert due is not None
        story.now = due
        story.tell()

    assert story.now < START + 600.0


def test_functions_that_may_run_again_stay(story: Story) -> None:
    big(story, "open", group="nobody")
    big(story, "cancelled", group="nobody")
    story.cancel("cancelled")
    story.engine()
    story.fail(only(big(story, "failed")))
    setup = Definition("setup", "setup", bytes(timing.SWEEP_BYTES))
    story.tell(e.SetupAsked(setup, b"", ()))

    story.later(2_000.0)

    assert held(story) == {"fn-open", "fn-cancelled", "fn-failed", "setup"}


def test_functions_of_forgotten_tasks_leave_without_a_trace(begin: Begin) -> None:
    story = begin(retention_s=60.0)
    story.engine()
    story.finish(only(big(story, "a")))
    story.finish(only(big(story, "b")))

    story.later(460.0)

    assert story.state.definitions == {}
    assert story.state.templates == {}
    story.check_replay()


def test_what_a_master_finds_in_the_journal_is_swept_too(story: Story) -> None:
    story.engine()
    story.finish(only(big(story, "a")))
    story.finish(only(big(story, "b")))
    story.restart()
    story.later(60.0)
    assert held(story) == {"fn-a", "fn-b"}  # who was away may count on them

    story.later(400.0)

    assert held(story) == set()


def test_a_task_whose_function_is_not_there_is_to_be_sent_again_with_it(story: Story) -> None:
    late = submission("t", blobs=("argument",))
    late.definitions.clear()

    step = story.handle(e.Batch(submissions=[late]))

    assert step.news[CLIENT].undefined == ["t"]
    assert "t" not in story.state.tasks
    assert step.garbage == []  # its arguments come again


def test_a_task_whose_exceptions_to_retry_on_are_not_there_is_the_same(story: Story) -> None:
    late = submission("t", retry_on="classes")

    assert story.handle(e.Batch(submissions=[late])).news[CLIENT].undefined == ["t"]


def test_released_buffers_of_results_are_garbage(story: Story) -> None:
    story.engine()
    story.finish(only(story.submit("t")), blobs=("out",))

    assert story.tell(e.ReleaseAsked(CLIENT, ["t", "nobody"])).garbage == ["out"]


def with_shared_result(story: Story, *clients: str, key: str = "") -> None:
    """Have task t end with a shared buffer, of which the submitter and all clients are told."""
    story.tell(*(e.ClientCame(client) for client in (CLIENT, *clients)))
    story.engine()
    story.finish(only(story.submit("t", key=key)), blobs=("out",))
    story.tell(*(e.WatchAsked(client, ["t"]) for client in clients))


def test_shared_buffers_stay_as_long_as_one_client_holds_them(story: Story) -> None:
    with_shared_result(story, "c2")

    assert story.tell(e.ReleaseAsked(CLIENT, ["t"])).garbage == []
    assert story.tell(e.ReleaseAsked(CLIENT, ["t"])).garbage == []
    assert story.tell(e.ReleaseAsked("c2", ["t"])).garbage == ["out"]
    assert (story.machine.memo.holders, story.machine.memo.released) == ({}, set())


def test_who_waited_for_anothers_task_holds_its_buffers_too(story: Story) -> None:
    story.tell(e.ClientCame(CLIENT), e.ClientCame("c2"))
    story.engine()
    run = only(story.submit("t"))
    story.tell(e.WatchAsked("c2", ["t"]))
    story.finish(run, blobs=("out",))

    assert story.tell(e.ReleaseAsked("c2", ["t"])).garbage == []
    assert story.tell(e.ReleaseAsked(CLIENT, ["t"])).garbage == ["out"]


def test_who_asks_in_the_turn_of_a_release_holds_the_buffers(story: Story) -> None:
    with_shared_result(story)

    step = story.tell(e.ClientCame("c2"), e.WatchAsked("c2", ["t"]), e.ReleaseAsked(CLIENT, ["t"]))

    assert step.garbage == []
    assert [n.blobs for n in told(step, "c2")] == [("out",)]


def test_a_client_that_is_gone_holds_nothing(story: Story) -> None:
    with_shared_result(story, "c2")
    story.tell(e.ReleaseAsked(CLIENT, ["t"]))

    assert story.tell(e.ClientGone("c2")).garbage == ["out"]


def test_a_client_that_went_before_the_end_holds_nothing(story: Story) -> None:
    story.tell(e.ClientCame(CLIENT), e.ClientCame("c2"), e.ClientGone(CLIENT))
    story.engine()
    story.finish(only(story.submit("t")), blobs=("out",))
    story.tell(e.WatchAsked("c2", ["t"]))

    assert story.tell(e.ReleaseAsked("c2", ["t"])).garbage == ["out"]


def test_what_nobody_let_go_of_outlives_its_client(story: Story) -> None:
    with_shared_result(story)

    assert story.tell(e.ClientGone(CLIENT)).garbage == []


def test_the_shared_result_of_a_key_stays_as_long_as_its_task(begin: Begin) -> None:
    story = begin(retention_s=60.0)
    with_shared_result(story, key="k")

    assert story.tell(e.ReleaseAsked(CLIENT, ["t"])).garbage == []
    assert story.later(60.0).garbage == ["out"]
    assert story.machine.memo.holders == {}


def test_a_task_that_is_forgotten_in_the_turn_of_its_end_is_held_by_nobody(begin: Begin) -> None:
    story = begin(retention_s=0.0)
    with_shared_result(story)

    assert story.state.tasks == {}
    assert story.machine.memo.holders == {}
    story.tell(e.ClientGone(CLIENT))


def test_cancelled_tasks_are_swept_from_a_long_queue(story: Story) -> None:
    many = [f"t{i}" for i in range(3_000)]
    story.submit(*many)

    story.cancel(*many[:2_000])

    lane = story.state.queues["default"]._lanes[0]
    assert len(lane) < 2_000
    assert len(story.state.queues["default"]) == 1_000
    assert names(story.engine().runs["e/0.1"])[0] == "t2000"
