"""The journal of one cluster: a log of turns, and snapshots of what its oldest turns had done.

One commit is one row, so the cost of a turn does not depend on how many tasks it moved; only what
is too large for one becomes several, in one transaction. The log
is bounded by cleaning it from its old end (`Journal.checkpoint`), a little at a time and in the
transactions of a running master; how a restart puts snapshots and log together is in
`nbcluster.journal.replay`.

What is not in the log: definitions and templates, which have tables of their own, as they are
needed for as long as a task names them. A `Dropped` is in the log, and takes effect on the tables
when its turn is cleaned: until then older turns may still name what it drops.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from nbcluster.core.records import Record
from nbcluster.errors import (
    FencedError,
    InvariantError,
    JournalCorruptError,
    JournalError,
    JournalFullError,
    NbclusterError,
)
from nbcluster.journal import reading, rows, store
from nbcluster.journal.cleaning import Cleaner, Redrives, SnapshotOf, oldest_turns
from nbcluster.journal.files import FileChanges, PayloadFiles
from nbcluster.journal.reading import WEIGHT
from nbcluster.journal.replay import Replay, Sink
from nbcluster.journal.rows import DamagedRowError, Entry, Header, Ref, Turn
from nbcluster.journal.special import Special

#: Records of the log that are kept for those who read events; here and below, of more than a KiB
#: each fewer.
RETAIN: Final = 20_000
#: Records that one call of `Journal.checkpoint` cleans: some 20 ms.
CLEAN: Final = 2_000

#: What may go wrong with a write.
_FAILURES: Final = (sqlite3.Error, DamagedRowError, OSError, JournalError)
_APPEND: Final = "INSERT INTO turn SELECT ?, ?, ?, ? FROM meta WHERE epoch <= ?"


class Journal:
    """The journal of a cluster. For one thread of one process.

    Parameters
    ----------
    path
        The file; it is made if it is not there, its directory is not.
    durability
        ``"process"``: a commit survives the death of every process. ``"power"``: it survives a
        loss of power too, and waits for the disk.
    retain
        Records that `checkpoint` leaves in the log.
    create
        False: raise FileNotFoundError where there is no journal.

    Raises
    ------
    JournalError
        Its subclasses `JournalCorruptError`, `JournalVersionError`, `JournalReadOnlyError`,
        `JournalLockedError` and `JournalFullError` say why it cannot be opened.

    Notes
    -----
    After `JournalFullError` nothing has changed, and the same call can be tried again. After any
    other `JournalError` it is not known what is on the disk: the journal refuses to be written
    until it is opened and replayed anew.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        durability: str = "process",
        retain: int = RETAIN,
        create: bool = True,
    ) -> None:
        self._path = Path(path).absolute()
        self._power = durability == "power"
        self._retain = retain
        self._broken = ""  #: why nothing may be written any more
        self._owed = False  #: a commit found the disk full and was not repeated yet
        self._redriven = Redrives()
        self._tombstones: dict[str, int] = {}  #: forgotten tasks -> their records up to here
        self._files, self._database = self._open(create)
        try:
            with self._reading():
                position = reading.position(self._database)
        except BaseException:
            self._database.close()
            raise
        self.head: int = position.head  #: position of the last turn
        self._epoch = position.epoch
        self._cleaned = position.cleaned
        self._weight = position.weight
        self._next = 0  #: weight of the oldest turn; 0: not looked up yet
        self._replayed = self.head == 0
        self.last_at = (
            0.0  #: when the last turn in the log was committed, as far as it was replayed
        )

    def _open(self, create: bool) -> tuple[PayloadFiles, sqlite3.Connection]:
        files = PayloadFiles(self._path.with_name(self._path.name + ".d"))
        return files, store.open_file(self._path, create=create, power=self._power)

    @property
    def epoch(self) -> int:
        """The newest epoch that was begun; 0: none."""
        return self._epoch

    @property
    def log_records(self) -> int:
        """Records in the log, as they are counted: see `reading.weight`."""
        return self._weight

    # ------------------------------------------------------------------ restart

    def replay(self, sink: Sink) -> int:
        """Rebuild the state in ``sink``; return how many records were applied.

        Raises
        ------
        JournalCorruptError
            If anything in it is not what was written. The sink is of no use then.
        """
        with self._reading():
            count = self._replay(sink, self._read_payload)
        self._files.sweep()
        self._replayed = True
        return count

    def scan(self, sink: Sink) -> int:
        """Do as `replay`, but leave large payloads empty: for looking, not for going on."""
        with self._reading():
            return self._replay(sink, lambda task, place, ref: b"")

    def _replay(self, sink: Sink, read: reading.ReadPayload) -> int:
        definitions = reading.restore_tables(self._database, sink)
        header, cleaned, blob = reading.header_of(self._database)
        if header:
            sink.restore_header(Header(blob, reading.parts_of(self._database)))
        snapshots, self._tombstones = reading.restore_tasks(self._database, sink, read)
        replay = Replay(sink, snapshots, header, definitions)

        def load(record: Record, ref: Ref) -> None:
            task, place = rows.place_of_payload(record)
            rows.put_payload(record, read(task, place, ref))

        for seq, entry, _ in reading.entries(self._database, cleaned):
            self._redriven.add(entry.records)
            replay.turn(seq, entry, load)
            self.last_at = max(self.last_at, entry.at)
        replay.finish()
        return replay.applied

    def _read_payload(self, task: str, place: str, ref: Ref) -> bytes:
        payload = self._files.read(ref)
        self._files.keep(task, place, ref)
        return payload

    def turns(self, since: int, limit: int) -> list[Turn]:
        """Return up to ``limit`` turns after position ``since``, or after what was cleaned.

        `Defined` and `TemplateKnown` are not in them, and payloads above 64 KiB are empty.
        """
        with self._reading():
            found = reading.entries(self._database, max(since, self._cleaned), limit)
            return [Turn(seq, e.epoch, e.at, e.records) for seq, e, _ in found]

    # ------------------------------------------------------------------ writing

    def begin_epoch(self) -> int:
        """Raise the epoch by one, on the disk before this returns, and return it.

        Whoever still commits in an older epoch is refused from then on.
        """
        with self._writing(power=True):
            with self._transaction():
                epoch = reading.stored_epoch(self._database) + 1
                row = (epoch, store.meta_checksum(epoch))
                self._database.execute("UPDATE meta SET epoch = ?, crc = ?", row)
            self._epoch = epoch
        return epoch

    def commit(self, records: list[Record], epoch: int, now: float, *, power: bool = False) -> None:
        """Make the records durable, as one turn.

        Parameters
        ----------
        records
            In the order in which they are to be applied; with none, only the epoch is checked.
        epoch
            That of the master that writes.
        now
            When they happened, in seconds since the epoch.
        power
            This commit must survive a loss of power, whatever the journal's durability.

        Raises
        ------
        FencedError
            If a newer master has begun its epoch; nothing was written.
        JournalFullError
            If the disk is full; nothing was written, and the same commit can be tried again.
        JournalError
            If it cannot be written for another reason.
        """
        try:
            if records and not power and rows.are_plain(records, self._files.refs):
                self._commit_plain(Entry(epoch, now, records))
            else:
                with self._writing(power=power):
                    if records:
                        self._commit_special(records, epoch, now, sync=power or self._power)
                    else:
                        self._check_epoch(epoch)
        except JournalFullError:
            self._owed = True
            raise
        self._owed = False

    def _commit_plain(self, entry: Entry) -> None:
        """Write a turn as one statement. Nearly all are so, and each task waits for two of them."""
        self._check_whole()
        turns = rows.encode_turns(entry)
        try:
            if len(turns) == 1:
                self._append(self.head + 1, *turns[0])
            else:
                with self._transaction():
                    self._append_all(turns)
        except _FAILURES as error:
            raise self._failed(error) from error
        self._advance(turns)

    def _append_all(self, turns: list[tuple[Entry, bytes]]) -> None:
        for seq, turn in enumerate(turns, self.head + 1):
            self._append(seq, *turn)

    def _append(self, seq: int, entry: Entry, blob: bytes) -> None:
        """Write a turn, unless a newer epoch was begun; by itself it is a transaction."""
        row = (seq, len(entry.records), rows.checksum(seq, blob), blob, entry.epoch)
        if self._database.execute(_APPEND, row).rowcount != 1:
            self._check_epoch(entry.epoch)
            raise DamagedRowError("its epoch is missing")

    def _advance(self, turns: list[tuple[Entry, bytes]]) -> None:
        self.head += len(turns)
        self._weight += sum(reading.weight(len(entry.records), len(blob)) for entry, blob in turns)

    def _check_epoch(self, epoch: int) -> None:
        stored = reading.stored_epoch(self._database)
        if stored > epoch:
            raise FencedError(
                f"a newer master (epoch {stored}) has taken over the journal {self._path}; this "
                f"one (epoch {epoch}) may write nothing any more and must end"
            )

    def _commit_special(self, records: list[Record], epoch: int, now: float, *, sync: bool) -> None:
        """Write a turn with records that concern more than the log."""
        changes = FileChanges()
        self._redriven.add(records)
        with self._files.changing(changes), self._transaction():
            special = Special(self._database, self._files, changes)
            turns = rows.encode_turns(special.entry(records, epoch, now, sync=sync))
            special.write_tables(records, self.head, self.head + len(turns))
            ended = special.write_tombstones(
                records, self.head + len(turns), self._redriven.tasks()
            )
            self._append_all(turns)
        self._advance(turns)
        self._tombstones.update(dict.fromkeys(ended, self.head))

    # ------------------------------------------------------------------ cleaning

    def cleanable(self) -> int:
        """Return how many records the log has above those it retains.

        0 as long as its oldest turn cannot be cleaned whole.
        """
        spare = self._weight - self._retain
        if spare <= 0:
            return 0
        if not self._next:
            with self._reading():
                row = self._database.execute(f"SELECT {WEIGHT} FROM turn ORDER BY seq LIMIT 1")
                self._next = row.fetchone()[0]
        return spare if self._next <= spare else 0

    def checkpoint(
        self, snapshot_of: SnapshotOf, header: Callable[[], Header], limit: int = CLEAN
    ) -> bool:
        """Clean the oldest turns of the log; return whether there is more to clean.

        The state that is asked for must be that of the last commit. While a commit that found the
        disk full was not repeated it is ahead of that, so then nothing is done.

        Parameters
        ----------
        snapshot_of
            Returns the task of that id, None if it was forgotten.
        header
            Returns the state that is no task's.
        limit
            Records to clean in this call; a turn of more is cleaned whole.
        """
        if self._owed or not self.cleanable():
            return False
        self._clean(snapshot_of, header, limit, self._weight - self._retain)
        return self.cleanable() > 0

    def compact(self, snapshot_of: SnapshotOf, header: Callable[[], Header]) -> None:
        """Clean the whole log, events included, and give the space back to the disk.

        The database is written anew, so this is for a journal at rest.
        """
        while self._weight:
            self._clean(snapshot_of, header, CLEAN, self._weight)
        with self._writing():
            self._database.execute("VACUUM")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _clean(
        self, snapshot_of: SnapshotOf, header: Callable[[], Header], limit: int, spare: int
    ) -> None:
        if not self._replayed:
            raise InvariantError("a journal is replayed before it is cleaned")
        cleaner = Cleaner(
            self._database, self._files, self._tombstones, self.head, sync=self._power
        )
        with self._writing(), self._files.changing(cleaner.changes), self._transaction():
            self._check_epoch(self._epoch)
            turns = oldest_turns(self._database, self._cleaned, limit=limit, spare=spare)
            cleaner.clean(turns, self._redriven, snapshot_of)
            cleaner.write_header(turns.last, header())
        self._redriven.remove(turns.redriven)
        self._tombstones = cleaner.tombstones
        self._cleaned = turns.last
        self._weight -= turns.weight
        self._next = 0

    # ------------------------------------------------------------------ end

    def size_bytes(self) -> int:
        """Return what the journal takes on the disk."""
        size = self._files.size_bytes()
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                size += self._path.with_name(self._path.name + suffix).stat().st_size
        return size

    def close(self) -> None:
        """Bring the log into the main file and close; what was committed is safe either way."""
        with suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------ errors

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        execute = self._database.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield
            execute("COMMIT")
        except BaseException:
            # A full disk may have rolled it back already.
            if self._database.in_transaction:
                with suppress(sqlite3.Error):
                    execute("ROLLBACK")
            raise

    @contextmanager
    def _writing(self, *, power: bool = False) -> Iterator[None]:
        """Turn errors of writing into ours; ``power``: wait for the disk.

        SQLite itself is told to wait, since it knows what there is to wait for: the log with all
        that went before, the directory of a log just made, and on macOS the disk's own cache.
        """
        self._check_whole()
        switch = power and not self._power
        try:
            if switch:
                store.set_synchronous(self._database, power=True)
            yield
        except _FAILURES as error:
            raise self._failed(error) from error
        finally:
            if switch:
                with suppress(sqlite3.Error):
                    store.set_synchronous(self._database, power=False)

    def _check_whole(self) -> None:
        if self._broken:
            raise JournalError(f"{self._broken} It is to be opened anew.")

    def _failed(self, error: Exception) -> NbclusterError:
        """Return our error for one of writing, after a note that forbids more where that is due."""
        found = store.translate(error, self._path)
        if not isinstance(found, JournalFullError | FencedError):
            self._broken = str(found)
        return found

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn errors of reading into ours: what cannot be read is damaged."""
        try:
            yield
        except (sqlite3.Error, DamagedRowError, OSError) as error:
            found = store.translate_reading(error, self._path)
            if isinstance(found, JournalCorruptError):
                self._broken = str(found)
            raise found from error
