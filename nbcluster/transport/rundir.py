"""The directory of a cluster: where everything of it lies, who may enter, who holds its lock.

Whoever can write here can run code as the owner of the cluster, so every directory is 0700, its
owner is checked before it is used, and no symbolic link is followed.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from nbcluster.errors import ClusterTimeoutError, OptionError, RuntimeDirError
from nbcluster.ids import check_name
from nbcluster.transport.paths import is_gone, is_same_file, remove_all

#: Longest path of a socket in bytes. The system allows 107, macOS 103.
MAX_SOCKET_PATH: Final = 100
_SHARED_MEMORY: Final = Path("/dev/shm")
_SOCKET: Final = "master-{}.sock"
_POLL_S: Final = 0.02


def home() -> Path:
    """Return the directory that holds the clusters: ``$NBCLUSTER_HOME`` or ``~/.nbcluster``.

    Links on the way to it are resolved, so that one directory has one name.
    """
    chosen = os.environ.get("NBCLUSTER_HOME") or "~/.nbcluster"
    return Path(os.path.realpath(os.path.expanduser(chosen)))


@dataclass(frozen=True, slots=True)
class ClusterDir:
    """All paths of one cluster."""

    name: str
    path: Path

    @property
    def connection_file(self) -> Path:
        """How to reach the master."""
        return self.path / "connection.json"

    @property
    def lock_file(self) -> Path:
        """Held by the master."""
        return self.path / "lock"

    @property
    def journal_file(self) -> Path:
        """The journal, unless another place was chosen."""
        return self.path / "journal.db"

    @property
    def journal_link(self) -> Path:
        """Link to the journal, if another place was chosen; see `journals`."""
        return self.path / "journal"

    @property
    def logs(self) -> Path:
        """One log for each process."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """Sockets, shared pages and output files of live processes."""
        return self.path / "run"

    @property
    def blobs(self) -> Path:
        """Large buffers: in shared memory where there is some, which needs no disk."""
        if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK):
            return _SHARED_MEMORY / _of_user() / self._digest()
        return self.path / "blobs"

    def socket_path(self, epoch: int) -> str:
        """Return the path of the socket of the master of ``epoch``.

        The epoch is in the name, because binding a path twice takes it from a live process.
        """
        return str(self._sockets() / _SOCKET.format(epoch))

    def create(self) -> None:
        """Make what is missing, for the user alone, and check what is there.

        Raises
        ------
        RuntimeDirError
            If one of the directories belongs to somebody else, is open to others, or is a link.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            for directory in (self.path, self.logs, self.run):
                _make(directory)
            for directory in {self.blobs, self._sockets()} - {self.run}:
                self._make_outside(directory)
        except (NotADirectoryError, FileExistsError) as error:
            raise RuntimeDirError(
                f"{error.filename} is not a directory; remove it, or set NBCLUSTER_HOME elsewhere"
            ) from None
        self.check()

    def make_blobs(self) -> None:
        """Make the directory of large buffers again; `RuntimeDirError` if the cluster is gone."""
        if is_gone(str(self.path)):
            raise RuntimeDirError(f"{self.path} was removed, and with it the cluster")
        self._make_outside(self.blobs)

    def check(self) -> None:
        """Check that the directories are there and the user's alone.

        Raises
        ------
        RuntimeDirError
            As `create`.
        FileNotFoundError
            If one is missing.
        """
        _check_home(self.path.parent)
        for directory in self._directories():
            _check_private(directory)

    def remove(self) -> None:
        """Remove everything of this cluster; what is missing already is no error.

        A journal that lies elsewhere stays. Links are removed, never followed.
        """
        remove_all(self.path)
        for path in (self.blobs, self._short()):
            for entry in path.parent.glob(path.name + "*") if _is_private(path.parent) else ():
                remove_all(entry)
        self._sweep_outside()

    def remove_unused(self) -> None:
        """Remove the directories if no master was ever here and no other engine waits for one."""
        if not self.path.exists() or {e.name for e in self.path.iterdir()} - {"logs", "run"}:
            return
        with suppress(OSError):  # not empty, or gone; the first is where engines have their pages
            for path in (self.run, self.logs, self.path):
                path.rmdir()
        self._sweep_outside()

    def sweep(self, keep_blobs: Container[str] = ()) -> None:
        """Remove sockets, pages, output files and blobs that a dead predecessor left.

        Only for who holds the lock, and only where no process of the cluster is alive: engines
        that wait for a new master still use their pages.

        Parameters
        ----------
        keep_blobs
            Names of blobs that stay, since tasks in the journal refer to them.
        """
        for directory, keep in ((self.run, ()), (self._short(), ()), (self.blobs, keep_blobs)):
            if _is_private(directory.parent) and _is_private(directory):
                for entry in list(directory.iterdir()):
                    if entry.name not in keep:
                        remove_all(entry)

    def sweep_sockets(self, epoch: int) -> None:
        """Remove the sockets of all masters but that of ``epoch``; engines may be alive."""
        for path in self._sockets().glob(_SOCKET.format("*")):
            if path.name != _SOCKET.format(epoch):
                path.unlink(missing_ok=True)

    # ------------------------------------------------------------------ outside of the home

    def _make_outside(self, directory: Path) -> None:
        """Make one beside those of other clusters, with a link to the cluster that it is of."""
        if directory.parent == self.path:
            _make(directory)
            return
        with _locked(directory.parent):
            _remove_orphans(directory.parent)
            with suppress(FileExistsError):
                os.symlink(self.path, directory.with_suffix(_link_suffix()))
            _make(directory)

    def _sweep_outside(self) -> None:
        for parent in {self.blobs.parent, self._short().parent} - {self.path}:
            if _is_private(parent):
                with _locked(parent):
                    _remove_orphans(parent)
                    with suppress(OSError):  # other clusters of this user are in it
                        parent.rmdir()

    # ------------------------------------------------------------------ places

    def _digest(self) -> str:
        return sha256(os.fsencode(self.path)).hexdigest()[:16]

    def _short(self) -> Path:
        # TMPDIR may itself be long (as on macOS), or differ between processes of one user.
        place = Path(tempfile.gettempdir())
        if len(os.fsencode(place)) > MAX_SOCKET_PATH - 65:
            place = Path("/tmp")
        return place / _of_user() / self._digest()

    def _sockets(self) -> Path:
        longest = self.run / _SOCKET.format(2**32)
        return self.run if len(os.fsencode(longest)) <= MAX_SOCKET_PATH else self._short()

    def _directories(self) -> list[Path]:
        """Return the private directories, each after the one that holds it."""
        found = [self.path, self.logs, self.run]
        for directory in (self.blobs, self._sockets()):
            if directory.parent != self.path:
                found.append(directory.parent)
            found.append(directory)
        return list(dict.fromkeys(found))


