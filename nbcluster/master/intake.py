"""What each message means for the core: frames in, events into the batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbcluster.core import events as e
from nbcluster.errors import MalformedError
from nbcluster.ids import engine_of
from nbcluster.master import outbox
from nbcluster.master.sessions import Session
from nbcluster.master.shell import Shell
from nbcluster.transport.paths import is_gone
from nbcluster.transport.sockets import Sent
from nbcluster.wire import codec
from nbcluster.wire import messages as m

log = logging.getLogger(__name__)

#: Seconds an acknowledgement waits for news to go along with.
ACKNOWLEDGE_S = 0.02

#: Seconds after which a stranger that goes on talking is asked to greet once more.
GREET_AGAIN_S = 1.0


class Intake:
    """Reads messages by the role of who sent them."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._readers: dict[str, Callable[[bytes], Any]] = {
            "client": codec.from_client,
            "engine": codec.from_engine,
            "executor": codec.from_executor,
        }
        self._asked_to_greet: dict[bytes, float] = {}  #: stranger -> when
        self._to_acknowledge: set[str] = set()
        self.acknowledge_at = 0.0  #: when those are told at the latest; 0: there are none
        self._takers: dict[type, Callable[[Session, Any, e.Batch], None]] = {
            m.Submit: self._submit,
            m.Ask: self._shell.ask,
            m.Watch: self._watch,
            m.Release: self._release,
            m.Taken: self._taken,
            m.Bye: self._bye,
            m.Beat: self._beat,
            m.ExecutorDied: self._executor_died,
            m.Revoked: self._revoked,
            m.Output: self._output,
            m.Drained: self._drained,
            m.DrainWanted: self._drain_wanted,
            m.Stack: self._stack,
            m.Finished: self._finished,
            m.SetupDone: self._setup_done,
        }

    def take(self, peer: bytes, frame: bytes, batch: e.Batch) -> None:
        """Take in one message.

        Raises
        ------
        MalformedError
            If it is none that this peer may send.
        """
        sessions = self._shell.sessions
        session = sessions.by_peer.get(peer)
        if session is None:
            self._take_from_stranger(peer, frame, batch)
            return
        if sessions.dropped and sessions.is_refused(peer, self._shell.now):
            return
        try:
            message = self._readers[session.role](frame)
        except MalformedError:
            if frame[1:2] not in (b"\x01", b"\x02", b"\x03"):  # tags of the greetings
                raise
            self._greet(peer, codec.hello(frame), batch)  # said again: our answer was slow
            return
        self._takers[type(message)](session, message, batch)

    def _take_from_stranger(self, peer: bytes, frame: bytes, batch: e.Batch) -> None:
        if self._shell.sessions.is_refused(peer, self._shell.now):
            return
        try:
            hello = codec.hello(frame)
        except MalformedError:
            self._have_greet(peer)
            if not codec.is_message(frame):
                raise
            return
        self._greet(peer, hello, batch)

    def _have_greet(self, peer: bytes) -> None:
        """Ask a stranger to greet: perhaps it was given up, or a master before us knew it.

        Once for all that it had on the way: each asking makes it greet and say everything again.
        """
        now = self._shell.now
        if now - self._asked_to_greet.get(peer, 0.0) < GREET_AGAIN_S:
            return
        if len(self._asked_to_greet) > 1_000:  # as with malformed messages
            self._asked_to_greet.clear()
        if self._shell.sender.post(peer, m.GreetAgain()) is Sent.QUEUED:
            self._asked_to_greet[peer] = now

    # ------------------------------------------------------------------ greetings

    def _greet(self, peer: bytes, hello: m.Hello, batch: e.Batch) -> None:
        shell = self._shell
        self._asked_to_greet.pop(peer, None)
        session, answer = shell.sessions.open(peer, hello)
        if session is None or isinstance(answer, m.Refusal):
            log.warning("refused a peer: %s", answer)
            shell.sender.post(peer, answer)
            return
        welcome = m.Welcome(shell.machine.state.epoch, answer.cluster, answer.version, shell.now)
        shell.sender.welcome(session, welcome)
        if session.greeted > 1:
            return  # said again because our answer was slow: it tells nothing new
        match hello:
            case m.EngineHello():
                batch.rare.append(
                    e.EngineCame(
                        hello.engine,
                        hello.pid,
                        hello.host,
                        hello.groups,
                        hello.slots,
                        hello.python,
                        hello.executors,
                    )
                )
                if hello.host == shell.connection.host:
                    shell.keeper.watch(hello.engine, hello.pid)
            case m.ExecutorHello():
                session.known.clear()
                batch.rare.append(e.ExecutorCame(hello.executor, hello.pid, hello.holds))
            case m.ClientHello():
                log.info("client %s (pid %d) is here", hello.client, hello.pid)
                batch.rare.append(e.ClientCame(hello.client))

    def _bye(self, session: Session, message: m.Bye, batch: e.Batch) -> None:
        if session.role == "engine":
            batch.rare.append(e.EngineLeft(session.name))
        elif session.role == "client":
            batch.rare.append(e.ClientGone(session.name))
        self._shell.sessions.close(session)

    # ------------------------------------------------------------------ clients

    def _submit(self, session: Session, message: m.Submit, batch: e.Batch) -> None:
        if self._shell.disk_is_full:
            known = self._shell.machine.state.tasks
            if message.number <= session.acked or any(t.id in known for t in message.tasks):
                return  # sent again while it waits for room: it is acknowledged when it has it
            text = "The disk under the journal is full; nothing new is taken until it has room."
            # Not acknowledged: what came before it may not be durable yet.
            self._shell.sender.send(
                session, m.NotTaken(message.number, "JournalFullError", (text,))
            )
            outbox.remove_blobs(
                Path(self._shell.connection.blobs), [b for t in message.tasks for b in t.blobs]
            )
            return
        batch.submissions.append(
            e.Submission(session.name, message.definitions, message.templates, message.tasks)
        )
        session.acked = max(session.acked, message.number)
        if not self._to_acknowledge:
            self.acknowledge_at = self._shell.now + ACKNOWLEDGE_S
        self._to_acknowledge.add(session.name)

    def acknowledge(self) -> None:
        """Tell clients what is durable, where no news has told it for a moment.

        News mostly follow at once and carry it; a message of its own would wake the client once
        more for each task.
        """
        if not self._to_acknowledge or self._shell.now < self.acknowledge_at:
            return
        names, self._to_acknowledge = self._to_acknowledge, set()
        self.acknowledge_at = 0.0
        for name in names:
            session = self._shell.sessions.by_name.get(name)
            if session is not None and session.told < session.acked:
                self._shell.sender.tell(session, e.News())

    def _watch(self, session: Session, message: m.Watch, batch: e.Batch) -> None:
        batch.rare.append(e.WatchAsked(session.name, message.tasks))

    def _release(self, session: Session, message: m.Release, batch: e.Batch) -> None:
        batch.rare.append(e.ReleaseAsked(session.name, message.tasks))

    def _taken(self, session: Session, message: m.Taken, batch: e.Batch) -> None:
        session.unread.taken(message.cost)
        self._shell.sender.go_on(session)

    # ------------------------------------------------------------------ engines

    def _beat(self, session: Session, message: m.Beat, batch: e.Batch) -> None:
        config = self._shell.config
        for what, path in (("directory", config.directory), ("journal", config.journal)):
            if is_gone(path):
                self._shell.stop_when_drained(
                    "now", keep=False, why=f"its {what} {path} was removed"
                )
        now = self._shell.now
        running = [(executor, token, now - age_s) for executor, token, age_s in message.running]
        batch.rare.append(e.EngineBeat(session.name, running, message.progress, message.rss_bytes))

    def _executor_died(self, session: Session, message: m.ExecutorDied, batch: e.Batch) -> None:
        self._must_own(session, message.executor)
        gone = self._shell.sessions.by_name.get(message.executor)
        if gone is not None:
            self._shell.sessions.close(gone)
        how = message.signal
        if message.exit_code > 0 and not message.token:  # no task's error will tell why
            how += f": {message.stderr.rpartition(chr(10))[2]}"
        log.info("executor %s: %s", message.executor, how)
        self._shell.dead_executors.append(message.executor)
        batch.rare.append(
            e.ExecutorEnded(
                message.executor,
                message.token,
                message.signal,
                message.peak_bytes,
                message.stdout,
                message.stderr.encode(),
                message.expected,
            )
        )

    def _must_own(self, session: Session, executor: str) -> None:
        if engine_of(executor) != session.name:
            raise MalformedError(f"engine {session.name} speaks for executor {executor}")

    def _revoked(self, session: Session, message: m.Revoked, batch: e.Batch) -> None:
        self._must_own(session, message.executor)
        batch.rare.append(e.RevokeAnswered(message.executor, message.watermark, message.current))

    def _output(self, session: Session, message: m.Output, batch: e.Batch) -> None:
        by_token = {
            token: task
            for engine in (self._shell.machine.state.engines.get(engine_of(session.name)),)
            if engine is not None
            for x in engine.executors.values()
            for token, task in x.leases.items()
        }
        for token, stream, offset, data in message.chunks:
            task = by_token.get(token)
            if task is not None and task.token == token:
                chunk = (task.id, max(task.attempts, 1), stream, offset, data)
                for client in self._shell.machine.memo.audience(task):
                    self._shell.sender.send_to(client, m.OutputNews([chunk]))

    def _drained(self, session: Session, message: m.Drained, batch: e.Batch) -> None:
        batch.rare.append(e.EngineLeft(session.name))

    def _drain_wanted(self, session: Session, message: m.DrainWanted, batch: e.Batch) -> None:
        self._shell.keeper.leaving.add(session.name)
        batch.rare.append(e.DrainAsked(session.name))

    def _stack(self, session: Session, message: m.Stack, batch: e.Batch) -> None:
        if message.request in self._shell.stacks:  # else nobody waits for it any more
            self._shell.stacks[message.request] = message.text

    # ------------------------------------------------------------------ executors

    def _finished(self, session: Session, message: m.Finished, batch: e.Batch) -> None:
        if message.number <= session.acked:
            return  # sent again because our acknowledgement was late
        session.acked = message.number
        ahead_s = self._shell.clock.ahead_s
        if ahead_s:  # its wall clock is ours
            for outcome in message.outcomes:
                outcome.started_at += ahead_s
        batch.outcomes.append((session.name, message.outcomes))

    def _setup_done(self, session: Session, message: m.SetupDone, batch: e.Batch) -> None:
        batch.rare.append(
            e.SetupAnswered(session.name, message.version, message.error, message.without)
        )
