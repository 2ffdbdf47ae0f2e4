"""The SQLite file under the journal: opened, checked, created; its errors put into ours.

Exclusive locking is more than a lock here. Between two connections a WAL needs shared memory and
a checkpoint that can go wrong (SQLite before 3.51.3); with one connection there is neither.
SQLite's locks are POSIX locks, which a process loses as soon as it closes *any* descriptor of the
file: while a journal is open, nothing else in its process may open that file.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from nbcluster.errors import (
    FencedError,
    JournalCorruptError,
    JournalError,
    JournalFullError,
    JournalLockedError,
    JournalReadOnlyError,
    JournalVersionError,
    NbclusterError,
)
from nbcluster.journal.rows import DamagedRowError, checksum

#: Marks the file as ours in its header (``nbcl``).
APPLICATION_ID: Final = 0x6E62636C
FORMAT: Final = 2

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)

_PART_TABLE: Final = (
    "CREATE TABLE part (number INTEGER PRIMARY KEY, crc INTEGER NOT NULL, blob BLOB NOT NULL)"
)
# No table has an index beside it: a replay reads every page there is, so damage to any is seen.
_SCHEMA: Final = (
    "CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL,"
    " created REAL NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE header (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL,"
    " cleaned INTEGER NOT NULL, crc INTEGER NOT NULL, blob BLOB NOT NULL)",
    "CREATE TABLE definition (hash TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL,"
    " seq INTEGER NOT NULL, crc INTEGER NOT NULL, blob BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE template (number INTEGER PRIMARY KEY, crc INTEGER NOT NULL, blob BLOB NOT NULL)",
    "CREATE TABLE snapshot (task TEXT PRIMARY KEY NOT NULL, seq INTEGER NOT NULL,"
    " crc INTEGER NOT NULL, blob BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE turn (seq INTEGER PRIMARY KEY, records INTEGER NOT NULL,"
    " crc INTEGER NOT NULL, blob BLOB NOT NULL)",
    _PART_TABLE,
)


def meta_checksum(epoch: int) -> int:
    """Return the checksum of the row that holds the epoch."""
    return checksum(1, b"", epoch)


# --------------------------------------------------------------------------- opening


def open_file(path: Path, *, create: bool, power: bool) -> sqlite3.Connection:
    """Open the journal at ``path`` for this process alone.

    Raises
    ------
    JournalError
        One of its subclasses says what is wrong; FileNotFoundError if ``create`` is False and
        there is none.
    """
    _prepare(path, create=create)
    connection = _connect(str(path))
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        is_new = _identify(connection, path)  # before anything is written: it may be foreign
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise JournalError(f"the file system under {path} does not support a journal")
        set_synchronous(connection, power=power)
        connection.execute("PRAGMA secure_delete = OFF")  # some builds zero what they delete
        connection.execute("PRAGMA cache_size = -8000")
        connection.execute(f"PRAGMA journal_size_limit = {16 << 20}")
        if is_new:
            create_tables(connection)
        else:
            _upgrade(connection)
        return connection
    except sqlite3.Error as error:
        connection.close()
        raise translate(error, path) from error
    except BaseException:
        connection.close()
        raise


def open_memory() -> sqlite3.Connection:
    """Open a journal that lives in memory."""
    connection = _connect(":memory:")
    create_tables(connection)
    return connection


def set_synchronous(connection: sqlite3.Connection, *, power: bool) -> None:
    """Choose whether a commit waits for the disk."""
    connection.execute(f"PRAGMA synchronous = {'FULL' if power else 'NORMAL'}")


def create_tables(connection: sqlite3.Connection) -> None:
    """Make an empty journal, in one transaction: a file without our mark has none of it."""
    connection.execute("BEGIN EXCLUSIVE")
    try:
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES (1, 0, ?, ?)", (time.time(), meta_checksum(0)))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring an older journal to our format: in the first one the header had no parts."""
    if connection.execute("PRAGMA user_version").fetchone()[0] < FORMAT:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_PART_TABLE)
            connection.execute(f"PRAGMA user_version = {FORMAT}")


def _connect(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=0, isolation_level=None)


