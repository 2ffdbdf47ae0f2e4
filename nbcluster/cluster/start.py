"""``start``: a master, its engines, and the handle of both."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Never

import msgspec
import psutil

from nbcluster.calls import initialize
from nbcluster.client.cluster import Cluster
from nbcluster.client.setups import set_up
from nbcluster.cluster.connecting import attach, connect
from nbcluster.cluster.failing import (
    SweptError,
    in_words,
    last_lines,
    late_engines,
    start_error,
    told_of_end,
)
from nbcluster.cluster.owning import await_ending, masters, owner_fd, reap, take_in_dead
from nbcluster.cluster.resuming import await_swept, with_last_journal
from nbcluster.cluster.settings import start_options
from nbcluster.cluster.telling import tell_attached, tell_resumed
from nbcluster.cluster.undoing import Undo
from nbcluster.errors import ClusterConnectionError, ClusterTimeoutError, OptionTypeError
from nbcluster.master.config import EXIT_LOCKED, MasterConfig
from nbcluster.options import StartOptions, check_callable, number
from nbcluster.transport.connection import Connection, read_connection
from nbcluster.transport.rundir import ClusterDir, FileLock, cluster_dir

#: Seconds for a master to come up, and for its engines.
START_S = 30.0


def start(
    engines: int | None = None,
    *,
    name: str | None = None,
    group: str | None = None,
    slots: int | None = None,
    persist: bool | None = None,
    journal: str | os.PathLike[str] | None = None,
    standby: bool | None = None,
    backend: str | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] = (),
    env: Mapping[str, str] | None = None,
    max_pending: int | None = None,
    retention: float | None = None,
    retention_tasks: int | None = None,
    retention_bytes: int | None = None,
    durability: str | None = None,
    memory_limit: int | None = None,
    log_level: str | None = None,
    timeout: float = START_S,
    **unknown: Never,
) -> Cluster:
    """Start a cluster on this machine and wait until its engines are ready.

    A live cluster of that name is attached to instead, and said so. An option that is None was not
    given: it comes from the environment (as ``NBCLUSTER_ENGINES``), or else is the default named
    here.

    Parameters
    ----------
    engines
        Engine processes. Default: where a journal goes on, as many as there were; otherwise 4.
    name
        Default ``"default"``.
    group
        Group that the engines serve, default ``"default"``.
    slots
        Attempts each engine runs at a time, default 1.
    persist
        False, the default: it ends with this process. True: it stays, and `connect` comes back
        to it.
    journal
        Path of the journal. By default it lies in the cluster's directory and goes with it.
    initializer, initargs
        Called once in every executor before it runs anything.
    env
        Environment variables for the cluster's processes, beside ours.
    max_pending
        Open tasks at the most; one more is refused with `BusyError`. Default: no limit.
    retention
        Seconds that ended tasks are kept, default a day.
    retention_tasks
        Ended tasks that are kept at the most, default 100,000.
    retention_bytes
        Bytes of results, arguments, output and errors that ended tasks keep at the most, default
        1 GiB. What is in shared memory does not count.
    durability
        ``"process"``, the default: survives the death of any process. ``"power"``: also that of
        the machine, but for arguments and results of 1 MiB and more, which lie in shared memory.
    memory_limit
        Bytes that each executor may take; a task that wants more gets a ``MemoryError``.
        Default: no limit.
    log_level
        What the cluster's processes write to their logs, default ``"INFO"``.
    timeout
        Seconds for master and engines to come up, default 30.
    backend, standby
        ``"local"`` and False: there is nothing else to choose yet.

    Returns
    -------
    Cluster
        Used in a ``with`` statement it is shut down at the end.

    Raises
    ------
    OptionError
        If an option is impossible or unknown (the nearest known one is named).
    InitializerError
        If the initializer failed in the executors.
    ClusterTimeoutError
        If master or engines were not up after ``timeout`` seconds.
    ClusterError
        If it cannot be started; the message says what to do.

    Notes
    -----
    One that fails or is interrupted leaves nothing, but for a journal that was there before.

    Examples
    --------
    >>> cluster = nbcluster.start(2)                  # doctest: +SKIP
    >>> cluster.submit(pow, 2, 10).result()           # doctest: +SKIP
    1024
    """
    said: dict[str, Any] = {
        **{"engines": engines, "name": name, "group": group, "slots": slots, "persist": persist},
        **{"journal": journal, "standby": standby, "backend": backend, "env": env},
        **{"max_pending": max_pending, "retention": retention, "retention_tasks": retention_tasks},
        **{"retention_bytes": retention_bytes, "durability": durability},
        **{"memory_limit": memory_limit, "log_level": log_level},
    }
    timeout = _check(timeout, initializer, initargs)
    chosen = start_options(**said, **unknown)
    told = [
        key for key, value in (said | {"initializer": initializer}).items() if value is not None
    ]
    is_second = False
    while True:
        try:
            with in_words(cluster_dir(chosen.name)):
                return _start(chosen, told, (initializer, initargs), timeout)
        except _StartedElsewhereError:
            pass  # it will be attached to
        except SweptError:  # by a master that was ending
            if is_second:
                raise
            is_second = True


_Initializer = tuple[Callable[..., Any] | None, tuple[Any, ...]]


def _start(
    chosen: StartOptions, told: list[str], initializer: _Initializer, timeout: float
) -> Cluster:
    """Attach to the cluster of that name, or start it; ``told``: the options that were given."""
    where = cluster_dir(chosen.name)
    await_ending(chosen.name, timeout)
    await_swept(where, timeout)
    undo = Undo(where)
    where.create()
    take_in_dead()
    cluster: Cluster | None = None
    try:
        running = _attach_to_running(where, timeout)
        if running is not None:
            tell_attached(running, told, chosen)
            return running
        chosen = with_last_journal(chosen, where)
        undo.in_order = bool(chosen.journal)
        process = _start_master(chosen, where)
        undo.master = process.pid
        _await_connection(process, where, timeout)
        with told_of_end(process, where):
            cluster = attach(
                where.connection_file,
                where.name,
                timeout,
                owned=not chosen.persist,
                reap=lambda keep: reap(process, where, keep=keep),
            )
            _await_engines(cluster, where, initializer, timeout)
        tell_resumed(cluster, chosen)
    except _StartedElsewhereError:
        raise
    except BaseException:
        if cluster is not None:
            cluster.close()
        undo.all()
        raise
    return cluster


def _check(timeout: Any, initializer: Any, initargs: Any) -> float:
    """Return the timeout, after a look at what is no setting of the master."""
    if initializer is not None:
        check_callable(initializer, "initializer=")
    if not isinstance(initargs, (tuple, list)):
        raise OptionTypeError(f"initargs= must be a tuple of arguments, not {initargs!r}")
    return min(number("timeout", timeout, least=0), threading.TIMEOUT_MAX)


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
    cluster: Cluster, where: ClusterDir, initializer: _Initializer, timeout: float
) -> None:
    ask = cluster._client.ask
    info = ask("info", timeout)
    count = info["engines"]  # as many as it had, where nobody has said how many
    try:
        if initializer[0] is not None:
            set_up(cluster._client, initialize, initializer, timeout)
        ask("wait_engines", timeout, count=count, group=None)
    except ClusterTimeoutError:
        raise late_engines(
            where, count, timeout, ask("engines"), initializer[0], info["memory_limit"]
        ) from None


def _start_master(chosen: StartOptions, where: ClusterDir) -> subprocess.Popen[bytes]:
    where.create()  # again: a cluster that was just ending may have removed it
    pipe = -1 if chosen.persist else owner_fd()
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
        retention_bytes=chosen.retention_bytes,
        memory_limit=chosen.memory_limit,
        log_level=chosen.log_level,
        owner_fd=pipe,
        owner_pid=os.getpid(),
        unsaid=tuple(x for x in ("engines", "group", "slots") if x not in chosen.chosen),
    )
    with open(where.logs / "master.err", "wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "nbcluster.master", msgspec.json.encode(config).decode()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
            pass_fds=() if pipe < 0 else (pipe,),
            env=_environment(chosen.env),
            start_new_session=True,  # the Stop button interrupts the kernel's process group
        )
    masters.append(process)
    return process


def _environment(extra: dict[str, str]) -> dict[str, str]:
    """Return the environment of the cluster's processes: ours, and where our modules lie."""
    env = dict(os.environ)
    paths = [os.path.abspath(p) for p in sys.path if p]
    here = [os.getcwd(), *paths]
    env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(here))
    env["MPLBACKEND"] = "agg"  # ours may be that of a notebook, and there is no window either
    env.update(extra)
    return env


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
            raise start_error(where, process.returncode)
        if time.monotonic() > deadline:
            raise ClusterTimeoutError(
                f"the master of cluster {where.name!r} did not come up within {timeout:g} s"
                f"{last_lines(where)}"
            )
        pause.poll(2)
