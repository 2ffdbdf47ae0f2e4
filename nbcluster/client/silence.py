"""Words for who waits in vain: a call that blocks must not be silent for ever."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

from nbcluster.client.interrupts import defer
from nbcluster.client.owner import Owner
from nbcluster.errors import JournalFullError, NbclusterError

log = logging.getLogger(__name__)

#: A master that is gone for this long is spoken of: the next one would have come by now.
LOST_S: Final = 2.0
#: How often a task that is waited for is asked about, until it is known that it cannot run.
STUCK_S: Final = 5.0


class _Awaited(Protocol):
    """A `Future`."""

    id: str
    name: str
    _waiters: list[Any]

    @property
    def _condition(self) -> threading.Condition: ...
    def done(self) -> bool: ...


class Loss:
    """Says that the master is gone, once each time that happens."""

    def __init__(self) -> None:
        self._tell_at = math.inf

    def begin(self) -> None:
        """The master is gone."""
        self._tell_at = time.monotonic() + LOST_S

    def end(self) -> None:
        """There is a master again."""
        self._tell_at = math.inf

    def tell(self, text: str) -> None:
        """Say so, if it is time."""
        if time.monotonic() > self._tell_at:
            self._tell_at = math.inf
            log.warning("%s", text)


def await_end(client: Owner, future: _Awaited, timeout: float | None) -> None:
    """Wait until ``future`` is done, or for ``timeout`` seconds; say so if it cannot run."""
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    is_told = False
    while True:
        left = max(0.0, deadline - time.monotonic())
        wait_s = left if is_told else min(left, STUCK_S)
        some = None if wait_s == math.inf else time.monotonic() + wait_s
        client.wait_for(future.done, None if some is None else wait_s)
        if not future.done():
            # Another thread receives: it will tell us. The main thread stays interruptible.
            rest = None if some is None else max(0.0, some - time.monotonic())
            _sleep(future, rest)
        if future.done() or time.monotonic() >= deadline:
            return
        if not is_told and deadline - time.monotonic() > 1.0:
            is_told = _tell_if_stuck(client, future)


class _Waiter:
    """Is told by a future that it has ended."""

    def __init__(self) -> None:
        self.told: SimpleQueue[None] = SimpleQueue()

    def add_result(self, _: _Awaited) -> None:
        self.told.put(None)

    add_exception = add_cancelled = add_result


def _sleep(future: _Awaited, timeout: float | None) -> None:
    """Wait as `concurrent.futures.wait`, but let no handler of a signal find the future locked."""
    waiter: Any = _Waiter()
    with defer(), future._condition:
        if future.done():
            return
        future._waiters.append(waiter)
    try:
        with contextlib.suppress(Empty):
            waiter.told.get(timeout=timeout)
    finally:
        with defer(), future._condition:
            future._waiters.remove(waiter)


def _tell_if_stuck(client: Owner, future: _Awaited) -> bool:
    """Say why the task cannot run, if that is so; return whether it is."""
    if client.link.is_lost:
        return False  # that is told by itself
    connection = client.link.connection
    if connection is not None and client.link.process.is_halted:
        log.warning(
            "the master of cluster %r is halted, as by SIGSTOP, and task %s (%s) is waited for; "
            "it goes on with: kill -CONT %d",
            connection.name,
            future.id,
            future.name,
            connection.pid,
        )
        return True
    reason = ""
    try:
        known = client.ask("why", timeout=1.0, task=future.id)
        if known.get("stuck"):
            reason = str(known["reason"])
    except JournalFullError as error:
        reason = str(error)
    except NbclusterError:
        pass  # it is asked again
    if reason:
        text = "task %s (%s) cannot run to its end at the moment, and is waited for: %s"
        log.warning(text, future.id, future.name, reason)
    return bool(reason)
