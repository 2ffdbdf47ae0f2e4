"""The journal on real files: what is refused, what is damaged, what survives a SIGKILL."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import pytest

from nbcluster.core import records as r
from nbcluster.core.model import Definition, NewTask, Task, Template
from nbcluster.errors import (
    FencedError,
    JournalCorruptError,
    JournalError,
    JournalLockedError,
    JournalVersionError,
)
from nbcluster.journal import Header, Journal, info, rows, vacuum
from nbcluster.options import TaskOptions

LARGE = bytes(100_000)
HEADER = Header(b"header", {7: b"part"})
UNSHARE: Final = shutil.which("unshare")


class Tasks:
    """A state that knows which payloads its tasks have."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.definitions: list[str] = []
        self.templates: list[int] = []
        self.headers: list[Header] = []
        self.applied: list[r.Record] = []

    def restore_definition(self, definition: Definition) -> None:
        self.definitions.append(definition.hash)

    def restore_template(self, number: int, template: Template) -> None:
        self.templates.append(number)

    def restore_header(self, header: Header) -> None:
        self.headers.append(header)

    def restore_task(self, task: Task) -> None:
        self.tasks[task.id] = task

    def apply(self, record: r.Record, now: float) -> None:
        self.applied.append(record)
        if isinstance(record, r.Submitted):
            new = record.task
            number = len(self.tasks)
            self.tasks[new.id] = Task(
                new.id, Template("h"), new.payload, (), "c", "", "", set(), now, seq=number
            )
        elif isinstance(record, r.Forgotten):
            for task in record.tasks:
                del self.tasks[task]


def submitted(task: str, payload: bytes = b"p") -> r.Submitted:
    return r.Submitted("c", NewTask(task, 1, payload))


def started(task: str) -> r.Started:
    return r.Started(task, 1, 1.0)


