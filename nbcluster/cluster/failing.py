"""Why a start failed, in words, and of which class."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from nbcluster import errors
from nbcluster.core.model import EngineState
from nbcluster.errors import (
    ClusterConnectionError,
    ClusterError,
    ClusterTimeoutError,
    JournalFullError,
    NbclusterError,
)
from nbcluster.serial.pack import name_of
from nbcluster.transport.rundir import ClusterDir

#: Lines of the logs that are told of a start that failed.
_LINES: Final = 20
#: Seconds for a master that is not reached any more to have ended.
_END_S: Final = 2.0
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FEW_FILES: Final = (errno.EMFILE, errno.ENFILE)


class SweptError(ClusterError):
    """The directory was removed while a cluster was started in it."""


@contextmanager
def in_words(where: ClusterDir) -> Iterator[None]:
    """Raise what the system says while a cluster is started as an error that says what to do."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NbclusterError):
            raise
        if error.errno in _FULL:
            raise _full(error.filename or where.path) from None
        if error.errno in _FEW_FILES:
            raise _few_files(where) from None
        if isinstance(error, FileNotFoundError) and not where.logs.exists():
            raise SweptError(
                f"the directory {where.path} was removed while the cluster was started; "
                "start it again"
            ) from None
        raise


@contextmanager
def told_of_end(process: subprocess.Popen[bytes], where: ClusterDir) -> Iterator[None]:
    """Raise what ended the master, where it is the reason why it cannot be reached."""
    try:
        yield
    except ClusterConnectionError:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
            raise start_error(where, process.returncode) from None
        raise


def start_error(where: ClusterDir, code: int) -> NbclusterError:
    """Return the error with which a master ended before its cluster was up."""
    with in_words(where):
        text = (where.logs / "master.err").read_text(errors="replace").strip()
    kind, _, message = text.partition("\n")
    cls = getattr(errors, kind, None)
    if isinstance(cls, type) and issubclass(cls, ClusterError):
        return cls(message)
    if any(os.strerror(number) in text for number in _FEW_FILES):
        return _few_files(where)
    from nbcluster.journal.store import is_full  # seldom needed, and brings the journal

    if any(os.strerror(number) in text for number in _FULL) or is_full(where.path):
        return _full(where.path)
    return ClusterError(
        f"the master of cluster {where.name!r} ended with code {code} before it was up"
        f"{last_lines(where)}"
    )


def late_engines(
    where: ClusterDir,
    count: int,
    timeout: float,
    engines: dict[str, list[Any]],
    initializer: Callable[..., Any] | None,
    memory_limit: int,
) -> ClusterTimeoutError:
    """Return the error with which a start ends whose engines were not ready in time.

    Parameters
    ----------
    engines
        The table of engines, as columns, at that moment.
    initializer, memory_limit
        What the executors were to call and may take: either is a likely cause.
    """
    starting = [
        pid
        for state, pid in zip(engines["state"], engines["executor_pid"], strict=True)
        if state == EngineState.STARTING
    ]
    why = ""
    if initializer is not None and any(starting):
        why = (
            f": the initializer {name_of(initializer)} is still running. Give the start a longer "
            "timeout=, or the initializer less to do"
        )
    elif memory_limit and starting:
        why = (
            f": executors do not come up with memory_limit={memory_limit} "
            f"({memory_limit / 2**20:.0f} MiB), which may be too little even for their start. "
            "Give them more"
        )
    return ClusterTimeoutError(
        f"cluster {where.name!r} had not all of its {count} engines ready within {timeout:g} s"
        f"{why}{last_lines(where)}"
    )


def last_lines(where: ClusterDir) -> str:
    """Return how the logs end: they go with what was started."""
    lines: list[str] = []
    for pattern in ("master.log", "engine-*.err", "master.err"):
        for path in sorted(where.logs.glob(pattern)):
            with suppress(FileNotFoundError):
                lines += path.read_text(errors="replace").strip().splitlines()[-_LINES:]
    if not lines:
        return ". It had written nothing to its logs."
    return "\n".join([". Last lines of its logs:", *lines[-_LINES:]])


def _full(path: str | Path) -> JournalFullError:
    return JournalFullError(f"the disk under {path} is full; make room there, and start it again")


def _few_files(where: ClusterDir) -> ClusterError:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ClusterError(
        f"cluster {where.name!r} cannot be started: {os.strerror(errno.EMFILE).lower()} (each "
        f"process may have {limit}). Allow more, before Python is started: ulimit -n 1024"
    )
