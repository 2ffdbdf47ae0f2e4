"""What comes into the core in one turn, and what must follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbcluster.core.model import (
    Definition,
    Ended,
    Moved,
    NewTask,
    Outcome,
    Progress,
    Run,
    State,
    Task,
    Template,
)
from nbcluster.core.records import Record

# --------------------------------------------------------------------------- in: hot


@dataclass(slots=True)
class Submission:
    """Tasks of one client, in order."""

    client: str
    definitions: list[Definition]
    templates: list[Template]
    tasks: list[NewTask]


# --------------------------------------------------------------------------- in: rare


@dataclass(slots=True)
class EngineCame:
    """An engine registered or came back; ``running`` names what its executors are at."""

    engine: str
    pid: int
    host: str
    groups: tuple[str, ...]
    slots: int
    python: str
    running: tuple[tuple[str, int], ...] = ()


@dataclass(slots=True)
class EngineBeat:
    """An engine lives, and tells what has begun and not ended."""

    engine: str
    running: list[tuple[str, int, float]]
    progress: list[tuple[int, Progress]]
    rss_bytes: int = 0


@dataclass(slots=True)
class EngineDied:
    """An engine's process is gone; ``begun`` are the last words of its executors' pages."""

    engine: str
    why: str
    begun: dict[str, int]


@dataclass(slots=True)
class EngineLeft:
    """An engine goes in order, and what it has not ended costs nothing; ``begun`` as above."""

    engine: str
    begun: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class ExecutorCame:
    """An executor is ready, and holds the leases of these tokens."""

    executor: str
    pid: int
    holds: tuple[int, ...]


@dataclass(slots=True)
class ExecutorEnded:
    """An executor's process is gone; ``token`` is what it was at, 0 for nothing."""

    executor: str
    token: int
    signal: str
    peak_bytes: int
    stdout: bytes
    stderr: bytes
    expected: bool


@dataclass(slots=True)
class RevokeAnswered:
    """No lease of ``executor`` up to ``watermark`` and after ``begun`` will ever begin."""

    executor: str
    watermark: int
    begun: int


@dataclass(slots=True)
class SetupAnswered:
    """The executor ran all setups up to ``version``, or failed in one."""

    executor: str
    version: int
    error: str
    without: list[tuple[int, str]] = field(default_factory=list)  #: versions it does without, why


@dataclass(slots=True)
class SetupAsked:
    """Have every executor, now and later, make this call before its next run."""

    definition: Definition
    payload: bytes
    blobs: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  #: what it binds; a later one that binds the same replaces it
    version: int = 0  #: answer


@dataclass(slots=True)
class CancelAsked:
    """Cancel these tasks, waiting or running."""

    tasks: list[str]
    cancelled: list[str] = field(default_factory=list)  #: answer


@dataclass(slots=True)
class RedriveAsked:
    """Put failed or cancelled tasks back as new ones; wake those that wait for a backoff."""

    tasks: list[str]
    client: str
    successors: dict[str, str] = field(default_factory=dict)  #: answer: old id, new id
    refused: dict[str, str] = field(default_factory=dict)  #: answer: id, dependency in its way


@dataclass(slots=True)
class WatchAsked:
    """Tell this client what becomes of these tasks."""

    client: str
    tasks: list[str]


@dataclass(slots=True)
class ReleaseAsked:
    """This client does not need the shared buffers of these results any more."""

    client: str
    tasks: list[str]


@dataclass(slots=True)
class ClientCame:
    """A client is here."""

    client: str


@dataclass(slots=True)
class ClientGone:
    """A client has left, or its process has ended."""

    client: str


@dataclass(slots=True)
class DrainAsked:
    """Let this engine finish what runs, then leave."""

    engine: str


@dataclass(slots=True)
class SlotsAsked:
    """Give an engine another number of executors; 0 pauses it."""

    engine: str
    slots: int


