"""One attempt: from a run to its outcome, whatever user code does."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from time import monotonic, time
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from nbcluster.core.model import Definition, ErrorInfo, Outcome, Run, Verdict
from nbcluster.engine.executor.failures import describe, raised, undecodable
from nbcluster.engine.executor.streams import Streams
from nbcluster.engine.executor.surroundings import Interrupts, Surroundings
from nbcluster.wire.codec import MAX_FRAME_BYTES

if TYPE_CHECKING:
    from nbcluster.serial.unpack import Unpacker

#: Definitions kept, and bytes of them; for one that went, the master is asked again.
MAX_DEFINITIONS: Final = 1_000
MAX_DEFINITION_BYTES: Final = 256 << 20
#: Of a value that has no shared file; the rest of the frame needs some room too.
MAX_PAYLOAD_BYTES: Final = MAX_FRAME_BYTES - (1 << 20)

# How far an attempt is: decides what an exception means.
_LOADING, _CALLING, _PACKING = range(3)


class Library:
    """Definitions by hash, unpickled at their first use; the oldest go when they are too much."""

    def __init__(self, unpacker: Unpacker) -> None:
        self._unpacker = unpacker
        self._known: dict[str, int] = {}  #: and how many bytes each has, from the oldest on
        self._waiting: dict[str, Definition] = {}  #: those that were not unpickled yet
        self._bytes = 0
        self.loaded: dict[str, Any] = {}  #: looked into directly on the hot path

    def add(self, definitions: list[Definition]) -> None:
        """Take in definitions; those that are known already count as new again."""
        known = self._known
        for definition in definitions:
            name, size = definition.hash, len(definition.blob)
            self._bytes += size - known.pop(name, 0)
            known[name] = size
            if name not in self.loaded:
                self._waiting[name] = definition
        while len(known) > len(definitions):  # what has just come stays: it is about to be used
            if len(known) <= MAX_DEFINITIONS and self._bytes <= MAX_DEFINITION_BYTES:
                break
            oldest = next(iter(known))
            self._bytes -= known.pop(oldest)
            self._waiting.pop(oldest, None)
            self.loaded.pop(oldest, None)

    def knows(self, run: Run) -> bool:
        """Return whether all definitions are there that a run names."""
        return run.fn in self._known and (not run.retry_on or run.retry_on in self._known)

    def load(self, name: str) -> Any:
        """Return what the definition of this hash defines; raises whatever unpickling raises."""
        if name not in self.loaded:
            self.loaded[name] = self._unpacker.load_definition(self._waiting[name])
            del self._waiting[name]
        return self.loaded[name]


class Attempts:
    """Runs user code, one attempt at a time."""

    def __init__(
        self,
        unpacker: Unpacker,
        interrupts: Interrupts,
        surroundings: Surroundings,
        streams: Streams,
    ) -> None:
        self.library = Library(unpacker)
        self.run: Run | None = None  #: what runs now
        self._unpacker = unpacker
        self._interrupts = interrupts
        self._surroundings = surroundings
        self._streams = streams

    def attempt(self, run: Run, began: float) -> Outcome:
        """Run one attempt, and leave the process as it was before.

        It began at ``began`` by the monotonic clock. What the wall clock showed then is reckoned
        at its end: it may have been set since.
        """
        interrupts, stage = self._interrupts, _LOADING
        fn = self.library.loaded.get(run.fn)
        if (fn is None or run.retry_on) and not self.library.knows(run):
            return Outcome(run.task, run.token, Verdict.UNKNOWN_FUNCTION, time(), 0.0, b"")
        self.run = run
        try:
            # From here on user code runs: unpickling imports its modules and calls its classes.
            interrupts.hit = False
            interrupts.armed = True
            if fn is None:
                fn = self.library.load(run.fn)
            args, kwargs = self._unpacker.loads_call(run.payload, run.blobs)
            stage = _CALLING
            value = fn(*args, **kwargs)
            if type(value) is CoroutineType:
                value = _complete(value)
            if self._surroundings.forked:
                self._leave_fork()
            stage = _PACKING
            payload, blobs = self._unpacker.dumps_result(value)
            interrupts.armed = False
            took_s = monotonic() - began
            outcome = Outcome(run.task, run.token, 0, time() - took_s, took_s, payload, blobs)
            if len(payload) > MAX_PAYLOAD_BYTES:
                outcome = _too_large(run, took_s, len(payload))
        except BaseException as error:  # noqa: BLE001 - the border to user code
            interrupts.armed = False
            if self._surroundings.forked:
                self._leave_fork()
            outcome = self._failure(run, began, stage, error)
        self.run = None
        # What follows belongs to every attempt, and is written out here since a call costs.
        self._surroundings.tidy()
        # Asked of 1 and 2, and not of our own descriptors of the same files: if user code has put
        # something else there, the lengths differ, and `take` puts ours back.
        streams = self._streams
        try:
            out_end, err_end = _seek(1, 0, _END), _seek(2, 0, _END)
        except OSError:  # closed, or a pipe
            out_end = err_end = -1
        if out_end != streams.out_start or err_end != streams.err_start:
            outcome.stdout, outcome.stderr = streams.take(run.token)
        return outcome

    def _failure(self, run: Run, began: float, stage: int, error: BaseException) -> Outcome:
        took_s = monotonic() - began
        started_at = time() - took_s
        interrupts = self._interrupts
        if interrupts.hit:
            interrupts.hit = False
            if isinstance(error, KeyboardInterrupt):
                return Outcome(run.task, run.token, Verdict.INTERRUPTED, started_at, took_s, b"")
        # What leaves a value's own ``__reduce__`` and is no ``Exception`` (``sys.exit``) was meant.
        is_exit = stage == _PACKING and not isinstance(error, Exception)
        # Arguments for which there is no room are like anything else that the task wants.
        if stage == _CALLING or is_exit or isinstance(error, MemoryError):
            return raised(run, started_at, took_s, error, self._unpacker, self.library.load)
        info = describe(error)
        if stage == _LOADING:
            info.message = f"the function or its arguments cannot be loaded: {info.type}: " + (
                info.message
            )
        return undecodable(run, started_at, took_s, info)

    def _leave_fork(self) -> None:
        """End a child that user code forked and that came back into our code.

        It shares our sockets, so nothing of it may touch them.
        """
        self._streams.flush()
        os._exit(0)

    # ------------------------------------------------------------------ setups

    def call(self, name: str, payload: bytes, blobs: tuple[str, ...]) -> str:
        """Make one call outside of any attempt; return the text of its error, or nothing."""
        try:
            fn: Callable[..., Any] = self.library.load(name)
            args, kwargs = self._unpacker.loads_call(payload, blobs)
            value = fn(*args, **kwargs)
            if type(value) is CoroutineType:
                _complete(value)
        except BaseException as error:  # noqa: BLE001 - the border to user code
            if self._surroundings.forked:
                self._leave_fork()
            info = describe(error)
            return f"{info.type}: {info.message}\n{info.traceback}"
        if self._surroundings.forked:
            self._leave_fork()
        self._surroundings.tidy()
        self._streams.mark()
        return ""


_seek: Final = os.lseek
_END: Final = os.SEEK_END


def _complete(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run what an ``async def`` returned to its end."""
    import asyncio  # takes 40 ms, and few tasks are coroutines

    return asyncio.run(coroutine)


def _too_large(run: Run, took_s: float, size: int) -> Outcome:
    message = (
        f"the result has {size} bytes after pickling, and at most {MAX_PAYLOAD_BYTES} can be sent; "
        "write it to a file and return its path"
    )
    info = ErrorInfo("ValueError", message)
    return undecodable(run, time() - took_s, took_s, info)
