"""Which tasks a record touches, and what a replay leaves out."""

from __future__ import annotations

from typing import get_args

import pytest

from nbcluster.core import records as r
from nbcluster.core.model import Definition, EngineState, NewTask, Progress, Task, Template
from nbcluster.journal.replay import Replay, touched
from nbcluster.journal.rows import DamagedRowError, Entry, Header, Ref

OF_ONE_TASK: list[r.Record] = [
    r.Submitted("c", NewTask("t", 1, b"")),
    r.Leased("t", 1, "x"),
    r.Started("t", 1, 1.0),
    r.Released("t", 1, "revoked"),
    r.Succeeded("t", 1, 1.0, b"", (), b"", b""),
    r.Retrying("t", 1, 1.0, "exception", 2.0, None, b"", b""),
    r.Woken("t"),
    r.Crashed("t", 1, 1.0, None, b"", b""),
    r.Failed("t", 1, 1.0, "crash", b"", (), "", (), None, b"", b""),
    r.Cancelled("t"),
    r.DependencyMet("t", "u"),
    r.Progressed("t", 1, Progress(1, 2)),
]
OF_TABLES: list[r.Record] = [
    r.Defined(Definition("h", "f", b"")),
    r.TemplateKnown(1, Template("h")),
    r.Dropped(("h",), (1,)),
]
OF_THE_CLUSTER: list[r.Record] = [
    r.MasterStarted(1),
    r.SetupAdded(1, "h", b""),
    r.GroupWanted("gpu", 1, 1),
    r.EngineUp("e", 1, "host", (), 1, "python"),
    r.EngineChanged("e", EngineState.ACTIVE, 1),
    r.EngineGone("e", "left"),
]
OF_MORE: list[r.Record] = [r.Redriven("t", "u", "c"), r.Forgotten(("t", "u"))]


class Applied:
    """Notes what is applied."""

    def __init__(self) -> None:
        self.records: list[r.Record] = []

    def restore_definition(self, definition: Definition) -> None:
        raise AssertionError

    def restore_template(self, number: int, template: Template) -> None:
        raise AssertionError

    def restore_header(self, header: Header) -> None:
        raise AssertionError

    def restore_task(self, task: Task) -> None:
        raise AssertionError

    def apply(self, record: r.Record, now: float) -> None:
        self.records.append(record)


def no_file(record: r.Record, ref: Ref) -> None:
    raise AssertionError


def applied(
    *turns: list[r.Record],
    snapshots: dict[str, int] | None = None,
    header: int = 0,
    definitions: dict[str, int] | None = None,
) -> list[r.Record]:
    """Return what is applied of turns 1, 2, ..."""
    sink = Applied()
    replay = Replay(sink, snapshots or {}, header, definitions or {})
    for seq, records in enumerate(turns, 1):
        replay.turn(seq, Entry(1, 1.0, records), no_file)
    replay.finish()
    assert replay.applied == len(sink.records)
    return sink.records


def test_every_kind_of_record_is_listed_here() -> None:
    listed = {type(record) for record in OF_ONE_TASK + OF_THE_CLUSTER + OF_TABLES + OF_MORE}

    assert listed == set(get_args(r.Record))


@pytest.mark.parametrize("record", OF_ONE_TASK, ids=lambda x: type(x).__name__)
def test_most_records_touch_one_task(record: r.Record) -> None:
    assert touched(record) == ("t",)


@pytest.mark.parametrize("record", OF_THE_CLUSTER + OF_TABLES, ids=lambda x: type(x).__name__)
def test_records_on_the_cluster_touch_no_task(record: r.Record) -> None:
    assert touched(record) == ()


@pytest.mark.parametrize("record", OF_MORE, ids=lambda x: type(x).__name__)
def test_redriven_and_forgotten_touch_all_they_name(record: r.Record) -> None:
    assert touched(record) == ("t", "u")


@pytest.mark.parametrize("record", OF_ONE_TASK, ids=lambda x: type(x).__name__)
def test_a_record_is_applied_only_if_it_is_newer_than_the_snapshot(record: r.Record) -> None:
    assert applied([record], [record], snapshots={"t": 1}) == [record]


@pytest.mark.parametrize("record", OF_THE_CLUSTER, ids=lambda x: type(x).__name__)
def test_a_record_on_the_cluster_is_applied_only_if_it_is_newer_than_the_header(
    record: r.Record,
) -> None:
    assert applied([record], [record], header=1) == [record]


def test_records_of_a_task_that_is_gone_are_skipped_with_its_end() -> None:
    assert applied([r.Started("t", 1, 1.0)], [r.Forgotten(("t",))]) == []


def test_a_record_of_a_task_that_is_unknown_and_never_ends_is_damage() -> None:
    with pytest.raises(DamagedRowError, match="task t, which was never submitted"):
        applied([r.Started("t", 1, 1.0)])


def test_a_record_after_the_end_of_its_task_is_damage() -> None:
    with pytest.raises(DamagedRowError, match="task t"):
        applied([OF_ONE_TASK[0]], [r.Forgotten(("t",))], [r.Started("t", 1, 1.0)])


def test_of_forgotten_tasks_only_those_that_are_known_are_applied() -> None:
    found = applied([r.Forgotten(("a", "b", "c"))], snapshots={"a": 0, "b": 1})

    assert found == [r.Forgotten(("a",))]


def test_a_redriven_task_that_is_in_a_snapshot_makes_no_second_one() -> None:
    found = applied([r.Redriven("t", "u", "c")], snapshots={"t": 1, "u": 1})

    assert found == []


def test_what_was_made_from_a_redriven_task_is_known_from_then_on() -> None:
    turn: list[r.Record] = [r.Redriven("t", "u", "c"), r.Started("u", 1, 1.0)]

    assert applied(turn, snapshots={"t": 0}) == turn


def test_a_redriven_task_that_is_unknown_must_be_forgotten_later() -> None:
    with pytest.raises(DamagedRowError, match="task t"):
        applied([r.Redriven("t", "u", "c")])


def test_of_dropped_definitions_those_that_came_back_are_kept() -> None:
    found = applied([r.Dropped(("a", "b", "c"), (7,))], definitions={"a": 1, "b": 0})

    assert found == [r.Dropped(("b", "c"), (7,))]


def test_payloads_are_read_from_files_only_for_records_that_are_applied() -> None:
    loaded: list[r.Record] = []
    sink = Applied()
    replay = Replay(sink, {"t": 1}, 0, {})
    end = r.Succeeded("t", 1, 1.0, b"", (), b"", b"")
    ref = Ref("f", 1, 1)

    for seq in (1, 2):
        entry = Entry(1, 1.0, [OF_ONE_TASK[1], end], ((1, ref),))
        replay.turn(seq, entry, lambda record, _: loaded.append(record))

    assert loaded == [end]
    assert sink.records == [OF_ONE_TASK[1], end]