def _prepare(path: Path, *, create: bool) -> None:
    """Make the file if it may be made, for the user alone; see that it can be written."""
    try:
        if create:
            _make(path)
        status = path.stat()
    except FileNotFoundError as error:
        if not create:
            raise
        raise JournalError(
            f"the directory of the journal {path} does not exist; make it, or choose another path"
        ) from error
    except OSError as error:
        raise translate(error, path) from error
    if not stat.S_ISREG(status.st_mode):
        raise JournalError(f"the journal {path} cannot be used: it is not a file")
    if not os.access(path, os.W_OK):
        raise _read_only(path)
    # What is in the journal is sent to executors, which unpickle it.
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise JournalError(
            f"others may write the journal {path} (owner {status.st_uid}, mode "
            f"{status.st_mode & 0o777:04o}), and what they write would be run; "
            "make it yours and run: chmod 600, or choose another path"
        )


def _make(path: Path) -> None:
    with suppress(FileExistsError):  # then it is not even opened: see the top of this file
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _identify(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the file is empty; raise if it is no journal of ours."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application == 0 and tables == 0:
        return True
    if application != APPLICATION_ID:
        raise corrupt(path, "it is a database of another program")
    if version > FORMAT:
        raise JournalVersionError(
            f"the journal {path} has format {version}, and this nbcluster knows {FORMAT}; "
            "use the newer nbcluster that wrote it, or choose another path"
        )
    return False


# --------------------------------------------------------------------------- errors


def corrupt(path: Path, what: str) -> JournalCorruptError:
    """Return the error for a journal that cannot be believed."""
    return JournalCorruptError(
        f"the journal {path} is damaged: {what}. Nothing was read from it or changed. Restore it "
        "from a copy, or move it away and start with a new one; its tasks are lost then."
    )


def translate(error: Exception, path: Path) -> NbclusterError:
    """Return our error for one of SQLite or of the system."""
    match error:
        case NbclusterError():
            return error
        case DamagedRowError():
            return corrupt(path, str(error))
        case OSError():
            return _of_system(error, path)
        case sqlite3.IntegrityError():
            return FencedError(f"another master has written the journal {path}; this one stops")
        case sqlite3.Error():
            return _of_sqlite(error, path)
        case _:
            return JournalError(f"the journal {path} cannot be used: {error!r}")


def translate_reading(error: Exception, path: Path) -> NbclusterError:
    """Return our error for one of reading a journal that could be opened."""
    # A missing table, or text that is no UTF-8: SQLite has no code of its own for these.
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 1) == 1:
        return corrupt(path, str(error))
    return translate(error, path)


def _of_system(error: OSError, path: Path) -> JournalError:
    if error.errno in _FULL:
        return _full(path)
    if error.errno in _READ_ONLY:
        return _read_only(path)
    return JournalError(f"the journal {path} cannot be used: {error}")


def _of_sqlite(error: sqlite3.Error, path: Path) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0)
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return JournalLockedError(
                f"the journal {path} is in use by another process, probably a master; "
                "stop that cluster first, or choose another path"
            )
        case sqlite3.SQLITE_NOTADB:
            return corrupt(path, "it is not a database")
        case sqlite3.SQLITE_CORRUPT:
            return corrupt(path, str(error))
        case sqlite3.SQLITE_READONLY:
            return _read_only(path)
        case sqlite3.SQLITE_CANTOPEN if not os.access(path.parent, os.W_OK):
            return _read_only(path)
        # SQLite tells a used-up quota from other errors of a write as little as a broken disk.
        case sqlite3.SQLITE_IOERR if is_full(path.parent):
            return _full(path)
        case _:
            return JournalError(f"the journal {path} cannot be used: {error}")


def _full(path: Path) -> JournalFullError:
    return JournalFullError(
        f"the disk under the journal {path} is full; what was to be written was not. Free some "
        "space there: work goes on as soon as it can be written."
    )


def _read_only(path: Path) -> JournalReadOnlyError:
    return JournalReadOnlyError(
        f"the journal {path} cannot be written where it lies; make it and its directory writable, "
        "or choose another path with journal="
    )


def is_full(directory: Path) -> bool:
    """Return whether a page more cannot be written here."""
    probe = directory / f".nbcluster-probe-{os.getpid()}"
    try:
        with open(probe, "xb", buffering=0) as file:
            file.write(bytes(1 << 16))
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno in _FULL
    finally:
        with suppress(OSError):
            probe.unlink()
    return False
