"""What the supervisor tells the master, and what it keeps until there is a master to tell."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from typing import Final

from nbcluster.engine.children import Child, Death
from nbcluster.engine.connecting import PYTHON, VERSION, MasterLink
from nbcluster.engine.processes import describe_exit
from nbcluster.transport.connection import Connection
from nbcluster.wire import codec
from nbcluster.wire import messages as m

#: A death told so shortly before the master's own may not have reached the journal.
_RETOLD_S: Final = 10.0
#: Deaths and answers kept; executors that die at once are started at most every 5 s.
_KEPT: Final = 10_000
_HELLO_S: Final = 1.0


@dataclass(slots=True)
class _Told:
    message: m.ExecutorDied
    at: float | None  #: when a master was told last; None: never


class Outbox:
    """Sends to the master of the day.

    Deaths are told twice where that is needed: to the master of the time, and again to the next
    one, if the first died so shortly after that nobody knows what it made of it. In the greeting
    such an executor stands among the living, with what it was at, so that the new master still
    knows it when the death is told.
    """

    def __init__(self, engine: str, groups: tuple[str, ...], link: MasterLink) -> None:
        self._engine = engine
        self._groups = groups
        self._link = link
        self._deaths: deque[_Told] = deque(maxlen=_KEPT)
        self._kept: deque[m.FromEngine] = deque(maxlen=_KEPT)
        self._hello_due = 0.0
        self._is_up = False  #: no end of the last connection has been noted

    # ------------------------------------------------------------------ greetings

    def greet(self, slots: int, children: list[Child], now: float) -> None:
        """Register, again each second until the master answers."""
        connection = self._link.connection
        if connection is None or self._link.welcomed or now < self._hello_due:
            return
        self._hello_due = now + _HELLO_S
        alive = [(child.id, child.page.running()[0]) for child in children]
        dead = [(told.message.executor, told.message.token) for told in self._deaths]
        self._link.send(codec.encode(self._hello(connection, slots, (*alive, *dead))))

    def lost(self, now: float) -> None:
        """The master is gone, or another one takes its place: `greet` must not wait."""
        if self._is_up:
            self._is_up = False
            self._forget(now - _RETOLD_S)
        self._link.welcomed = False
        self._hello_due = 0.0

    def _hello(
        self, connection: Connection, slots: int, executors: tuple[tuple[str, int], ...]
    ) -> m.EngineHello:
        return m.EngineHello(
            connection.key,
            self._engine,
            VERSION,
            m.PROTOCOL,
            PYTHON,
            os.getpid(),
            os.uname().nodename,
            self._groups,
            slots,
            executors,
        )

    def welcomed(self, now: float) -> None:
        """The master has taken us in: tell what was kept for it."""
        self._link.welcomed = self._is_up = True
        for told in self._deaths:
            told.at = now
            self._link.send(codec.encode(told.message))
        while self._kept:
            self._link.send(codec.encode(self._kept.popleft()))

    # ------------------------------------------------------------------ news

    def tell(self, message: m.FromEngine) -> bool:
        """Send what is worth nothing later, if there is a master; return whether it was sent."""
        if self._link.welcomed:
            self._link.send(codec.encode(message))
        return self._link.welcomed

    def keep(self, message: m.FromEngine) -> None:
        """Send now, or as soon as there is a master."""
        if not self.tell(message):
            self._kept.append(message)

    def tell_death(self, death: Death, now: float) -> None:
        """Tell an executor's end; never lost, whatever becomes of the master."""
        message = m.ExecutorDied(
            death.executor,
            death.token,
            death.exit_code,
            describe_exit(death.exit_code),
            death.peak_bytes,
            death.stderr,
            death.stdout,
            death.expected,
        )
        is_told = self.tell(message)
        if is_told:
            self._forget(now - _RETOLD_S)
        self._deaths.append(_Told(message, now if is_told else None))

    def _forget(self, before: float) -> None:
        """Drop the deaths that a master must have made durable long ago."""
        deaths = self._deaths
        while deaths and (at := deaths[0].at) is not None and at < before:
            deaths.popleft()
