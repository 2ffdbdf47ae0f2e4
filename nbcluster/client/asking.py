"""Questions to the master, and orders to it; and what is only told and not waited for."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
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
#: Seconds of silence after which a master that is to end is looked at: it may have been halted.
SILENT_S: Final = 3.0
#: Tasks named in one message.
AT_ONCE: Final = 20_000

#: Gets one answer. No handler of a signal can find it locked: it is written in C.
_Reply = SimpleQueue[m.Reply | NbclusterError]


class Asks:
    """The questions of one client that wait for their answers. Thread safe."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: dict[int, _Reply] = {}
        self._numbers = itertools.count(1)
        self._unwanted: deque[str] = deque()

    def ask(
        self,
        op: str,
        timeout: float | None,
        args: dict[str, Any],
        on_silence: Callable[[], bool] | None = None,
    ) -> Any:
        """Ask the master and return its answer.

        Parameters
        ----------
        op, args
            The question.
        timeout
            Seconds to wait for the answer; None: for ever.
        on_silence
            Called if there is none after `SILENT_S` seconds. It returns whether it has ended the
            master; if not, the answer is waited for as long as ``timeout`` says.

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
        reply: _Reply = SimpleQueue()
        began = time.monotonic()
        try:
            self._waiting[number] = reply
            self._link.send(m.Ask(number, op, args))
            if on_silence is not None:
                with suppress(Empty):
                    return self._await(reply, SILENT_S)
                if on_silence():
                    return self._await(reply, LOST_S)  # fails when the loss is noticed: at once
            left = None if timeout is None else began + timeout - time.monotonic()
            return self._await(reply, left)
        except Empty:
            raise ClusterTimeoutError(
                f"the master did not answer {op!r} within {timeout:g} s; "
                "it may be stopped or very busy. Look with: nbcluster doctor"
            ) from None
        finally:
            self._waiting.pop(number, None)

    def _await(self, reply: _Reply, timeout: float | None) -> Any:
        deadline = None if timeout is None else time.monotonic() + timeout
        self._link.lead(lambda: not reply.empty(), timeout)
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        answer = reply.get(timeout=left)
        if isinstance(answer, NbclusterError):
            raise answer
        if answer.code:
            raise from_code(answer.code, tuple(answer.args))
        return answer.value

    @property
    def are_answered(self) -> bool:
        """Whether no question waits."""
        return not self._waiting

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
            f"sent to the next one: start it with {self.start_call}."
        )

    @property
    def start_call(self) -> str:
        """What somebody calls to have the next master."""
        return self._link.connection.start_call if self._link.connection else "nbcluster.start()"

    def on_reply(self, reply: m.Reply) -> None:
        """Take in an answer."""
        waiting = self._waiting.pop(reply.request, None)
        if waiting is not None:
            waiting.put(reply)

    def fail(self, error: NbclusterError) -> None:
        """Nobody will answer what was asked so far."""
        for number in list(self._waiting):
            waiting = self._waiting.pop(number, None)
            if waiting is not None:
                waiting.put(error)

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
