"""``start``, ``connect``, ``clusters``: how one comes to a cluster."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from nbcluster import errors
from nbcluster.client.client import Client
from nbcluster.client.cluster import Cluster
from nbcluster.cluster.settings import start_options
from nbcluster.errors import (
    ClusterConnectionError,
    ClusterError,
    ClusterTimeoutError,
    OptionTypeError,
)
from nbcluster.master.config import EXIT_LOCKED, MasterConfig
from nbcluster.options import StartOptions
from nbcluster.transport.connection import Connection, read_connection
from nbcluster.transport.rundir import ClusterDir, FileLock, cluster_dir, known_clusters

if TYPE_CHECKING:
    import pandas as pd

#: Seconds for a master to come up, and for its engines.
START_S = 30.0
CONNECT_S = 9.0

#: Reading ends of owner pipes lie in the masters; as long as we hold the other end, we live.
_owner_pipe: tuple[int, int] | None = None
_open_clusters: weakref.WeakSet[Cluster] = weakref.WeakSet()
#: Masters that were started here and not waited for; one that persists may stay to the end.
_masters: list[subprocess.Popen[bytes]] = []


def start(
    engines: int | None = None,
    *,
    name: str | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
    timeout: float = START_S,
    **options: Any,
) -> Cluster:
    """Start a cluster on this machine and wait until its engines are ready.

    A live cluster of that name is attached to instead, and said so.

    Parameters
    ----------
    engines
        Engine processes, default 4.
    name
        Default ``"default"``.
    group
        Group that the engines serve, default ``"default"``.
    slots
        Attempts each engine runs at a time, default 1.
    persist
        False: it ends with this process. True: it stays, and `connect` comes back to it.
    journal
        Path of the journal. By default it lies in the cluster's directory and goes with it.
    initializer, initargs
        Called once in every executor before it runs anything.
    env
        Environment variables for the cluster's processes.
    max_pending
        Open tasks at the most; one more is refused with `BusyError`.
    retention
        Seconds that ended tasks are kept, default a day; at the most 100,000 of them are.
    durability
        ``"process"``: survives the death of any process. ``"power"``: also that of the machine,
        but for arguments and results of 1 MiB and more, which lie in shared memory.
    memory_limit
        Bytes that each executor may take; a task that wants more gets a ``MemoryError``.

    Raises
    ------
    OptionError
        If an option is impossible or unknown.
    ClusterError
        If it cannot be started; the message says what to do.
    """
    if initializer is not None and not callable(initializer):
        raise OptionTypeError(f"initializer= must be a function, not {initializer!r}")
    chosen = start_options(engines=engines, name=name, **options)
    where = cluster_dir(chosen.name)
    where.create()
    _take_in_dead()
    running = _attach_to_running(where, timeout)
    if running is not None:
        print(  # noqa: T201 - who starts a cluster should know that it is not a new one
            f"cluster {chosen.name!r} is running already: attached to it", file=sys.stderr
        )
        return running
    process = _start_master(chosen, where)
    cluster: Cluster | None = None
    try:
        _await_connection(process, where, timeout)
        cluster = _attached(where, timeout, owned=not chosen.persist, process=process)
        _await_engines(cluster, chosen, initializer, initargs, timeout)
        _tell_resumed(cluster)
    except _StartedElsewhereError:
        return start(engines, name=name, timeout=timeout, **options)  # it will be attached to
    except BaseException:
        _kill(process)
        if cluster is not None:
            cluster.close()
        raise
    return cluster


def _tell_resumed(cluster: Cluster) -> None:
    """Say that there are tasks already: the journal of an earlier master goes on."""
    counts = cluster.stats()
    open_tasks = counts["pending"] + counts["running"] + counts["retrying"]
    ended = counts["succeeded"] + counts["failed"] + counts["cancelled"]
    if counts["epoch"] > 1 and (open_tasks or ended):  # else somebody was quick to submit
        print(  # noqa: T201 - who starts a cluster should know that it is not empty
            f"cluster {cluster.name!r} goes on where its last master ended: "
            f"{open_tasks} open tasks, {ended} ended ones",
            file=sys.stderr,
        )


class _StartedElsewhereError(Exception):
    """Another process started the same cluster a moment earlier."""


def _attach_to_running(where: ClusterDir, timeout: float) -> Cluster | None:
    """Return the cluster if there is one; None if there is none, or it has just ended."""
    while _is_running(where, timeout):
        try:
            return connect(where.name, timeout=timeout)
        except ClusterConnectionError:
            if _is_running(where, timeout):
                raise
    return None


def _is_running(where: ClusterDir, timeout: float) -> bool:
    """Return whether there is a master, once one that begins or ends has done so."""
    deadline = time.monotonic() + timeout
    while FileLock.is_held(where.lock_file):
        try:
            master = psutil.Process(read_connection(where.connection_file).pid)
            # Its first thread has ended before the last one lets go of the lock.
            if master.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return True
        except (FileNotFoundError, psutil.NoSuchProcess):
            pass  # another start has just begun, or the last one has just ended
        if time.monotonic() > deadline:
            return True
        time.sleep(0.005)
    return False


def _await_engines(
    cluster: Cluster,
    chosen: StartOptions,
    initializer: Callable[..., Any] | None,
    initargs: tuple[Any, ...],
    timeout: float,
) -> None:
    if initializer is not None:
        from nbcluster.calls import initialize

        cluster.set_up(initialize, (initializer, initargs), timeout)
    cluster.wait_for_engines(chosen.engines, timeout)


def _start_master(chosen: StartOptions, where: ClusterDir) -> subprocess.Popen[bytes]:
    owner_fd = -1 if chosen.persist else _owner_fd()
    config = MasterConfig(
        name=chosen.name,
        directory=str(where.path),
        journal=str(Path(chosen.journal).absolute() if chosen.journal else where.journal_file),
        own_journal=not chosen.journal,
        engines=chosen.engines,
        group=chosen.group,
        slots=chosen.slots,
        persist=chosen.persist,
        durability=chosen.durability,
        max_pending=chosen.max_pending,
        retention_s=chosen.retention_s,
        retention_tasks=chosen.retention_tasks,
        memory_limit=chosen.memory_limit,
        log_level=chosen.log_level,
        owner_fd=owner_fd,
        owner_pid=os.getpid(),
    )
    with open(where.logs / "master.err", "wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "nbcluster.master", msgspec.json.encode(config).decode()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
            pass_fds=() if owner_fd < 0 else (owner_fd,),
            env=_environment(chosen.env),
            start_new_session=True,  # the Stop button interrupts the kernel's process group
        )
    _masters.append(process)
    return process


def _take_in_dead() -> None:
    """Wait for the masters of this process that have ended, however that came about."""
    _masters[:] = [process for process in _masters if process.poll() is None]


def _environment(extra: dict[str, str]) -> dict[str, str]:
    """Return the environment of the cluster's processes: ours, and where our modules lie."""
    env = dict(os.environ)
    paths = [os.path.abspath(p) for p in sys.path if p]
    here = [os.getcwd(), *paths]
    env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(here))
    env.update(extra)
    return env


