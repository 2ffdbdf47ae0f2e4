"""The supervisor: registers the engine, keeps its executors alive, carries orders and news.

One thread, one loop, and no user code: so its heartbeat says that the engine lives, whatever its
tasks do. It acts on orders and tells facts; what either means is decided by the master.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from nbcluster.engine import processes
from nbcluster.engine.children import Child
from nbcluster.engine.connecting import MasterLink
from nbcluster.engine.options import EngineOptions
from nbcluster.engine.outbox import Outbox
from nbcluster.engine.signals import StopSignals, watch_owner
from nbcluster.engine.slots import Slots
from nbcluster.engine.stacks import Stacks
from nbcluster.engine.watching import Watcher, shorten_idle
from nbcluster.errors import MalformedError
from nbcluster.transport.connection import Connection
from nbcluster.transport.descriptors import watch
from nbcluster.transport.page import CURRENT
from nbcluster.transport.rundir import ClusterDir, FileLock
from nbcluster.transport.sockets import end_context
from nbcluster.wire import codec
from nbcluster.wire import messages as m

log = logging.getLogger(__name__)

BEAT_S: Final = 3.0
#: Between two looks at the executors while something runs.
LOOK_S: Final = 0.05
#: The same while nothing runs: a start is told within 100 ms.
IDLE_LOOK_S: Final = 0.085
_FILE_S: Final = 0.5  #: between two looks at the connection file
_FIRST_FILE_S: Final = 0.01  #: before there is one
_REVOKE_S: Final = 0.001
_DRAIN_S: Final = 30.0
_TERM_S: Final = 0.5
EXIT_REFUSED: Final = 3
_NEVER: Final = float("inf")
_monotonic: Final = time.monotonic


class Supervisor:
    """One engine.

    Parameters
    ----------
    options
        What it was told at its start.
    slots
        Its executors, which may have been started already.
    link
        The way to the master.
    signals
        Those that end it, taken since before the executors were started.
    """

    def __init__(
        self, options: EngineOptions, slots: Slots, link: MasterLink, signals: StopSignals
    ) -> None:
        self._slots = slots
        self._link = link
        self._outbox = Outbox(slots.engine, options.groups, link)
        self._watcher = Watcher()
        self._poller = select.poll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._stacks = Stacks()
        self._revokes: dict[str, Child] = {}  #: of which it is not decided what had begun
        self._master_fd = -1
        self._exit: int | None = None
        self._dies_with_owner = False
        self._signals = signals
        self._stops = 0  #: signals obeyed
        self._tells = options.tells
        self._drain_due = _NEVER
        self._is_busy = True  #: something runs, or is to be answered: turns must follow closely
        self._beat_due = 0.0
        self._file_due = 0.0
        self._file_pause_s = _FIRST_FILE_S
        self._listen(self._signals.fd, self._signals.clear)
        try:
            for fd in watch_owner(options.owner_fd, options.owner_pid):
                self._listen(fd, self._owner_died)
        except ProcessLookupError:
            self._owner_died()
        for child in slots.children():
            self._adopt(child)

    @property
    def processed(self) -> int:
        """Attempts that ended here."""
        return self._slots.processed

    def serve(self) -> int:
        """Run until the engine ends; return the exit code. Nothing of it is left then."""
        while self._exit is None:
            for fd, _ in self._sleep():
                callback = self._callbacks.get(fd)
                if callback is not None:  # else it belonged to what this turn has ended
                    callback()
            self._receive()
            self._turn(_monotonic())
        self._end()
        return self._exit

    # ------------------------------------------------------------------ one turn

    def _sleep(self) -> list[tuple[int, int]]:
        """Wait for the next turn; return the descriptors that are ready.

        While nothing runs, a look is only this: is that still so? All that is left of an idle
        engine's cost is waking up for it.
        """
        ready = self._poller.poll(self._timeout_ms())
        if ready or self._is_busy:
            return ready
        until = min(self._beat_due, self._file_due, self._slots.next_due(), self._drain_due)
        pages = [child.page.words for child in self._slots.children()]
        while not ready and _monotonic() < until:
            if any(words[CURRENT] for words in pages):
                break
            ready = self._poller.poll(IDLE_LOOK_S * 1000)
        return ready

    def _timeout_ms(self) -> float:
        dealer = self._link.dealer
        if dealer is not None and dealer.ready():  # its descriptor would not tell again
            return 0
        if self._revokes:
            return _REVOKE_S * 1000
        # All other times are multiples of the look's, or need not be kept exactly.
        if self._link.connection is None:
            return self._file_pause_s * 1000
        return (LOOK_S if self._is_busy else IDLE_LOOK_S) * 1000

    def _turn(self, now: float) -> None:
        """Do what is due."""
        if self._signals.count != self._stops:
            self._obey_signal(now)
        if now >= self._file_due:
            self._look_at_file(now)
        if now >= self._slots.next_due():
            for child in self._slots.fill(now):
                self._adopt(child)
        children = self._slots.children()
        self._outbox.greet(self._slots.wanted, children, now)
        for child in children:
            child.enforce(now)
        if self._revokes:
            self._answer_revokes()
        for stack in self._stacks.answers(now):
            self._outbox.tell(stack)
        self._look(children, now)
        if now >= self._drain_due:
            log.warning("not drained after %g s; leaving", _DRAIN_S)
            self._exit = 0

    def _look(self, children: list[Child], now: float) -> None:
        sight = self._watcher.look(children)
        self._is_busy = sight.is_busy or bool(self._revokes) or not self._link.welcomed
        if sight.chunks:
            self._outbox.tell(m.Output(sight.chunks))
        is_due = now >= self._beat_due
        if not (is_due or sight.is_news or sight.progress):
            return
        if is_due:
            self._beat_due = now + BEAT_S
            shorten_idle(children)
            self._end_stopped(children)
        pids = [os.getpid(), *(child.pid for child in children)]
        rss = sum(map(processes.resident_bytes, pids))
        if self._outbox.tell(m.Beat(sight.running, sight.progress, rss)):
            tokens = {name: token for name, token, _ in sight.running}
            for child in children:
                child.told = tokens.get(child.id, 0)

    # ------------------------------------------------------------------ executors

    def _end_stopped(self, children: list[Child]) -> None:
        """End executors that somebody stopped while nothing ran: what is sent to them would wait.

        One that is stopped in an attempt is left to that attempt's timeout, or to a debugger.
        """
        for child in children:
            if not child.page.words[CURRENT] and processes.is_stopped(child.pid):
                log.warning("executor %s is stopped by a signal: it is replaced", child.id)
                child.is_ordered = True
                child.kill()

    def _listen(self, fd: int, callback: Callable[[], None], events: int = select.POLLIN) -> None:
        self._callbacks[fd] = callback
        self._poller.register(fd, events)

    def _forget(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def _adopt(self, child: Child) -> None:
        self._listen(child.pidfd, lambda: self._executor_died(child))
        # Told without being asked for: that nobody reads the other end any more.
        self._listen(child.control_fd, lambda: self._executor_is_deaf(child), 0)

    def _executor_is_deaf(self, child: Child) -> None:
        """It ends, or user code has closed its descriptors: then it must be replaced."""
        self._forget(child.control_fd)
        log.info("executor %s has closed its descriptors, or is about to end", child.id)
        child.leave_by_itself(_monotonic())

    def _executor_died(self, child: Child) -> None:
        self._forget(child.pidfd)
        self._forget(child.control_fd)
        self._revokes.pop(child.id, None)
        now = _monotonic()
        death = self._slots.bury(child, now)
        how = processes.describe_exit(death.exit_code)
        log.log(
            logging.INFO if death.expected else logging.WARNING,
            "executor %s ended: %s, peak %d MiB",
            child.id,
            how,
            death.peak_bytes >> 20,
        )
        self._outbox.tell_death(death, now)

    def _answer_revokes(self) -> None:
        for name, child in list(self._revokes.items()):
            for watermark, begun in child.answer_revokes():
                self._outbox.keep(m.Revoked(name, watermark, begun))
            if not child.revokes:
                del self._revokes[name]

    # ------------------------------------------------------------------ the master

    def _receive(self) -> None:
        for frame in self._link.frames():
            try:
                self._take(codec.to_engine(frame))
            except MalformedError as error:
                log.warning("dropped a message of the master: %s", error)

    def _take(self, message: m.ToEngine) -> None:
        now = _monotonic()
        match message:
            case m.Welcome():
                self._outbox.welcomed(now)
                self._beat_due = 0.0
                if self._tells:
                    self._tells = False
                    print(f"joined cluster {message.cluster!r}", file=sys.stderr, flush=True)
            case m.Refusal(reason):
                log.error("the master refused this engine: %s", reason)
                print(f"the master refused this engine: {reason}", file=sys.stderr)
                self._exit = EXIT_REFUSED
            case m.GreetAgain():
                self._outbox.lost(now)
            case m.Leave(reason):
                log.info("leaving: %s", reason)
                self._exit = 0
            case _:
                self._obey(message, now)

    def _obey(self, message: m.ToEngine, now: float) -> None:
        match message:
            case m.SetSlots(slots):
                self._slots.set_wanted(slots)
            case m.Restart():
                self._slots.kill_all()
            case m.StackWanted():
                answer = self._stacks.ask(message, self._slots.find(message.executor), now)
                if answer is not None:
                    self._outbox.tell(answer)
            case m.Kill(executor, token, reason, grace_s):
                child = self._slots.find(executor)
                if child is not None:
                    log.info("stopping attempt %d of %s: %s", token, executor, reason)
                    child.interrupt(token, now + grace_s)
            case m.Revoke(executor, watermark):
                child = self._slots.find(executor)
                if child is not None:
                    child.revokes.append(watermark)
                    self._revokes[executor] = child
                    self._answer_revokes()

    def _look_at_file(self, now: float) -> None:
        """See whether there is a master, or another one than before."""
        old = self._link.dealer
        if self._link.look():
            if old is not None:  # closed, and the number of its descriptor may be in use again
                self._forget(old.fd)
            self._file_pause_s = _FILE_S
            self._reconnected(now)
        elif self._link.connection is None:
            self._file_pause_s = min(self._file_pause_s * 1.02, _FILE_S)
        elif self._master_fd < 0 and not os.path.isdir(self._link.connection.directory):
            log.warning("the cluster's directory is gone; leaving")
            self._exit = 0
        self._file_due = now + self._file_pause_s

    def _reconnected(self, now: float) -> None:
        connection, dealer = self._link.connection, self._link.dealer
        assert connection is not None
        assert dealer is not None
        log.info("master of epoch %d at %s", connection.epoch, connection.address)
        self._outbox.lost(now)
        self._listen(dealer.fd, lambda: None)
        self._watch_master(connection)
        for child in self._slots.children():
            child.told = 0
            child.wake()

    def _watch_master(self, connection: Connection) -> None:
        self._unwatch_master()
        if connection.host == os.uname().nodename:
            with suppress(ProcessLookupError):
                self._master_fd = watch(connection.pid)
                self._listen(self._master_fd, self._master_died)

    def _unwatch_master(self) -> None:
        if self._master_fd >= 0:
            self._forget(self._master_fd)
            os.close(self._master_fd)
            self._master_fd = -1

    def _master_died(self) -> None:
        log.warning("the master is dead; waiting for the next one")
        self._unwatch_master()
        self._receive()  # its last orders
        self._outbox.lost(_monotonic())
        self._file_pause_s = LOOK_S
        self._file_due = 0.0

    # ------------------------------------------------------------------ the end

    def _obey_signal(self, now: float) -> None:
        """First ask the master to arrange a drain; at the second signal stop at once."""
        first, self._stops = self._stops == 0, self._signals.count
        if not first or self._stops > 1 or self._link.connection is None:
            log.info("told to stop")
            self._exit = 0
            return
        log.info("told to stop: draining; a second signal stops at once")
        self._outbox.keep(m.DrainWanted())
        self._drain_due = now + _DRAIN_S

    def _owner_died(self) -> None:
        log.info("the owner is gone")
        self._dies_with_owner = True
        self._exit = 0

    def _end(self) -> None:
        """Stop the executors, say goodbye, and leave no file."""
        children = self._slots.children()
        if not self._dies_with_owner:
            self._ask_to_end(children)
        for child in children:
            child.kill()
            self._forget(child.pidfd)
            self._forget(child.control_fd)
            self._slots.bury(child, _monotonic())
        if self._exit == 0 and not self._dies_with_owner:
            self._outbox.tell(m.Bye())
        self._unwatch_master()
        self._link.close(200)
        self._signals.close()
        end_context()
        if self._dies_with_owner:
            self._tidy_after_owner()
        log.info("processed %d", self.processed)

    def _tidy_after_owner(self) -> None:
        """Remove the cluster's files if its master, whose task that is, was killed before."""
        connection = self._link.connection
        if connection is None:
            return
        where = ClusterDir(connection.name, Path(connection.directory))
        if where.lock_file.exists() and not FileLock.is_held(where.lock_file):
            where.remove()

    def _ask_to_end(self, children: list[Child]) -> None:
        """Give executors a moment to end by themselves."""
        poller = select.poll()
        for child in children:
            child.terminate()
            poller.register(child.pidfd, select.POLLIN)
        left, deadline = len(children), _monotonic() + _TERM_S
        while left and (rest := deadline - _monotonic()) > 0:
            for fd, _ in poller.poll(rest * 1000):
                poller.unregister(fd)
                left -= 1
