"""Who is connected: sessions by zmq identity, and the greeting that opens one."""

from __future__ import annotations

import hmac
import logging
import os
import select
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from nbcluster.ids import engine_of
from nbcluster.master.unread import Unread
from nbcluster.transport.connection import Connection
from nbcluster.transport.descriptors import watch
from nbcluster.wire import messages as m

log = logging.getLogger(__name__)

#: Malformed messages within a minute after which a peer is not listened to any more.
MALFORMED_LIMIT: Final = 10
#: Engines that were given up whose executors are known, in case they come back.
LEFT_LIMIT: Final = 1_000
_MINUTE_S: Final = 60.0


@dataclass(slots=True)
class Session:
    """One peer, from its greeting on."""

    peer: bytes  #: zmq identity
    role: str  #: ``client``, ``engine``, ``executor``
    name: str  #: id of the client, engine or executor
    pid: int
    sent: int = 0  #: `Updates` sent to this client
    acked: int = 0  #: highest number of a message of the peer that was taken in
    durable: int = 0  #: of a client: the highest that is durable, as far as that was looked at
    greeted: int = 0  #: greetings of this session
    told: int = 0  #: highest number that was acknowledged to it
    known: set[str] = field(default_factory=set)  #: definitions an executor has
    fd: int = -1  #: of a client's process on this host: readable when it has ended
    unread: Unread = field(default_factory=Unread)  #: of a client


class Sessions:
    """All open sessions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.by_peer: dict[bytes, Session] = {}
        self.by_name: dict[str, Session] = {}
        self._malformed: dict[bytes, deque[float]] = {}
        self.dropped = 0  #: malformed messages so far
        self.ended: list[str] = []  #: clients whose process has ended since the last turn
        self._left: dict[str, list[bytes]] = {}  #: engine that was given up -> its executors
        self._poller: select.poll | None = None
        self._others: dict[int, Callable[[], None]] = {}
        self._reply: Callable[[bytes, Any], object] = lambda peer, message: None

    def attend(
        self,
        poller: select.poll,
        others: dict[int, Callable[[], None]],
        reply: Callable[[bytes, Any], object],
    ) -> None:
        """Watch the processes of clients, and answer peers, from now on.

        A client that waits for a result says nothing, for days if need be; so that one is gone
        can be seen by its process only.
        """
        self._poller, self._others, self._reply = poller, others, reply

    def open(self, peer: bytes, hello: m.Hello) -> tuple[Session | None, m.Welcome | m.Refusal]:
        """Take a peer in, or say why not. A newer session of the same name replaces the older."""
        reason = self._objection(hello)
        if reason:
            return None, m.Refusal(reason)
        match hello:
            case m.ClientHello():
                session = Session(peer, "client", hello.client, hello.pid)
            case m.EngineHello():
                session = Session(peer, "engine", hello.engine, hello.pid)
            case m.ExecutorHello():
                session = Session(peer, "executor", hello.executor, hello.pid)
        again = self.by_peer.get(peer)
        if again is not None and again.name == session.name:
            session = again  # the greeting was repeated: our answer was slow
        older = self.by_name.get(session.name)
        if older is not None and older is not session:
            self.close(older)
        if session is not again and isinstance(hello, m.ClientHello):
            self._watch(session, hello.host)
        session.greeted += 1
        if isinstance(hello, m.EngineHello):
            # It was only silent. Its executors wait for work and say nothing by themselves.
            for executor in self._left.pop(hello.engine, ()):
                self._reply(executor, m.GreetAgain())
        self.by_peer[peer] = session
        self.by_name[session.name] = session
        return session, m.Welcome(0, self._connection.name, self._connection.version, 0.0)

    def _objection(self, hello: m.Hello) -> str:
        own = self._connection
        if not hmac.compare_digest(hello.key.encode(), own.key.encode()):
            return "the key is not that of this cluster"
        if hello.protocol != m.PROTOCOL:
            return (
                f"it speaks protocol {hello.protocol} (nbcluster {hello.version}), the cluster "
                f"{m.PROTOCOL} (nbcluster {own.version}); install the same version on both sides"
            )
        if hello.python != own.python:
            return (
                f"it runs Python {hello.python} and the cluster Python {own.python}; "
                "what is pickled by one cannot be trusted to load in the other"
            )
        return ""

    def _watch(self, session: Session, host: str) -> None:
        if self._poller is None or host != self._connection.host:
            return
        try:
            session.fd = watch(session.pid)
        except OSError:
            return  # a container's, with numbers of its own: it cannot be watched from here
        self._poller.register(session.fd, select.POLLIN)
        self._others[session.fd] = partial(self._process_ended, session)

    def _process_ended(self, session: Session) -> None:
        log.info("client %s (pid %d) has ended", session.name, session.pid)
        self.ended.append(session.name)
        self._reply(session.peer, m.GreetAgain())  # should that have been another process
        self.close(session)

    def close(self, session: Session) -> None:
        """Forget a session."""
        if session.fd >= 0 and self._poller is not None:
            self._poller.unregister(session.fd)
            del self._others[session.fd]
            os.close(session.fd)
            session.fd = -1
        if self.by_peer.get(session.peer) is session:
            del self.by_peer[session.peer]
        if self.by_name.get(session.name) is session:
            del self.by_name[session.name]

    def close_engine(self, engine: str) -> None:
        """Forget the sessions of an engine and of its executors, until it comes back."""
        executors: list[bytes] = []
        for session in list(self.by_name.values()):
            if session.role != "client" and engine_of(session.name) == engine:
                if session.role == "executor":
                    executors.append(session.peer)
                self.close(session)
        self._left[engine] = executors
        if len(self._left) > LEFT_LIMIT:
            del self._left[next(iter(self._left))]

    def malformed(self, peer: bytes, now: float) -> bool:
        """Count a malformed message; a peer that has sent too many is refused: return whether."""
        self.dropped += 1
        if len(self._malformed) > 1_000:  # hostile peers can make identities, not memory
            self._malformed.clear()
        times = self._malformed.setdefault(peer, deque(maxlen=MALFORMED_LIMIT))
        times.append(now)
        if not self.is_refused(peer, now):
            return False
        log.warning("a peer sent %d malformed messages: it is refused", MALFORMED_LIMIT)
        self._reply(peer, m.Refusal(f"it sent {MALFORMED_LIMIT} malformed messages in a minute"))
        return True

    def is_refused(self, peer: bytes, now: float) -> bool:
        """Return whether ``peer`` is not listened to, for what it sent in the last minute."""
        times = self._malformed.get(peer)
        return times is not None and len(times) >= MALFORMED_LIMIT and now - times[0] < _MINUTE_S
