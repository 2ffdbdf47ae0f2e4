"""Starts engine processes, watches all local ones, and replaces those that die."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Container
from pathlib import Path
from typing import Final

import psutil

from nbcluster.clock import Clock
from nbcluster.ids import random_id
from nbcluster.master.config import MasterConfig
from nbcluster.transport.descriptors import watch

log = logging.getLogger(__name__)

#: Deaths within a minute after which a group's engines are not replaced any more.
DEATHS_A_MINUTE: Final = 20
_MINUTE_S: Final = 60.0
#: Started in one go: meanwhile the master does nothing else, and each takes some milliseconds.
AT_ONCE: Final = 8


class Keeper:
    """The engine processes of this host.

    Parameters
    ----------
    connection_file
        Where engines find the master.
    owner
        Descriptor and process id of the owner that engines must not outlive; None: nobody.
    config
        What the master was started with.
    poller
        Told about a descriptor for each process, which becomes readable when it ends.
    clock
        That of the master: `retry_at` is in its time.
    """

    def __init__(
        self,
        connection_file: Path,
        owner: tuple[int, int] | None,
        poller: select.poll,
        logs: Path,
        config: MasterConfig,
        clock: Clock,
    ) -> None:
        self._config = config
        self._clock = clock
        self.retry_at = 0.0  #: when engines that died too fast are started again; 0: none did
        self.has_more = False  #: to start, in the next turn
        self._connection_file = connection_file
        self._owner = owner
        self._poller = poller
        self.logs = logs
        self.wanted: dict[str, int] = {}
        self._slots: dict[str, int] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._groups: dict[str, str] = {}
        self._by_fd: dict[int, tuple[str, int]] = {}  #: pidfd -> engine, pid
        self._watched: dict[str, int] = {}  #: engine -> pidfd
        self._deaths: deque[float] = deque(maxlen=DEATHS_A_MINUTE)
        self.leaving: set[str] = set()  #: engines that were told to go: not replaced

    # ------------------------------------------------------------------ starting

    def scale(self, group: str, count: int, slots: int) -> None:
        """Want ``count`` engines in ``group``, and start what is missing."""
        self.wanted[group] = count
        self._slots[group] = slots
        self._deaths.clear()  # whoever asks wants it to be tried again
        self.replenish()

    def set_slots(self, group: str, slots: int) -> None:
        """Start the engines of ``group`` with this number of slots from now on."""
        if group in self._slots:
            self._slots[group] = slots

    def slots_of(self, group: str) -> int:
        """Return with how many slots the engines of ``group`` are started."""
        return self._slots.get(group, self._config.slots)

    def staying(self, group: str) -> list[str]:
        """Return the engines of ``group`` started here that were not told to go."""
        return [e for e, g in self._groups.items() if g == group and e not in self.leaving]

    def replenish(self) -> None:
        """Start engines until every group has as many as are wanted, or it is time for a turn."""
        self.retry_at = 0.0
        self.has_more = False
        missing = [
            group
            for group, count in self.wanted.items()
            for _ in range(count - len(self.staying(group)))
        ]
        for group in missing[:AT_ONCE]:
            if self._dying_too_fast():
                self.retry_at = self._clock.read() + _MINUTE_S
                log.error("engines die as soon as they start; more are started in a minute")
                return
            self._start(group, self.slots_of(group))
        self.has_more = len(missing) > AT_ONCE

    def _dying_too_fast(self) -> bool:
        times = self._deaths
        return len(times) == DEATHS_A_MINUTE and time.monotonic() - times[0] < _MINUTE_S

    def _start(self, group: str, slots: int) -> None:
        engine = random_id("e", 6)
        command = [sys.executable, "-m", "nbcluster.engine"]
        command += ["--connection", str(self._connection_file), "--engine", engine]
        command += ["--group", group, "--slots", str(slots)]
        command += ["--log-level", self._config.log_level]
        if self._config.memory_limit:
            command += ["--memory-limit", str(self._config.memory_limit)]
        command += ["--log", str(self.logs / f"engine-{engine}.log")]
        keep: tuple[int, ...] = ()
        if self._owner is not None:
            command += ["--owner-fd", str(self._owner[0]), "--owner-pid", str(self._owner[1])]
            keep = (self._owner[0],)
        with open(self.logs / f"engine-{engine}.err", "wb") as err:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=err,
                pass_fds=keep,
                start_new_session=True,  # the Stop button interrupts the kernel's process group
            )
        self._children[engine] = child
        self._groups[engine] = group
        self.watch(engine, child.pid)

    # ------------------------------------------------------------------ watching

    def watch(self, engine: str, pid: int) -> bool:
        """Be told of the end of a process of this host; False if there is none of that id."""
        if engine in self._watched:
            return True
        try:
            fd = watch(pid)
        except OSError:
            return False
        self._watched[engine] = fd
        self._by_fd[fd] = engine, pid
        self._poller.register(fd, select.POLLIN)
        return True

    def adopt(self, engine: str, pid: int, group: str) -> None:
        """Take over an engine of an earlier master, if it lives and its number is still its own."""
        try:
            words = psutil.Process(pid).cmdline()
        except psutil.Error:
            return
        ours = any("nbcluster" in word for word in words) and self.watch(engine, pid)
        if ours and "nbcluster.engine" in words:  # else somebody had it join: it is not counted
            self._groups[engine] = group

    def is_watched(self, engine: str) -> bool:
        """Return whether the engine is a living process of this host."""
        return engine in self._watched

    def owns(self, fd: int) -> bool:
        """Return whether ``fd`` stands for one of the processes."""
        return fd in self._by_fd

    def ended(self, fd: int) -> tuple[str, int, str]:
        """Take note that the process behind ``fd`` has ended; return engine, pid and how."""
        engine, pid = self._by_fd.pop(fd)
        self._poller.unregister(fd)
        os.close(fd)
        self._watched.pop(engine, None)
        self._groups.pop(engine, None)
        how = "ended"
        child = self._children.pop(engine, None)
        if child is not None:
            code = child.wait()
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if engine not in self.leaving:
            self._deaths.append(time.monotonic())
        self.leaving.discard(engine)
        return engine, pid, how

    # ------------------------------------------------------------------ stopping

    def stop_all(self, timeout_s: float, told: Container[str] = ()) -> None:
        """Wait for the engines that were ``told`` to end; kill the others, and who does not."""
        self.wanted.clear()
        self.has_more = False
        deadline = time.monotonic() + timeout_s
        for fd, (engine, pid) in list(self._by_fd.items()):
            waiter = select.poll()
            waiter.register(fd, select.POLLIN)
            left_ms = max(0.0, deadline - time.monotonic()) * 1000 if engine in told else 0.0
            if not waiter.poll(left_ms):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                waiter.poll(2000)
            self.ended(fd)
