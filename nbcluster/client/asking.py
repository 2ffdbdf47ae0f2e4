"""Questions to the master, and orders to it; and what is only told and not waited for."""

from __future__ import annotations

import itertools
import time
from collections import deque
from concurrent.futures import Future as PlainFuture
from typing import Any, Final

from nbcluster.client.link import Link
from nbcluster.errors import (
    ClusterConnectionError,
    ClusterTimeoutError,
    NbclusterError,
    from_code,
)
from nbcluster.wire import messages as m

#: Seconds a question waits for its answer.
ASK_S: Final = 30.0
#: Seconds a question waits for the next master when the last one is gone.
LOST_S: Final = 3.0
#: Tasks named in one message.
AT_ONCE: Final = 20_000


class Asks:
    """The questions of one client that wait for their answers. Thread safe."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: dict[int, PlainFuture[Any]] = {}
        self._numbers = itertools.count(1)
        self._unwanted: deque[str] = deque()

    def ask(self, op: str, timeout: float | None, args: dict[str, Any]) -> Any:
        """Ask the master and return its answer.

        Raises
        ------
        ClusterTimeoutError
            If it does not answer in time.
        ClusterConnectionError
            If it is gone.
        """
        if self._link.is_lost and not self._await_master(timeout):
            raise ClusterConnectionError(self.lost_text())
        number = next(self._numbers)
        reply: PlainFuture[Any] = PlainFuture()
        self._waiting[number] = reply
        self._link.send(m.Ask(number, op, args))
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self._link.lead(reply.done, timeout)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            return reply.result(left)
        except TimeoutError:
            if reply.done():
                raise
            raise ClusterTimeoutError(
                f"the master did not answer {op!r} within {timeout:g} s; "
                "it may be stopped or very busy. Look with: nbcluster doctor"
            ) from None
        finally:
            self._waiting.pop(number, None)

    def order(self, op: str, args: dict[str, Any]) -> None:
        """Send an order after what was submitted so far, and do not wait for the answer."""
        self._link.send(m.Ask(next(self._numbers), op, args))

    def _await_master(self, timeout: float | None) -> bool:
        limit = LOST_S if timeout is None else min(timeout, LOST_S)
        deadline = time.monotonic() + limit
        while not self._link.is_open and time.monotonic() < deadline:
            time.sleep(0.02)
        return self._link.is_open

    def lost_text(self) -> str:
        """Return what to say when there is no master."""
        name = self._link.connection.name if self._link.connection else "?"
        return (
            f"the master of cluster {name!r} has ended. What was submitted is kept here and is "
            f"sent to the next one: start it with nbcluster.start(name={name!r})."
        )

    def on_reply(self, reply: m.Reply) -> None:
        """Take in an answer."""
        waiting = self._waiting.get(reply.request)
        if waiting is None or waiting.done():
            return
        if reply.code:
            waiting.set_exception(from_code(reply.code, tuple(reply.args)))
        else:
            waiting.set_result(reply.value)

    def fail(self, error: NbclusterError) -> None:
        """Nobody will answer what was asked so far."""
        for reply in list(self._waiting.values()):
            if not reply.done():
                reply.set_exception(error)

    # ------------------------------------------------------------------ not waited for

    def cancel_soon(self, tasks: list[str]) -> None:
        """Have tasks cancelled without waiting for it, by this master or the next.

        Takes no lock: it is called in the middle of anything, by the garbage collector too.
        """
        self._unwanted.extend(tasks)
        self._link.wake()

    def tell(self) -> None:
        """Tell the master what is not wanted any more, if there is one."""
        while self._unwanted and self._link.is_open:
            count = min(len(self._unwanted), AT_ONCE)
            tasks = [self._unwanted.popleft() for _ in range(count)]
            self._link.send(m.Ask(next(self._numbers), "cancel", {"tasks": tasks}))
