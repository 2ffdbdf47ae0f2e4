"""Processes as the supervisor sees them: their end, their size, the groups they lead."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_POLL_S: Final = 0.2


def watch(pid: int) -> int:
    """Return a descriptor that becomes readable when the process ends.

    Where the system has no such thing, a thread looks for the process five times a second.

    Raises
    ------
    ProcessLookupError
        If there is no such process.
    """
    if hasattr(os, "pidfd_open"):
        return os.pidfd_open(pid)
    _probe(pid)
    reader, writer = os.pipe()
    Thread(target=_wait_for, args=(pid, writer), name=f"watch-{pid}", daemon=True).start()
    return reader


def _probe(pid: int) -> None:
    with suppress(PermissionError):  # there, and somebody else's
        os.kill(pid, 0)


def _wait_for(pid: int, writer: int) -> None:
    try:
        while not _is_over(pid):
            time.sleep(_POLL_S)
    finally:
        os.close(writer)  # the other end becomes readable


def _is_over(pid: int) -> bool:
    try:
        # A child that ended stays to be waited for: `reap` does that.
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # not a child of ours
        try:
            _probe(pid)
        except ProcessLookupError:
            return True
        return False


def kill_group(pid: int) -> None:
    """Kill a child that leads a process group, and all in that group.

    Only before the child is reaped: until then its number belongs to nobody else.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):  # its group does not exist yet, if it has just been born
        os.kill(pid, signal.SIGKILL)


def reap(pid: int) -> tuple[int, int]:
    """Wait for a child that has ended; return its exit code and its peak memory in bytes.

    The exit code is negative for a signal.
    """
    _, status, usage = os.wait4(pid, 0)
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * unit


def describe_exit(code: int) -> str:
    """Return how a process ended, as ``SIGSEGV`` or ``exit code 3``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def resident_bytes(pid: int) -> int:
    """Return the memory a process has in use, 0 if that cannot be known."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0
