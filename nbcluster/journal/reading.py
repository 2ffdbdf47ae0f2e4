"""Reads the tables of a journal, each row checked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from nbcluster.core.model import Task, Template
from nbcluster.journal import rows, store
from nbcluster.journal.replay import Sink
from nbcluster.journal.rows import DamagedRowError, Entry, Ref

#: Returns what lies in the file of a task's ``payload`` or ``result``.
ReadPayload = Callable[[str, str, Ref], bytes]

#: A record that is larger than this counts for several: the log is bounded in bytes too.
UNIT_BYTES: Final = 1 << 10
#: `weight` of a row, for SQLite, which need not read the row for it.
WEIGHT: Final = f"max(records, 1, length(blob) / {UNIT_BYTES})"


class Position(NamedTuple):
    """Where a journal stands."""

    epoch: int
    header: int  #: position of the header
    cleaned: int  #: turns up to here are gone
    head: int  #: position of the last turn
    weight: int  #: of all turns in the log


def weight(records: int, size: int) -> int:
    """Return what a turn counts: its records, or its KiB where these are more; at least one."""
    return max(records, 1, size // UNIT_BYTES)


def position(database: sqlite3.Connection) -> Position:
    """Return where the journal stands; that no turn is missing is seen when they are read."""
    one = database.execute
    epoch = stored_epoch(database)
    header, cleaned, _ = header_of(database)
    last, total = one(f"SELECT max(seq), sum({WEIGHT}) FROM turn").fetchone()
    head = last or cleaned
    if header > head:
        raise DamagedRowError(f"turns up to position {header} are missing")
    return Position(epoch, header, cleaned, head, total or 0)


def stored_epoch(database: sqlite3.Connection) -> int:
    """Return the newest epoch that was begun."""
    row = database.execute("SELECT epoch, crc FROM meta").fetchone()
    if row is None or not isinstance(row[0], int) or store.meta_checksum(row[0]) != row[1]:
        raise DamagedRowError("its epoch is missing or does not match its checksum")
    return int(row[0])


def header_of(database: sqlite3.Connection) -> tuple[int, int, bytes]:
    """Return position, end of what was cleaned, and content of the header; 0 if there is none."""
    row = database.execute("SELECT seq, cleaned, crc, blob FROM header").fetchone()
    if row is None:
        return 0, 0, b""
    seq, cleaned, crc, blob = row
    if not isinstance(cleaned, int):
        raise DamagedRowError("header has values of the wrong type")
    return seq, cleaned, rows.check("header", cleaned, crc, blob, seq)


def parts_of(database: sqlite3.Connection) -> dict[int, bytes]:
    """Return the parts of the header."""
    return {
        number: rows.check("part", number, crc, blob)
        for number, crc, blob in database.execute("SELECT number, crc, blob FROM part")
    }


def entries(
    database: sqlite3.Connection, after: int, limit: int = -1
) -> Iterator[tuple[int, Entry, int]]:
    """Yield position, content and size of the turns after a position, without a gap."""
    expected = after + 1
    for seq, records, crc, blob in database.execute(
        "SELECT seq, records, crc, blob FROM turn WHERE seq > ? ORDER BY seq LIMIT ?",
        (after, limit),
    ):
        entry = rows.read_entry(seq, crc, blob)
        if seq != expected or len(entry.records) != records:
            raise DamagedRowError(f"turn {expected} is missing or incomplete")
        expected += 1
        yield seq, entry, len(blob)


def restore_tables(database: sqlite3.Connection, sink: Sink) -> dict[str, int]:
    """Give definitions and templates to ``sink``; return when each definition last arrived."""
    positions = {}
    for key, seq, crc, blob in database.execute("SELECT hash, seq, crc, blob FROM definition"):
        sink.restore_definition(rows.read_definition(key, seq, crc, blob))
        positions[key] = seq
    for number, crc, blob in database.execute(
        "SELECT number, crc, blob FROM template ORDER BY number"
    ):
        sink.restore_template(number, rows.read_template(number, crc, blob))
    return positions


def restore_tasks(
    database: sqlite3.Connection, sink: Sink, read: ReadPayload
) -> tuple[dict[str, int], dict[str, int]]:
    """Give the tasks that have a snapshot to ``sink``.

    Returns the position of each snapshot, and of those that are tombstones of forgotten tasks.
    """
    tombstones: dict[str, int] = {}
    positions: dict[str, int] = {}
    tasks: list[Task] = []
    shared: dict[Template, Template] = {}  # one object for all tasks of a template
    for name, seq, crc, blob in database.execute("SELECT task, seq, crc, blob FROM snapshot"):
        snapshot = rows.read_snapshot(name, seq, crc, blob)
        positions[name] = seq
        if snapshot is None:
            tombstones[name] = seq
            continue
        task = snapshot.task
        task.template = shared.setdefault(task.template, task.template)
        if snapshot.payload is not None:
            task.payload = read(name, "payload", snapshot.payload)
        if snapshot.result is not None:
            task.result = read(name, "result", snapshot.result)
        tasks.append(task)
    tasks.sort(key=lambda task: task.seq)
    for task in tasks:
        sink.restore_task(task)
    return positions, tombstones