def cluster_dir(name: str) -> ClusterDir:
    """Return the paths of the cluster of that name, whether it exists or not.

    Raises
    ------
    OptionError
        If it cannot be the name of a cluster.
    """
    return ClusterDir(check_name(name), home() / name)


def known_clusters(*, kept: bool = False) -> list[ClusterDir]:
    """Return the clusters of this user that have a connection file, sorted by name.

    With ``kept`` also those that only have a journal.
    """
    try:
        with os.scandir(home()) as entries:
            names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for name in names:
        with suppress(OptionError):  # not a directory of ours
            found.append(cluster_dir(name))
    return [
        directory
        for directory in found
        if directory.connection_file.is_file()
        or (kept and (directory.journal_file.is_file() or directory.journal_link.is_symlink()))
    ]


# --------------------------------------------------------------------------- lock


class FileLock:
    """An exclusive lock of a file, which ends with the process that holds it.

    Made by `acquire` or `wait`. The descriptor is close-on-exec, or a child of a dead master
    would go on holding its lock; for the same reason the holder must not ``fork``.
    """

    __slots__ = ("_fd", "path")

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def acquire(cls, path: Path) -> FileLock | None:
        """Return the lock, or None if somebody holds it."""
        for attempt in range(3):
            if attempt:  # `is_held` of somebody else has it for some microseconds
                time.sleep(0.002)
            lock = cls._try(path, fcntl.LOCK_NB)
            if lock is not None:
                return lock
        return None

    @classmethod
    def wait(cls, path: Path, timeout: float | None = None) -> FileLock:
        """Return the lock as soon as it is free.

        Without a timeout the system wakes this process at the moment of release; with one the
        lock is tried every 20 ms.

        Raises
        ------
        ClusterTimeoutError
            If it was not free within ``timeout`` seconds.
        FileNotFoundError
            If the directory was removed meanwhile.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            lock = cls._try(path, 0 if deadline is None else fcntl.LOCK_NB)
            if lock is not None:
                return lock
            if deadline is not None:
                if time.monotonic() >= deadline:
                    raise ClusterTimeoutError(f"{path} was still locked after {timeout:g} s")
                time.sleep(_POLL_S)

    @classmethod
    def _try(cls, path: Path, flag: int) -> FileLock | None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | flag)
            if is_same_file(fd, path):
                return cls(path, fd)
        except BlockingIOError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # somebody holds it, or removed the file: the next try makes a new one
        return None

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @staticmethod
    def is_held(path: Path) -> bool:
        """Return whether somebody, this process included, holds the lock."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            # Shared, so that two who look do not see each other.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


