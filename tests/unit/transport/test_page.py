"""The page that executor and supervisor share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcluster.transport.page import (
    BEGUN,
    CURRENT,
    MESSAGE_BYTES,
    PROGRESS_SEQ,
    SKIPPED_AFTER,
    SKIPPED_UPTO,
    STARTED_AT,
    WATERMARK,
    Page,
    page_name,
)

Sides = tuple[Page, Page]


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[Sides]:
    """Return the executor's and the supervisor's view of one page."""
    supervisor = Page(tmp_path / "p.page", create=True)
    executor = Page(tmp_path / "p.page")
    yield executor, supervisor
    executor.close()
    supervisor.close()


def test_what_one_side_writes_the_other_reads(sides: Sides) -> None:
    executor, supervisor = sides

    executor.reals[STARTED_AT] = 12.5
    executor.words[CURRENT] = 2**63 + 7

    assert supervisor.running() == (2**63 + 7, 12.5)


def test_the_last_words_can_be_read_when_both_are_gone(tmp_path: Path, sides: Sides) -> None:
    executor, _ = sides
    executor.reals[STARTED_AT] = 12.5
    executor.words[CURRENT] = 9

    assert Page.read_current(tmp_path / "p.page") == (9, 12.5)


def test_what_is_no_page_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x")

    with pytest.raises(ValueError, match="mmap"):
        Page.read_current(tmp_path / "short")
    with pytest.raises(FileNotFoundError):
        Page.read_current(tmp_path / "none")


def test_a_page_is_never_made_over_another(tmp_path: Path, sides: Sides) -> None:
    with pytest.raises(FileExistsError):
        Page(tmp_path / "p.page", create=True)


def begin(executor: Page, token: int) -> None:
    executor.words[CURRENT] = executor.words[BEGUN] = token


def skip(executor: Page, token: int) -> None:
    executor.words[CURRENT] = token
    executor.words[SKIPPED_AFTER] = executor.words[BEGUN]
    executor.words[SKIPPED_UPTO] = token
    executor.words[CURRENT] = 0


def test_a_watermark_never_falls(sides: Sides) -> None:
    executor, supervisor = sides

    assert supervisor.revoke(8) == 0
    assert supervisor.revoke(5) == 8

    assert executor.words[WATERMARK] == 8
    assert supervisor.begun(5, 8) == 5  # nothing is left to tell of


def test_what_has_begun_counts_after_its_end(sides: Sides) -> None:
    executor, supervisor = sides
    begin(executor, 4)
    executor.words[CURRENT] = 0

    assert supervisor.begun(8, supervisor.revoke(8)) == 4


def test_no_answer_is_given_while_the_executor_decides(sides: Sides) -> None:
    executor, supervisor = sides
    executor.words[CURRENT] = 6
    before = supervisor.revoke(8)

    assert supervisor.begun(8, before) is None
    begin(executor, 6)
    assert supervisor.begun(8, before) == 6


def test_a_skipped_attempt_has_not_begun(sides: Sides) -> None:
    executor, supervisor = sides
    begin(executor, 5)
    before = supervisor.revoke(8)

    skip(executor, 6)

    assert supervisor.begun(8, before) == 5


def test_an_executor_that_is_already_past_the_watermark_left_out_what_it_skipped(
    sides: Sides,
) -> None:
    executor, supervisor = sides
    begin(executor, 5)
    before = supervisor.revoke(8)

    skip(executor, 6)
    skip(executor, 7)
    begin(executor, 9)

    assert supervisor.begun(8, before) == 5


def test_what_an_earlier_watermark_stopped_is_not_told_again(sides: Sides) -> None:
    executor, supervisor = sides
    begin(executor, 2)
    supervisor.revoke(4)
    skip(executor, 3)
    begin(executor, 5)
    before = supervisor.revoke(8)

    begin(executor, 7)
    begin(executor, 9)  # it had passed 7 before it could see the watermark

    assert supervisor.begun(8, before) == 8


def test_progress_is_read_once(sides: Sides) -> None:
    executor, supervisor = sides
    executor.words[CURRENT] = 3
    executor.report(3, 1.0, 4.0, "häll")

    found = supervisor.progress(0)

    assert found is not None
    assert found[1:] == (3, 1.0, 4.0, "häll")
    assert supervisor.progress(found[0]) is None


def test_progress_of_another_attempt_is_ignored(sides: Sides) -> None:
    executor, supervisor = sides
    executor.words[CURRENT] = 3

    executor.report(2, 1.0, 4.0, "")

    assert supervisor.progress(0) is None


def test_progress_is_not_read_while_it_is_written(sides: Sides) -> None:
    executor, supervisor = sides
    executor.words[CURRENT] = 3
    executor.report(3, 1.0, 4.0, "")

    executor.words[PROGRESS_SEQ] += 1

    assert supervisor.progress(0) is None


def test_a_write_that_was_interrupted_does_not_silence_the_next(sides: Sides) -> None:
    executor, supervisor = sides
    executor.words[CURRENT] = 3
    executor.words[PROGRESS_SEQ] = 7

    executor.report(3, 2.0, 4.0, "")

    found = supervisor.progress(0)
    assert found is not None
    assert found[2] == 2.0


@pytest.mark.parametrize("message", ["x" * 500, "ä" * 150, "x" + "€" * 99, "\ud800 half"])
def test_a_message_is_cut_between_characters(sides: Sides, message: str) -> None:
    executor, supervisor = sides
    executor.words[CURRENT] = 3

    executor.report(3, 0.0, 0.0, message)

    found = supervisor.progress(0)
    assert found is not None
    assert len(found[4].encode()) <= MESSAGE_BYTES
    assert len(found[4].encode()) > MESSAGE_BYTES - 4 or found[4] == "? half"
    assert "�" not in found[4]


def test_dropped_output_belongs_to_one_attempt(sides: Sides) -> None:
    executor, supervisor = sides

    supervisor.drop_output(3, 100, 0)
    supervisor.drop_output(3, 50, 7)

    assert executor.dropped(3) == (150, 7)
    assert executor.dropped(4) == (0, 0)
    supervisor.drop_output(4, 1, 0)
    assert executor.dropped(4) == (1, 0)


def test_the_name_of_a_page_is_one_part_of_a_path() -> None:
    assert page_name("e1/0.2") == "e1_0.2.page"
