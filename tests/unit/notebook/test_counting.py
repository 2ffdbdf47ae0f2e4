"""What a progress bar counts, and how it says it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nbcluster import Future
from nbcluster.client.mapping import Chunks, MapIterator
from nbcluster.core.model import Ended, Moved, Progress, State
from nbcluster.errors import BusyError, OptionError, OptionTypeError
from nbcluster.notebook.counting import Part, Reading, Tally, sort_out
from nbcluster.notebook.progress import html_of, line_of, progress, text_of


def futures(count: int) -> list[Future[Any]]:
    return [Future(None, f"t-{n}", f"work-{n}") for n in range(count)]


def end(future: Future[Any], state: State = State.SUCCEEDED) -> None:
    future._on_ended(Ended(future.id, state, "", 1, 0, 0, "e", 1.0, 2.0, 3.0, b""))


def run(future: Future[Any], told: Progress | None = None) -> None:
    future._on_moved(Moved(future.id, State.RUNNING, "", 1, 0, 0, "e", progress=told))


class Sent:
    """Takes the chunks of a map."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def __call__(self, *_: Any) -> Future[Any]:
        self.futures += futures(1)
        return self.futures[-1]


def mapped(items: Any, chunksize: int = 3) -> tuple[MapIterator, list[Future[Any]]]:
    """Return a map of one slot, four chunks ahead, and the futures of its chunks."""
    sent = Sent()
    return MapIterator(Chunks(sent, str, (items,), 1, chunksize)), sent.futures


def reading(**changes: Any) -> Reading:
    known: dict[str, Any] = {"done": 45, "total": 100, "failed": 0, "cancelled": 0, "running": 0}
    known |= {"parts": (), "elapsed_s": 3.0, "rate": 15.0, "is_over": False}
    return Reading(**(known | changes))


# --------------------------------------------------------------------------- counting


def test_futures_are_counted_by_how_they_ended() -> None:
    some = futures(5)
    tally = Tally(list(some), [])
    for future, state in zip(some, (State.SUCCEEDED, State.FAILED, State.CANCELLED), strict=False):
        end(future, state)
    run(some[3])

    now = tally.read()

    assert (now.done, now.total, now.failed, now.cancelled, now.running) == (3, 5, 1, 1, 1)
    assert not now.is_over


def test_it_is_over_when_all_have_ended() -> None:
    some = futures(2)
    tally = Tally(list(some), [])
    for future in some:
        assert not tally.read().is_over
        end(future)

    assert tally.read().is_over


def test_what_was_done_before_says_nothing_about_the_rate() -> None:
    some = futures(3)
    end(some[0])
    tally = Tally(list(some), [])
    before = tally.read().rate
    end(some[1])

    assert before == 0
    assert tally.read().rate > 0


def test_running_tasks_that_tell_more_are_parts_the_first_five() -> None:
    some = futures(9)
    for n, future in enumerate(some[1:]):
        run(future, Progress(n, 10, f"step {n}"))
    run(some[0])

    now = Tally(list(some), []).read()

    assert now.running == 9
    assert [part.name for part in now.parts] == [f"work-{n}" for n in range(1, 6)]
    assert now.parts[1] == Part("work-2", 0.1, "step 1")


def test_a_map_is_counted_in_items_and_not_in_tasks() -> None:
    iterator, chunks = mapped(range(20))
    tally = Tally([], [iterator])
    for chunk in chunks[:2]:
        end(chunk)

    now = tally.read()

    assert (now.done, now.total, now.is_over) == (6, 20, False)


def test_a_map_of_unknown_length_has_no_total_until_its_items_are_exhausted() -> None:
    endless, _ = mapped(iter(range(100)))
    short, _ = mapped(iter(range(7)))

    assert Tally([], [endless]).read().total == math.inf
    assert Tally([], [endless]).read().share is None
    assert Tally([], [short]).read().total == 7


def test_a_map_is_not_kept_and_one_that_is_dropped_is_over() -> None:
    iterator, _ = mapped(range(20))
    tally = Tally([], [iterator])
    iterator.close()
    closed = tally.read()
    other, _ = mapped(range(20))
    tally = Tally([], [other])
    del other

    assert closed.is_over
    assert tally.read().is_over


def test_what_was_refused_and_is_not_sent_again_is_over() -> None:
    sent = Sent()
    iterator = MapIterator(Chunks(sent, str, (range(6),), 1, 3, eager=True), is_kept=True)
    tally = Tally([], [iterator])
    end(sent.futures[0])
    half = tally.read()
    sent.futures[1]._on_refused(BusyError(4, 1.0))

    assert (half.done, half.is_over) == (3, False)
    assert tally.read().is_over


def test_a_length_that_cannot_be_told_is_not_known() -> None:
    class Odd(list[int]):
        def __len__(self) -> int:
            raise ValueError("who knows")

    iterator, _ = mapped(Odd(range(100)))

    assert Tally([], [iterator]).read().share is None


@pytest.mark.parametrize("shape", [list, set, iter, lambda fs: {f.id: f for f in fs}])
def test_futures_come_in_collections_of_any_kind_and_count_once(shape: Any) -> None:
    some = futures(3)

    found, maps = sort_out((some[0], shape(some), [some]))

    assert {*found} == {*some}
    assert len(found) == 3
    assert maps == []


@pytest.mark.parametrize("wrong", [3, "t-1", None, [3], object()])
def test_what_cannot_be_counted_is_refused(wrong: Any) -> None:
    with pytest.raises(OptionTypeError, match=r"progress\(\) takes futures"):
        progress(wrong)


def test_to_wait_for_a_map_that_nobody_reads_is_refused() -> None:
    iterator, _ = mapped(range(20))

    with pytest.raises(OptionError, match="while its values are taken"):
        progress(iterator, wait=True)


# --------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "45 of 100 items in 3.0 s, 15/s, 3.7 s left"),
        ({"running": 4, "failed": 1}, "45 of 100 items in 3.0 s, 4 running, 1 failed, 15/s, 3.7 s"),
        ({"total": math.inf}, "45 of ? items in 3.0 s, 15/s"),
        ({"rate": 0.0}, "45 of 100 items in 3.0 s"),
        ({"done": 100, "is_over": True}, "100 items in 3.0 s, 15/s"),
        ({"done": 12_345, "is_over": True}, "12,345 of 100 items in 3.0 s"),
        ({"is_over": True, "elapsed_s": 3723}, "45 of 100 items in 1:02:03 h, 15/s"),
        ({"is_over": True, "elapsed_s": 62}, "45 of 100 items in 1:02 min, 15/s"),
    ],
)
def test_a_reading_is_a_sentence(changes: dict[str, Any], text: str) -> None:
    assert text_of(reading(**changes)).startswith(text)


def test_a_line_for_a_terminal_is_ascii_and_shows_one_part() -> None:
    parts = (Part("a\nb", 0.5, "epoch 3"), Part("c", None, ""))

    line = line_of(reading(parts=parts))

    assert line.isascii()
    assert line.isprintable()
    assert line.startswith("[#########...........]  45% 45 of 100")
    assert line.endswith("| 'a\\nb' 50% epoch 3")


def test_the_page_of_a_reading_can_be_read_by_a_program_and_is_safe() -> None:
    html = html_of(reading(parts=(Part("<b>", 0.5, "<i>"),), failed=2))

    assert 'data-done="45" data-failed="2" data-total="100" data-over="false"' in html
    assert "&lt;b&gt;" in html
    assert "<i>" not in html
    assert html.count('role="progressbar"') == 2
