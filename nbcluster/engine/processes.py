"""Processes as the supervisor sees them: their end, their size, the groups they lead."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def is_stopped(pid: int) -> bool:
    """Return whether a child of this process is stopped, as by SIGSTOP."""
    if hasattr(os, "waitid"):
        try:
            options = os.WSTOPPED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, pid, options) is not None
        except ChildProcessError:  # it has ended
            return False
    import psutil  # 20 ms, and needed only here

    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
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
