"""The master's loop: receive, decide, persist, send. It decides nothing itself."""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from nbcluster.clock import Clock
from nbcluster.core import events as e
from nbcluster.core import records as r
from nbcluster.core.machine import Machine
from nbcluster.core.model import Task
from nbcluster.errors import (
    FencedError,
    JournalError,
    JournalFullError,
    MalformedError,
    NbclusterError,
)
from nbcluster.journal import Journal
from nbcluster.master import outbox, rebuild
from nbcluster.master.asks import READ_ONLY, answer_to, scale
from nbcluster.master.config import MasterConfig
from nbcluster.master.feeds import Feeds
from nbcluster.master.intake import Intake
from nbcluster.master.keeper import Keeper
from nbcluster.master.questions import FULL_DISK, Answer
from nbcluster.master.sender import Sender
from nbcluster.master.sessions import Session, Sessions
from nbcluster.transport.connection import Connection
from nbcluster.transport.sockets import Router
from nbcluster.wire import messages as m

log = logging.getLogger(__name__)

#: Messages taken in one turn: bounds how long the first of them waits for its commit.
TURN: Final = 64
#: The journal's log is cleaned while nothing else is to be done for this long, in portions
#: small enough that who comes meanwhile does not wait.
IDLE_S: Final = 0.02
IDLE_PORTION: Final = 300
#: Under load it may grow: a record that is cleaned late is often of a task that was forgotten, and
#: costs little. Bounded, since it is applied again at a restart, by this many records, which are
#: those of more tasks than are retained,
LONG_LOG: Final = 400_000
#: and by so many more for each open task beyond these: a long queue would be cleaned in vain, as
#: most of its tasks have ended and are forgotten before the log of their submission is due.
LONG_QUEUE: Final = 100_000
LONG_LOG_PER_TASK: Final = 12
#: While it is longer, a portion is cleaned each time that nearly as much has come.
BUSY_PORTION: Final = 8_000
BUSY_GROWTH: Final = 6_000
#: No wait is longer, whatever is due in years: `select.poll` counts in 31 bits.
LONGEST_WAIT_MS: Final = 3_600_000.0
#: Seconds between attempts to write to a full disk.
FULL_DISK_S: Final = 0.5
#: Seconds a stopping master gives engines to end before it kills them.
STOP_S: Final = 5.0