def replayed(path: Path) -> Tasks:
    state = Tasks()
    with Journal(path) as journal:
        journal.replay(state)
    return state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a journal that has a row in every table, and a payload in a file."""
    path = tmp_path / "journal.db"
    state = Tasks()
    with Journal(path, retain=0) as journal:
        journal.replay(state)
        journal.begin_epoch()
        setup = [r.Defined(Definition("h", "f", b"code")), r.TemplateKnown(1, Template("h"))]
        for turn in ([submitted("a")], [submitted("b", LARGE)], [started("a")], [started("b")]):
            records = [*setup, *turn]
            for record in turn:
                state.apply(record, 1.0)
            journal.commit(records, 1, 1.0)
        journal.checkpoint(state.tasks.get, lambda: HEADER, 1)
    return path


def change(path: Path, sql: str, *args: object) -> None:
    database = sqlite3.connect(path)
    with database:
        database.execute(sql, args)
    database.close()


# --------------------------------------------------------------------------- damage


def test_the_fixture_has_a_row_in_every_table(path: Path) -> None:
    database = sqlite3.connect(path)
    tables = ["meta", "header", "part", "definition", "template", "snapshot", "turn"]
    counts = [database.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables]
    database.close()

    assert counts == [1, 1, 1, 1, 1, 1, 3]
    state = replayed(path)
    assert state.tasks["b"].payload == LARGE
    assert state.headers == [HEADER]


@pytest.mark.parametrize("table", ["header", "part", "definition", "template", "snapshot", "turn"])
def test_a_changed_byte_in_any_row_is_noticed(path: Path, table: str) -> None:
    # The last byte of the text is inside a string or number: still what msgpack can decode.
    change(
        path, f"UPDATE {table} SET blob = CAST(substr(blob, 1, length(blob) - 1) || 'X' AS BLOB)"
    )

    with pytest.raises(JournalCorruptError, match=f"{table}.*checksum.*Restore it from a copy"):
        replayed(path)


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("UPDATE meta SET epoch = 7", "epoch"),
        ("DELETE FROM meta", "epoch"),
        ("UPDATE header SET seq = 2", "header"),
        ("UPDATE header SET seq = 'x'", "header"),
        ("UPDATE definition SET seq = 9", "definition"),
        ("UPDATE snapshot SET task = 'z'", "snapshot"),
        ("UPDATE template SET number = 2", "template"),
        ("DELETE FROM turn WHERE seq = 2", "turn 2 is missing"),
        ("DELETE FROM turn WHERE seq = 3", "turn 3 is missing"),
        ("DELETE FROM turn WHERE seq = 4", "turns"),
        ("UPDATE turn SET records = 5 WHERE seq = 3", "turn 3"),
        ("UPDATE turn SET blob = 'text' WHERE seq = 3", "turn 3"),
        ("DELETE FROM snapshot", "task a, which was never submitted"),
        ("DROP TABLE turn", "turn"),
        ("ALTER TABLE snapshot RENAME COLUMN crc TO sum", "crc"),
    ],
)
def test_what_was_changed_by_another_hand_is_not_believed(path: Path, sql: str, what: str) -> None:
    change(path, sql)

    with pytest.raises(JournalCorruptError, match=what) as caught:
        replayed(path)

    assert str(path) in str(caught.value)


def test_turns_that_were_exchanged_are_noticed(path: Path) -> None:
    change(path, "UPDATE turn SET seq = seq + 10 WHERE seq > 2")
    change(path, "UPDATE turn SET seq = 4 WHERE seq = 13")
    change(path, "UPDATE turn SET seq = 3 WHERE seq = 14")

    with pytest.raises(JournalCorruptError, match="turn 3 does not match its checksum"):
        replayed(path)


def test_a_row_with_the_right_checksum_that_is_no_turn_is_noticed(path: Path) -> None:
    from nbcluster.journal.rows import checksum

    change(path, "UPDATE turn SET crc = ?, blob = ? WHERE seq = 3", checksum(3, b"\xc1"), b"\xc1")

    with pytest.raises(JournalCorruptError, match="turn 3 cannot be decoded"):
        replayed(path)


@pytest.mark.parametrize("content", [b"hello, world" * 1000, b"\0" * 5000])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(JournalCorruptError, match="not a database"):
        Journal(path)

    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    change(path, "CREATE TABLE photos (id)")
    path.chmod(0o600)
    before = path.read_bytes()

    with pytest.raises(JournalCorruptError, match="another program"):
        Journal(path)

    assert path.read_bytes() == before


@pytest.mark.parametrize("size", [100, 5000, 9000])
def test_a_journal_that_was_cut_off_is_refused(path: Path, size: int) -> None:
    os.truncate(path, size)

    with pytest.raises(JournalCorruptError):
        replayed(path)


def test_any_page_of_noise_is_noticed(path: Path) -> None:
    good = path.read_bytes()
    random = Random(1)
    for page in range(1, len(good) // 4096):
        path.write_bytes(good[: page * 4096] + random.randbytes(4096) + good[(page + 1) * 4096 :])

        with pytest.raises(JournalCorruptError):
            replayed(path)


def test_a_newer_format_is_refused_by_name(path: Path) -> None:
    change(path, "PRAGMA user_version = 3")

    with pytest.raises(JournalVersionError, match="format 3"):
        Journal(path)


def test_a_journal_of_the_first_format_is_brought_to_ours(path: Path) -> None:
    change(path, "DROP TABLE part")
    change(path, "PRAGMA user_version = 1")

    state = replayed(path)

    assert state.headers == [Header(b"header", {})]
    assert state.tasks["b"].payload == LARGE
    with Journal(path, retain=0) as journal:
        journal.replay(Tasks())
        journal.checkpoint(state.tasks.get, lambda: HEADER, 1)
    assert info(path)["format"] == 2
    assert replayed(path).headers == [HEADER]


def test_a_journal_whose_making_was_cut_short_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.touch(0o600)

    with Journal(path) as journal:
        assert journal.head == 0


def payload_file(path: Path) -> Path:
    (found,) = path.with_name(path.name + ".d").iterdir()
    return found


def test_a_missing_payload_file_is_named(path: Path) -> None:
    file = payload_file(path)
    file.unlink()

    with pytest.raises(JournalCorruptError, match=f"{file.name} is missing"):
        replayed(path)


@pytest.mark.parametrize("content", [b"", b"\1" + LARGE[1:]])
def test_a_payload_file_that_was_changed_is_noticed(path: Path, content: bytes) -> None:
    payload_file(path).write_bytes(content)

    with pytest.raises(JournalCorruptError, match="does not match its checksum"):
        replayed(path)


def test_after_damage_was_seen_nothing_is_written(path: Path) -> None:
    payload_file(path).unlink()

    with Journal(path) as journal:
        with pytest.raises(JournalCorruptError):
            journal.replay(Tasks())
        with pytest.raises(JournalError, match="opened anew"):
            journal.commit([started("a")], 9, 1.0)


def test_payload_files_that_no_row_names_are_swept_and_others_are_left(path: Path) -> None:
    directory = payload_file(path).parent
    orphan = directory / f"{'0' * 24}.payload"
    foreign = directory / "notes.txt"
    for file in (orphan, foreign):
        file.touch()

    state = replayed(path)

    assert not orphan.exists()
    assert foreign.exists()
    assert state.tasks["b"].payload == LARGE


# --------------------------------------------------------------------------- places


def test_all_that_is_made_is_for_the_user_alone(path: Path) -> None:
    with Journal(path) as journal:
        journal.replay(Tasks())
        journal.commit([started("a")], 1, 1.0)
        made = [
            path,
            path.with_name("journal.db-wal"),
            payload_file(path),
            payload_file(path).parent,
        ]

        assert [oct(file.stat().st_mode & 0o777) for file in made] == ["0o600"] * 3 + ["0o700"]


def test_a_journal_that_others_may_write_is_refused(path: Path) -> None:
    path.chmod(0o620)

    with pytest.raises(JournalError, match="others may write"):
        Journal(path)


def test_a_second_opening_is_refused_at_once(path: Path) -> None:
    code = f"from nbcluster.journal import Journal; Journal({str(path)!r})"

    with Journal(path):
        with pytest.raises(JournalLockedError, match="in use by another process"):
            Journal(path)
        # After the first try: a process that closes any descriptor of a file loses its locks.
        other = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
        )

    assert "JournalLockedError" in other.stderr
    Journal(path).close()


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="does not exist"):
        Journal(tmp_path / "no" / "journal.db")


def test_a_directory_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be used"):
        Journal(tmp_path)


def in_small_file_system(tmp_path: Path, code: str) -> str:
    """Run code with a file system of 1 MiB of its own mounted at ``mnt``; return what it prints."""
    mount = tmp_path / "mnt"
    mount.mkdir()
    script = (
        f"mount -t tmpfs -o size=1m,mode=700 tmpfs {mount} || exit 77; cd {mount}; "
        f'exec {sys.executable} -c "$CODE"'
    )
    for flags in (["-m"], ["-rm"]):
        if UNSHARE is None:
            break
        done = subprocess.run(
            [UNSHARE, *flags, "sh", "-c", script],
            env={**os.environ, "CODE": code, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode == 0:
            return done.stdout
        if "Traceback" in done.stderr:
            raise AssertionError(done.stderr)
    pytest.skip("mounting is not permitted here")


PRELUDE: Final = """
import os, subprocess
from nbcluster.journal import Journal
from nbcluster.core.records import Started, Submitted
from nbcluster.core.model import NewTask
from nbcluster.errors import *
class Sink:
    def __getattr__(self, name): return lambda *args: None
