"""The connection file: how clients and engines find the master, and the key that lets them in."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from nbcluster.errors import ClusterConnectionError, RuntimeDirError
from nbcluster.transport.journals import start_call

#: Of a connection file more is not read; ours have less than 1 KiB.
_MAX_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Connection:
    """What the master of a cluster tells those who may reach it."""

    name: str
    epoch: int
    address: str  #: of its socket, as ``ipc:///…``
    key: str = field(repr=False)  #: a peer that does not know it is refused
    pid: int
    host: str
    python: str
    version: str
    directory: str  #: of the cluster
    run: str  #: of its pages and output files
    blobs: str  #: of its large buffers
    persist: bool
    journal: str = ""  #: one that does not lie in the cluster's directory
    protocol: int = 1

    @property
    def start_call(self) -> str:
        """What somebody calls to have the next master."""
        return start_call(self.name, self.journal)

    def make_blobs(self) -> None:
        """Make the directory of large buffers again, as `ClusterDir.make_blobs`."""
        from nbcluster.transport.rundir import ClusterDir  # costs an executor some milliseconds

        ClusterDir(self.name, Path(self.directory)).make_blobs()


def new_key() -> str:
    """Return a key that cannot be guessed (256 bits)."""
    return secrets.token_urlsafe(32)


def write_connection(path: Path, connection: Connection) -> None:
    """Put the file in place, for the user alone; a reader sees the old one or the new one whole."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(asdict(connection)), indent=1))
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def read_connection(path: Path) -> Connection:
    """Return what the file says.

    Raises
    ------
    FileNotFoundError
        If there is none: the cluster is not running.
    RuntimeDirError
        If it belongs to somebody else, others may read it, or it is a link: the key in it would
        be known to others, or theirs.
    ClusterConnectionError
        If it is damaged.
    """
    data = _read_private(path)
    try:
        connection = msgspec.json.decode(data, type=Connection)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    # A pid of 0 or less names groups of processes: whoever signals it would hit many.
    if connection.pid <= 0 or connection.epoch <= 0:
        raise _damaged(path, "pid and epoch must be above 0")
    if not connection.key:
        raise _damaged(path, "the key is empty")
    return connection


def _read_private(path: Path) -> bytes:
    try:
        # Without waiting: opening a pipe would.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise RuntimeDirError(f"{path} is a symbolic link; remove it") from None
        raise
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise RuntimeDirError(f"{path} is not a file; remove it")
        if status.st_uid != os.geteuid():
            raise RuntimeDirError(
                f"{path} belongs to user {status.st_uid}, not to you (user {os.geteuid()}); "
                "it is not used"
            )
        if status.st_mode & 0o077:
            raise RuntimeDirError(
                f"others may read the key in {path} (mode {status.st_mode & 0o777:04o}); "
                "stop the cluster, remove the file, and start it again"
            )
        return file.read(_MAX_BYTES)


def _damaged(path: Path, what: str) -> ClusterConnectionError:
    return ClusterConnectionError(
        f"the connection file {path} is damaged ({what}); remove it and start the cluster again"
    )
