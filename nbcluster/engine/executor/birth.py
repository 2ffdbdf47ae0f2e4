"""How an executor comes into the world: its options, and its bond to the supervisor."""

from __future__ import annotations

import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nbcluster.transport.page import page_name

_PR_SET_PDEATHSIG: Final = 1
STACK_SIGNAL: Final = signal.SIGUSR1
STACK_SUFFIX: Final = ".stack"
#: Executors go first when memory runs out: their tasks can run again, a supervisor cannot.
_OOM_SCORE: Final = 500
NO_LIMIT: Final = 0


@dataclass(frozen=True, slots=True)
class ExecutorOptions:
    """What the supervisor tells a new executor."""

    executor: str  #: id
    connection: Path
    run: Path  #: directory of the page
    parent: int  #: pid of the supervisor
    control_fd: int  #: a byte on it wakes an idle executor
    alarm_fd: int  #: a byte on it: results wait behind a long attempt; its end: the supervisor died
    memory_limit: int = NO_LIMIT  #: bytes
    imports: tuple[str, ...] = ()

    def to_argv(self) -> list[str]:
        """Return the arguments from which `from_argv` makes these options again."""
        numbers = (self.parent, self.control_fd, self.alarm_fd, self.memory_limit)
        return [
            self.executor,
            str(self.connection),
            str(self.run),
            *map(str, numbers),
            *self.imports,
        ]

    @classmethod
    def from_argv(cls, argv: list[str]) -> ExecutorOptions:
        """Return what `to_argv` of the supervisor wrote."""
        executor, connection, run, *rest = argv
        parent, control_fd, alarm_fd, memory_limit = map(int, rest[:4])
        return cls(
            executor,
            Path(connection),
            Path(run),
            parent,
            control_fd,
            alarm_fd,
            memory_limit,
            tuple(rest[4:]),
        )


def bind_to(options: ExecutorOptions) -> bool:
    """Have the system kill this process when its supervisor dies; False if it is dead already."""
    for fd in (options.control_fd, options.alarm_fd):
        os.set_inheritable(fd, False)
    if sys.platform == "linux":
        import ctypes  # the supervisor, which imports this module too, does not need it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == options.parent  # it may have died before that call


def limit(options: ExecutorOptions) -> None:
    """Put this process in front when memory runs out, and bound what it may take."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(_OOM_SCORE))
    if options.memory_limit != NO_LIMIT:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = options.memory_limit
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))


def stack_file(options: ExecutorOptions) -> int:
    """Return a descriptor of the file for stacks; that it is there tells that one may ask."""
    path = options.run / (page_name(options.executor) + STACK_SUFFIX)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def end_group() -> None:
    """Kill this process and what it forked."""
    os.killpg(0, signal.SIGKILL)
