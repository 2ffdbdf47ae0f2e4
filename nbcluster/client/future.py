"""The future of one task: a real ``concurrent.futures.Future`` that knows more."""

from __future__ import annotations

import concurrent.futures
import math
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures._base import (
    CANCELLED,
    CANCELLED_AND_NOTIFIED,
    FINISHED,
    PENDING,
    RUNNING,
)
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

from nbcluster.client.awaiting import await_on_loop
from nbcluster.client.callbacks import call_all
from nbcluster.client.explaining import (
    as_unreadable,
    explain_end,
    explain_loss,
    explain_open,
    stack,
)
from nbcluster.client.faces import future_html, future_text, printable
from nbcluster.client.facts import Facts
from nbcluster.client.guard import acquire_unless_abandoned
from nbcluster.client.interrupts import SignalSafeRLock
from nbcluster.client.opening import read
from nbcluster.client.owner import Owner
from nbcluster.client.silence import await_end
from nbcluster.client.waiters import Waiters
from nbcluster.core.model import Ended, Moved, State
from nbcluster.errors import (
    ClusterConnectionError,
    OptionError,
    UndecodableError,
)
from nbcluster.options import number
from nbcluster.wire.shown import Shown

T = TypeVar("T")

#: Guards the making of conditions, and the end of futures that have none.
_birth = threading.Lock()
#: Guards the unpickling of small results: one lock for all is cheaper than one for each.
_opening = threading.RLock()
LARGE_BYTES = 16_384
_OVER = frozenset({CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED})

#: What waiters of the standard library are told.
_TOLD: dict[State | None, str] = {
    State.SUCCEEDED: "add_result",
    State.CANCELLED: "add_cancelled",
}


def _new_condition() -> threading.Condition:
    """Make one that a handler of a signal never finds taken by what it interrupted."""
    return threading.Condition(SignalSafeRLock())  # type: ignore[arg-type]