def turn(n, size=10): return [Submitted("c", NewTask(f"t{n}", 1, bytes(size)))]
"""


def test_where_nothing_can_be_written_the_journal_says_so(tmp_path: Path) -> None:
    code = PRELUDE + (
        "Journal('old.db').close()\n"
        "subprocess.run(['mount', '-o', 'remount,ro', os.getcwd()], check=True)\n"
        "for name in ('new.db', 'old.db'):\n"
        "    try: Journal(name)\n"
        "    except JournalReadOnlyError as error: print(error)\n"
    )

    lines = in_small_file_system(tmp_path, code).splitlines()

    assert ["new.db" in lines[0], "old.db" in lines[1]] == [True, True]
    assert "cannot be written where it lies" in lines[0]


FILL: Final = """
journal = Journal('journal.db'); count = 0
def fill(size):
    global count
    while True:
        try: journal.commit(turn(count, size), 1, 1.0)
        except JournalFullError as error: return
        count += 1
open('ballast', 'wb').write(bytes(300_000))
fill(%d); large = count; fill(10)
files = os.listdir('journal.db.d') if os.path.isdir('journal.db.d') else []
print(journal.head == count, len(files), large)
os.unlink('ballast')
journal.commit(turn(count, %d), 1, 1.0)
journal._database.close()
again = Journal('journal.db')
print(again.replay(Sink()) == count + 1)
"""


def test_after_a_full_disk_the_same_commit_can_be_repeated(tmp_path: Path) -> None:
    out = in_small_file_system(tmp_path, PRELUDE + FILL % (30_000, 30_000))

    assert [out.split()[i] for i in (0, 1, 3)] == ["True", "0", "True"]


def test_a_payload_file_that_found_the_disk_full_leaves_nothing_behind(tmp_path: Path) -> None:
    out = in_small_file_system(tmp_path, PRELUDE + FILL % (150_000, 150_000)).split()

    assert out[0] == out[3] == "True"
    assert out[1] == out[2] != "0"


def test_a_new_journal_on_a_full_disk_says_so(tmp_path: Path) -> None:
    code = PRELUDE + (
        "try: open('ballast', 'wb', buffering=0).write(bytes(2_000_000))\n"
        "except OSError: pass\n"
        "try: Journal('journal.db')\n"
        "except JournalFullError as error: print('full')\n"
        "os.unlink('ballast')\n"
        "print(Journal('journal.db').head)\n"
    )

    assert in_small_file_system(tmp_path, code).split() == ["full", "0"]


# --------------------------------------------------------------------------- death


WRITER: Final = """
import sys
from nbcluster.journal import Header, Journal
from nbcluster.core.records import Submitted
from nbcluster.core.model import NewTask, Task, Template
tasks = {}
class Sink:
    def __getattr__(self, name): return lambda *args: None
    def restore_task(self, task): tasks[task.id] = task
    def apply(self, record, now):
        new = record.task
        tasks[new.id] = Task(new.id, Template("h"), new.payload, (), "", "", "", set(), now)
