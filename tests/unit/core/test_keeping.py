"""Who is told what, and how long ended tasks are kept."""

from __future__ import annotations

from collections.abc import Callable

from nbcluster.core import events as e
from nbcluster.core.model import Progress
from tests.unit.core.story import CLIENT, Story, names, only, refused, told

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


def test_of_too_many_ended_tasks_the_oldest_leave(begin: Begin) -> None:
    story = begin(retention_tasks=10)
    many = [f"t{i}" for i in range(600)]
    story.submit(*many)
    story.cancel(*many)

    assert list(story.state.tasks) == many[-10:]
    assert len(story.state.ended) == 10


def test_released_buffers_of_results_are_garbage(story: Story) -> None:
    story.engine()
    story.finish(only(story.submit("t")), blobs=("out",))

    assert story.tell(e.ReleaseAsked(["t", "nobody"])).garbage == ["out"]


def test_cancelled_tasks_are_swept_from_a_long_queue(story: Story) -> None:
    many = [f"t{i}" for i in range(3_000)]
    story.submit(*many)

    story.cancel(*many[:2_000])

    lane = story.state.queues["default"]._lanes[0]
    assert len(lane) < 2_000
    assert len(story.state.queues["default"]) == 1_000
    assert names(story.engine().runs["e/0.1"])[0] == "t2000"
