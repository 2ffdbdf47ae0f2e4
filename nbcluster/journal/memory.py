"""The journal's twin in memory: the same code on a database and files that no disk holds."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from zlib import crc32

from nbcluster.errors import JournalError, JournalFullError
from nbcluster.journal import store
from nbcluster.journal.files import PayloadFiles
from nbcluster.journal.journal import RETAIN, Journal
from nbcluster.journal.rows import DamagedRowError, Entry, Ref

#: ``full``: refused, nothing written; ``io``: an error, nothing written; ``done``: an error, but
#: it was written.
Failure = Literal["full", "io", "done"]


class MemoryDisk:
    """What stays when a `MemoryJournal` is dropped, as a disk does when a master dies.

    Two journals may be open on it at once, so that a master that was replaced can come back.
    """

    def __init__(self) -> None:
        self.database = store.open_memory()
        self.files: dict[str, bytes] = {}

    def close(self) -> None:
        """Free it."""
        self.database.close()

    def __del__(self) -> None:
        self.close()


class MemoryJournal(Journal):
    """A `Journal` on a `MemoryDisk`.

    Parameters
    ----------
    disk
        What was kept of an earlier journal; without it there is none.
    """

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        *,
        durability: str = "process",
        retain: int = RETAIN,
    ) -> None:
        self.disk = MemoryDisk() if disk is None else disk
        self._failures: list[Failure] = []
        super().__init__(Path("memory.db"), durability=durability, retain=retain)

    def _open(self, create: bool) -> tuple[PayloadFiles, sqlite3.Connection]:
        return _MemoryFiles(self.disk.files), self.disk.database

    def fail(self, *failures: Failure) -> None:
        """Let the next calls that write fail, one after another, in these ways."""
        self._failures.extend(failures)

    @contextmanager
    def _writing(self, *, power: bool = False) -> Iterator[None]:
        with super()._writing(power=power):
            failure = self._failures.pop(0) if self._failures else None
            if failure == "full":
                raise JournalFullError("the disk is full, as it was told to be")
            if failure == "io":
                raise JournalError("the disk is broken, as it was told to be")
            yield
            if failure == "done":
                raise JournalError("the disk broke after it had written, as it was told to")

    def _commit_plain(self, entry: Entry) -> None:
        with self._writing():
            super()._commit_plain(entry)

    def size_bytes(self) -> int:
        """Return what the journal takes in memory."""
        pages = self._database.execute("PRAGMA page_count").fetchone()[0]
        size = self._database.execute("PRAGMA page_size").fetchone()[0]
        return int(pages * size) + self._files.size_bytes()

    def close(self) -> None:
        """Nothing: what was committed stays on the disk."""


class _MemoryFiles(PayloadFiles):
    """Files that are entries of a dict."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(Path("memory.db.d"))
        self._contents = files

    def write(self, payload: bytes, *, sync: bool) -> Ref:
        ref = Ref(f"{secrets.token_hex(12)}.payload", len(payload), crc32(payload))
        self._contents[ref.name] = payload
        return ref

    def read(self, ref: Ref) -> bytes:
        try:
            return self._contents[ref.name]
        except KeyError:
            raise DamagedRowError(f"the payload file {ref.name} is missing") from None

    def _names(self) -> list[str]:
        return list(self._contents)

    def _unlink(self, name: str) -> None:
        self._contents.pop(name, None)
