"""Commits of records that concern more than the log: definitions, large payloads, ends of both."""

from __future__ import annotations

import sqlite3

from nbcluster.core.records import (
    Defined,
    Dropped,
    Forgotten,
    Record,
    Submitted,
    TemplateKnown,
)
from nbcluster.journal import rows
from nbcluster.journal.files import FileChanges, PayloadFiles
from nbcluster.journal.rows import Entry, Ref


class Special:
    """Writes what goes beside the log, inside the transaction of a commit."""

    def __init__(
        self, database: sqlite3.Connection, files: PayloadFiles, changes: FileChanges
    ) -> None:
        self._database = database
        self._files = files
        self._changes = changes

    def entry(self, records: list[Record], epoch: int, now: float, *, sync: bool) -> Entry:
        """Return what goes into the log; large payloads are written to files."""
        log: list[Record] = []
        files: list[tuple[int, Ref]] = []
        for record in records:
            if isinstance(record, Defined | TemplateKnown):
                continue
            payload = rows.large_payload(record)
            if payload is None:
                log.append(record)
                continue
            ref = self._files.write(payload, sync=sync)
            self._changes.written.append((*rows.place_of_payload(record), ref))
            files.append((len(log), ref))
            log.append(rows.without_payload(record))
        return Entry(epoch, now, log, tuple(files))

    def write_tables(self, records: list[Record], before: int, last: int) -> None:
        """Write definitions and templates; turns after ``before`` up to ``last`` are the commit."""
        arrived: dict[str, tuple[Defined, int]] = {}
        for record in records:
            if isinstance(record, Defined):
                arrived[record.definition.hash] = record, last
            elif isinstance(record, TemplateKnown):
                self._database.execute(
                    "INSERT OR IGNORE INTO template VALUES (?, ?, ?)",
                    rows.template_row(record.number, record.template),
                )
            elif isinstance(record, Dropped):
                # Dropped after it arrived in this very commit: as if it had arrived before it.
                for key in arrived.keys() & set(record.definitions):
                    arrived[key] = arrived[key][0], before
        for defined, seq in arrived.values():
            self._database.execute(
                "INSERT OR REPLACE INTO definition VALUES (?, ?, ?, ?, ?)",
                rows.definition_row(defined.definition, seq),
            )

    def write_tombstones(self, records: list[Record], last: int, redriven: set[str]) -> list[str]:
        """Free the files of forgotten tasks now, and not when the log is cleaned of them.

        Returns those tasks. A replay must not look for their files then, so what the log still
        has of such a task is skipped as if it had a snapshot. Not for tasks that were made one
        out of the other (``redriven``): the log's record of that would be skipped too.
        """
        refs = self._files.refs
        # Also of what this very commit has written: a task may end and be forgotten in one turn.
        have = refs.keys() | {written[0] for written in self._changes.written}
        forgotten = {t for r in records if isinstance(r, Forgotten) for t in r.tasks if t in have}
        if not forgotten:
            return []
        again = {r.task.id for r in records if isinstance(r, Submitted)}
        ended = list(forgotten - again - redriven)
        for task in ended:
            self._database.execute(
                "INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?, ?)",
                rows.snapshot_row(task, last, None),
            )
            files = refs.get(task, {}).items()
            self._changes.unneeded += [(task, place, ref) for place, ref in files]
        self._changes.unneeded += [w for w in self._changes.written if w[0] in ended]
        return ended