# --------------------------------------------------------------------------- helpers


def _of_user() -> str:
    return f"nbcluster-{os.geteuid()}"


def _link_suffix() -> str:
    # Containers may share the memory and not the homes: each knows only what became of its own.
    try:
        return f".{os.stat('/proc/self/ns/mnt').st_ino}"
    except OSError:
        return ".0"


def _remove_orphans(parent: Path) -> None:
    """Remove the directories whose cluster's own directory is gone. Needs the lock of ``parent``.

    One that is being made is not taken for such: the cluster's own directory is there before it.
    """
    for link in parent.glob("*" + _link_suffix()):
        with suppress(FileNotFoundError):  # its own cluster removes it at this moment
            if is_gone(os.readlink(link)):
                remove_all(link.with_suffix(""))
                remove_all(link)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Make a directory that clusters share, and hold its lock: no other process sweeps it."""
    for _ in range(100):
        try:
            _make(directory)
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # the last one that used it has removed it at this moment
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if is_same_file(fd, directory):
                yield
                return
        finally:
            os.close(fd)
    raise RuntimeDirError(f"{directory} cannot be made: it is removed again and again")


def _make(directory: Path) -> None:
    """Make a directory for the user alone, if it is missing; check it if it is there."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    _check_private(directory)


def _check_private(path: Path) -> None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise RuntimeDirError(f"{path} is a symbolic link; remove it, or use another cluster name")
    if not stat.S_ISDIR(status.st_mode):
        raise RuntimeDirError(f"{path} is not a directory; remove it")
    _check_owner(path, status)
    if status.st_mode & 0o077:
        raise RuntimeDirError(
            f"others may enter {path} (mode {status.st_mode & 0o777:04o}); run: chmod 700 '{path}'"
        )


def _check_home(path: Path) -> None:
    status = path.lstat()
    _check_owner(path, status)
    if status.st_mode & 0o022:
        raise RuntimeDirError(
            f"others may write into {path} (mode {status.st_mode & 0o777:04o}); "
            f"run: chmod go-w '{path}', or set NBCLUSTER_HOME to a directory of your own"
        )


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise RuntimeDirError(
            f"{path} belongs to user {status.st_uid}, not to you (user {os.geteuid()}); "
            "set NBCLUSTER_HOME to a directory of your own, or have it removed"
        )


def _is_private(path: Path) -> bool:
    try:
        _check_private(path)
    except (RuntimeDirError, FileNotFoundError):
        return False
    return True
