"""The facts that the core decides on, the journal keeps, and ``apply`` takes.

Every change of a task or an engine is one of these; a restart is applying them again, in order.
What is in no record (who is connected, who is idle, how long a function takes) is not kept over
a restart, because those who know it tell it again.

``now`` is not in a record: all records of a turn share one time, which the journal stores once
for the turn.
"""

from __future__ import annotations

from msgspec import Struct

from nbcluster.core.model import Definition, EngineState, ErrorInfo, NewTask, Progress, Template

# --------------------------------------------------------------------------- cluster


class MasterStarted(Struct, tag=1, array_like=True, gc=False):
    """A master began its epoch. All engines are unseen until they come back."""

    epoch: int


class Defined(Struct, tag=2, array_like=True, gc=False):
    """A definition arrived. Kept while a retained task names it."""

    definition: Definition


class TemplateKnown(Struct, tag=3, array_like=True, gc=False):
    """Template ``number`` (from 1, never reused) stands for this."""

    number: int
    template: Template


class Dropped(Struct, tag=4, array_like=True, gc=False):
    """No retained task needs these any more."""

    definitions: tuple[str, ...]
    templates: tuple[int, ...]


class SetupAdded(Struct, tag=5, array_like=True, gc=False):
    """A call that every executor makes before its next run. Versions count from 1."""

    version: int
    fn: str
    payload: bytes
    blobs: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  #: what it binds; empty: nobody can tell
    replaces: tuple[int, ...] = ()  #: versions that are superfluous now


class GroupWanted(Struct, tag=6, array_like=True, gc=False):
    """A group is to have so many engines of so many slots, until somebody wants another number."""

    group: str
    engines: int
    slots: int


# --------------------------------------------------------------------------- tasks


class Submitted(Struct, tag=10, array_like=True, gc=False):
    """A task was accepted; its ``template`` is the number of a `TemplateKnown`."""

    client: str
    task: NewTask


class Leased(Struct, tag=11, array_like=True, gc=False):
    """The task was sent to an executor; it is still pending there until it starts."""

    task: str
    token: int
    executor: str


class Started(Struct, tag=12, array_like=True, gc=False):
    """The attempt was seen running: it counts from here on."""

    task: str
    token: int
    at: float


class Released(Struct, tag=13, array_like=True, gc=False):
    """The lease ended without a charge: the task goes back to the front of its queue."""

    task: str
    token: int
    why: str  #: ``revoked drained restart given-back``
    begun: bool = False  #: a `Started` of this attempt went before
    started_at: float = 0.0  #: when the attempt began; 0: it never did, and was none


class Succeeded(Struct, tag=14, array_like=True, gc=False):
    """The attempt returned a value."""

    task: str
    token: int
    started_at: float
    payload: bytes
    blobs: tuple[str, ...]
    stdout: bytes
    stderr: bytes
    begun: bool = False  #: a `Started` of this attempt went before


class Retrying(Struct, tag=15, array_like=True, gc=False):
    """The attempt failed and is tried again when ``due``."""

    task: str
    token: int
    started_at: float
    outcome: str  #: ``exception``, ``timeout``
    due: float
    error: ErrorInfo | None
    stdout: bytes
    stderr: bytes
    begun: bool = False  #: a `Started` of this attempt went before


class Woken(Struct, tag=16, array_like=True, gc=False):
    """The backoff is over: the task goes to the tail of its priority."""

    task: str


class Crashed(Struct, tag=17, array_like=True, gc=False):
    """The attempt ended with its executor or engine; the task goes back to the front."""

    task: str
    token: int
    started_at: float
    error: ErrorInfo | None
    stdout: bytes
    stderr: bytes
    begun: bool = False  #: a `Started` of this attempt went before


class Failed(Struct, tag=18, array_like=True, gc=False):
    """The task failed for good."""

    task: str
    token: int  #: of the attempt it ended with; 0: it ended without one
    started_at: float
    cause: str  #: a `Cause`
    payload: bytes  #: the pickled exception, if there is one
    blobs: tuple[str, ...]
    code: str  #: otherwise one of our own errors: its class and arguments
    args: tuple[str | int | float, ...]
    error: ErrorInfo | None
    stdout: bytes
    stderr: bytes
    begun: bool = False  #: a `Started` of this attempt went before


class Cancelled(Struct, tag=19, array_like=True, gc=False):
    """Somebody cancelled the task; what may still run of it counts no more."""

    task: str


class DependencyMet(Struct, tag=20, array_like=True, gc=False):
    """One of the tasks it waits for succeeded."""

    task: str
    dependency: str


class Redriven(Struct, tag=21, array_like=True, gc=False):
    """A dead letter was put back as a new task of id ``successor``."""

    task: str
    successor: str
    client: str
    after: tuple[str, ...] = ()  #: what the new task waits for


class Forgotten(Struct, tag=22, array_like=True, gc=False):
    """Ended tasks left by retention."""

    tasks: tuple[str, ...]


class Progressed(Struct, tag=23, array_like=True, gc=False):
    """A running attempt told how far it is."""

    task: str
    token: int
    progress: Progress


# --------------------------------------------------------------------------- engines


class EngineUp(Struct, tag=30, array_like=True, gc=False):
    """An engine registered, or came back."""

    engine: str
    pid: int
    host: str
    groups: tuple[str, ...]
    slots: int
    python: str


class EngineChanged(Struct, tag=31, array_like=True, gc=False):
    """An engine's state or number of slots changed."""

    engine: str
    state: EngineState
    slots: int


class EngineGone(Struct, tag=32, array_like=True, gc=False):
    """An engine left, died, or was silent for too long."""

    engine: str
    why: str


Record = (
    MasterStarted
    | Defined
    | TemplateKnown
    | Dropped
    | SetupAdded
    | GroupWanted
    | Submitted
    | Leased
    | Started
    | Released
    | Succeeded
    | Retrying
    | Woken
    | Crashed
    | Failed
    | Cancelled
    | DependencyMet
    | Redriven
    | Forgotten
    | Progressed
    | EngineUp
    | EngineChanged
    | EngineGone
)