class Future(Facts, concurrent.futures.Future[T], Generic[T]):
    """The result of a task that is, or will be, run on an engine.

    Works wherever a ``concurrent.futures.Future`` does (``wait``, ``as_completed``,
    ``asyncio.wrap_future``), and can be awaited.

    Attributes
    ----------
    id : str
        Names the task in every table of the cluster.
    name : str
        The task's name: of ``options(name=)``, or its function's.

    Notes
    -----
    Thread safe. Results are unpickled in the thread that first asks for them.
    """

    _failed_before: frozenset[str] = frozenset()  #: of ``after=``, when it was submitted

    def __init__(self, client: Owner | None = None, task: str = "", name: str = "") -> None:
        # As the base class does, but for the condition and who waits on it: most futures end
        # before anybody waits, and to make these costs more than all the rest of a submission.
        self._own_condition: threading.Condition | None = None
        self._state = PENDING
        self._result = None
        self._exception = None
        self._client = client
        self.id = task
        self.name = name
        self._moved = None
        self._ended = None
        self._is_out = False  #: it has been in the outbox, so that the master may know it
        self._opened = False  #: the payload was unpickled into ``_result`` or ``_exception``
        self._views: list[memoryview] | None = None  #: of its blobs, until it is opened
        self._output: dict[int, bytearray] | None = None
        self._shown: list[Shown] = []  #: by the last attempt
        self._watchers: tuple[Callable[[Any], None], ...] = ()

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        if self._own_condition is None:
            waiters, callbacks = Waiters(), list[Any]()
            condition = _new_condition()
            with _birth:  # nothing is called in here, so no handler of a signal comes in either
                if self._own_condition is None:
                    self._waiters, self._done_callbacks = waiters, callbacks
                    self._own_condition = condition
        return self._own_condition

    @contextmanager
    def _held(self) -> Iterator[threading.Condition]:
        """Hold the condition; a new one, if whoever holds it will never let it go."""
        condition = self._condition
        if not acquire_unless_abandoned(condition):
            condition = self._own_condition = _new_condition()
            condition.acquire()
        try:
            yield condition
        finally:
            condition.release()

    # ------------------------------------------------------------------ results

    def result(self, timeout: float | None = None) -> T:
        """Return the task's value, waiting for it for up to ``timeout`` seconds.

        Raises
        ------
        TimeoutError
            If the task has not ended in time. It goes on.
        CancelledError
            If it was cancelled.
        UndecodableError
            If the value cannot be unpickled here. From then on ``state`` and ``why()`` say so;
            the tables of the cluster, whose master opens no payload, keep ``succeeded``.
        Exception
            The task's own exception, with the remote traceback as its cause.
        """
        if self._client is None:
            return super().result(timeout)
        if self._state != FINISHED:
            self._await_end(timeout)
        if self._state == FINISHED:
            if not self._opened:
                self._open()
            if self._exception is None:
                return self._result  # type: ignore[return-value]
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the task's exception, or None, waiting for up to ``timeout`` seconds.

        Raises
        ------
        TimeoutError
            If the task has not ended in time. It goes on.
        CancelledError
            If it was cancelled.
        """
        if self._client is None:
            return super().exception(timeout)
        if self._state != FINISHED:
            self._await_end(timeout)
        if self._state == FINISHED and not self._opened:
            self._open()
        return super().exception(0)

    def _ended_within(self, timeout: float | None) -> bool:
        """Wait for the end, and return whether it has come in time."""
        if timeout == math.inf:
            timeout = None
        if self._client is not None and not self.done():
            await_end(self._client, self, timeout)
        return self.done()

    def _await_end(self, timeout: float | None) -> None:
        assert self._client is not None
        if timeout is not None:
            timeout = max(0.0, number("timeout", timeout, least=-math.inf))
        if not self._ended_within(timeout):
            hint = "It goes on; its why() says what it waits for."
            if self._client.link.is_lost:
                hint = self._client.lost_text()
            raise TimeoutError(
                f"task {self.id} has not ended within {timeout:g} s; it is {self.state}. {hint}"
            )

    def _open(self) -> None:
        """Unpickle what the task ended with."""
        # Signals are handled meanwhile: it runs code of the user's, and may take long.
        with self._own_opening if self._is_large else _opening:
            if self._is_open() or self._ended is None:
                return
            ended = self._ended
            value, error, raised = read(self.id, ended, partial(self._load, ended))
            is_reread = self._is_open()  # a handler of a signal has asked for it meanwhile
            is_unreadable = False
            if not is_reread:
                self._result, self._exception = value, error
                if isinstance(error, UndecodableError):
                    is_unreadable = True
                    if ended.state is State.SUCCEEDED:
                        self._ended = ended = as_unreadable(ended, error)
                self._opened = True
                # The raw bytes are not needed any more.
                ended.payload = b""
                self._views = None
        if raised is not None and (is_reread or not is_unreadable):
            raise raised

    def _load(self, ended: Ended) -> Any:
        assert self._client is not None
        return self._client.load(ended, self._views)

    def _is_open(self) -> bool:
        return self._opened

    @property
    def _is_large(self) -> bool:
        """Whether to unpickle it takes so long that others must not wait for it."""
        ended = self._ended
        return ended is None or len(ended.payload) > LARGE_BYTES or bool(ended.blobs)

    @property
    def _own_opening(self) -> threading.RLock:
        opening: threading.RLock = self.__dict__.setdefault("_opening", threading.RLock())
        return opening

    @property
    def _traceback_text(self) -> str:
        """The remote traceback as it was printed there; empty if there is none."""
        error = self._ended.error if self._ended else None
        return error.traceback if error else ""

    def traceback(self) -> str:
        """Return the remote traceback of a failed task, waiting for its end."""
        self.exception()
        return self._traceback_text

    def done(self) -> bool:
        """Return whether it has ended."""
        return self._state in _OVER

    def running(self) -> bool:
        """Return whether it runs. Takes no lock, as `done`."""
        return self._state == RUNNING

    def cancelled(self) -> bool:
        """Return whether it was cancelled. Takes no lock."""
        return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> None:
        """Have ``fn(future)`` called once it has ended, as ``concurrent.futures`` does.

        Raises
        ------
        TypeError
            From within ``asyncio.wait``, which would wait for ever.
        """
        if getattr(fn, "__module__", "") == "asyncio.tasks":
            raise TypeError(
                "asyncio.wait takes futures of asyncio only: give it asyncio.wrap_future(future)"
            )
        if self._client is None or self.done():
            super().add_done_callback(fn)
            return
        self._client.callbacks.begin()
        # Without the lock, which keeps signals back and so costs more than all the rest: whoever
        # ends it sets its state first and then looks here. Each is called once, since it is popped.
        _ = self._condition
        self._done_callbacks.append(fn)
        if self.done():
            self._invoke_callbacks()

    # ------------------------------------------------------------------ acting

    def cancel(self) -> bool:
        """Cancel the task, also one that runs: it is stopped, its engine stays.

        Returns
        -------
        bool
            True if it is cancelled now, False if it had ended before. Also False if there is no
            master at the moment: the next one is told to cancel it.
        """
        if self._client is None:
            return super().cancel()
        if self.done():
            return self.cancelled()
        try:
            self._client.cancel([self.id])
        except ClusterConnectionError:
            self._cancel_soon()
        return self.cancelled()

    def _cancel_soon(self) -> None:
        """Have it cancelled, without waiting for that. Takes no lock."""
        if self._client is not None and not self.done():
            self._client.asks.cancel_soon([self.id])

    def why(self) -> str:
        """Return in words why the task is where it is: what it waits for, or how it ended."""
        if self._client is None:
            return "it belongs to no cluster"
        if self._ended is not None:
            return explain_end(self._ended)
        return explain_loss(self._exception) if self.done() else explain_open(self._client, self)

    def stack(self) -> str:
        """Return where the running attempt is, as a Python stack, the latest call first.

        Raises
        ------
        OptionError
            If it does not run.
        """
        if self._client is None:
            return ""
        if self.done():
            raise OptionError(f"task {self.id} is {self.state}; only a running one has a stack")
        return stack(self._client, self)

    def show(self) -> None:
        """Print state, output and error of the task."""
        print(repr(self))  # noqa: T201 - this is what it is for
        for title, text in (("stdout", self.stdout), ("stderr", self.stderr)):
            if text:
                print(f"--- {title}\n{text}")  # noqa: T201
        if self.done() and self.state in ("failed", "pending"):  # the latter is kept elsewhere
            print(self._traceback_text or self.exception())  # noqa: T201

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Future cannot be sent to a task: send its result(), or name it in after="
        )

    def __await__(self) -> Generator[Any, None, T]:
        return await_on_loop(self, self._cancel_soon)

    # ------------------------------------------------------------------ news

    def _on_moved(self, news: Moved) -> None:
        """Take in that the task changed."""
        if self._ended is not None:
            return
        if news.state is not State.RUNNING or (
            self._moved is not None and self._moved.attempts != news.attempts
        ):
            self._output = None  # of an earlier attempt
            self._shown = []
        self._moved = news
        with self._held():
            if self._state in (PENDING, RUNNING):
                self._state = RUNNING if news.state is State.RUNNING else PENDING
        self._tell_watchers()

    def _on_ended(self, news: Ended) -> None:
        """Take in the end of the task; only the first one counts."""
        is_cancelled = news.state is State.CANCELLED
        if is_cancelled and self._output and not (news.stdout or news.stderr):
            # What is stopped tells nothing more, so what it wrote is what has come.
            news.stdout, news.stderr = bytes(self._output[1]), bytes(self._output[2])
        with _birth:
            if self._own_condition is None:
                # Nobody waits and nobody wants to be called: who comes later finds it ended.
                self._ended = news
                self._output = None
                self._state = CANCELLED_AND_NOTIFIED if is_cancelled else FINISHED
                self._tell_watchers()
                return
        with self._held() as condition:
            if self._state in (CANCELLED_AND_NOTIFIED, FINISHED):
                return
            self._ended = news
            self._end(condition, CANCELLED_AND_NOTIFIED if is_cancelled else FINISHED)
        self._output = None
        self._invoke_callbacks()
        self._tell_watchers()

    def _end(self, condition: threading.Condition, state: str) -> None:
        """Tell whoever waits. Needs the condition."""
        self._state = state
        ended = None if self._ended is None else self._ended.state
        told = _TOLD.get(ended, "add_exception")
        for waiter in self._waiters:
            getattr(waiter, told)(self)
        condition.notify_all()

    def _invoke_callbacks(self) -> None:
        if self._client is None:
            super()._invoke_callbacks()  # type: ignore[misc]
        elif self._done_callbacks:
            self._client.callbacks.call(partial(call_all, self._done_callbacks, self))

    def _on_refused(self, error: BaseException) -> None:
        """Take in that the task was not accepted, or will never be heard of again."""
        with self._held() as condition:
            if self._state in (CANCELLED_AND_NOTIFIED, FINISHED):
                return
            self._exception, self._opened = error, True
            self._end(condition, FINISHED)
        self._invoke_callbacks()
        self._tell_watchers()

    def _disown(self, error: BaseException) -> None:
        """Fail in silence: in a fork, who waits for it and the callbacks are the parent's."""
        self._own_condition = None
        if self._state in (PENDING, RUNNING):
            self._exception, self._state, self._opened = error, FINISHED, True

    def __repr__(self) -> str:
        if self._client is None:
            return super().__repr__()
        return f"<Future {printable(self.name or self.id)}: {future_text(self)}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": future_html(self)}
