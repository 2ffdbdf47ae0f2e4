"""Shared buffers: files on shared memory, written once and mapped read-only by the reader.

A buffer goes through ``write(2)`` and not through a writable mapping: for 100 MB on tmpfs that is
2.8 GB/s against 1.5 GB/s, because a mapping takes a page fault for every page and the kernel
zeroes it before it is filled.

A buffer that is itself a whole mapped file (a task that returns its argument) is not copied: it
gets a second name by a hard link. Each name has its own lifetime, so either may be removed first.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Set
from contextlib import suppress
from itertools import count
from typing import Any, Final
from weakref import WeakKeyDictionary

from nbcluster.errors import ClusterError, NbclusterError

#: Buffers and streams of at least this many bytes go to files.
INLINE_LIMIT: Final = 1 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM})
_FLAGS: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
#: Linux refuses to write more than this in one call.
_MOST_BYTES: Final = 0x7FFF_F000
#: From Python 3.13 on a mapping need not keep a descriptor open.
_MAP_OPTIONS: Final[dict[str, Any]] = {"trackfd": False} if sys.version_info >= (3, 13) else {}
#: Mappings beyond which nothing is mapped before it is asked for: the kernel allows 65,530.
_MOST_AHEAD: Final = 10_000

Buffer = bytes | bytearray | memoryview


class SharedMemoryFullError(ClusterError, OSError):
    """There is no room for a buffer in shared memory."""

    def __init__(self, directory: str, size: int) -> None:
        super().__init__(directory, size)
        self.directory, self.size = directory, size

    def __str__(self) -> str:
        return (
            f"shared memory is full: {self.size / 2**20:.0f} MiB more do not fit below "
            f"{self.directory}. Drop results that are not needed any more, or send less at once."
        )


class BlobGoneError(NbclusterError, LookupError):
    """A shared buffer was removed before it was read."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"the shared buffer {self.name!r} is gone: the result was released, its task was "
            "forgotten, its cluster was stopped, or its file was removed. Submit the task again."
        )


class BlobStore:
    """The buffers of one cluster on this host, as one process sees them.

    Thread safe: every file is written by one call under a name of its own.

    Parameters
    ----------
    directory
        An existing directory on shared memory that only the user may enter.
    owner
        Prefix of the names this store makes; no two processes may share one.
    make
        Makes the directory again if it is gone: at a logout systemd may empty shared memory.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        owner: str,
        make: Callable[[], None] = lambda: None,
    ) -> None:
        self.directory = os.fspath(directory)
        self.owner = owner
        self._make = make
        self._numbers = count(1)
        self._mapped: WeakKeyDictionary[mmap.mmap, str] = WeakKeyDictionary()

    def write(self, buffer: Buffer) -> str:
        """Store a copy of ``buffer``, which must be contiguous, and return its name.

        Raises
        ------
        SharedMemoryFullError
            If it does not fit; nothing is left behind.
        """
        view = memoryview(buffer).cast("B")
        return self._linked(view) or self.write_all([view])

    def write_all(self, parts: Iterable[Buffer]) -> str:
        """Store the parts one after another as one buffer and return its name."""
        views = [memoryview(part).cast("B") for part in parts]
        path, name = self._new_path()
        try:
            fd = os.open(path, _FLAGS, 0o600)
        except FileNotFoundError:
            self._make()
            fd = os.open(path, _FLAGS, 0o600)
        try:
            for view in views:
                _write(fd, view)
        except OSError as error:
            os.unlink(path)
            if error.errno not in _FULL:
                raise
            size = sum(view.nbytes for view in views)
            raise SharedMemoryFullError(self.directory, size) from error
        finally:
            os.close(fd)
        return name

    def map(self, name: str) -> memoryview:
        """Return a read-only view of the buffer; the mapping lives as long as the view.

        Raises
        ------
        BlobGoneError
            If there is no buffer of that name any more.
        """
        try:
            mapped = _map(os.path.join(self.directory, name))
        except FileNotFoundError:
            raise BlobGoneError(name) from None
        if mapped is None:
            return memoryview(b"")
        self._mapped[mapped] = name  # no lock: a handler of a signal may come in here, and map
        return memoryview(mapped)

    def map_ahead(self, names: Iterable[str]) -> list[memoryview] | None:
        """Map buffers that may be removed before they are asked for; None if that cannot be."""
        if len(self._mapped) >= _most_ahead():
            return None
        try:
            return [self.map(name) for name in names]
        except (OSError, BlobGoneError):
            return None  # who asks for them finds out, or finds room

    def remove(self, names: Iterable[str]) -> None:
        """Remove buffers. One that is missing is fine; one still mapped stays readable."""
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self.directory, name))

    def _new_path(self) -> tuple[str, str]:
        name = f"{self.owner}-{next(self._numbers)}"
        path = os.path.join(self.directory, name)
        if os.path.exists(path):  # an owner's name came back, as after a restart
            name = f"{self.owner}-{secrets.token_hex(4)}-{next(self._numbers)}"
            path = os.path.join(self.directory, name)
        return path, name

    def _linked(self, view: memoryview) -> str | None:
        """Give a whole mapped file a second name, or return None."""
        mapped = _mapping_of(view)
        if mapped is None or len(mapped) != view.nbytes:
            return None
        old = self._mapped.get(mapped)
        if old is None:
            return None
        path, name = self._new_path()
        try:
            os.link(os.path.join(self.directory, old), path)
        except OSError:  # removed meanwhile: copy from the mapping
            return None
        return name


def sweep(directory: str | os.PathLike[str], keep: Set[str] = frozenset(), prefix: str = "") -> int:
    """Remove the buffers whose names begin with ``prefix`` and are not in ``keep``; count them."""
    removed = 0
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name not in keep:
                with suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(entry.path)
                    removed += 1
    return removed


def _write(fd: int, view: memoryview) -> None:
    done = 0
    while done < view.nbytes:
        done += os.write(fd, view[done : done + _MOST_BYTES])


def _map(path: str) -> mmap.mmap | None:
    """Map a file; None if it is empty, which cannot be mapped."""
    fd = _open(path)
    try:
        size = os.fstat(fd).st_size
        if size == 0:
            return None
        try:
            return mmap.mmap(fd, size, access=mmap.ACCESS_READ, **_MAP_OPTIONS)
        except OSError as error:
            if error.errno != errno.EMFILE or not _more_descriptors():
                raise
            return mmap.mmap(fd, size, access=mmap.ACCESS_READ, **_MAP_OPTIONS)
    finally:
        os.close(fd)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EMFILE or not _more_descriptors():
            raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _more_descriptors() -> bool:
    """Raise this process's soft limit of open files: before 3.13 each mapping holds one."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return True


def _most_ahead() -> int:
    """Return how many mappings may be made that nobody asked for: the user opens files too."""
    if _MAP_OPTIONS:
        return _MOST_AHEAD
    import resource

    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2, _MOST_AHEAD)


def _mapping_of(view: memoryview) -> mmap.mmap | None:
    """Return the mapping that the memory of ``view`` belongs to, seen through its owners."""
    owner: object = view
    for _ in range(8):
        if isinstance(owner, mmap.mmap):
            return owner
        owner = owner.obj if isinstance(owner, memoryview) else getattr(owner, "base", None)
    return None
