"""Every message of the protocol, by who sends it to whom.

A message is one frame: a msgpack array whose first item is the message's tag. Payloads are
``bin`` items in it which nobody on the way opens; buffers over 1 MiB do not travel at all, they
lie in shared files and are named (``blobs``). Many tasks share one message: a turn of a loop
sends at most one message of a kind to a peer.

Tags: 1-9 greetings, 10-39 from clients, 40-59 from engines, 60-79 from executors,
110-139 to clients, 140-159 to engines, 160-179 to executors.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from nbcluster.core.model import Definition, Ended, Moved, NewTask, Outcome, Progress, Run, Template

PROTOCOL: Final = 3  #: raised at every change that an older peer would misread


# --------------------------------------------------------------------------- greetings


class ClientHello(Struct, tag=1, array_like=True, frozen=True):
    """A client opens a session; ``key`` is the cluster's, from the connection file."""

    key: str
    client: str  #: random id of the client process, the same over reconnects
    version: str
    protocol: int
    python: str  #: as ``3.11``
    pid: int
    host: str


class EngineHello(Struct, tag=2, array_like=True, frozen=True):
    """A supervisor registers its engine, or comes back after a lost connection."""

    key: str
    engine: str
    version: str
    protocol: int
    python: str
    pid: int
    host: str
    groups: tuple[str, ...]
    slots: int
    #: executors alive, with the token of what each runs (0: nothing)
    executors: tuple[tuple[str, int], ...] = ()


class ExecutorHello(Struct, tag=3, array_like=True, frozen=True):
    """An executor is ready for work, or comes back after a lost connection."""

    key: str
    executor: str
    version: str
    protocol: int
    python: str
    pid: int
    #: tokens it holds and has not begun, and of results it has not had acknowledged
    holds: tuple[int, ...] = ()


class Welcome(Struct, tag=4, array_like=True, frozen=True):
    """The master takes the peer in."""

    epoch: int
    cluster: str
    version: str
    now: float  #: the master's clock


class Refusal(Struct, tag=5, array_like=True, frozen=True):
    """The master does not take the peer in; it should not try again unchanged."""

    reason: str


class GreetAgain(Struct, tag=6, array_like=True, frozen=True):
    """The master does not know this session, or not any more: it wants another greeting."""


# --------------------------------------------------------------------------- from clients


class Submit(Struct, tag=10, array_like=True):
    """Tasks in the order they were submitted; repeated until acknowledged, with the same ids."""

    number: int  #: of this message in the client's life; acknowledged in `Updates.acked`
    definitions: list[Definition]
    templates: list[Template]
    tasks: list[NewTask]


class Ask(Struct, tag=11, array_like=True):
    """A question or order to which one `Reply` comes. Which ones there are: `wire.asks`."""

    request: int
    op: str
    args: dict[str, Any]


class Watch(Struct, tag=12, array_like=True):
    """Send news of these tasks to this client, from now on; answers at once for ended ones."""

    tasks: list[str]


class Release(Struct, tag=13, array_like=True):
    """The client does not need the shared buffers of these results any more."""

    tasks: list[str]


class Taken(Struct, tag=15, array_like=True):
    """The client has taken in so much since its welcome: see `wire.window`."""

    cost: int


class Bye(Struct, tag=14, array_like=True):
    """The peer leaves on purpose. Clients, engines and executors send it."""


# --------------------------------------------------------------------------- from engines


class Beat(Struct, tag=40, array_like=True):
    """The supervisor lives; every 3 s, and at once when there is something to tell.

    ``running`` lists every attempt that has begun and not ended: executor, token, and
    for how many seconds it has run: the engine's clock may have been set meanwhile.
    """

    running: list[tuple[str, int, float]]
    progress: list[tuple[int, Progress]]  #: token, how far
    rss_bytes: int  #: of supervisor and executors together


class ExecutorDied(Struct, tag=41, array_like=True):
    """An executor process is gone."""

    executor: str
    token: int  #: of the attempt that had begun and not ended, from the page; 0: none
    exit_code: int  #: negative: the signal
    signal: str  #: as ``SIGSEGV``, ``exit code 3``
    peak_bytes: int
    stderr: str  #: last lines
    stdout: bytes
    expected: bool  #: it was ordered to go (kill, slots, restart, drain)


class Revoked(Struct, tag=42, array_like=True):
    """Answer to `Revoke`: what is at or below the watermark and not begun will never begin."""

    executor: str
    watermark: int
    current: int  #: highest token begun at or below the watermark, 0: none; it may have ended


class Output(Struct, tag=43, array_like=True):
    """Pieces of what running attempts write: token, 1 or 2, offset in the attempt, bytes.

    An executor sends those of the third stream itself: see `wire.shown`.
    """

    chunks: list[tuple[int, int, int, bytes]]