journal = Journal(sys.argv[1], retain=5)
journal.replay(Sink())
out = sys.stdout.buffer
while True:
    n = journal.head
    turn = [Submitted("c", NewTask(f"t{n}", 1, bytes(70_000 if n % 3 == 0 else 10)))]
    for record in turn: Sink().apply(record, 1.0)
    journal.commit(turn, 1, 1.0)
    out.write(b"%d\\n" % n); out.flush()
    if n % 4 == 0: journal.checkpoint(tasks.get, lambda: Header(b"h"), 3)
"""


def test_every_acknowledged_commit_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    path, random, acknowledged = tmp_path / "journal.db", Random(7), -1
    for _ in range(20):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            for _ in range(random.randint(1, 40)):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().split(b"\n")[:-1]
            acknowledged = int(rest[-1]) if rest else acknowledged

    state = replayed(path)

    assert set(state.tasks) >= {f"t{n}" for n in range(acknowledged + 1)}
    assert len(state.tasks) <= acknowledged + 21  # one of each round may have gone unacknowledged
    sizes = {len(task.payload) for task in state.tasks.values()}
    assert sizes == {10, 70_000}


# --------------------------------------------------------------------------- power


def statements(path: Path, durability: str, act: Callable[[Journal], object]) -> list[str]:
    seen: list[str] = []
    with Journal(path, durability=durability) as journal:
        journal.replay(Tasks())
        journal._database.set_trace_callback(seen.append)
        act(journal)
        journal._database.set_trace_callback(None)
    return [" ".join(s.split()[:4]) for s in seen if s.startswith(("PRAGMA", "INSERT", "UPDATE"))]


def test_a_commit_that_must_survive_a_loss_of_power_waits_for_the_disk(path: Path) -> None:
    seen = statements(path, "process", lambda j: j.commit([started("a")], 1, 1.0, power=True))

    assert seen == [
        "PRAGMA synchronous = FULL",
        "INSERT INTO turn SELECT",
        "PRAGMA synchronous = NORMAL",
    ]


def test_an_epoch_begins_on_the_disk(path: Path) -> None:
    seen = statements(path, "process", lambda j: j.begin_epoch())

    assert seen == [
        "PRAGMA synchronous = FULL",
        "UPDATE meta SET epoch",
        "PRAGMA synchronous = NORMAL",
    ]


@pytest.mark.parametrize(("durability", "level"), [("process", 1), ("power", 2)])
def test_the_durability_of_a_journal_is_that_of_each_commit(
    tmp_path: Path, durability: str, level: int
) -> None:
    with Journal(tmp_path / "journal.db", durability=durability) as journal:
        journal.begin_epoch()

        assert journal._database.execute("PRAGMA synchronous").fetchone() == (level,)
        assert journal._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert journal._database.execute("PRAGMA locking_mode").fetchone() == ("exclusive",)


def test_a_payload_file_is_on_the_disk_before_a_commit_that_must_survive_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with Journal(tmp_path / "journal.db") as journal:
        journal.commit([submitted("a", LARGE)], 1, 1.0)
        assert synced == []

        journal.commit([submitted("b", LARGE)], 1, 1.0, power=True)

    assert synced[0].endswith(".payload")
    assert synced[1:] == ["journal.db.d", tmp_path.name]


def test_a_commit_that_is_too_large_for_a_row_is_several_turns_or_none(tmp_path: Path) -> None:
    path, payload = tmp_path / "journal.db", bytes(65_000)
    records: list[r.Record] = [r.Defined(Definition("old", "f", b"code"))]
    records += [submitted(f"t{n}", payload) for n in range(rows.ROW_BYTES // len(payload) + 1)]
    records.append(submitted("large", LARGE))
    records += [r.Dropped(("h", "old"), ()), r.Defined(Definition("h", "f", b"code"))]
    plain: list[r.Record] = [started(f"t{n}") for n in range(5)]
    plain[2:2] = [submitted(f"u{n}", payload) for n in range(len(records))]
    with Journal(path) as journal:
        journal.replay(Tasks())
        journal.begin_epoch()
        journal.commit(records, 1, 1.0)
        head = journal.head
        journal.commit(plain, 1, 2.0)
        assert (head, journal.head) == (2, 4)
        journal.begin_epoch()
        with pytest.raises(FencedError):
            journal.commit(plain, 1, 2.0)

    state = replayed(path)

    assert state.applied == [*records[1:-2], r.Dropped(("old",), ()), *plain]


# --------------------------------------------------------------------------- tools


def test_info_counts_without_a_master(path: Path) -> None:
    with Journal(path) as journal:
        journal.replay(Tasks())
        ended = r.Succeeded("a", 1, 1.0, b"", (), b"", b"")
        dead = r.Failed("b", 1, 1.0, "crash", b"", (), "", (), None, b"", b"")
        journal.commit([ended, dead], 1, 2.0)
        journal.commit([r.Redriven("b", "c", "x")], 1, 3.0)
        journal.commit([submitted("d"), r.Cancelled("d"), r.Forgotten(("d",))], 1, 4.0)
        failed = r.Failed("e", 0, 0.0, "lost", b"", (), "", (), None, b"", b"")
        journal.commit([submitted("e"), failed], 1, 5.0)
        other = r.TemplateKnown(2, Template("h", TaskOptions(dead_letter=False)))
        lost = r.Failed("f", 0, 0.0, "lost", b"", (), "", (), None, b"", b"")
        journal.commit([other, r.Submitted("c", NewTask("f", 2, b"p")), lost], 1, 6.0)
        journal.commit([r.Redriven("f", "g", "x")], 1, 7.0)
        lost = r.Failed("g", 0, 0.0, "lost", b"", (), "", (), None, b"", b"")
        journal.commit([lost], 1, 8.0)

    found = info(path)

    size = found.pop("size_bytes")
    assert found == {
        "finished": 5,
        "open": 1,
        "dead_letters": 1,
        "turns": 11,
        "records": 15,
        "epoch": 1,
        "format": 2,
    }
    assert size >= path.stat().st_size


def test_info_makes_no_journal(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        info(tmp_path / "journal.db")

    assert list(tmp_path.iterdir()) == []


def test_a_task_that_ends_and_is_forgotten_in_one_commit_leaves_no_payload_file(
    path: Path,
) -> None:
    files = path.with_name("journal.db.d")
    with Journal(path) as journal:
        journal.replay(Tasks())
        before = set(files.iterdir())
        journal.commit([submitted("big")], 1, 5.0)

        end = r.Succeeded("big", 1, 1.0, LARGE, (), b"", b"")
        journal.commit([end, r.Forgotten(("big",))], 1, 6.0)

        assert set(files.iterdir()) == before
    assert "big" not in replayed(path).tasks


def test_a_vacuum_forgets_and_gives_the_space_back(path: Path) -> None:
    with Journal(path) as journal:
        journal.replay(Tasks())
        journal.commit([submitted(f"x{n}", bytes(60_000)) for n in range(20)], 1, 5.0)
    before, state = info(path)["size_bytes"], Tasks()

    def forget() -> list[r.Record]:
        record = r.Forgotten(tuple(t for t in state.tasks if t != "a"))
        state.apply(record, 9.0)
        return [record]

    vacuum(path, state, forget, state.tasks.get, lambda: HEADER, 9.0)

    after = info(path)
    assert (after["open"], after["records"]) == (1, 0)
    assert after["size_bytes"] < before / 10
    assert list(replayed(path).tasks) == ["a"]
    assert not list(path.with_name("journal.db.d").iterdir())
