"""One suite over both journals: what was committed comes back, whatever was cleaned meanwhile."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from msgspec.structs import asdict

from nbcluster.core import records as r
from nbcluster.core.model import Definition, NewTask, State, Task, Template
from nbcluster.errors import FencedError, InvariantError, JournalError, JournalFullError
from nbcluster.journal import Header, Journal, MemoryDisk, MemoryJournal
from nbcluster.options import TaskOptions

LARGE = bytes(70_000)


class Model:
    """A state in the simplest form that has all a journal must take care of."""

    def __init__(self) -> None:
        self.definitions: dict[str, Definition] = {}
        self.templates: dict[int, Template] = {}
        self.engines: dict[str, float] = {}
        self.setups: dict[int, bytes] = {}
        self.tasks: dict[str, Task] = {}
        self.submitted = 0

    def restore_definition(self, definition: Definition) -> None:
        self.definitions[definition.hash] = definition

    def restore_template(self, number: int, template: Template) -> None:
        self.templates[number] = template

    def header(self) -> Header:
        return Header(msgspec.json.encode((self.engines, self.submitted)), self.setups)

    def restore_header(self, header: Header) -> None:
        self.engines, self.submitted = msgspec.json.decode(
            header.main, type=tuple[dict[str, float], int]
        )
        self.setups = dict(header.parts)

    def restore_task(self, task: Task) -> None:
        assert task.id not in self.tasks
        self.tasks[task.id] = task

    def _new(self, name: str, template: Template, payload: bytes, now: float) -> None:
        assert name not in self.tasks
        self.submitted += 1
        task = Task(name, template, payload, (), "c", "", "", set(), now, seq=self.submitted)
        self.tasks[name] = task

    def apply(self, record: r.Record, now: float) -> None:
        match record:
            case r.Defined():
                self.definitions[record.definition.hash] = record.definition
            case r.TemplateKnown():
                self.templates[record.number] = record.template
            case r.Dropped():
                for key in record.definitions:
                    self.definitions.pop(key, None)
                for number in record.templates:
                    self.templates.pop(number, None)
            case r.EngineUp():
                assert record.engine not in self.engines
                self.engines[record.engine] = now
            case r.EngineGone():
                del self.engines[record.engine]
            case r.SetupAdded():
                assert record.version not in self.setups
                for version in record.replaces:
                    del self.setups[version]
                self.setups[record.version] = record.payload
            case _:
                self._apply_to_task(record, now)

    def _apply_to_task(self, record: Any, now: float) -> None:
        if isinstance(record, r.Submitted):
            new = record.task
            self._new(new.id, self.templates[new.template], new.payload, now)
            return
        if isinstance(record, r.Forgotten):
            for name in record.tasks:
                del self.tasks[name]
            return
        task = self.tasks[record.task]
        match record:
            case r.Started():
                task.attempts += 1
            case r.Succeeded() | r.Failed():
                task.state = State.SUCCEEDED if type(record) is r.Succeeded else State.FAILED
                task.finished_at, task.result = now, record.payload
                if task.state is State.SUCCEEDED:
                    task.payload = b""
            case r.Redriven():
                task.successor = record.successor
                self._new(record.successor, task.template, task.payload, now)
            case _:
                raise AssertionError(record)

    def facts(self) -> dict[str, Any]:
        """Return all but the numbers of submission, which a replay may give anew."""
        tasks = {name: asdict(task) | {"seq": 0} for name, task in self.tasks.items()}
        return {
            "tasks": tasks,
            "definitions": {key: asdict(d) for key, d in self.definitions.items()},
            "templates": self.templates,
            "engines": self.engines,
            "setups": self.setups,
        }


# --------------------------------------------------------------------------- builders


def submitted(task: str, payload: bytes = b"p", template: int = 1) -> r.Submitted:
    return r.Submitted("c", NewTask(task, template, payload))


def started(task: str) -> r.Started:
    return r.Started(task, 1, 1.0)


def succeeded(task: str, payload: bytes = b"v") -> r.Succeeded:
    return r.Succeeded(task, 1, 1.0, payload, (), b"", b"")


def failed(task: str, payload: bytes = b"e") -> r.Failed:
    return r.Failed(task, 1, 1.0, "exception", payload, (), "", (), None, b"", b"")


def engine_up(engine: str) -> r.EngineUp:
    return r.EngineUp(engine, 1, "host", ("default",), 1, "python")


def turn(*records: r.Record) -> list[r.Record]:
    return list(records)


def known(number: int = 1, group: str = "default") -> r.TemplateKnown:
    return r.TemplateKnown(number, Template("h", TaskOptions(group=group)))


# --------------------------------------------------------------------------- the two journals


class Place:
    """Where a journal can be opened again and again."""

    def __init__(self, kind: str, retain: int = 0) -> None:
        self.kind, self.retain = kind, retain
        self.directory = Path(tempfile.mkdtemp(prefix="nbj")) if kind == "sqlite" else None
        self.disk = MemoryDisk() if kind == "memory" else None
        self.opened: list[Journal] = []

    def open(self) -> Journal:
        for journal in self.opened:
            journal.close()
        journal = (
            MemoryJournal(self.disk, retain=self.retain)
            if self.directory is None
            else Journal(self.directory / "journal.db", retain=self.retain)
        )
        self.opened = [journal]
        return journal

    def rebuilt(self) -> Model:
        model = Model()
        self.open().replay(model)
        return model

    def files(self) -> int:
        if self.disk is not None:
            return len(self.disk.files)
        assert self.directory is not None
        return sum(1 for _ in self.directory.glob("journal.db.d/*"))

    def remove(self) -> None:
        for journal in self.opened:
            journal.close()
        if self.directory is not None:
            shutil.rmtree(self.directory)
        if self.disk is not None:
            self.disk.close()


@pytest.fixture(params=["sqlite", "memory"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = Place(request.param)
    yield place
    place.remove()


def write(journal: Journal, model: Model, *turns: list[r.Record]) -> None:
    """Commit each list as a turn, and apply it to the model."""
    for records in turns:
        for record in records:
            model.apply(record, journal.head + 1.0)
        journal.commit(records, 1, journal.head + 1.0)


def clean(journal: Journal, model: Model, limit: int = 1) -> bool:
    return journal.checkpoint(model.tasks.get, model.header, limit)


# --------------------------------------------------------------------------- any history


class Histories(RuleBasedStateMachine):
    """Random turns, cleanings and restarts; after each restart the state is what it was."""

    kind = "memory"
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.place = Place(self.kind)
        self.journal = self.place.open()
        self.model = Model()
        self.turn: list[r.Record] = []
        self.now = 0.0
        self.count = 0
        self.do(known())

    def do(self, record: r.Record) -> None:
        self.turn.append(record)
        self.model.apply(record, self.now)

    def state(self, task: str) -> State | None:
        found = self.model.tasks.get(task)
        return None if found is None else found.state

    @rule(target=tasks, large=st.booleans())
    def submit(self, large: bool) -> str:
        self.count += 1
        name = f"t{self.count}"
        payload = LARGE + name.encode() if large else name.encode()
        self.do(submitted(name, payload, max(self.model.templates)))
        return name

    @rule(task=tasks, large=st.booleans())
    def submit_again_what_was_forgotten(self, task: str, large: bool) -> None:
        if self.state(task) is None:
            payload = LARGE + b"again" if large else b"again"
            self.do(submitted(task, payload, max(self.model.templates)))

    @rule(task=tasks)
    def start(self, task: str) -> None:
        if self.state(task) is State.PENDING:
            self.do(started(task))

    @rule(task=tasks, large=st.booleans(), ok=st.booleans())
    def end(self, task: str, large: bool, ok: bool) -> None:
        if self.state(task) is State.PENDING:
            payload = LARGE + b"end" if large else b"end"
            self.do(succeeded(task, payload) if ok else failed(task, payload))

    @rule(target=tasks, task=tasks)
    def redrive(self, task: str) -> str:
        if self.state(task) is State.FAILED:
            self.count += 1
            self.do(r.Redriven(task, f"t{self.count}", "c"))
            return f"t{self.count}"
        return task

    @rule(chosen=st.lists(tasks, max_size=4, unique=True))
    def forget(self, chosen: list[str]) -> None:
        ended = {State.SUCCEEDED, State.FAILED}
        if names := tuple(t for t in chosen if self.state(t) in ended):
            self.do(r.Forgotten(names))

    @rule(key=st.sampled_from("ab"), drop=st.booleans())
    def define(self, key: str, drop: bool) -> None:
        if drop:
            self.do(r.Dropped((key,), ()))
        else:
            self.do(r.Defined(Definition(key, "f", key.encode())))

    @rule()
    def change_template(self) -> None:
        newest = max(self.model.templates)
        self.do(known(newest + 1, f"g{newest + 1}"))
        self.do(r.Dropped((), (newest,)))

    @rule(engine=st.sampled_from("xy"))
    def engine(self, engine: str) -> None:
        gone = engine in self.model.engines
        self.do(r.EngineGone(engine, "left") if gone else engine_up(engine))

    @rule(replaces=st.booleans())
    def set_up(self, replaces: bool) -> None:
        self.count += 1
        replaced = tuple(self.model.setups)[:1] if replaces else ()
        payload = f"setup {self.count}".encode()
        self.do(r.SetupAdded(self.count, "h", payload, (), (), replaced))

    @rule()
    def commit(self) -> None:
        self.journal.commit(self.turn, 1, self.now)
        self.turn = []
        self.now += 1

    @rule(limit=st.integers(1, 12), retain=st.integers(0, 8))
    def clean(self, limit: int, retain: int) -> None:
        self.commit()
        self.journal._retain = retain
        clean(self.journal, self.model, limit)

    @rule()
    def clean_all(self) -> None:
        self.commit()
        self.journal._retain = 0
        while clean(self.journal, self.model, 3):
            pass
        assert self.journal.log_records == 0
        kept = self.journal._database.execute("SELECT task FROM snapshot ORDER BY task").fetchall()
        assert kept == [(task,) for task in sorted(self.model.tasks)]

    @rule()
    def restart(self) -> None:
        self.commit()
        head = self.journal.head
        rebuilt = self.place.rebuilt()
        assert rebuilt.facts() == self.model.facts()
        self.model, self.journal = rebuilt, self.place.opened[0]
        assert self.journal.head == head

    @precondition(lambda self: self.kind == "memory")
    @rule()
    def find_the_disk_full(self) -> None:
        assert isinstance(self.journal, MemoryJournal)
        self.journal.fail("full")
        with pytest.raises(JournalFullError):
            self.journal.commit(self.turn, 1, self.now)
        assert not clean(self.journal, self.model, 1)
        self.commit()

    @invariant()
    def files_are_bounded_by_what_can_need_them(self) -> None:
        if self.turn:  # the model is ahead of the journal
            return
        records = self.journal.log_records
        assert self.place.files() <= 2 * (records + len(self.model.tasks))

    def teardown(self) -> None:
        try:
            self.restart()
        finally:
            self.place.remove()


class SqliteHistories(Histories):
    kind = "sqlite"


QUICK = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestMemoryHistories = Histories.TestCase
TestMemoryHistories.settings = settings(QUICK, max_examples=150)
TestSqliteHistories = SqliteHistories.TestCase
TestSqliteHistories.settings = QUICK


# --------------------------------------------------------------------------- stories


def test_what_was_committed_is_replayed_in_order_with_its_time(place: Place) -> None:
    model = Model()
    write(place.open(), model, [known(), submitted("a")], [started("a"), started("a")])

    rebuilt = place.rebuilt()

    assert rebuilt.facts() == model.facts()
    assert rebuilt.tasks["a"].attempts == 2
    assert rebuilt.tasks["a"].submitted_at == 1.0


def test_replay_counts_what_it_applied(place: Place) -> None:
    write(place.open(), Model(), [known(), submitted("a")], [started("a")])

    assert place.open().replay(Model()) == 2


def test_an_empty_commit_writes_no_turn(place: Place) -> None:
    journal = place.open()

    journal.commit([], 1, 1.0)

    assert journal.head == 0


@pytest.mark.parametrize(
    "records",
    [[], [started("a")], [known()], [submitted("a", LARGE)]],
    ids=["nothing", "plain", "table", "file"],
)
def test_a_master_of_an_older_epoch_writes_nothing(place: Place, records: list[r.Record]) -> None:
    journal = place.open()
    journal.begin_epoch()
    journal.begin_epoch()

    with pytest.raises(FencedError, match="epoch 2"):
        journal.commit(records, 1, 1.0)

    assert journal.head == 0
    assert place.files() == 0
    journal.commit([started("a")], 2, 1.0)
    assert [found.epoch for found in journal.turns(0, 9)] == [2]


@pytest.mark.parametrize("act", ["checkpoint", "compact"])
def test_a_master_of_an_older_epoch_cleans_nothing(act: str) -> None:
    disk, model = MemoryDisk(), Model()
    old = MemoryJournal(disk, retain=0)
    old.replay(model)
    old.begin_epoch()
    write(old, model, turn(known(), submitted("a")), turn(started("a")))
    new = MemoryJournal(disk, retain=0)
    new.begin_epoch()

    with pytest.raises(FencedError, match="epoch 2"):
        getattr(old, act)(model.tasks.get, model.header)

    assert len(list(new.turns(0, 9))) == 2
    new.replay(again := Model())
    assert again.facts() == model.facts()


def test_the_epoch_rises_over_restarts(place: Place) -> None:
    epochs = [place.open().begin_epoch() for _ in range(3)]

    assert epochs == [1, 2, 3]
    assert place.open().epoch == 3


def test_turns_are_read_from_a_position(place: Place) -> None:
    journal = place.open()
    write(journal, Model(), *(turn(known(n), engine_up(f"e{n}")) for n in (1, 2, 3, 4)))

    found = place.open().turns(1, 2)

    assert [(each.seq, each.at) for each in found] == [(2, 2.0), (3, 3.0)]
    assert found[0].records == [engine_up("e2")]


def test_turns_begin_after_what_was_cleaned(place: Place) -> None:
    journal, model = place.open(), Model()
    write(journal, model, *(turn(engine_up(f"e{n}")) for n in range(5)))
    clean(journal, model, 3)

    assert [found.seq for found in journal.turns(0, 9)] == [4, 5]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_cleaning_leaves_what_is_retained(place: Place, limit: int) -> None:
    place.retain = 4
    journal, model = place.open(), Model()
    write(
        journal, model, [known()], *(turn(submitted(f"t{n}"), started(f"t{n}")) for n in range(5))
    )
    assert journal.cleanable() == 7

    while clean(journal, model, limit):
        pass

    assert journal.log_records == 4
    assert journal.cleanable() == 0
    assert place.rebuilt().facts() == model.facts()


def test_nothing_is_cleanable_while_the_oldest_turn_is_too_large_for_it(place: Place) -> None:
    place.retain = 2
    journal, model = place.open(), Model()
    write(journal, model, [known(), submitted("a"), started("a"), started("a")])

    assert journal.cleanable() == 0
    assert not clean(journal, model)
    assert journal.log_records == 3


def test_a_cleaning_of_a_journal_that_was_not_replayed_is_refused(place: Place) -> None:
    write(place.open(), Model(), [engine_up("e")])

    with pytest.raises(InvariantError):
        clean(place.open(), Model())


def test_a_snapshot_that_is_new_enough_is_not_written_again(place: Place) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [known(), submitted("a")], [started("a")], [started("a")])
    asked: list[str] = []

    def snapshot_of(task: str) -> Task | None:
        asked.append(task)
        return model.tasks.get(task)

    while journal.checkpoint(snapshot_of, model.header, 1):
        pass

    assert asked == ["a"]


def test_a_cleaning_of_very_many_tasks_knows_the_snapshot_of_each(place: Place) -> None:
    journal, model = place.open(), Model()
    names = [f"t{n}" for n in range(1_203)]
    write(journal, model, [known(), *map(submitted, names)])
    clean(journal, model, 10_000)
    asked: list[str] = []
    for some in (names, names[::2], names[1::2]):
        write(journal, model, turn(*map(started, some)))

    def snapshot_of(task: str) -> Task | None:
        asked.append(task)
        return model.tasks.get(task)

    while journal.checkpoint(snapshot_of, model.header, 1):
        pass

    assert sorted(asked) == sorted(names)  # once each: the later turns found a newer snapshot
    assert place.rebuilt().tasks == model.tasks


def test_tasks_come_back_in_order_of_submission_and_share_their_template(place: Place) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [known(), *(submitted(task) for task in "cab")])
    clean(journal, model)

    tasks = list(place.rebuilt().tasks.values())

    assert [task.id for task in tasks] == ["c", "a", "b"]
    assert len({id(task.template) for task in tasks}) == 1


def test_a_large_payload_lies_in_a_file_until_its_task_is_forgotten(place: Place) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [known(), submitted("a", LARGE)], [failed("a", LARGE + b"!")])
    assert place.files() == 2
    assert journal.size_bytes() > 140_000
    assert place.rebuilt().facts() == model.facts()

    write(place.opened[0], model, [r.Forgotten(("a",))])

    assert place.files() == 0
    assert place.rebuilt().facts() == model.facts()


def test_the_arguments_of_a_task_that_succeeded_leave_with_its_snapshot(place: Place) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [known(), submitted("a", LARGE)], [succeeded("a")])

    while clean(journal, model):
        pass

    assert place.files() == 0
    assert place.rebuilt().facts() == model.facts()


@pytest.mark.parametrize("payload", [b"small", LARGE], ids=["small", "large"])
def test_the_snapshot_of_a_forgotten_task_leaves_with_its_end(place: Place, payload: bytes) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [known(), submitted("a", payload), failed("a", payload)])
    while clean(journal, model):
        pass

    write(journal, model, [r.Forgotten(("a",))])
    while clean(journal, model):
        pass

    assert place.rebuilt().tasks == {}


def test_a_task_that_ends_and_is_forgotten_in_one_turn_leaves_no_file(place: Place) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [known(), submitted("a", LARGE)])

    write(journal, model, [failed("a", LARGE), r.Forgotten(("a",))])

    assert place.files() == 0
    assert place.rebuilt().tasks == {}


def test_a_task_forgotten_twice_does_not_come_back(place: Place) -> None:
    journal, model = place.open(), Model()
    life, end = turn(submitted("a", LARGE), failed("a", LARGE)), r.Forgotten(("a",))
    write(journal, model, [known(), *life], [end, engine_up("e")], [*life, end])

    while journal.log_records:
        clean(journal, model, 1)
        assert place.rebuilt().facts() == model.facts()
        journal = place.opened[0]

    assert place.files() == 0
    assert journal._database.execute("SELECT count(*) FROM snapshot").fetchone() == (0,)


def test_the_files_of_tasks_made_one_from_the_other_leave_with_their_turns(place: Place) -> None:
    journal, model = place.open(), Model()
    redriven = r.Redriven("a", "b", "c")
    write(journal, model, [known(), submitted("a", LARGE), failed("a")], [redriven])
    write(journal, model, [failed("b", LARGE)], [r.Forgotten(("a", "b"))])
    assert place.files() == 2
    assert place.rebuilt().facts() == model.facts()

    while clean(place.opened[0], model):
        pass

    assert place.files() == 0


def test_a_redriven_task_whose_snapshot_stays_old_is_redriven_again_at_a_replay(
    place: Place,
) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [known(), submitted("a")], [started("a")])
    clean(journal, model, 1)  # the snapshot of "a" holds both turns, the second is still there
    write(journal, model, [failed("a"), r.Redriven("a", "b", "c")])

    clean(journal, model, 1)

    assert place.rebuilt().facts() == model.facts()


def test_a_task_whose_redrive_was_cleaned_is_free_of_it(place: Place) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [known(), submitted("a", LARGE), failed("a"), r.Redriven("a", "b", "c")])
    while clean(journal, model):
        pass
    assert place.files() == 2

    write(journal, model, [r.Forgotten(("a",))])

    assert place.files() == 1
    assert place.rebuilt().facts() == model.facts()


def test_a_task_made_from_one_that_was_forgotten_keeps_its_payload(place: Place) -> None:
    journal, model = place.open(), Model()
    write(
        journal,
        model,
        [known(), submitted("a", LARGE)],
        [failed("a")],
        [r.Redriven("a", "b", "c")],
        [r.Forgotten(("a",))],
    )
    assert place.rebuilt().tasks["b"].payload == LARGE

    journal = place.opened[0]
    clean(journal, model, 1)

    rebuilt = place.rebuilt()
    assert rebuilt.tasks["b"].payload == LARGE
    assert rebuilt.facts() == model.facts()


def test_a_task_forgotten_and_submitted_again_in_one_turn_is_there(place: Place) -> None:
    journal, model = place.open(), Model()
    write(
        journal,
        model,
        [known(), submitted("a", LARGE)],
        [failed("a")],
        [r.Forgotten(("a",)), submitted("a", LARGE + b"2")],
    )
    assert place.rebuilt().facts() == model.facts()
    assert place.rebuilt().facts() == model.facts()
    assert place.files() == 2

    place.rebuilt()
    while clean(place.opened[0], model):
        pass

    assert place.files() == 1
    assert place.rebuilt().facts() == model.facts()


@pytest.mark.parametrize("turns", ["one", "two"])
def test_a_definition_that_was_dropped_and_came_back_is_there(place: Place, turns: str) -> None:
    journal, model = place.open(), Model()
    define, drop = r.Defined(Definition("k", "f", b"code")), r.Dropped(("k",), ())
    write(journal, model, [define])
    write(journal, model, *([[drop, define]] if turns == "one" else [[drop], [define]]))

    assert "k" in place.rebuilt().definitions

    while clean(place.opened[0], model):
        pass
    assert "k" in place.rebuilt().definitions


@pytest.mark.parametrize("turns", ["one", "two"])
def test_a_definition_that_was_dropped_is_gone(place: Place, turns: str) -> None:
    journal, model = place.open(), Model()
    define, drop = r.Defined(Definition("k", "f", b"code")), r.Dropped(("k",), ())
    write(journal, model, *([[define, drop]] if turns == "one" else [[define], [drop]]))

    assert place.rebuilt().definitions == {}

    while clean(place.opened[0], model):
        pass
    place.open()
    seen = place.opened[0]._database.execute("SELECT count(*) FROM definition").fetchone()
    assert seen == (0,)


def test_of_a_definition_the_name_alone_can_be_kept(place: Place) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [r.Defined(Definition("k", "f", b"code"))])

    write(journal, model, [r.Defined(Definition("k", "f", b""))])

    assert place.rebuilt().definitions == {"k": Definition("k", "f", b"")}


def test_compacting_leaves_the_state_and_no_log(place: Place) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [known(), submitted("a", LARGE)], [engine_up("e"), submitted("b")])

    journal.compact(model.tasks.get, model.header)

    assert journal.log_records == 0
    assert journal.head == 2
    assert place.rebuilt().facts() == model.facts()
    write(place.opened[0], model, [started("a")])
    assert place.rebuilt().facts() == model.facts()


def test_what_is_retained_of_the_log_is_bounded_in_bytes(place: Place) -> None:
    place.retain = 100
    journal, model = place.open(), Model()
    large = bytes(30_000)
    write(journal, model, [known()], *(turn(submitted(f"t{n}", large)) for n in range(20)))
    assert 20 * 29 <= place.open().log_records == journal.log_records <= 20 * 30 + 1

    journal = place.open()
    journal.replay(Model())
    while clean(journal, model, 50):
        pass

    assert len(journal.turns(0, 100)) == 4  # the oldest of them is retained in part
    assert place.open().log_records == journal.log_records
    assert place.rebuilt().facts() == model.facts()


def test_a_part_of_the_header_is_written_once(place: Place) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [r.SetupAdded(1, "h", LARGE)], [r.SetupAdded(2, "h", b"small")])
    while clean(journal, model):
        pass
    written: list[str] = []
    journal._database.set_trace_callback(written.append)

    write(journal, model, [r.SetupAdded(3, "h", b"new", (), (), (2,))])
    while clean(journal, model):
        pass

    journal._database.set_trace_callback(None)
    parts = [sql for sql in written if "part" in sql and not sql.startswith("SELECT")]
    assert len(parts) == 2
    assert "= 2" in parts[0]
    assert "(3," in parts[1]
    rebuilt = place.rebuilt()
    assert rebuilt.setups == {1: LARGE, 3: b"new"}
    assert rebuilt.facts() == model.facts()


def test_a_callback_that_fails_leaves_the_journal_as_it_was(place: Place) -> None:
    journal, model = place.open(), Model()
    write(journal, model, [known(), submitted("a")], [started("a")])

    def broken() -> Header:
        raise LookupError

    with pytest.raises(LookupError):
        journal.checkpoint(model.tasks.get, broken)

    write(journal, model, [started("a")])
    assert place.rebuilt().facts() == model.facts()


def test_looking_leaves_large_payloads_where_they_are(place: Place) -> None:
    write(place.open(), Model(), [known(), submitted("a", LARGE)])
    model = Model()

    place.open().scan(model)

    assert model.tasks["a"].payload == b""
    assert place.files() == 1


# --------------------------------------------------------------------------- told to fail


def commit_that_fails(failure: Any) -> tuple[MemoryJournal, MemoryDisk]:
    disk = MemoryDisk()
    journal = MemoryJournal(disk)
    journal.fail(failure)
    with pytest.raises(JournalError):
        journal.commit([engine_up("e")], 1, 1.0)
    return journal, disk


@pytest.mark.parametrize(("failure", "written"), [("full", 0), ("io", 0), ("done", 1)])
def test_the_twin_fails_as_it_is_told(failure: str, written: int) -> None:
    _, disk = commit_that_fails(failure)

    assert MemoryJournal(disk).head == written


def test_a_commit_that_found_the_disk_full_can_be_repeated() -> None:
    journal, disk = commit_that_fails("full")

    journal.commit([engine_up("e")], 1, 1.0)

    assert MemoryJournal(disk).replay(Model()) == 1


@pytest.mark.parametrize("failure", ["io", "done"])
def test_after_any_other_error_nothing_is_written_until_it_is_opened_anew(failure: str) -> None:
    journal, disk = commit_that_fails(failure)

    with pytest.raises(JournalError, match="opened anew"):
        journal.commit([engine_up("f")], 1, 1.0)

    MemoryJournal(disk).commit([engine_up("f")], 1, 1.0)


def reopened(make: Callable[[], Journal]) -> Model:
    model = Model()
    make().replay(model)
    return model


def test_a_cleaning_that_failed_changes_nothing() -> None:
    disk, model = MemoryDisk(), Model()
    journal = MemoryJournal(disk, retain=0)
    write(journal, model, [known(), submitted("a", LARGE)], [started("a")])
    journal.fail("full")

    with pytest.raises(JournalFullError):
        clean(journal, model, 9)

    assert journal.log_records == 2
    assert reopened(lambda: MemoryJournal(disk)).facts() == model.facts()
