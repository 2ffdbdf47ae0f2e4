"""Vocabulary of the core: states, tasks, engines, and the values that travel in and out.

Structs instead of dataclasses where it is hot: a ``msgspec.Struct`` is made in about 100 ns, is
encoded without a detour, and with ``gc=False`` a million queued tasks cost the collector nothing.
None of them can be part of a cycle. Durations end in ``_s``, sizes in ``_bytes``, instants in
``_at`` (seconds since the epoch).
"""

from __future__ import annotations

from collections.abc import Set
from enum import IntEnum, StrEnum
from typing import Final

from msgspec import Struct

from nbcluster.options import TaskOptions


class State(StrEnum):
    """State of a task; the same six everywhere."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"  #: waits for its backoff, holds no slot
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class Cause(StrEnum):
    """Why a task failed."""

    EXCEPTION = "exception"
    PERMANENT = "permanent"
    CRASH = "crash"
    TIMEOUT = "timeout"
    LOST = "lost"
    EXPIRED = "expired"
    UNDECODABLE = "undecodable"


class EngineState(StrEnum):
    """State of an engine."""

    STARTING = "starting"
    ACTIVE = "active"
    SUSPECT = "suspect"
    DRAINING = "draining"
    LOST = "lost"


class Verdict(IntEnum):
    """How an attempt ended, as its executor saw it."""

    VALUE = 0
    EXCEPTION = 1
    PERMANENT = 2
    UNDECODABLE = 3
    INTERRUPTED = 4  #: by a kill order; the reason is known to the master
    UNKNOWN_FUNCTION = 5  #: the definition was not there: not started, send again with it


# --------------------------------------------------------------------------- values


class Template(Struct, frozen=True, array_like=True):
    """What many tasks share: function and options. Equal templates are kept once."""

    fn: str  #: hash of the definition
    options: TaskOptions = TaskOptions()


class NewTask(Struct, array_like=True, gc=False):
    """A task as the client submits it."""

    id: str
    template: int  #: index into the templates of its message
    payload: bytes
    blobs: tuple[str, ...] = ()  #: names of shared buffers that belong to the payload
    name: str = ""  #: empty: the function's
    key: str = ""
    after: tuple[str, ...] = ()
    digest: bytes = b""  #: of function and arguments; empty without a key


class ErrorInfo(Struct, array_like=True, gc=False):
    """What may be known of an error without unpickling anything."""

    type: str  #: as ``ZeroDivisionError``
    message: str  #: first 2,000 characters
    traceback: str = ""  #: formatted, user frames only, last 16,000 characters


class Outcome(Struct, array_like=True, gc=False):
    """How an attempt ended, from its executor."""

    task: str
    token: int
    verdict: int  #: a `Verdict`
    started_at: float
    duration_s: float
    payload: bytes  #: value or exception, pickled; never opened on the way
    blobs: tuple[str, ...] = ()
    error: ErrorInfo | None = None
    retryable: bool = False  #: of an exception: ``retry_on`` lets it be tried again
    retry_after: float | None = None  #: wait that the exception asks for, in seconds
    stdout: bytes = b""  #: what the attempt wrote, cut in the middle at the bound
    stderr: bytes = b""


class Run(Struct, array_like=True, gc=False):
    """One attempt, as the executor gets it."""

    task: str
    token: int
    attempt: int
    fn: str
    payload: bytes
    blobs: tuple[str, ...] = ()
    retry_on: str = ""
    name: str = ""
    timeout: float | None = None


class Definition(Struct, array_like=True, gc=False):
    """A serialised function (or tuple of exception classes), addressed by its content."""

    hash: str
    name: str
    blob: bytes


class Progress(Struct, array_like=True, gc=False):
    """How far a running attempt says it is."""

    done: float
    total: float
    message: str = ""


class Attempt(Struct, array_like=True, gc=False):
    """An attempt that ended without success, or that is over for another reason."""

    number: int
    engine: str
    executor: str
    started_at: float
    ended_at: float
    outcome: str  #: ``exception permanent timeout crash undecodable lost given_back``
    error: ErrorInfo | None = None


class Ended(Struct, array_like=True, gc=False):
    """News for a client: one of its tasks reached its end."""

    task: str
    state: State
    cause: str
    attempts: int
    retries: int
    crashes: int
    engine: str
    submitted_at: float
    started_at: float
    finished_at: float
    payload: bytes
    blobs: tuple[str, ...] = ()
    #: code and arguments of one of our own errors, where there is no pickled exception
    code: str = ""
    args: tuple[str | int | float, ...] = ()
    error: ErrorInfo | None = None
    stdout: bytes = b""
    stderr: bytes = b""


class Moved(Struct, array_like=True, gc=False):
    """News for a client: a task of its own that has not ended changed."""

    task: str
    state: State
    reason: str
    attempts: int
    retries: int
    crashes: int
    engine: str
    started_at: float = 0.0
    progress: Progress | None = None


#: Of a task that waits for no other one: nearly all are such, and share it.
NOTHING: Final[Set[str]] = frozenset()


class Task(Struct, array_like=True, gc=False):
    """One task as the master knows it. Only ``apply`` writes here."""

    id: str
    template: Template
    payload: bytes
    blobs: tuple[str, ...]
    client: str
    name: str
    key: str
    after: Set[str]  #: what it still waits for; a set, since it may be a hundred thousand others
    submitted_at: float
    state: State = State.PENDING
    reason: str = ""
    cause: str = ""
    attempts: int = 0  #: attempts that started
    retries: int = 0  #: exceptions and timeouts after which it was tried again
    crashes: int = 0
    token: int = 0  #: of the lease that counts; 0: nobody holds it
    executor: str = ""  #: that holds the lease, or held the last one
    started_at: float = 0.0
    finished_at: float = 0.0
    due: float = 0.0  #: of a retrying task: when it goes on
    result: bytes = b""
    result_blobs: tuple[str, ...] = ()
    code: str = ""
    args: tuple[str | int | float, ...] = ()
    error: ErrorInfo | None = None
    history: tuple[Attempt, ...] = ()
    stdout: bytes = b""
    stderr: bytes = b""
    progress: Progress | None = None
    seq: int = 0  #: place in the order of all submissions
    queued_at: float = 0.0  #: since when it waits in its queue: order after a restart
    successor: str = ""  #: of a dead letter that was put back: the new task
    digest: bytes = b""  #: of function and arguments; empty without a key


def kept_bytes(task: Task) -> int:
    """Return the bytes that an ended task keeps, but for what all tasks have."""
    size = len(task.result) + len(task.payload) + len(task.stdout) + len(task.stderr)
    for attempt in task.history:
        if attempt.error is not None:
            size += len(attempt.error.message) + len(attempt.error.traceback)
    return size


class Executor(Struct, gc=False):
    """An executor as the master knows it. Leases are in the order in which it will run them."""

    id: str
    engine: str
    pid: int = 0
    ready: bool = False  #: connected and past its setups
    leases: dict[int, Task] = {}
    cost_s: float = 0.0  #: what its leases are expected to take
    touched_at: float = 0.0  #: last outcome, or lease while it had none
    used: int = 0  #: number of the last dispatch: least recently used goes first
    watched: bool = False  #: a look at whether it is stuck is due
    stalled: bool = False  #: busy for longer than a moment: gets nothing ahead
    setup: int = 0  #: version of the setups it has run


class Engine(Struct, gc=False):
    """An engine as the master knows it."""

    id: str
    pid: int
    host: str
    groups: tuple[str, ...]
    slots: int
    python: str
    state: EngineState = EngineState.ACTIVE
    executors: dict[str, Executor] = {}
    load: int = 0  #: score: the loads of what runs there
    done: int = 0  #: tasks that ended there
    used: int = 0
    seen_at: float = 0.0
    rss_bytes: int = 0
    started_at: float = 0.0