class Loop:
    """One running master."""

    def __init__(
        self,
        config: MasterConfig,
        connection: Connection,
        machine: Machine,
        journal: Journal,
        router: Router,
        keeper: Keeper,
        poller: select.poll,
        clock: Clock,
    ) -> None:
        self.config = config
        self.connection = connection
        self.machine = machine
        self.journal = journal
        self.keeper = keeper
        self.clock = clock
        self.now = clock.now
        self.turns = 0
        self.stale_results = 0
        self.dead_executors: list[str] = []  #: of which shared buffers may be left
        self.feeds = Feeds()
        self.stacks: dict[int, str | None] = {}  #: stacks asked for, and those that came
        self.sessions = Sessions(connection)
        self.sender = Sender(router, self.sessions)
        self._router = router
        self._poller = poller
        self._intake = Intake(self)
        self._batch = e.Batch()
        #: asks answered after a turn; the op is that of an order, which must be durable by then
        self._pending: list[tuple[Session, int, Answer, str]] = []
        self._errors: list[tuple[Session, int, NbclusterError]] = []
        self._owed: list[r.Record] = []  #: records that a full disk did not take
        self._held: list[e.Step] = []  #: what may be sent only when those are durable
        self._stop_mode = self._why = ""
        self._keep = False  #: somebody said so
        self._signalled = False
        self._has_old = False  #: more of the journal's log is to be cleaned
        self._clean_above = 0  #: of how many records of the log the next portion is cleaned at load
        self._stop_by = 0.0  #: by the monotonic clock: while the machine slept, nothing was drained
        self.stopped = False

    # ------------------------------------------------------------------ one turn

    def turn(self) -> None:
        """Take in what has come, decide, make it durable, and only then send."""
        now = self.now = self.clock.read()
        self.turns += 1
        batch, self._batch = self._batch, e.Batch()
        while self.sessions.ended:
            batch.rare.append(e.ClientGone(self.sessions.ended.pop()))
        for peer, frame in self._router.receive(TURN):
            try:
                self._intake.take(peer, frame, batch)
            except MalformedError as error:  # one bad peer must not stop the others
                if not self.sessions.malformed(peer, now):
                    log.warning("dropped a message: %s", error)
        step = self.machine.handle(batch, now, self.clock.take_leap())
        self._finish(step)

    def _finish(self, step: e.Step) -> None:
        if self._commit(step.records):
            for held in self._held:
                self._send(held)
            self._held.clear()
            self._send(step)
            self._answer()
        else:
            self._held.append(step)
            self._answer_on_full_disk()

    def _commit(self, records: list[r.Record]) -> bool:
        """Make records durable. A newer master's epoch in the journal raises: we are fenced."""
        if self._owed:
            records = self._owed + records
        if not records:
            return True
        try:
            self.journal.commit(records, self.machine.state.epoch, self.now)
        except JournalFullError as error:
            if not self._owed:
                log.error("%s; no new tasks are taken until there is room", error)
            self._owed = records
            return False
        if self._owed:
            log.info("the journal has room again")
            self._owed = []
        return True

    @property
    def disk_is_full(self) -> bool:
        """Whether records wait for room on the disk; then no new tasks are taken."""
        return bool(self._owed)

    def is_owed(self, task: Task) -> bool:
        """Return whether it is on no record yet that this task was submitted."""
        return any(type(x) is r.Submitted and x.task.id == task.id for x in self._owed)

    # ------------------------------------------------------------------ sending

    def _send(self, step: e.Step) -> None:
        if step.unknowing:
            outbox.forget_definitions(self.sessions, step.unknowing)
        if step.runs:
            outbox.send_runs(self.sender, self.machine.state, step.runs)
        if step.news:
            self.sender.send_news(step.news)
        self._intake.acknowledge()
        if step.setup_executors:
            outbox.send_setups(self.sender, self.machine.state, step.setup_executors)
        for order in step.orders:
            self.sender.send_to(outbox.engine_of(order), outbox.message_of(order))
        if step.garbage:
            outbox.remove_blobs(Path(self.connection.blobs), step.garbage)
        self._note(step)
        if self.dead_executors:
            outbox.remove_unsent(Path(self.connection.blobs), self.dead_executors, self.machine)
            self.dead_executors = []

    def _note(self, step: e.Step) -> None:
        self.feeds.note(step.records, self.now)
        if step.stale:
            self.stale_results += len(step.stale)
            log.info("%d results of lost leases were dropped", len(step.stale))
        for record in step.records:
            if type(record) is r.EngineGone:
                self.dead_executors.append(record.engine + "/")
                # Should it only have been silent, it has to greet again, with its executors.
                self.sessions.close_engine(record.engine)
                self.keeper.replenish()

    # ------------------------------------------------------------------ asks

    def ask(self, session: Session, ask: m.Ask, batch: e.Batch) -> None:
        """Have a question answered once this turn is durable."""
        order = "" if ask.op in READ_ONLY or ask.op == "stop" else ask.op
        if order and self.disk_is_full:
            text = f"{FULL_DISK}: {order}() was not taken. Make room, then say it again."
            self._errors.append((session, ask.request, JournalFullError(text)))
            return
        answer = answer_to(self, ask.op, ask.args, batch, session.name)
        if isinstance(answer, NbclusterError):
            self._errors.append((session, ask.request, answer))
        else:
            self._pending.append((session, ask.request, answer, order))

    def _answer_on_full_disk(self) -> None:
        """Answer questions all the same; orders of this turn are on no record yet."""
        for session, request, _, order in self._pending:
            if order:
                text = f"{FULL_DISK}: {order}() takes effect as soon as there is room."
                self._errors.append((session, request, JournalFullError(text)))
        self._pending = [asked for asked in self._pending if not asked[-1]]
        self._answer()

    def _answer(self) -> None:
        errors, self._errors = self._errors, []
        for session, request, error in errors:
            self.sender.send(session, m.Reply(request, None, type(error).__name__, error.args))
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        for asked in pending:
            self._answer_one(*asked)

    def _answer_one(self, session: Session, request: int, answer: Answer, order: str) -> None:
        try:
            value = answer()
        except (NbclusterError, ValueError, TypeError, KeyError, OverflowError) as error:
            # A question of the wrong form costs the asker an answer, and nobody else anything.
            code = type(error).__name__ if isinstance(error, NbclusterError) else "OptionError"
            log.info("a question could not be answered: %r", error)
            self.sender.send(session, m.Reply(request, None, code, tuple(map(str, error.args))))
            return
        if value is None:  # not yet: asked again after the next turn
            if self.sessions.by_name.get(session.name) is session:
                self._pending.append((session, request, answer, order))
            return
        self.sender.send(session, m.Reply(request, value))

    def counters(self) -> dict[str, Any]:
        """Return what only the shell knows of the cluster's numbers."""
        return {
            "turns": self.turns,
            "master_pid": os.getpid(),
            "stale_results": self.stale_results,
            "malformed_messages": self.sessions.dropped,
            "clients": sum(s.role == "client" for s in self.sessions.by_name.values()),
            "journal_bytes": self.journal.size_bytes(),
            "disk_full": self.disk_is_full,
        }

    # ------------------------------------------------------------------ serving

    def serve(self, others: dict[int, Callable[[], None]]) -> None:
        """Run until told to stop.

        Parameters
        ----------
        others
            Descriptors beside the socket and the engine processes, and what to do when one of
            them becomes readable.
        """
        router, poll = self._router, self._poller.poll
        self._poller.register(router.fd, select.POLLIN)
        while not self.stopped:
            wait_ms = 0 if router.ready() or self._batch.rare else self._wait_ms()
            ready = poll(wait_ms)
            for fd, _ in ready:
                if self.keeper.owns(fd):
                    self._engine_ended(fd)
                elif fd in others:
                    others[fd]()
            self.turn()
            if self.keeper.has_more or 0 < self.keeper.retry_at <= self.now:
                self.keeper.replenish()
            if self._stop_mode:
                self._try_to_stop()
            if self._log_is_long():
                self._clean(BUSY_PORTION)
            elif not ready and wait_ms:
                self._clean(IDLE_PORTION)

    def _log_is_long(self) -> bool:
        queued = max(0, self.machine.state.open_tasks - LONG_QUEUE)
        limit = LONG_LOG + LONG_LOG_PER_TASK * queued
        return self.journal.log_records > max(limit, self._clean_above)

    def _clean(self, portion: int) -> None:
        """Move a portion of the log into snapshots; not while the disk is full."""
        if self._owed:
            return
        try:
            self._has_old = rebuild.clean(self.journal, self.machine, portion)
        except JournalFullError as error:
            log.warning("the journal's log cannot be cleaned now: %s", error)
            self._has_old = False
        self._clean_above = self.journal.log_records + BUSY_GROWTH

    def _wait_ms(self) -> float | None:
        if self.keeper.has_more:
            return 0.0
        if self._owed:
            return FULL_DISK_S * 1000
        due = self.machine.due(self.now)
        if self._stop_mode:
            stop_at = self.clock.read() + self._stop_by - time.monotonic()
            due = min(due or stop_at, stop_at)
        for at in (self.keeper.retry_at, self._intake.acknowledge_at):
            if at:
                due = min(due or math.inf, at)
        if self._has_old or (due is None and self.journal.cleanable() > 0):
            due = min(due or math.inf, self.clock.read() + IDLE_S)
        if due is None:
            return None
        # Rounded up: a turn that comes too early would find nothing due and be followed at once.
        return min(max(0.0, (due - self.clock.read()) * 1000) + 1, LONGEST_WAIT_MS)

    def _engine_ended(self, fd: int) -> None:
        engine, pid, how = self.keeper.ended(fd)
        known = self.machine.state.engines.get(engine)
        if known is not None and known.pid != pid:
            return  # it came back as another process
        log.info("engine %s (pid %d): %s", engine, pid, how)
        begun = outbox.last_words(Path(self.connection.run), known) if known else {}
        self._batch.rare.append(e.EngineDied(engine, how, begun))
        if known is None:
            self.keeper.replenish()

    def engine_is_gone(self, engine: str) -> None:
        """An engine of the journal does not live any more: found out while we were starting."""
        known = self.machine.state.engines[engine]
        begun = outbox.last_words(Path(self.connection.run), known)
        self._batch.rare.append(e.EngineDied(engine, "ended while no master was there", begun))

    def scale(self, group: str, engines: int, slots: int) -> None:
        """Have so many engines in ``group``, and put that on record."""
        scale(self, {"group": group, "count": engines, "slots": slots}, self._batch, "")

    # ------------------------------------------------------------------ stopping

    def stop_when_drained(self, mode: str, *, keep: bool, why: str = "it was told to stop") -> None:
        """Stop after this turn, or with ``drain`` when the engines have left."""
        self._stop_mode, self._keep, self._why = mode, keep, why
        limit = self.machine.memo.limits.drain_s + 5 if mode == "drain" else 0.0
        self._stop_by = time.monotonic() + limit

    def interrupt(self, number: int) -> None:
        """A signal: drain first, stop at once at the second."""
        self._signalled = True
        if self._stop_mode or not self.machine.state.engines:
            self.stop_when_drained("now", keep=self._keep)
            return
        log.info("%s: draining; once more stops at once", signal.Signals(number).name)
        for engine in self.machine.state.engines:
            self.keeper.leaving.add(engine)
            self._batch.rare.append(e.DrainAsked(engine))
        self.keeper.wanted.clear()
        self.stop_when_drained("drain", keep=self._keep)

    def _try_to_stop(self) -> None:
        # On a full disk nothing that ends can be put on record: there is nothing to wait for.
        drained = not self.machine.state.engines or self.disk_is_full
        if self._stop_mode == "drain" and not drained and time.monotonic() < self._stop_by:
            return
        self.stop(self._why)

    def stop(self, reason: str, *, in_order: bool = True) -> None:
        """End engines, tell clients, and leave the loop; ``in_order``: the journal is as it was."""
        if self.stopped:
            return
        self.stopped = True
        log.info("the cluster stops: %s", reason)
        if self.keeps_journal:
            self._give_back_all()
        engines = [s for s in self.sessions.by_name.values() if s.role == "engine"]
        for session in engines:
            self.sender.send(session, m.Leave(reason))
        self.keeper.stop_all(STOP_S, {session.name for session in engines})
        has_all = os.path.exists(self.config.directory) and os.path.exists(self.config.journal)
        is_kept = in_order and has_all and self.keeps_journal
        start = self.config.start_call if is_kept else ""
        for session in list(self.sessions.by_name.values()):
            if session.role == "client":
                acked = session.durable if self.disk_is_full else session.acked
                self.sender.say_last(session, m.Closing(reason, start, acked))

    def _give_back_all(self) -> None:
        """Put on record, before engines are told to go, that what runs did not end by itself."""
        state, run = self.machine.state, Path(self.connection.run)
        left: list[e.Rare] = [
            e.EngineLeft(x.id, outbox.last_words(run, x)) for x in state.engines.values()
        ]
        step = self.machine.handle(e.Batch(rare=left), self.clock.read())
        try:
            if self._commit(step.records):
                self.sender.send_news(step.news)
        except JournalError as error:  # the next start takes it for a crash
            log.warning("what runs could not be put on record as given back: %s", error)

    @property
    def keeps_name(self) -> bool:
        """Whether the next start of that name should go on with what there is."""
        state = self.machine.state
        worth_it = state.open_tasks > 0 or bool(state.dead_letters)
        return self._keep or (self._signalled and worth_it)

    @property
    def keeps_journal(self) -> bool:
        """Whether the journal stays: one that somebody chose always does."""
        return self.keeps_name or not self.config.own_journal

    def close(self) -> None:
        """Close the socket; last messages get a moment to leave."""
        self._router.close()

    def fenced(self, error: FencedError) -> None:
        """A newer master has taken over: send nothing, and go."""
        log.error("%s", error)
        self.stopped = True
