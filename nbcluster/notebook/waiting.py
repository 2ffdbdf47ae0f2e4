"""Waiting for the tasks of a cell, in the cell: their output comes, and silence is explained."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any, Final

from nbcluster.client.cluster import Cluster
from nbcluster.client.future import Future
from nbcluster.core.model import State
from nbcluster.errors import NbclusterError
from nbcluster.ids import random_id
from nbcluster.notebook.areas import Area
from nbcluster.notebook.interrupts import PARTIAL, CellInterrupted, cancelled, detached
from nbcluster.notebook.output import sources_of, write_here
from nbcluster.notebook.session import Session
from nbcluster.notebook.updating import publish

#: Seconds between two looks at what has come.
_TICK_S: Final = 0.1
#: Seconds without progress after which the reason is told, and told anew.
SILENT_S: Final = 2.0
_WAITING: Final = ("pending", "retrying")
_FAILED: Final = (State.FAILED, State.CANCELLED)


def wait_here(session: Session, cluster: Cluster, futures: list[Future[Any]]) -> None:
    """Wait until the tasks have ended; once one has failed, cancel the others.

    Raises
    ------
    CellInterrupted
        If the Stop button was pressed. The tasks are cancelled, unless they are to go on.
    """
    waiting = _Waiting(session, cluster, futures)
    try:
        waiting.run()
    except KeyboardInterrupt:
        raise waiting.interrupted() from None


class _Waiting:
    def __init__(self, session: Session, cluster: Cluster, futures: list[Future[Any]]) -> None:
        self._session = session
        self._cluster = cluster
        self._futures = futures
        self._sources = sources_of(futures)
        self._silence = _Silence(session)
        self._is_ending = False

    def run(self) -> None:
        """Wait until all have ended."""
        look_at = 0.0
        for future in self._futures:
            while not future.done():
                future._ended_within(_TICK_S)
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + _TICK_S
                    self._look()
        self._pump()
        self._silence.end()

    def _look(self) -> None:
        self._silence.look(self._futures, self._pump())
        if not self._is_ending and any(f.done() and f.state in _FAILED for f in self._futures):
            self._is_ending = True
            with suppress(NbclusterError):  # what has failed is worth more
                self._cluster._client.cancel(f.id for f in self._futures if not f.done())

    def _pump(self) -> bool:
        """Write what has come; return whether there was anything."""
        has_come = False
        for source, future in zip(self._sources, self._futures, strict=True):
            pieces = source.take()
            has_come |= bool(pieces)
            write_here(self._session.shell, pieces, future.id)
        return has_come

    def interrupted(self) -> CellInterrupted:
        """Cancel the tasks, or let them go on; return what to raise."""
        session, futures = self._session, self._futures
        if session.on_interrupt == "detach":
            if session.is_kernel:
                Area(session.shell, futures, self._sources).open()
            return detached(futures)
        stopped = cancelled(self._cluster, futures)
        if stopped.partial:
            session.names[PARTIAL] = stopped.partial
        return stopped


class _Silence:
    """One line that says why nothing happens."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._since = self._told_at = time.monotonic()
        self._seen: Any = None
        self._id = random_id("silence-", 8)
        self._text = ""

    def look(self, futures: list[Future[Any]], has_come: bool) -> None:
        """Tell why nothing has happened for some time, if that is so."""
        seen = [(future.state, future.attempts) for future in futures]
        now = time.monotonic()
        if has_come or seen != self._seen:
            self._seen, self._since = seen, now
        waiting = [future for future in futures if future.state in _WAITING]
        if len(waiting) < sum(not f.done() for f in futures) or not waiting:
            return
        if now - max(self._since, self._told_at) < SILENT_S:
            return
        self._told_at = now
        try:
            reason = waiting[0].why()
        except NbclusterError as error:
            reason = str(error)
        self._tell(f"waiting: {reason}")

    def end(self) -> None:
        """Take it back: what was waited for has come."""
        if self._text and self._session.is_kernel:
            self._tell("waited " + self._text.removeprefix("waiting: "))

    def _tell(self, text: str) -> None:
        if text == self._text:
            return
        is_update, self._text = bool(self._text), text
        if self._session.is_kernel:
            publish(self._session.shell, {"text/plain": text}, self._id, update=is_update)
        else:
            sys.stderr.write(text + "\n")
