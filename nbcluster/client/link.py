"""The client's connection: one socket, one I/O thread, and whoever waits may receive.

The I/O thread receives while nobody waits in ``result()``; see `leading`. ``_lock`` guards the
socket and the outbox.
What the master has not acknowledged is kept, and sent again with the same ids after a reconnect.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from nbcluster.client.greeting import hello_of
from nbcluster.client.interrupts import Deferral, SignalSafeLock
from nbcluster.client.leading import Leading
from nbcluster.client.listener import Listener
from nbcluster.client.masterprocess import MasterProcess
from nbcluster.client.outgoing import Outgoing
from nbcluster.clock import Clock
from nbcluster.errors import ClusterConnectionError, ClusterTimeoutError, RefusedError
from nbcluster.transport.connection import Connection, read_connection
from nbcluster.transport.descriptors import Wakeup, await_readable
from nbcluster.transport.sockets import Dealer
from nbcluster.wire import codec
from nbcluster.wire import messages as m
from nbcluster.wire.window import Taken

log = logging.getLogger(__name__)

#: Whoever waits looks for so long after the last submission before it sleeps: what is short is back
#: by then, and to be woken by another processor costs it a sixth more.
LOOK_FOR_S: Final = 0.0006
#: ... if something came within this time after the submission before.
QUICK_S: Final = 0.002
#: If nothing is acknowledged for this long, the first submission is sent again.
RESEND_S: Final = 5.0
#: How often a lost master is looked for.
LOOK_S: Final = 0.05
#: Seconds that closing waits for the master to take what was submitted.
CLOSE_S: Final = 10.0
_SLICE_S: Final = 0.5
_HELLO_AGAIN_S: Final = 1.0


class Link:
    """Connection of one client to the master named in a connection file."""

    def __init__(self, connection_file: Path, client: str, listener: Listener) -> None:
        self.connection_file = connection_file
        self.client = client
        self._listener = listener
        self._lock = SignalSafeLock()
        self._leading = Leading(self.wake)
        self.outgoing = Outgoing()
        self._was_woken = False  #: there may be something to do beside receiving
        self._sleeps = False  #: whoever receives is, or is about to be, asleep
        self._sent_at = 0.0
        self._is_quick = True
        self._wakeup = Wakeup()
        self._dealer: Dealer | None = None
        self.connection: Connection | None = None
        self.process = MasterProcess()
        self._poll: Callable[[float | None], list[tuple[int, int]]] = lambda wait: []
        self.welcome: m.Welcome | None = None
        self.clock = Clock()  #: goes as the master's does
        self.refusal = ""
        self._inbox: deque[bytes] = deque()
        self._taken = Taken()
        self._closed = False
        self._lost = False
        self._is_over = False  #: the cluster has stopped: a next master is none of ours
        self._greeted_at = 0.0
        self._opened = threading.Event()
        self._sessions = 0
        self._thread = threading.Thread(
            target=self._run, name=f"nbcluster-io-{client}", daemon=True
        )

    # ------------------------------------------------------------------ opening

    def open(self, timeout_s: float) -> None:
        """Connect and wait for the master's welcome.

        Raises
        ------
        RefusedError
            The master does not take this client; the message says why.
        ClusterConnectionError
            There is no master, or it does not answer within ``timeout_s`` seconds.
        """
        try:
            connection = read_connection(self.connection_file)
        except FileNotFoundError:
            raise ClusterConnectionError(
                f"no cluster runs behind {self.connection_file}. Start one with nbcluster.start()."
            ) from None
        with self._leading.role:
            self._attach(connection)
        self._thread.start()
        deadline = time.monotonic() + timeout_s
        while not self._opened.wait(0.05) and time.monotonic() < deadline:
            if self._lost:
                self.close()
                raise ClusterConnectionError(f"the master (pid {connection.pid}) has just ended")
        if not self._opened.is_set():
            self.close()
            raise ClusterTimeoutError(
                f"the master (pid {connection.pid}) did not answer within {timeout_s:g} s. "
                "Look at it with: nbcluster doctor"
            )
        if self.refusal:
            self.close()
            raise RefusedError(f"the cluster refused this client: {self.refusal}")

    def _attach(self, connection: Connection) -> None:
        """Open a socket to the master of ``connection`` and greet it. Needs the role."""
        with self._lock:
            if self._dealer is not None:
                self._dealer.close()
                self._dealer = None
            self._dealer = Dealer(connection.address)
            poller = select.poll()
            poller.register(self._dealer.fd, select.POLLIN)
            poller.register(self._wakeup.fd, select.POLLIN)
            self._lost = not self.process.watch(connection, poller)
            self._poll = poller.poll
            self.connection = connection
        self._greet()

    def _greet(self) -> None:
        assert self.connection is not None
        self._greeted_at = time.monotonic()
        self.welcome = None
        self.send(hello_of(self.client, self.connection))

    @property
    def is_open(self) -> bool:
        """Whether there is a session now."""
        return self.welcome is not None and not self._lost

    @property
    def is_lost(self) -> bool:
        """Whether the master is known to be gone."""
        return self._lost

    # ------------------------------------------------------------------ sending

    def send(self, message: Any) -> None:
        """Send one message now, after what waits in the outbox. Any thread."""
        frame = codec.encode(message)
        with self._lock:
            if self._dealer is None:
                return
            self._flush()
            self._dealer.send(frame)
            ready = self._dealer.ready()
        if ready and self._sleeps:
            self.wake()

    def flush(self) -> None:
        """Send what waits in the outbox. Any thread."""
        if self.outgoing.can_send:
            with self._lock:
                self._flush()
                ready = self._dealer is not None and self._dealer.ready()
            # To send takes in what the socket was told meanwhile, the news that a message has
            # come among it: nobody else would be woken for that one.
            if ready and self._sleeps:
                self.wake()

    def _flush(self) -> None:
        if self._dealer is not None and self.welcome is not None and not self._lost:
            outgoing = self.outgoing
            while (frame := outgoing.next()) is not None:
                self._dealer.send(frame)
                outgoing.sent()
                self._sent_at = time.monotonic()

    def withdraw(self, number: int) -> list[str]:
        """Drop a submission that was not taken; return the tasks in it."""
        with self._lock:
            return self.outgoing.withdraw(number)

    def soon(self) -> None:
        """Have the outbox sent soon, by the thread that receives."""
        if self._sleeps:
            self._sleeps = False  # it is awake as good as now: one call is enough
            self.wake()

    def wake(self, _: object = None) -> None:
        """Have the thread that receives look around. Takes no lock: a collector may call it."""
        self._wakeup.call()

    # ------------------------------------------------------------------ receiving

    def lead(self, is_over: Callable[[], bool], timeout_s: float | None) -> bool:
        """Receive in this thread until ``is_over()``, or for ``timeout_s`` seconds.

        Returns
        -------
        bool
            Whether it is over. False also if another thread leads, or the master is lost: then
            wait for the I/O thread.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        is_done = self._leading.lead(
            self._may_lead, lambda signals: self._receive_until(is_over, deadline, signals)
        )
        if self._listener.is_unneeded:
            self.wake()  # the I/O thread, which may have been told while we led
        return is_done

    def _may_lead(self) -> bool:
        return not (self._closed or self._lost or threading.current_thread() is self._thread)

    def _receive_until(
        self, is_over: Callable[[], bool], deadline: float | None, signals: Deferral
    ) -> bool:
        while not is_over():
            wait_s = _SLICE_S
            if deadline is not None:
                wait_s = min(wait_s, deadline - time.monotonic())
                if wait_s <= 0:
                    return False
            if not self._wait_and_receive(wait_s, signals):
                return is_over()
            if self._was_woken:
                self._listener.on_idle()
                self._repeat_if_due()
            if signals.has_noted:
                return False
        return True

    def _wait_and_receive(self, wait_s: float, signals: Deferral | None) -> bool:
        """Wait for messages and handle them. Needs the role. False: there is no master."""
        dealer = self._dealer
        if dealer is None or self._closed:
            return False
        self._was_woken = False
        # Said before the last look: who adds to the outbox after that look sees it, and wakes us.
        self._sleeps = True
        with self._lock:
            ready = dealer.ready()
        if not ready and signals is not None and self._is_quick:
            ready = self._look_for_answer(dealer)
        if not ready and not (self.outgoing.can_send and self.welcome is not None):
            if signals is not None:
                signals.begin_wait()
            got = self._poll(wait_s * 1000)
            if signals is not None:
                signals.end_wait()
            self._sleeps = False
            self._was_woken = not got
            for fd, _ in got:
                if fd == self._wakeup.fd:
                    self._was_woken = True
                    self._wakeup.drain()
                elif fd == self.process.fd:
                    self._lost = True
        self._sleeps = False
        self._pump()
        return not self._lost

    def _look_for_answer(self, dealer: Dealer) -> bool:
        """Look for a message for a moment without sleeping; others go first."""
        until = self._sent_at + LOOK_FOR_S
        ready = False
        while not ready and time.monotonic() < until:
            os.sched_yield()
            with self._lock:
                ready = dealer.ready()
        return ready

    def _pump(self) -> None:
        """Take all that has come off the socket and hand it on. Needs the role."""
        dealer, inbox = self._dealer, self._inbox
        if dealer is None:
            return
        with self._lock:
            if self.outgoing.can_send:
                self._flush()
            while (frame := dealer.receive()) is not None:
                inbox.append(frame)
        if inbox:
            self._is_quick = time.monotonic() - self._sent_at < QUICK_S
        while inbox:
            try:
                self._handle(codec.to_client(inbox[0]))
            except Exception:
                log.exception("a message of the master could not be taken in")
                self._listener.on_session(again=True)  # what it told is asked for again
            taken = self._taken.take(inbox.popleft())
            if taken is not None:
                self.send(m.Taken(taken))

    def _handle(self, message: Any) -> None:
        if type(message) is m.Updates or type(message) is m.Closing:
            with self._lock:
                if type(message) is m.Updates and message.undefined:
                    self.outgoing.again(message.undefined)
                self.outgoing.acknowledged(message.acked)
        elif type(message) is m.Welcome:
            self._welcomed(message)
            return
        elif type(message) is m.GreetAgain:
            self._listener.on_forgotten()
            self._greet()
            return
        elif type(message) is m.Refusal:
            self.refusal = message.reason
            if self._sessions:
                self._listener.on_end(RefusedError(f"the cluster refuses us: {message.reason}"))
            self._opened.set()
            return
        self._listener.on_message(message)

    def _welcomed(self, welcome: m.Welcome) -> None:
        self._taken.begin()
        self.clock.not_before(welcome.now)
        if self.welcome is not None:
            return
        self._sessions += 1
        # Until the welcome is known here, nothing that was submitted goes: what it needs is ahead.
        self._listener.on_session(self._sessions > 1)
        with self._lock:
            self.outgoing.repeat_all()  # before another thread can send what is newer
            self.welcome = welcome
            self._flush()
        self._opened.set()

    # ------------------------------------------------------------------ the I/O thread

    def _run(self) -> None:
        while not self._closed:
            if self._leading.keep_away():
                continue
            self._listener.on_idle()
            if self._listener.is_unneeded:
                self._listener.close()
                return
            with self._leading.role:
                if self._leading.is_taken:
                    continue
                if self._lost:
                    self._look_for_master()
                else:
                    self._wait_and_receive(self._wait_s(), None)
                self._repeat_if_due()

    def _wait_s(self) -> float:
        if self.welcome is None:
            return 0.1
        return _SLICE_S if self.outgoing.unacknowledged else 60.0

    def _repeat_if_due(self) -> None:
        now = time.monotonic()
        if self.welcome is None:
            if not self._lost and now - self._greeted_at > _HELLO_AGAIN_S:
                self._greet()
        elif self.outgoing.unacknowledged:
            with self._lock:
                overdue = self.outgoing.overdue(now, RESEND_S)
                if overdue is not None and self._dealer is not None:
                    self._dealer.send(overdue)

    def _look_for_master(self) -> None:
        if self.welcome is not None:
            self.welcome = None
            log.info("the master is gone; waiting for the next one")
            self._listener.on_lost()
        connection = None
        if not self._is_over:
            self._listener.on_still_lost()
            with suppress(OSError, ClusterConnectionError):
                connection = read_connection(self.connection_file)
        if connection is None or connection == self.connection:
            await_readable(self._wakeup.fd, None if self._is_over else LOOK_S)
            self._wakeup.drain()
            return
        try:
            self._attach(connection)
        except OSError as error:  # as a rule this process has no descriptor left
            log.warning("the next master cannot be reached: %s; it is tried again", error)
            self._lost = True
            time.sleep(_SLICE_S)

    # ------------------------------------------------------------------ closing

    def end(self) -> None:
        """Send nothing that waits, and look for no next master: the cluster has stopped."""
        with self._lock:
            self._is_over = True
            self.outgoing = Outgoing()

    def disown(self) -> None:
        """Let go of everything: this process is a fork, and all of it is the parent's."""
        self._closed = True
        self._dealer = None  # pyzmq knows by the process id that the socket is not to be closed
        # Other threads of the parent may have held them; there are no others here.
        self._lock, self._leading = SignalSafeLock(), Leading(self.wake)
        self.process.disown()
        self._wakeup.disown()

    def _await_acceptance(self) -> None:
        """Wait until the master has all that was submitted: who closes loses nothing of it."""
        deadline = time.monotonic() + CLOSE_S
        if threading.current_thread() is self._thread:
            return  # it would wait for itself; it closes only where nothing is open
        while not self.outgoing.is_settled and self.is_open and time.monotonic() < deadline:
            self.flush()
            if not self.lead(lambda: self.outgoing.is_settled, 0.1):
                time.sleep(0.005)

    def close(self, *, polite: bool = True) -> None:
        """End the session and the I/O thread; ``polite``: after what is on its way."""
        if polite:
            self._await_acceptance()
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.wake()
        self._leading.end()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5.0)
        # Whoever receives must be out of it before the descriptors are closed, and it is told.
        is_alone = self._leading.role.acquire(timeout=5.0)
        try:
            self._release(polite=polite)
        finally:
            if is_alone:
                self._leading.role.release()

    def _release(self, *, polite: bool) -> None:
        with self._lock:
            if self._dealer is not None:
                if polite and not self._lost:
                    self._dealer.send(codec.encode(m.Bye()))
                self._dealer.flush_and_close()
                self._dealer = None
            self.process.close()
            self._wakeup.close()