def _owner_fd() -> int:
    """Return the reading end of a pipe whose other end closes when this process ends."""
    global _owner_pipe  # noqa: PLW0603 - one for the process
    if _owner_pipe is None:
        _owner_pipe = os.pipe()
        for fd in _owner_pipe:
            os.set_inheritable(fd, False)
    return _owner_pipe[0]


def _await_connection(
    process: subprocess.Popen[bytes], where: ClusterDir, timeout: float
) -> Connection:
    deadline = time.monotonic() + timeout
    pause = select.poll()
    while True:
        with contextlib.suppress(FileNotFoundError):
            connection = read_connection(where.connection_file)
            if connection.pid == process.pid:
                return connection
        if process.poll() == EXIT_LOCKED:
            raise _StartedElsewhereError
        if process.poll() is not None:
            raise _start_error(where, process.returncode)
        if time.monotonic() > deadline:
            raise ClusterTimeoutError(
                f"the master of cluster {where.name!r} did not come up within {timeout:g} s. "
                f"Its log: {where.logs / 'master.log'}"
            )
        pause.poll(2)


def _start_error(where: ClusterDir, code: int) -> errors.NbclusterError:
    """Return the error with which a master ended before it was up."""
    text = (where.logs / "master.err").read_text(errors="replace").strip()
    kind, _, message = text.partition("\n")
    cls = getattr(errors, kind, None)
    if isinstance(cls, type) and issubclass(cls, ClusterError):
        return cls(message)
    return ClusterError(
        f"the master of cluster {where.name!r} ended with code {code} before it was up:\n"
        f"{text[-2000:] or 'it said nothing'}\nIts log: {where.logs / 'master.log'}"
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _reap(process: subprocess.Popen[bytes], connection_file: Path) -> None:
    """Take in the end of a master that was told to stop, or was killed before."""
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        _kill(process)
    if process.returncode and process.returncode < 0:
        # It was killed, so it has removed nothing. Its engines end with us.
        where = ClusterDir(connection_file.parent.name, connection_file.parent)
        if where.path.is_dir() and not FileLock.is_held(where.lock_file):
            where.remove()
    _take_in_dead()


def connect(target: str | os.PathLike[str] = "default", *, timeout: float = CONNECT_S) -> Cluster:
    """Connect to a running cluster.

    Parameters
    ----------
    target
        Its name, or the path of its connection file.
    timeout
        Seconds to wait for the master's answer.

    Raises
    ------
    ClusterConnectionError
        If none runs there, or it does not answer.
    """
    text = os.fspath(target)
    if "://" in text:
        raise ClusterConnectionError(
            f"{text}: an address alone cannot be connected to, because it comes without a key. "
            "Give the name of a cluster on this machine, or the path of a connection file."
        )
    if os.sep in text or text.endswith(".json"):
        path = Path(text).absolute()
        return _attach(path, read_connection_of(path).name, timeout, owned=False)
    where = cluster_dir(text)
    if not where.connection_file.exists() or not FileLock.is_held(where.lock_file):
        running = [c.name for c in known_clusters() if FileLock.is_held(c.lock_file)]
        hint = f" Running: {', '.join(running)}." if running else ""
        raise ClusterConnectionError(
            f"no cluster {text!r} is running on this machine.{hint} "
            f"Start it with nbcluster.start(name={text!r})."
        )
    return _attached(where, timeout, owned=False)


def read_connection_of(path: Path) -> Connection:
    """Return the connection file at ``path``, or the error that says it is not there."""
    try:
        return read_connection(path)
    except FileNotFoundError:
        raise ClusterConnectionError(f"there is no connection file {path}") from None


def _attached(
    where: ClusterDir,
    timeout: float,
    *,
    owned: bool,
    process: subprocess.Popen[bytes] | None = None,
) -> Cluster:
    return _attach(where.connection_file, where.name, timeout, owned=owned, process=process)


def _attach(
    path: Path,
    name: str,
    timeout: float,
    *,
    owned: bool,
    process: subprocess.Popen[bytes] | None = None,
) -> Cluster:
    client = Client(path)
    client.open(timeout)
    reap = (lambda: None) if process is None else (lambda: _reap(process, path))
    cluster = Cluster(client, name, owned=owned, reap=reap)
    _open_clusters.add(cluster)
    return cluster


@atexit.register
def _at_exit() -> None:
    """Stop what this process owns: sooner than the masters would find out by themselves."""
    for cluster in list(_open_clusters):
        with contextlib.suppress(errors.NbclusterError):
            if cluster.owned:
                cluster.stop()
            else:
                cluster.close()
    _take_in_dead()
    for process in _masters:
        process.returncode = 0  # it outlives us on purpose: nothing to warn of


def _after_fork() -> None:
    """Leave the clusters to the parent: a child that ends must not stop them."""
    global _owner_pipe  # noqa: PLW0603 - one for the process
    for cluster in list(_open_clusters):
        cluster.client.disown()
    _open_clusters.clear()
    for process in _masters:
        process.returncode = 0  # not a child of ours
    _masters.clear()
    if _owner_pipe is not None:
        for fd in _owner_pipe:  # or the masters would take our end for the owner's
            os.close(fd)
        _owner_pipe = None


os.register_at_fork(after_in_child=_after_fork)


def clusters() -> pd.DataFrame:
    """Return the clusters of this user on this machine, by name."""
    from nbcluster.client.frames import frame

    columns: dict[str, list[Any]] = {
        key: [] for key in ("name", "state", "pid", "epoch", "persist", "directory")
    }
    for where in known_clusters():
        try:
            known = read_connection(where.connection_file)
        except (FileNotFoundError, ClusterError):
            continue
        alive = FileLock.is_held(where.lock_file)
        row = (where.name, "running" if alive else "dead", known.pid, known.epoch)
        for key, value in zip(columns, (*row, known.persist, str(where.path)), strict=True):
            columns[key].append(value)
    return frame(columns, index="name")