class Drained(Struct, tag=44, array_like=True):
    """The engine runs nothing any more and is about to leave."""


class DrainWanted(Struct, tag=45, array_like=True):
    """The supervisor was told by signal to drain, and asks the master to arrange it."""


class Stack(Struct, tag=46, array_like=True):
    """Answer to `StackWanted`: the stack as text, empty if the attempt does not run any more."""

    request: int
    text: str


# --------------------------------------------------------------------------- from executors


class Finished(Struct, tag=60, array_like=True):
    """Attempts that ended, in order; kept and sent again until acknowledged."""

    number: int  #: of this message in the executor's life; acknowledged in `Runs.acked`
    outcomes: list[Outcome]


class SetupDone(Struct, tag=61, array_like=True):
    """The executor has run all setups up to ``version``, or one it cannot do without failed."""

    version: int
    error: str = ""  #: of that one; the executor ends
    without: list[tuple[int, str]] = []  #: versions that failed and are done without, and how


# --------------------------------------------------------------------------- to clients

#: A submission that was not taken: its id, the code of the error, its arguments.
RefusedTask = tuple[str, str, tuple[str | int | float, ...]]


class Updates(Struct, tag=110, array_like=True):
    """All news for a client from one turn.

    ``number`` counts these messages in the session, so that a client sees a gap and asks again
    with `Watch`.
    """

    number: int
    acked: int  #: highest `Submit.number` that is durable
    ended: list[Ended]
    moved: list[Moved]
    #: submissions that became another task, because of their key: id sent, id it is
    aliases: list[tuple[str, str]]
    refused: list[RefusedTask]
    #: submissions whose function the master does not have (any more): to be sent again with it
    undefined: list[str] = []


class Reply(Struct, tag=111, array_like=True):
    """Answer to an `Ask`: a value, or the code and arguments of an error."""

    request: int
    value: Any
    code: str = ""
    args: tuple[str | int | float, ...] = ()


class OutputNews(Struct, tag=112, array_like=True):
    """Pieces of output of running tasks: task, attempt, 1, 2 or 3, offset, bytes."""

    chunks: list[tuple[str, int, int, int, bytes]]


class NotTaken(Struct, tag=114, array_like=True):
    """A whole `Submit` was not taken, and is not to be sent again: code and arguments of why."""

    number: int
    code: str
    args: tuple[str | int | float, ...]


class Closing(Struct, tag=113, array_like=True):
    """The cluster stops; the session is over."""

    reason: str
    start: str = ""  #: the call that goes on with its open tasks; empty: nothing is kept
    acked: int = 0  #: as in `Updates`


# --------------------------------------------------------------------------- to engines


class Kill(Struct, tag=140, array_like=True):
    """Stop the attempt of ``token``: SIGINT, grace, SIGKILL. Nothing, if it has ended already."""

    executor: str
    token: int
    reason: str  #: ``cancel``, ``timeout``
    grace_s: float


class Revoke(Struct, tag=141, array_like=True):
    """Put the watermark of this executor at ``watermark`` and tell what has begun."""

    executor: str
    watermark: int


class SetSlots(Struct, tag=142, array_like=True):
    """Have this many executors from now on; those too many end after what they run."""

    slots: int


class Restart(Struct, tag=143, array_like=True):
    """Kill all executors and start new ones."""


class StackWanted(Struct, tag=145, array_like=True):
    """Tell where the attempt of ``token`` is; answered with `Stack`."""

    executor: str
    token: int
    request: int


class Leave(Struct, tag=144, array_like=True):
    """Stop executors and end. Comes at once, or when a drain is complete."""

    reason: str


# --------------------------------------------------------------------------- to executors


class Runs(Struct, tag=160, array_like=True):
    """Attempts to run, in order, and definitions the executor does not have yet."""

    acked: int  #: highest `Finished.number` that is durable
    definitions: list[Definition]
    runs: list[Run]


class Setup(Struct, tag=161, array_like=True):
    """Calls that every executor makes once before its next run: initializer, pushed names."""

    version: int
    definitions: list[Definition]
    #: version, hash, payload, blobs, whether nothing may run where it fails
    calls: list[tuple[int, str, bytes, tuple[str, ...], bool]]


Hello = ClientHello | EngineHello | ExecutorHello
FromClient = Submit | Ask | Watch | Release | Taken | Bye
FromEngine = Beat | ExecutorDied | Revoked | Output | Drained | DrainWanted | Stack | Bye
FromExecutor = Finished | SetupDone | Output | Bye
ToClient = Welcome | Refusal | GreetAgain | Updates | Reply | OutputNews | NotTaken | Closing
ToEngine = Welcome | Refusal | GreetAgain | Kill | Revoke | SetSlots | Restart | StackWanted | Leave
ToExecutor = Welcome | Refusal | GreetAgain | Runs | Setup
