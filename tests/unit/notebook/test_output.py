"""What tasks print and show, between their futures and the cell. No process."""

from __future__ import annotations

from typing import Any

import pytest

from nbcluster.client.future import Future
from nbcluster.core.model import Ended, Moved, State
from nbcluster.engine.capture import HEAD_BYTES, TAIL_BYTES
from nbcluster.notebook import output
from nbcluster.notebook.areas import TAIL, Area
from nbcluster.notebook.output import Prefixed, Tap, thinned
from nbcluster.wire.shown import SHOWN_STREAM, Shown, encode

OUT, ERR = 1, 2


class Task:
    """A future, and what its engine tells of it."""

    def __init__(self, name: str = "t-1") -> None:
        self.future: Future[Any] = Future(None, name)
        self._written = {OUT: b"", ERR: b""}
        self._count = 0
        self.run(1)

    def run(self, attempt: int) -> None:
        moved = Moved(self.future.id, State.RUNNING, "", attempt, 0, 0, "e1")
        self.future._on_moved(moved)

    def write(self, text: str | bytes, stream: int = OUT) -> None:
        raw = text.encode() if isinstance(text, str) else text
        self.future._on_output(stream, len(self._written[stream]), raw)
        self._written[stream] += raw

    def show(self, **kwargs: Any) -> None:
        piece = Shown(len(self._written[OUT]), **kwargs)
        self.future._on_output(SHOWN_STREAM, self._count, encode(piece))
        self._count += 1

    def end(self, stdout: bytes | None = None) -> None:
        ended = Ended(self.future.id, State.SUCCEEDED, "", 1, 0, 0, "e1", 1.0, 1.0, 2.0, b"")
        ended.stdout = self._written[OUT] if stdout is None else stdout
        ended.stderr = self._written[ERR]
        self.future._on_ended(ended)


def test_what_is_printed_is_taken_once_and_in_order() -> None:
    task = Task()
    tap = Tap(task.future)

    task.write("one\n")
    assert tap.take() == [(OUT, "one\n")]
    assert tap.take() == []
    task.write("two\n")
    task.show(data={"text/plain": "shown"})
    task.write("three\n")
    task.write("err\n", ERR)
    task.end()

    first, shown, third, err = tap.take()
    assert (first, third, err) == ((OUT, "two\n"), (OUT, "three\n"), (ERR, "err\n"))
    assert isinstance(shown, Shown)
    assert tap.take() == []


def test_a_character_that_comes_in_two_halves_is_whole() -> None:
    task = Task()
    tap = Tap(task.future)

    task.write("é".encode()[:1])
    assert tap.take() == []
    task.write("é".encode()[1:])

    assert tap.take() == [(OUT, "é")]


def test_the_next_attempt_begins_anew() -> None:
    task = Task()
    tap = Tap(task.future)
    task.write("first\n")
    tap.take()

    task.run(2)
    task._written = {OUT: b"", ERR: b""}
    task.write("second\n")

    assert tap.take() == [(ERR, "--- attempt 2\n"), (OUT, "second\n")]


def test_more_than_the_limit_is_counted_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "LIMIT", 10)
    task = Task()
    tap = Tap(task.future)

    task.write("1234567\n" * 4)
    task.end()

    assert tap.take() == [
        (OUT, "1234567\n12"),
        (ERR, "\n--- 3 lines suppressed: see fut.stdout\n"),
    ]


def test_the_end_of_a_long_output_is_shown_though_its_middle_was_not_kept() -> None:
    task = Task()
    tap = Tap(task.future)
    task.write(b"h" * (HEAD_BYTES + 50_000))
    tap.take()

    task.end(b"h" * HEAD_BYTES + b" left out " + b"t" * TAIL_BYTES)

    assert tap.take() == [(OUT, " left out " + "t" * TAIL_BYTES)]


def test_endless_shows_are_capped() -> None:
    task = Task()
    tap = Tap(task.future)
    for i in range(output.LIMIT_SHOWN + 7):
        task.show(data={"text/plain": str(i)})
    task.end()

    pieces = tap.take()

    assert len(pieces) == output.LIMIT_SHOWN + 1
    assert pieces[-1] == (ERR, "\n--- shown things suppressed: 7\n")


def test_only_the_last_update_of_a_place_and_what_follows_the_last_clear_count() -> None:
    old = Shown(0, {}, display_id="a", update=True)
    new = Shown(0, {}, display_id="a", update=True)
    other = Shown(0, {}, display_id="b", update=True)
    clear = Shown(0, {}, clear=True)

    assert thinned([(OUT, "x"), old, other, new]) == [(OUT, "x"), other, new]
    task = Task()
    for number in (1, 2):
        task.show(data={"text/plain": str(number)}, display_id="a", update=True)
    (taken,) = Tap(task.future).take()
    assert isinstance(taken, Shown)
    assert taken.data == {"text/plain": "2"}
    assert thinned([(OUT, "x"), old, clear, (OUT, "y")]) == [clear, (OUT, "y")]


def test_lines_of_several_tasks_are_prefixed_and_whole() -> None:
    task = Task()
    source = Prefixed(Tap(task.future), lambda: "e1")

    task.write("one\ntw")
    assert source.take() == [(OUT, "[e1] one\n")]
    task.write("o\nthree")
    assert source.take() == [(OUT, "[e1] two\n")]
    task.end()

    assert source.take() == [(OUT, "[e1] three\n")]


# --------------------------------------------------------------------------- areas


class Shell:
    """A shell that remembers what was published last."""

    def __init__(self) -> None:
        self.display_pub = self
        self.data: dict[str, str] = {}
        self.count = 0

    def publish(self, data: dict[str, str], **_: Any) -> None:
        self.data = data
        self.count += 1


def test_an_area_shows_all_in_its_order_and_is_still_once_it_is_done() -> None:
    shell, task = Shell(), Task()
    area = Area(shell, [task.future])
    task.write("<one>\n")
    task.show(data={"text/html": "<b>two</b>", "text/plain": "two"}, display_id="x")
    task.show(data={"image/png": b"png"})
    task.show(
        data={"text/html": "<b>three</b>", "text/plain": "three"}, display_id="x", update=True
    )
    task.end()

    assert area.refresh() is False
    assert shell.data["text/plain"] == "<one>\nthree\n\n"
    assert "&lt;one&gt;" in shell.data["text/html"]
    assert "<b>three</b><img src='data:image/png;base64,cG5n'>" in shell.data["text/html"]
    assert task.future._watchers == ()


def test_an_area_keeps_the_end_of_much_text_and_draws_bars_once() -> None:
    shell, task = Shell(), Task()
    area = Area(shell, [task.future])
    task.write("1%\r50%\r100%\n")
    area.refresh()
    assert shell.data["text/plain"] == "100%\n"
    area._not_before = 0
    task.write("line\n" * TAIL)
    task.end()
    area.refresh()

    assert len(shell.data["text/plain"]) <= TAIL
    assert shell.data["text/plain"].startswith("line\n")


def test_an_area_that_has_sent_much_waits_before_it_sends_again() -> None:
    shell, task = Shell(), Task()
    area = Area(shell, [task.future])
    task.write("line\n" * TAIL)
    area.refresh()
    task.write("more\n")

    assert area.refresh() is True
    assert shell.count == 1
