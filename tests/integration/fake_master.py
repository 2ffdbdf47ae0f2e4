"""A master's end of the wire, without a master: for tests of an engine alone.

It speaks the real protocol over a real socket and decides nothing: it takes peers in, keeps all
they say, and sends what a test tells it to. So it stands in for the network, not for our logic.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any, Final, TypeVar

from nbcluster import ids
from nbcluster.core.model import Definition, Outcome, Run
from nbcluster.errors import MalformedError
from nbcluster.serial.blobs import BlobStore
from nbcluster.serial.pack import Packer
from nbcluster.transport.connection import Connection, write_connection
from nbcluster.transport.sockets import Router, Sent
from nbcluster.wire import codec
from nbcluster.wire import messages as m

T = TypeVar("T")
M = TypeVar("M")

KEY: Final = "key-of-the-test"
DEADLINE_S: Final = 20.0
_ROOT: Final = Path(__file__).parents[2]


@dataclass
class FakeMaster:
    """One incarnation of a master: a socket, and all that came through it.

    Parameters
    ----------
    root
        Directory of the cluster; the connection file and the run directory lie in it.
    epoch
        Of this incarnation.
    acks
        Acknowledge results as soon as they come.
    """

    root: Path
    epoch: int = 1
    acks: bool = True
    pid: int = field(default_factory=os.getpid)
    said: list[tuple[str, Any]] = field(default_factory=list)  #: peer's id, its message
    peers: dict[str, bytes] = field(default_factory=dict)  #: id of an engine or executor
    refuse: str = ""  #: refuse every peer, for this reason

    def __post_init__(self) -> None:
        self._names: dict[bytes, str] = {}
        self._numbers = 0
        self._defined: set[tuple[str, str]] = set()
        self._definitions: dict[str, Definition] = {}
        for name in ("run", "blobs"):
            (self.root / name).mkdir(mode=0o700, exist_ok=True)
        self.address = f"ipc://{self.root}/m{self.epoch}"
        self._router = Router(self.address)
        self._poller = select.poll()
        self._poller.register(self._router.fd, select.POLLIN)
        self._packer = Packer(BlobStore(self.root / "blobs", "test"))
        write_connection(self.connection_file, self.connection)

    @property
    def connection_file(self) -> Path:
        return self.root / "connection.json"

    @property
    def connection(self) -> Connection:
        return Connection(
            name="test",
            epoch=self.epoch,
            address=self.address,
            key=KEY,
            pid=self.pid,
            host=os.uname().nodename,
            python="{}.{}".format(*sys.version_info),
            version="0",
            directory=str(self.root),
            run=str(self.root / "run"),
            blobs=str(self.root / "blobs"),
            persist=False,
        )

    def close(self) -> None:
        self._router.close()

    # ------------------------------------------------------------------ receiving

    def turn(self, timeout: float = 0.02) -> None:
        """Take in what has come, or comes within ``timeout`` seconds."""
        if not self._router.ready():
            self._poller.poll(timeout * 1000)
        for peer, frame in self._router.receive(1000):
            name = self._names.get(peer)
            if name is None:
                self._greet(peer, codec.hello(frame))
            else:
                self._hear(name, frame)

    def _greet(self, peer: bytes, hello: Any) -> None:
        name = hello.engine if isinstance(hello, m.EngineHello) else hello.executor
        self.said.append((name, hello))
        if self.refuse:
            self._router.send(peer, codec.encode(m.Refusal(self.refuse)))
            return
        self._names[peer], self.peers[name] = name, peer
        welcome = m.Welcome(self.epoch, "test", "0", time.time())
        self._router.send(peer, codec.encode(welcome))

    def _hear(self, name: str, frame: bytes) -> None:
        try:
            message: Any = (codec.from_executor if "/" in name else codec.from_engine)(frame)
        except MalformedError:
            message = codec.hello(frame)  # it was sent again before the answer came
        self.said.append((name, message))
        if isinstance(message, m.Finished) and self.acks:
            self.send(name, m.Runs(message.number, [], []))

    def until(self, condition: Callable[[], T], what: str = "", timeout: float = DEADLINE_S) -> T:
        """Take turns until ``condition()`` is true, and return its value."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                last = "\n  ".join(f"{name}: {str(said)[:300]}" for name, said in self.said[-12:])
                raise AssertionError(f"not within {timeout:g} s: {what}; said last:\n  {last}")
            self.turn()

    def heard(self, kind: type[M], of: str = "") -> list[M]:
        """Return the messages of one kind so far, of all peers or of one."""
        return [x for name, x in self.said if isinstance(x, kind) and of in ("", name)]

    def outcomes(self) -> dict[int, Outcome]:
        """Return all outcomes so far, by token."""
        return {o.token: o for f in self.heard(m.Finished) for o in f.outcomes}

    def outcome(self, token: int) -> Outcome:
        """Wait for the outcome of an attempt."""
        self.until(lambda: token in self.outcomes(), f"outcome of {token}")
        return self.outcomes()[token]

    def executors(self) -> list[str]:
        """Return the executors that greeted and did not die, sorted."""
        dead = {death.executor for death in self.heard(m.ExecutorDied)}
        return sorted({x.executor for x in self.heard(m.ExecutorHello)} - dead)

    def executor(self) -> str:
        """Wait for one live executor, and return its id."""
        return self.until(self.executors, "an executor")[0]

    def engine(self) -> str:
        """Wait for the engine, and return its id."""
        return self.until(lambda: self.heard(m.EngineHello), "the engine")[0].engine

    def death(self) -> m.ExecutorDied:
        """Wait for the first death of an executor."""
        return self.until(lambda: self.heard(m.ExecutorDied), "a death")[0]

    def begun(self, token: int) -> None:
        """Wait until the engine tells that an attempt has begun."""
        self.until(
            lambda: any(token == t for beat in self.heard(m.Beat) for _, t, _ in beat.running),
            f"start of {token}",
        )

    # ------------------------------------------------------------------ sending

    def send(self, name: str, message: Any) -> None:
        """Send one message to a peer."""
        assert self._router.send(self.peers[name], codec.encode(message)) is Sent.QUEUED

    def order(self, message: m.ToEngine) -> None:
        """Send one order to the engine."""
        self.send(self.engine(), message)

    def run(
        self,
        fn: Callable[..., Any],
        *args: Any,
        executor: str = "",
        retry_on: tuple[type, ...] = (),
    ) -> int:
        """Have an executor call ``fn(*args)``; return the token of the attempt."""
        return self.run_all([(fn, args)], executor=executor, retry_on=retry_on)[0]

    def run_all(
        self,
        calls: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]],
        *,
        executor: str = "",
        retry_on: tuple[type, ...] = (),
    ) -> list[int]:
        """Send several calls in one message; return the tokens of their attempts."""
        executor = executor or self.executor()
        hashes = [self.define(fn) for fn, _ in calls]
        classes = self.define_classes(retry_on) if retry_on else ""
        wanted = dict.fromkeys([*hashes, *filter(None, [classes])])
        new = [self._definitions[h] for h in wanted if (executor, h) not in self._defined]
        self._defined.update((executor, d.hash) for d in new)
        runs = []
        for (_, args), name in zip(calls, hashes, strict=True):
            self._numbers += 1
            payload, blobs = self._packer.dumps_call(args, {})
            token = ids.token(self.epoch, self._numbers)
            runs.append(Run(f"t{self._numbers}", token, 1, name, payload, blobs, classes, "task"))
        self.send(executor, m.Runs(0, new, runs))
        return [run.token for run in runs]

    def define(self, fn: Callable[..., Any]) -> str:
        """Return the hash of the definition of a function, which an executor may then be sent."""
        found = self._packer.define(as_in_a_notebook(fn))
        self._definitions[found.hash] = found
        return found.hash

    def define_classes(self, classes: tuple[type, ...]) -> str:
        """Return the hash of the definition of classes of exceptions."""
        found = self._packer.define_classes(classes)
        self._definitions[found.hash] = found
        return found.hash

    def set_up(
        self, version: int, *calls: Callable[[], Any], executor: str = "", is_vital: bool = True
    ) -> None:
        """Have an executor make calls before its next run."""
        hashes = [self.define(fn) for fn in calls]
        payload = self._packer.dumps_call((), {})[0]
        setup = m.Setup(
            version,
            [self._definitions[name] for name in hashes],
            [(version, name, payload, (), is_vital) for name in hashes],
        )
        self.send(executor or self.executor(), setup)

    def value(self, token: int) -> Any:
        """Wait for an attempt, and return its value or exception."""
        outcome = self.outcome(token)
        return self._packer.loads(outcome.payload, outcome.blobs)


def as_in_a_notebook(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as if a notebook had defined it.

    Else the executors would import the whole module of the test.
    """
    if not isinstance(fn, FunctionType):
        return fn
    names = {"__name__": "__main__", "__builtins__": __builtins__}
    return FunctionType(fn.__code__, names, fn.__name__, fn.__defaults__, fn.__closure__)


# --------------------------------------------------------------------------- the engine's process


@dataclass
class Engine:
    """A real supervisor process, started for a test."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, timeout: float = DEADLINE_S) -> int:
        return self.process.wait(timeout)

    def stop(self) -> None:
        """End it if it still lives; nothing is checked."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def start_engine(root: Path, *flags: str, pass_fds: Sequence[int] = (), cwd: Path | str) -> Engine:
    """Start an engine for the cluster in ``root``."""
    log = root / "engine.log"
    command = [sys.executable, "-m", "nbcluster.engine", "--connection"]
    env = {**os.environ, "PYTHONPATH": str(_ROOT)}
    env.pop("PYTHONUNBUFFERED", None)  # it would hide that output is held back
    process = subprocess.Popen(
        [*command, str(root / "connection.json"), "--log", str(log), *flags],
        cwd=cwd,
        pass_fds=pass_fds,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=env,
    )
    return Engine(process, log)