@dataclass(slots=True)
class ScaleAsked:
    """Have so many engines in a group from now on, over restarts of the master too."""

    group: str
    engines: int
    slots: int


@dataclass(slots=True)
class RestartAsked:
    """Replace all executors by fresh ones; what runs goes back to the queue."""


Rare = (
    EngineCame
    | EngineBeat
    | EngineDied
    | EngineLeft
    | ExecutorCame
    | ExecutorEnded
    | RevokeAnswered
    | SetupAnswered
    | SetupAsked
    | CancelAsked
    | RedriveAsked
    | WatchAsked
    | ReleaseAsked
    | ClientCame
    | ClientGone
    | DrainAsked
    | SlotsAsked
    | ScaleAsked
    | RestartAsked
)


@dataclass(slots=True)
class Batch:
    """All that came in during one turn: a list for each kind, not an object for each event."""

    submissions: list[Submission] = field(default_factory=list)
    outcomes: list[tuple[str, list[Outcome]]] = field(default_factory=list)  #: executor, its news
    rare: list[Rare] = field(default_factory=list)


# --------------------------------------------------------------------------- out


@dataclass(slots=True)
class KillOrder:
    """Stop this attempt."""

    engine: str
    executor: str
    token: int
    reason: str


@dataclass(slots=True)
class RevokeOrder:
    """Let nothing of this executor begin up to the watermark."""

    engine: str
    executor: str
    watermark: int


@dataclass(slots=True)
class SlotsOrder:
    """Have this many executors."""

    engine: str
    slots: int


@dataclass(slots=True)
class RestartOrder:
    """Replace all executors."""

    engine: str


@dataclass(slots=True)
class LeaveOrder:
    """Stop and end."""

    engine: str
    reason: str


Order = KillOrder | RevokeOrder | SlotsOrder | RestartOrder | LeaveOrder


@dataclass(slots=True)
class News:
    """What one client must be told."""

    ended: list[Ended] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    aliases: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str, tuple[str | int | float, ...]]] = field(default_factory=list)
    undefined: list[str] = field(default_factory=list)  #: to be sent again with their functions

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.ended or self.moved or self.aliases or self.refused or self.undefined)


@dataclass(slots=True)
class Step:
    """What the shell owes after a turn: make `records` durable and, only then, send the rest."""

    records: list[Record] = field(default_factory=list)
    runs: dict[str, list[Run]] = field(default_factory=dict)  #: one message for each executor
    news: dict[str, News] = field(default_factory=dict)  #: one message for each client
    orders: list[Order] = field(default_factory=list)
    garbage: list[str] = field(default_factory=list)  #: shared buffers nobody needs any more
    stale: list[tuple[str, int]] = field(default_factory=list)  #: results of lost leases
    unknowing: set[str] = field(default_factory=set)  #: executors that lost definitions
    setup_executors: set[str] = field(default_factory=set)  #: that must be sent the setups

    def news_for(self, client: str) -> News:
        """Return the news of this turn for ``client``."""
        news = self.news.get(client)
        if news is None:
            news = self.news[client] = News()
        return news


def ended(task: Task) -> Ended:
    """Return the news that ``task`` reached its end."""
    return Ended(
        task.id,
        task.state,
        task.cause,
        task.attempts,
        task.retries,
        task.crashes,
        task.executor.partition("/")[0],
        task.submitted_at,
        task.started_at,
        task.finished_at,
        task.result,
        task.result_blobs,
        task.code,
        task.args,
        task.error,
        task.stdout,
        task.stderr,
    )


def moved(task: Task, reason: str = "") -> Moved:
    """Return the news that ``task`` changed and has not ended."""
    running = task.state is State.RUNNING
    return Moved(
        task.id,
        task.state,
        reason or task.reason,
        task.attempts,
        task.retries,
        task.crashes,
        task.executor.partition("/")[0] if running else "",
        task.started_at if running else 0.0,
        task.progress if running else None,
    )
