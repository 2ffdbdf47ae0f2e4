"""The executor's loop: receive, run, send; one thread, and user code is on it.

Beside it stands one thread that sleeps in ``read`` nearly always, the companion. It wakes for two
things. The supervisor says that an attempt has run for long while results of earlier ones wait to
be sent with it: the companion sends them. Or its pipe ends: the supervisor is dead, and however
busy user code is, this process and its children end.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import time
from collections import deque
from threading import Lock, Thread
from typing import Final

from nbcluster.core.model import Outcome, Run
from nbcluster.current import CurrentTask, provide_current
from nbcluster.displays import provide_show
from nbcluster.engine.connecting import PYTHON, VERSION, MasterLink
from nbcluster.engine.executor.attempt import Attempts
from nbcluster.engine.executor.birth import ExecutorOptions, end_group
from nbcluster.engine.executor.showing import Showing
from nbcluster.engine.executor.streams import Streams
from nbcluster.engine.executor.surroundings import Interrupts, Surroundings
from nbcluster.errors import MalformedError
from nbcluster.serial.blobs import BlobStore
from nbcluster.serial.unpack import Unpacker
from nbcluster.transport.connection import Connection
from nbcluster.transport.page import (
    BEGUN,
    CURRENT,
    ENDED,
    POKES,
    SENT,
    SKIPPED_AFTER,
    SKIPPED_UPTO,
    STARTED_AT,
    STOP,
    WATERMARK,
    Page,
    page_name,
)
from nbcluster.transport.sockets import end_context
from nbcluster.wire import codec
from nbcluster.wire import messages as m

#: Results wait at most so long for others to travel with, and so many travel together.
BATCH_S: Final = 0.002
BATCH: Final = 64
#: A result above this leaves at once.
LARGE_BYTES: Final = 1 << 16
_HELLO_S: Final = 1.0
_ACKS_S: Final = 2.0
EXIT_REFUSED: Final = 3
EXIT_SETUP: Final = 78
_monotonic: Final = time.monotonic


class Executor:
    """One executor process.

    Raises
    ------
    OSError
        If its page or its streams cannot be opened: the supervisor made them.
    """

    def __init__(self, options: ExecutorOptions) -> None:
        self._options = options
        self._page = page = Page(options.run / page_name(options.executor))
        self._streams = Streams(page)
        self._interrupts = Interrupts(page)
        self._surroundings = Surroundings(self._streams, self._interrupts)
        self._link = MasterLink(options.connection)
        self._lock = Lock()  #: of the socket and `_outcomes`, which the companion sends
        self._poller = select.poll()
        self._poller.register(options.control_fd, select.POLLIN)
        self._attempts: Attempts | None = None  #: once the connection is known
        self._queue: deque[Run] = deque()
        self._outcomes: list[Outcome] = []
        self._unacked: dict[int, bytes] = {}  #: `Finished` by number, as they were sent
        self._number = 0
        self._ended = 0
        self._setup = 0  #: version of the setups that have run here
        self._pokes = 0
        self._hello_due = 0.0
        self._pause_s = 0.01  #: between two looks for a connection file
        self._exit: int | None = None

    def serve(self) -> int:
        """Work until told to end; return the exit code."""
        Thread(target=self._accompany, name="nbcluster-companion", daemon=True).start()
        for name in self._options.imports:
            importlib.import_module(name)
        provide_current(self._current)
        while self._exit is None:
            self._look()
            if self._exit is not None:
                break
            if self._queue:
                self._work()
                self._flush()
            else:
                self._wait()
            self._receive()
        self._end()
        return self._exit

    # ------------------------------------------------------------------ the hot path

    def _work(self) -> None:
        """Run attempts until the queue is empty or results should leave."""
        assert self._attempts is not None  # nothing comes into the queue before
        queue, attempt = self._queue, self._attempts.attempt
        words, reals = self._page.words, self._page.reals
        pokes = self._pokes
        results_due = _monotonic() + BATCH_S
        while queue:
            run = queue.popleft()
            token = run.token
            began = reals[STARTED_AT] = _monotonic()
            words[CURRENT] = token
            if token <= words[WATERMARK]:
                words[SKIPPED_AFTER] = words[BEGUN]
                words[SKIPPED_UPTO] = token
                words[CURRENT] = 0
                continue
            words[BEGUN] = token
            outcome = attempt(run, began)
            self._outcomes.append(outcome)
            words[CURRENT] = 0
            self._ended += 1
            words[ENDED] = self._ended
            if (
                _monotonic() >= results_due
                or len(self._outcomes) >= BATCH
                or len(outcome.payload) >= LARGE_BYTES
                or words[POKES] != pokes
            ):
                return

    def _flush(self, *, beside: bool = False) -> None:
        """Send the results there are; ``beside``: from the companion, while user code runs.

        If no user code runs, the main thread is about to send, or has sent and may sleep on the
        socket's descriptor, which the companion must not disturb. The main thread takes the lock
        after user code and before it sleeps, so what is seen under the lock holds.
        """
        with self._lock:
            if beside and not self._interrupts.armed:
                return
            outcomes, self._outcomes = self._outcomes, []
            if not outcomes:
                return
            self._number += 1
            frame = codec.encode(m.Finished(self._number, outcomes))
            self._unacked[self._number] = frame
            if self._link.welcomed:
                self._link.send(frame)
            self._page.words[SENT] += len(outcomes)

    def _receive(self) -> None:
        with self._lock:
            frames = list(self._link.frames())
        for frame in frames:
            try:
                message = codec.to_executor(frame)
            except MalformedError as error:
                print(f"dropped a message of the master: {error}", file=sys.stderr)
                continue
            if type(message) is m.Runs:
                self._take_runs(message)
            else:
                self._take(message)

    def _take_runs(self, message: m.Runs) -> None:
        assert self._attempts is not None
        for number in [n for n in self._unacked if n <= message.acked]:
            del self._unacked[number]
        if message.definitions:
            self._attempts.library.add(message.definitions)
        self._queue.extend(message.runs)

    # ------------------------------------------------------------------ other messages

    def _take(self, message: m.ToExecutor) -> None:
        match message:
            case m.Setup():
                self._set_up(message)
            case m.Welcome():
                with self._lock:
                    self._link.welcomed = True
                    for frame in self._unacked.values():
                        self._link.send(frame)
            case m.GreetAgain():
                self._link.welcomed = False
                self._hello_due = 0.0
            case m.Refusal(reason):
                print(f"the master refused this executor: {reason}", file=sys.stderr)
                self._exit = EXIT_REFUSED

    def _set_up(self, message: m.Setup) -> None:
        """Run the setups that have not run here; a vital one that fails ends this process."""
        assert self._attempts is not None
        without: list[tuple[int, str]] = []
        if message.version > self._setup:
            self._attempts.library.add(message.definitions)
            for version, name, payload, blobs, is_vital in message.calls:
                error = self._attempts.call(name, payload, blobs)
                if error and is_vital:
                    print(f"a setup failed: {error}", file=sys.stderr)
                    self._send(m.SetupDone(message.version, error))
                    self._exit = EXIT_SETUP
                    return
                if error:
                    without.append((version, error))
            self._setup = message.version
        self._send(m.SetupDone(message.version, without=without))

    def _send(self, message: m.FromExecutor | m.ExecutorHello) -> None:
        with self._lock:
            self._link.send(codec.encode(message))

    # ------------------------------------------------------------------ waiting

    def _wait(self) -> None:
        """Sleep until a message, a poke, or the supervisor's end."""
        with self._lock:
            dealer = self._link.dealer
            if dealer is not None and dealer.ready():  # its descriptor would not tell again
                return
        if self._link.connection is None:
            timeout: float | None = self._pause_s * 1000
            self._pause_s = min(self._pause_s * 1.1, 0.5)
        elif self._link.welcomed:
            timeout = None
        else:
            timeout = max(self._hello_due - _monotonic(), 0.0) * 1000
        for fd, _ in self._poller.poll(timeout):
            if fd == self._options.control_fd and not os.read(fd, 4096):
                end_group()  # the supervisor is dead

    def _look(self) -> None:
        """Do what a poke asks for, and what is due while there is no master."""
        words = self._page.words
        if words[POKES] == self._pokes and self._link.welcomed:
            return
        self._pokes = words[POKES]
        if words[STOP]:
            self._exit = 0
            return
        with self._lock:
            old = self._link.dealer
            if self._link.look():
                self._reconnected(old.fd if old else -1)
        if self._link.connection and not self._link.welcomed and _monotonic() >= self._hello_due:
            self._hello_due = _monotonic() + _HELLO_S
            self._send(self._hello(self._link.connection))

    def _reconnected(self, old_fd: int) -> None:
        assert self._link.dealer is not None
        assert self._link.connection is not None
        if old_fd >= 0:
            self._poller.unregister(old_fd)
        self._poller.register(self._link.dealer.fd, select.POLLIN)
        self._hello_due = 0.0
        if self._attempts is None:
            owner = self._options.executor.replace("/", "_")
            known = self._link.connection
            unpacker = Unpacker(BlobStore(known.blobs, owner, known.make_blobs))
            self._attempts = Attempts(unpacker, self._interrupts, self._surroundings, self._streams)
            provide_show(Showing(self._attempts, self._streams, self._send_beside).show)

    def _hello(self, connection: Connection) -> m.ExecutorHello:
        return m.ExecutorHello(
            connection.key,
            self._options.executor,
            VERSION,
            m.PROTOCOL,
            PYTHON,
            os.getpid(),
            self._holds(),
        )

    def _holds(self) -> tuple[int, ...]:
        """Return the tokens of what will begin, and of results that are not acknowledged."""
        watermark = self._page.words[WATERMARK]
        tokens = [run.token for run in self._queue if run.token > watermark]
        for frame in self._unacked.values():
            message = codec.from_executor(frame)
            assert isinstance(message, m.Finished)
            tokens += [outcome.token for outcome in message.outcomes]
        return tuple(tokens)

    # ------------------------------------------------------------------ beside user code

    def _current(self) -> CurrentTask | None:
        run = self._attempts.run if self._attempts else None
        if run is None:
            return None
        return CurrentTask(run.task, run.name, run.attempt, run.token, self._page.report)

    def _send_beside(self, frame: bytes) -> bool:
        """Send what user code gives us, in whichever thread; as in `_flush`, only while it runs."""
        with self._lock:
            if not (self._interrupts.armed and self._link.welcomed):
                return False
            self._link.send(frame)
            return True

    def _accompany(self) -> None:
        """Be the companion; see the top of this module."""
        # One that this thread took would not wake the main thread, where handlers run.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while os.read(self._options.alarm_fd, 1):
            self._flush(beside=True)
        end_group()

    # ------------------------------------------------------------------ the end

    def _end(self) -> None:
        """Send what there is, wait a moment until it is durable, and close."""
        self._flush()
        deadline = _monotonic() + _ACKS_S
        while self._unacked and self._link.welcomed and _monotonic() < deadline:
            dealer = self._link.dealer
            if dealer is not None and not dealer.ready():
                self._poller.poll(50)
            self._receive()
        self._streams.flush()
        self._link.close(200)
        end_context()
