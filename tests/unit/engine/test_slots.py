"""When executors are started again. What is started here never comes to life."""

from __future__ import annotations

from pathlib import Path

from nbcluster.engine.children import Nursery
from nbcluster.engine.slots import Slots


def hopeless(tmp_path: Path, wanted: int = 1) -> Slots:
    """Return slots whose executors cannot be started: their directory does not exist."""
    return Slots("e", Nursery(tmp_path / "c.json", tmp_path / "none", 0, ()), wanted)


def test_the_wait_doubles_up_to_five_seconds(tmp_path: Path) -> None:
    slots, now, waits = hopeless(tmp_path), 0.0, []

    for _ in range(8):
        assert slots.fill(now) == []
        waits.append(slots.next_due() - now)
        now = slots.next_due()

    assert [round(wait, 6) for wait in waits] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_before_its_time_nothing_is_started(tmp_path: Path) -> None:
    slots = hopeless(tmp_path)
    slots.fill(0.0)

    slots.fill(0.05)

    assert slots.next_due() == 0.1


def test_without_slots_nothing_is_ever_due(tmp_path: Path) -> None:
    slots = hopeless(tmp_path)
    slots.fill(0.0)

    slots.set_wanted(0)

    assert slots.next_due() == float("inf")
    assert slots.fill(99.0) == []


def test_a_start_that_failed_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "e_0.1.err").touch()  # in the way, after page and output file were made

    assert hopeless(tmp_path).fill(0.0) == []

    assert [path.name for path in (tmp_path / "none").iterdir()] == ["e_0.1.err"]
