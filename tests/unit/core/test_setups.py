"""Setups that replace earlier ones, and such as fail; how many engines a group is to have."""

from __future__ import annotations

import pytest

from nbcluster.calls import INITIALIZER, PATH
from nbcluster.core import events as e
from nbcluster.core.model import Definition
from nbcluster.core.views import reason_of
from tests.unit.core.story import Story, only, told

NAMELESS = Definition("call", "call", b"code")


def push(story: Story, *names: str, blob: str = "") -> e.SetupAsked:
    asked = e.SetupAsked(
        Definition("push", "push", b"code"), b"", (blob,) if blob else (), names=names
    )
    story.tell(asked)
    return asked


def initialize(story: Story, args: bytes) -> e.SetupAsked:
    asked = e.SetupAsked(Definition("init", "init", b"code"), args, names=INITIALIZER)
    story.tell(asked)
    return asked


def bound(story: Story) -> list[tuple[str, ...]]:
    return [setup.names for setup in story.state.setups]


def test_a_name_that_is_pushed_again_and_again_is_one_setup(story: Story) -> None:
    for _ in range(5):
        push(story, "x")

    assert bound(story) == [("x",)]
    assert story.state.setups[0].version == 5


def test_a_push_of_several_names_stays_while_one_of_them_is_not_bound_later(story: Story) -> None:
    push(story, "x", "y")
    push(story, "x")
    assert bound(story) == [("x", "y"), ("x",)]

    push(story, "y")

    assert bound(story) == [("x",), ("y",)]


def test_a_call_that_binds_no_names_is_replaced_by_the_same_call_only(story: Story) -> None:
    for args in (b"1", b"2", b"1"):
        story.tell(e.SetupAsked(NAMELESS, args))

    assert [setup.payload for setup in story.state.setups] == [b"2", b"1"]


def test_an_executor_that_has_made_the_replaced_call_makes_the_new_one(story: Story) -> None:
    story.engine()
    push(story, "x")
    story.tell(e.SetupAnswered("e/0.1", 1, ""))

    push(story, "x")

    assert story.submit("t").runs == {}
    assert only(story.tell(e.SetupAnswered("e/0.1", 2, ""))).task == "t"


def test_buffers_of_a_replaced_setup_stay_until_no_executor_may_be_reading_them(
    story: Story,
) -> None:
    story.engine(executors=2)
    push(story, "x", blob="old")
    push(story, "x", blob="new")

    first = story.tell(e.SetupAnswered("e/0.1", 2, ""))
    second = story.tell(e.SetupAnswered("e/1.1", 2, ""))

    assert (first.garbage, second.garbage) == ([], ["old"])


def test_another_initializer_replaces_that_of_an_earlier_start(story: Story) -> None:
    initialize(story, b"broken")
    push(story, "x")

    initialize(story, b"mended")

    assert [setup.payload for setup in story.state.setups] == [b"", b"mended"]


def test_the_same_initializer_of_a_later_start_is_not_called_twice(story: Story) -> None:
    initialize(story, b"args")
    push(story, "x")

    again = initialize(story, b"args")

    assert again.version == 1
    assert bound(story) == [INITIALIZER, ("x",)]


# --------------------------------------------------------------------------- failures


def fail_setup(story: Story, executor: str, version: int = 1) -> e.Step:
    step = story.tell(e.SetupAnswered(executor, version, "ValueError: boom\nTraceback"))
    story.die(executor)
    return step


def test_an_initializer_that_fails_at_its_first_call_fails_all_tasks_at_once(story: Story) -> None:
    initialize(story, b"")
    story.engine()
    story.submit("t")

    (end,) = told(fail_setup(story, "e/0.1"))

    assert end.code == "InitializerError"
    assert "boom\nTraceback" in str(end.args[0])


def test_an_initializer_that_worked_before_may_fail_now_and_then(story: Story) -> None:
    initialize(story, b"")
    story.engine()
    story.tell(e.SetupAnswered("e/0.1", 1, ""))
    story.submit("t")
    story.die("e/0.1")
    for incarnation in (2, 3):
        executor = f"e/0.{incarnation}"
        story.tell(e.ExecutorCame(executor, 7, ()))
        assert told(fail_setup(story, executor)) == []

    story.tell(e.ExecutorCame("e/0.4", 7, ()))

    assert only(story.tell(e.SetupAnswered("e/0.4", 1, ""))).task == "t"


def test_an_initializer_that_worked_before_and_fails_again_and_again_is_broken(
    story: Story,
) -> None:
    initialize(story, b"")
    story.engine()
    story.tell(e.SetupAnswered("e/0.1", 1, ""))
    story.submit("t")
    story.die("e/0.1")
    ends = []
    for incarnation in (2, 3, 4):
        executor = f"e/0.{incarnation}"
        story.tell(e.ExecutorCame(executor, 7, ()))
        ends += told(fail_setup(story, executor))

    assert [end.code for end in ends] == ["InitializerError"]


# --------------------------------------------------------------------------- groups


@pytest.mark.parametrize("engines", [0, 3])
def test_how_many_engines_a_group_is_to_have_is_known_after_a_restart(
    story: Story, engines: int
) -> None:
    story.tell(e.ScaleAsked("gpu", 7, 1))
    story.tell(e.ScaleAsked("gpu", engines, 2))

    story.restart()

    wanted = story.state.groups["gpu"]
    assert (wanted.engines, wanted.slots) == (engines, 2)


def test_a_push_that_fails_is_on_record_for_who_asks_and_breaks_nothing(story: Story) -> None:
    story.engine()
    push(story, "model")
    story.submit("t")

    step = story.tell(e.SetupAnswered("e/0.1", 1, "", [(1, "ImportError: no model")]))

    assert only(step).task == "t"
    assert story.machine.memo.failed_setups == {1: "ImportError: no model"}
    push(story, "model")
    assert story.machine.memo.failed_setups == {}


def test_a_directory_that_is_known_already_keeps_its_place_before_what_needs_it() -> None:
    story = Story()

    def add(path: str) -> int:
        names = (*PATH, path)
        asked = e.SetupAsked(Definition("path", "path", b"code"), path.encode(), names=names)
        story.tell(asked)
        return asked.version

    first = add("/a")
    push(story, "x")
    assert add("/a") == first
    add("/b")

    assert bound(story) == [(*PATH, "/a"), ("x",), (*PATH, "/b")]


def test_a_task_waits_for_an_initializer_that_runs_and_says_so(story: Story) -> None:
    initialize(story, b"a")
    story.engine()
    story.submit("t")

    why = reason_of(story.state, story.machine.memo, story.task("t"))

    assert why == "the executors of group 'default' are running the initializer"
