"""Cleans the oldest turns of the log: what they did is kept as snapshots of the tasks they touch.

A snapshot is of the state at the head of the log, not at the end of what is cleaned: nobody
knows the older state any more. So it holds what later turns did too, and a task whose snapshot
is newer than all of its cleaned records needs no new one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from nbcluster.core.model import Task
from nbcluster.core.records import Dropped, Record, Redriven
from nbcluster.journal import reading, rows
from nbcluster.journal.files import FileChanges, PayloadFiles
from nbcluster.journal.replay import OF_ONE_TASK, touched
from nbcluster.journal.rows import FILE_BYTES, Entry, Header, Ref, Snapshot

#: Tasks asked for in one statement: below what any SQLite takes.
_AT_ONCE: Final = 500

SnapshotOf = Callable[[str], Task | None]


class Redrives:
    """Which tasks were made out of which, by the records of the log."""

    def __init__(self) -> None:
        self._successors: dict[str, list[str]] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Note those among the records of a turn."""
        for record in records:
            if isinstance(record, Redriven):
                successors = self._successors.setdefault(record.task, [])
                if record.successor not in successors:  # a journal may be read twice
                    successors.append(record.successor)

    def remove(self, records: Iterable[Redriven]) -> None:
        """Forget those of cleaned turns."""
        for record in records:
            successors = self._successors[record.task]
            successors.remove(record.successor)
            if not successors:
                del self._successors[record.task]

    def of(self, task: str) -> list[str]:
        """Return the tasks that were made out of this one."""
        return self._successors.get(task, [])

    def tasks(self) -> set[str]:
        """Return all tasks of either kind."""
        return {task for old, new in self._successors.items() for task in (old, *new)}


@dataclass(slots=True)
class Oldest:
    """The turns that are cleaned together."""

    last: int  #: position of the last of them
    weight: int = 0
    tasks: dict[str, int] = field(default_factory=dict)  #: touched -> last turn that did
    dropped: list[tuple[int, Dropped]] = field(default_factory=list)
    redriven: list[Redriven] = field(default_factory=list)

    def add(self, seq: int, entry: Entry) -> None:
        """Add the next turn."""
        self.last = seq
        tasks = self.tasks
        for record in entry.records:
            kind = type(record)
            if kind in OF_ONE_TASK:  # nearly all
                tasks[record.task] = seq  # type: ignore[union-attr, index]
                continue
            for task in touched(record):
                tasks[task] = seq
            if kind is Dropped:
                self.dropped.append((seq, record))  # type: ignore[arg-type]
            elif kind is Redriven:
                self.redriven.append(record)  # type: ignore[arg-type]


def oldest_turns(database: sqlite3.Connection, after: int, *, limit: int, spare: int) -> Oldest:
    """Return the turns to clean: to ``limit`` by weight, at least a turn, at most ``spare``."""
    found = Oldest(after)
    for seq, entry, size in reading.entries(database, after):
        cost = found.weight + reading.weight(len(entry.records), size)
        if cost > spare or (found.weight and cost > limit):
            break
        found.add(seq, entry)
        found.weight = cost
    return found


