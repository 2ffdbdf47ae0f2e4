"""Large payloads: one file each, in a directory beside the journal."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from zlib import crc32

from nbcluster.journal.rows import DamagedRowError, Ref

#: Names are drawn, never reused: a file that a committed row names is not written again.
_OURS: Final = re.compile(r"[0-9a-f]{24}\.payload")


@dataclass(slots=True)
class FileChanges:
    """What a transaction does to the files."""

    written: list[tuple[str, str, Ref]] = field(default_factory=list)  #: task, field of it, file
    unneeded: list[tuple[str, str, Ref]] = field(default_factory=list)


class PayloadFiles:
    """The files in one directory, which is made with the first of them.

    Parameters
    ----------
    directory
        Where they lie.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        #: for each task that has any: field of the task (see `keep`) -> file
        self.refs: dict[str, dict[str, Ref]] = {}

    def write(self, payload: bytes, *, sync: bool) -> Ref:
        """Write a file for the user alone; ``sync``: it and its name survive a loss of power."""
        name = f"{secrets.token_hex(12)}.payload"
        with suppress(FileExistsError):
            self._directory.mkdir(mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        ref = Ref(name, len(payload), crc32(payload))
        try:
            with open(os.open(self._directory / name, flags, 0o600), "wb", buffering=0) as file:
                rest = memoryview(payload)
                while rest:
                    rest = rest[file.write(rest) :]
                if sync:
                    os.fsync(file.fileno())
        except BaseException:
            self.remove([ref])
            raise
        if sync:
            self._sync_names()
        return ref

    def read(self, ref: Ref) -> bytes:
        """Return the payload.

        Raises
        ------
        DamagedRowError
            If the file is missing or is not what was written.
        """
        path = self._directory / ref.name
        if not _OURS.fullmatch(ref.name):
            raise DamagedRowError(f"a payload lies in {ref.name!r}, which is no name of ours")
        try:
            payload = path.read_bytes()
        except FileNotFoundError:
            raise DamagedRowError(f"the payload file {path} is missing") from None
        if len(payload) != ref.size or crc32(payload) != ref.crc:
            raise DamagedRowError(f"the payload file {path} does not match its checksum")
        return payload

    def remove(self, refs: Iterable[Ref]) -> None:
        """Remove files; one that cannot be removed is swept at the next start."""
        for ref in refs:
            self._unlink(ref.name)

    def keep(self, task: str, place: str, ref: Ref) -> None:
        """Note that the task's ``payload`` or ``result`` lies in this file."""
        places = self.refs.setdefault(task, {})
        old = places.get(place)
        if old is not None and old != ref:
            # Of an earlier task of this id. The log may still have the record that names it.
            places[old.name] = old
        places[place] = ref

    @contextmanager
    def changing(self, changes: FileChanges) -> Iterator[None]:
        """Keep the files in step with a transaction inside.

        They are written before it is committed and removed after that: whatever a committed row
        names is there.
        """
        try:
            yield
        except BaseException:
            self.remove(ref for _, _, ref in changes.written)
            raise
        passing = set(changes.written) & set(changes.unneeded)  # of a task that came and went
        for task, place, _ in (change for change in changes.unneeded if change not in passing):
            self.refs[task].pop(place)
            if not self.refs[task]:
                del self.refs[task]
        for task, place, ref in (change for change in changes.written if change not in passing):
            self.keep(task, place, ref)
        self.remove(ref for _, _, ref in changes.unneeded)

    def sweep(self) -> None:
        """Remove the files that no task needs."""
        needed = {ref.name for fields in self.refs.values() for ref in fields.values()}
        for name in self._names():
            if name not in needed:
                self._unlink(name)

    def size_bytes(self) -> int:
        """Return the size of all files."""
        return sum(ref.size for fields in self.refs.values() for ref in fields.values())

    def _unlink(self, name: str) -> None:
        with suppress(OSError):
            (self._directory / name).unlink()

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._directory) if _OURS.fullmatch(name)]
        except OSError:
            return []

    def _sync_names(self) -> None:
        for directory in (self._directory, self._directory.parent):
            fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
