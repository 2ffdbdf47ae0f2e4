"""What is wrong with this installation, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

import nbcluster
from nbcluster.cluster.findings import Finding, Grade
from nbcluster.cluster.frontend import notebook_packages, widget_halves
from nbcluster.cluster.remains import dead_remedy, is_abandoned, own_processes
from nbcluster.errors import ClusterError, NbclusterError, OptionError
from nbcluster.journal import info
from nbcluster.transport.connection import Connection, read_connection
from nbcluster.transport.paths import is_gone
from nbcluster.transport.rundir import (
    MAX_SOCKET_PATH,
    ClusterDir,
    FileLock,
    cluster_dir,
    home,
    known_clusters,
)

_MIB: Final = 1 << 20
_LITTLE_BYTES: Final = 1024 * _MIB
_TOO_LITTLE_BYTES: Final = 64 * _MIB
_FEW_FILES: Final = 1024
_TOO_FEW_FILES: Final = 128
_ANSWER_S: Final = 3.0
_SETTLE_S: Final = 1.0
#: Distribution -> whether nothing works without it.
_NEEDED: Final = {
    "pyzmq": True,
    "msgspec": True,
    "dill": True,
    "psutil": True,
    "pandas": True,
    "ipywidgets": False,
    "anywidget": False,
    "cronsim": False,
}


def examine(name: str = "default") -> list[Finding]:
    """Return what all checks find. It changes nothing.

    Parameters
    ----------
    name
        Cluster whose directories are looked at, and which is asked whether it answers.
    """
    where = cluster_dir(name)
    checks: tuple[Callable[[ClusterDir], Iterator[Finding]], ...] = (
        *(_python, _packages, _home, _directory, _socket_path, _space, _processes_watched),
        *(_open_files, _answer, _clusters, _abandoned, _orphans, _journals),
    )
    found = [finding for check in checks for finding in check(where)]
    return [*found, *notebook_packages(), *widget_halves()]


# --------------------------------------------------------------------------- installation


def _python(where: ClusterDir) -> Iterator[Finding]:
    text = f"{platform.python_implementation()} {platform.python_version()}"
    yield Finding("python", Grade.OK, f"{text}, nbcluster {nbcluster.__version__}")


def _packages(where: ClusterDir) -> Iterator[Finding]:
    found = []
    for package, is_vital in _NEEDED.items():
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            grade = Grade.FAIL if is_vital else Grade.WARN
            yield Finding(
                "packages", grade, f"{package} is not installed", f"pip install {package}"
            )
    yield Finding("packages", Grade.OK, ", ".join(found))


# --------------------------------------------------------------------------- directories


def _home(where: ClusterDir) -> Iterator[Finding]:
    path = home()
    try:
        status = path.stat()
    except FileNotFoundError:
        yield Finding("home", Grade.OK, f"{path} does not exist yet; the first start makes it")
        return
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        remedy = "set NBCLUSTER_HOME to a directory of your own"
        yield Finding("home", Grade.FAIL, f"{path} belongs to user {status.st_uid}", remedy)
    elif mode & 0o022:
        text = f"others may write into {path} (mode {mode:04o})"
        yield Finding("home", Grade.FAIL, text, f"chmod go-w '{path}'")
    elif not os.access(path, os.W_OK | os.X_OK):
        yield Finding("home", Grade.FAIL, f"{path} cannot be written", f"chmod u+rwx '{path}'")
    else:
        yield Finding("home", Grade.OK, f"{path} (mode {mode:04o})")


def _directory(where: ClusterDir) -> Iterator[Finding]:
    try:
        where.check()
    except FileNotFoundError as error:
        if FileLock.is_held(where.lock_file):  # else there is no such cluster: nothing to tell
            yield _missing(where, str(error.filename))
    except ClusterError as error:
        yield Finding("directory", Grade.FAIL, str(error), "see the message")
    else:
        yield Finding("directory", Grade.OK, f"{where.path} is yours alone")


def _missing(where: ClusterDir, path: str) -> Finding:
    if path not in (str(where.blobs), str(where.blobs.parent)):
        remedy = f"nbcluster stop {where.name}, and start it again"
        return Finding("directory", Grade.FAIL, f"{path} is missing", remedy)
    text = f"{path} was removed, and with it large arguments and results; the next makes it again"
    remedy = "if that was systemd, at your logout: loginctl enable-linger"
    return Finding("directory", Grade.WARN, text, remedy)


def _socket_path(where: ClusterDir) -> Iterator[Finding]:
    path = where.socket_path(2**32)
    size = len(os.fsencode(path))
    text = f"{size} of {MAX_SOCKET_PATH} bytes: {path}"
    if size > MAX_SOCKET_PATH:
        remedy = "set NBCLUSTER_HOME to a shorter path"
        yield Finding("socket path", Grade.FAIL, text, remedy)
    else:
        yield Finding("socket path", Grade.OK, text)


def _space(where: ClusterDir) -> Iterator[Finding]:
    for path, what in ((home(), "journal, logs"), (Path("/dev/shm"), "large arguments, results")):
        existing = next((p for p in (path, *path.parents) if p.exists()), Path("/"))
        if path == Path("/dev/shm") and existing != path:
            continue  # no such thing on this system: the home is used instead
        free = shutil.disk_usage(existing).free
        text = f"{free / _MIB:,.0f} MiB free in {path} ({what})"
        if free < _LITTLE_BYTES:
            grade = Grade.FAIL if free < _TOO_LITTLE_BYTES else Grade.WARN
            yield Finding("space", grade, text, "make room there")
        else:
            yield Finding("space", Grade.OK, text)


# --------------------------------------------------------------------------- the system


def _processes_watched(where: ClusterDir) -> Iterator[Finding]:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        text = f"no pidfd ({error}): the end of a process is noticed by looking"
        yield Finding("pidfd", Grade.WARN, text, "Linux 5.3 or newer has it")
    else:
        yield Finding("pidfd", Grade.OK, "the end of a process is known at once")


def _open_files(where: ClusterDir) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"{soft} files may be open (at most {hard})"
    if soft != resource.RLIM_INFINITY and soft < _FEW_FILES:
        grade = Grade.FAIL if soft < _TOO_FEW_FILES else Grade.WARN
        yield Finding("open files", grade, text, f"ulimit -n {_FEW_FILES}, before the start")
    else:
        yield Finding("open files", Grade.OK, text)


# --------------------------------------------------------------------------- clusters


def _answer(where: ClusterDir) -> Iterator[Finding]:
    if not FileLock.is_held(where.lock_file):
        return
    from nbcluster.cluster.connecting import connect

    try:
        cluster = connect(where.name, timeout=_ANSWER_S)
    except NbclusterError as error:
        remedy = f"its log is {where.logs / 'master.log'}"
        yield Finding("answer", Grade.FAIL, f"cluster {where.name!r}: {error}", remedy)
        return
    try:
        stats = cluster.stats()
        text = f"cluster {where.name!r} answers, engines: {stats['engines']}"
        if stats["disk_full"]:
            remedy = "make room under its journal"
            yield Finding("answer", Grade.FAIL, f"{text}, and its disk is full", remedy)
        else:
            yield Finding("answer", Grade.OK, text)
        journal = str(cluster._client.ask("info")["journal"])
        if is_gone(journal):
            yield _lost(where, journal)
    finally:
        cluster.close()


def _lost(where: ClusterDir, journal: str) -> Finding:
    text = (
        f"the journal {journal} of cluster {where.name!r} was removed while it runs: what was "
        "submitted to it does not survive its end, and it ends as soon as it notices"
    )
    remedy = f"nbcluster stop {where.name} --cancel, start it again, and submit what had not ended"
    return Finding("journals", Grade.FAIL, text, remedy)


def _clusters(where: ClusterDir) -> Iterator[Finding]:
    for known in known_clusters():
        try:
            connection = read_connection(known.connection_file)
        except FileNotFoundError:
            continue  # it stopped at this moment
        except ClusterError as error:
            yield Finding("clusters", Grade.FAIL, str(error), "see the message")
            continue
        yield _cluster(known, connection)


def _cluster(known: ClusterDir, connection: Connection) -> Finding:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not FileLock.is_held(known.lock_file):
        return Finding(
            "clusters",
            Grade.WARN,
            f"{known.name!r} is dead: its master (pid {connection.pid}) ended without notice",
            dead_remedy(known),
        )
    if connection.python != here:
        text = f"{known.name!r} runs Python {connection.python}, and this is {here}"
        return Finding("clusters", Grade.WARN, text, "use the Python that it was started with")
    return Finding("clusters", Grade.OK, f"{known.name!r} runs, master {connection.pid}")


def _orphans(where: ClusterDir) -> Iterator[Finding]:
    suspects = {
        process: (what, directory)
        for process, what, directory in own_processes()
        if directory.parent == home() and not FileLock.is_held(directory / "lock")
    }
    # Those of a cluster that starts or stops at this moment are no orphans.
    _, left = psutil.wait_procs(suspects, timeout=_SETTLE_S if suspects else 0)
    orphans = [p for p in left if not FileLock.is_held(suspects[p][1] / "lock")]
    for process in orphans:
        what, directory = suspects[process]
        text = f"{what} {process.pid} has no cluster any more ({directory})"
        remedy = f"kill {process.pid}"
        if what == "engine" and (directory / "connection.json").exists():
            text = f"engine {process.pid} waits for the next master of {directory.name!r}"
            remedy = f"nbcluster stop {directory.name} --keep"
        yield Finding("processes", Grade.WARN, text, remedy)
    if not orphans:
        yield Finding("processes", Grade.OK, "none is left over")


def _names() -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(home()) if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _abandoned(where: ClusterDir) -> Iterator[Finding]:
    for name in _names():
        with suppress(OptionError):  # not a directory of ours
            if is_abandoned(cluster_dir(name)):
                text = f"{home() / name} was left by a start that was killed"
                yield Finding("clusters", Grade.WARN, text, f"nbcluster stop {name} --cancel")


def _journals(where: ClusterDir) -> Iterator[Finding]:
    for name in _names():
        path = home() / name / "journal.db"
        if path.exists() and not FileLock.is_held(path.parent / "lock"):
            yield _journal(path)


def _journal(path: Path) -> Finding:
    try:
        found = info(path)
    except (ClusterError, OSError) as error:
        return Finding("journals", Grade.FAIL, f"{path}: {error}", f"move {path} away")
    text = f"{path}: {found['open']} open tasks, {found['finished']} ended"
    if found["open"]:
        return Finding(
            "journals", Grade.OK, text, f"nbcluster start --name {path.parent.name} goes on"
        )
    return Finding("journals", Grade.OK, text)
