"""What a live view is told: all at first, then what has changed, each task once."""

from __future__ import annotations

import msgspec
import pytest

from nbcluster.client.feed import STATES, Changes
from nbcluster.core import events as e
from nbcluster.core.model import State
from nbcluster.master import feeds as module
from nbcluster.master.feeds import Feeds
from tests.unit.core.story import Story


@pytest.fixture
def story() -> Story:
    return Story()


class View:
    """One live view of a story."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.feeds = Feeds()

    def read(self, name: str = "v", *, fresh: bool = False) -> Changes:
        answer = self.feeds.answer(name, self.story.state, self.story.now, fresh=fresh)
        return msgspec.convert(answer, Changes)

    def note(self, step: e.Step) -> e.Step:
        self.feeds.note(step.records, self.story.now)
        return step


def test_the_numbers_of_states_are_those_of_the_client() -> None:
    assert tuple(str(state) for state in State) == STATES


def test_a_view_is_told_all_at_first_and_then_what_has_changed(story: Story) -> None:
    view = View(story)
    story.submit("a", "b")

    first = view.read()
    nothing = view.read()
    view.note(story.cancel("b"))
    second = view.read()

    assert (first.reset, first.ids, list(first.states)) == (True, ["a", "b"], [0, 0])
    assert (nothing.reset, nothing.ids) == (False, [])
    assert (second.ids, STATES[second.states[0]]) == (["b"], "cancelled")
    assert second.counts["cancelled"] == 1


def test_each_view_is_told_for_itself(story: Story) -> None:
    view = View(story)
    view.read("one")
    view.read("other")

    view.note(story.submit("a"))

    assert view.read("one").ids == view.read("other").ids == ["a"]


def test_a_page_is_bounded_and_says_that_there_is_more(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    view = View(story)
    story.submit("a", "b", "c")

    first, second = view.read(), view.read()

    assert (first.ids, first.more) == (["a", "b"], True)
    assert (second.ids, second.more) == (["c"], False)


def test_a_view_whose_answer_was_lost_begins_anew(story: Story) -> None:
    view = View(story)
    story.submit("a")
    view.read()

    again = view.read(fresh=True)

    assert (again.reset, again.ids) == (True, ["a"])


def test_a_task_that_was_forgotten_is_told_as_gone() -> None:
    story = Story(retention_s=10.0)
    view = View(story)
    story.submit("a")
    view.read()

    view.note(story.cancel("a"))
    view.note(story.later(20))

    assert view.read().gone == ["a"]


def test_a_view_that_asks_no_more_is_forgotten(story: Story) -> None:
    view = View(story)
    view.read()
    story.sleep(61)
    view.note(story.submit("a"))
    story.submit("b")

    late = view.read()

    assert (late.reset, late.ids) == (True, ["a", "b"])


def test_columns_hold_the_numbers_of_a_task_that_has_failed(story: Story) -> None:
    view = View(story)
    story.engine()
    (run,) = next(iter(story.submit("a").runs.values()))
    story.fail(run, retryable=False)

    told = view.read()

    assert (told.engines, told.errors) == (["e"], ["ValueError: no"])
    assert STATES[told.states[0]] == "failed"
    assert memoryview(told.attempts).cast("I")[0] == 1
    assert memoryview(told.finished).cast("d")[0] == story.now
    assert [worker[0] for worker in told.workers] == ["e"]