class Cleaner:
    """Writes the snapshots of one cleaning, inside its transaction."""

    def __init__(
        self,
        database: sqlite3.Connection,
        files: PayloadFiles,
        tombstones: dict[str, int],
        head: int,
        *,
        sync: bool,
    ) -> None:
        self._database = database
        self._files = files
        self._head = head
        self._sync = sync
        self.changes = FileChanges()
        self.tombstones = dict(tombstones)  #: those there will be after the transaction

    def clean(self, turns: Oldest, redriven: Redrives, snapshot_of: SnapshotOf) -> None:
        """Replace the turns by snapshots of the tasks they touch."""
        known = self._snapshots(list(turns.tasks))
        refs = self._files.refs
        waiting = list(turns.tasks.items())
        for name, last in waiting:
            if known.get(name, -1) >= last:
                continue  # its snapshot holds that
            task = snapshot_of(name)
            if task is not None or name in known or name in refs:  # else it came and went since
                self._clean_task(name, task, is_known=name in known)
            # A record that made one task out of another is skipped at a replay for both or for
            # none. Any snapshot of the new task is newer than that record.
            if made := redriven.of(name):
                made = [new for new in made if new not in turns.tasks]
                known.update(self._snapshots(made))
                waiting.extend((new, 0) for new in made)
        execute = self._database.execute
        for seq, record in turns.dropped:
            for key in record.definitions:
                execute("DELETE FROM definition WHERE hash = ? AND seq < ?", (key, seq))
            for number in record.templates:
                execute("DELETE FROM template WHERE number = ?", (number,))
        execute("DELETE FROM turn WHERE seq <= ?", (turns.last,))
        for name, seq in list(self.tombstones.items()):
            if seq <= turns.last:  # nothing is left that it could hide
                execute("DELETE FROM snapshot WHERE task = ?", (name,))
                del self.tombstones[name]

    def write_header(self, cleaned: int, header: Header) -> None:
        """Write the state that is no task's, and how far the log is cleaned."""
        execute = self._database.execute
        crc = rows.checksum(cleaned, header.main, self._head)
        execute(
            "INSERT OR REPLACE INTO header VALUES (1, ?, ?, ?, ?)",
            (self._head, cleaned, crc, header.main),
        )
        written = {number for (number,) in execute("SELECT number FROM part")}
        for number in written - header.parts.keys():
            execute("DELETE FROM part WHERE number = ?", (number,))
        for number in header.parts.keys() - written:
            blob = header.parts[number]
            row = (number, rows.checksum(number, blob), blob)
            execute("INSERT INTO part VALUES (?, ?, ?)", row)

    def _snapshots(self, tasks: list[str]) -> dict[str, int]:
        """Return at which turns the snapshots are that these tasks have."""
        found: dict[str, int] = {}
        for first in range(0, len(tasks), _AT_ONCE):
            some = tasks[first : first + _AT_ONCE]
            marks = ",".join("?" * len(some))
            found.update(
                self._database.execute(
                    f"SELECT task, seq FROM snapshot WHERE task IN ({marks})", some
                )
            )
        return found

    def _clean_task(self, name: str, task: Task | None, *, is_known: bool) -> None:
        """Bring the task's snapshot, if any ``is_known``, up to the head."""
        execute = self._database.execute
        if task is not None:
            new = rows.snapshot_row(name, self._head, self._snapshot(task))
            execute("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?, ?)", new)
            self.tombstones.pop(name, None)
        elif refs := self._files.refs.get(name):
            # The log may still have the whole life of a later task of this id, with its files.
            new = rows.snapshot_row(name, self._head, None)
            execute("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?, ?)", new)
            self.tombstones[name] = self._head
            self.changes.unneeded += [(name, place, ref) for place, ref in refs.items()]
        elif is_known and name not in self.tombstones:
            execute("DELETE FROM snapshot WHERE task = ?", (name,))

    def _snapshot(self, task: Task) -> Snapshot:
        payload = self._in_file(task.id, "payload", task.payload)
        result = self._in_file(task.id, "result", task.result)
        for place, ref in self._files.refs.get(task.id, {}).items():
            if place not in ("payload", "result"):
                self.changes.unneeded.append((task.id, place, ref))
        if payload is not None:
            task = replace(task, payload=b"")
        if result is not None:
            task = replace(task, result=b"")
        return Snapshot(task, payload, result)

    def _in_file(self, task: str, place: str, payload: bytes) -> Ref | None:
        """Return the file in which a payload lies, if it is large."""
        refs = self._files.refs
        ref = refs[task].get(place) if task in refs else None
        is_large = len(payload) > FILE_BYTES
        if is_large and ref is not None and ref.size == len(payload):
            return ref
        if ref is not None:  # the task has let go of it, as of its arguments when it succeeded
            self.changes.unneeded.append((task, place, ref))
        if not is_large:
            return None
        ref = self._files.write(payload, sync=self._sync)
        self.changes.written.append((task, place, ref))
        return ref
