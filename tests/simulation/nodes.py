"""Engines and executors of the simulation: they obey the protocol, and fail when told to."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from nbcluster.core import events as e
from nbcluster.core.model import ErrorInfo, Outcome, Run, Verdict


@dataclass
class SimExecutor:
    """Runs what it gets, in the order of tokens; keeps results until they are acknowledged."""

    id: str
    inbox: list[Run] = field(default_factory=list)  #: on the way to it
    queue: list[Run] = field(default_factory=list)
    current: Run | None = None
    begun: int = 0  #: highest token ever begun
    watermark: int = 0
    unacked: list[Outcome] = field(default_factory=list)
    unsent: list[Outcome] = field(default_factory=list)
    greeting: bool = True  #: has to greet the master
    welcomed: bool = False
    setup: int | None = None  #: an answer that has to be sent

    def regreet(self) -> None:
        """The connection is another one: what was on the way is lost."""
        self.inbox.clear()
        self.greeting, self.welcomed, self.setup = True, False, None

    def receive(self) -> None:
        self.queue += self.inbox
        self.inbox.clear()

    def start(self) -> Run | None:
        """Begin the next attempt that is not revoked."""
        while self.queue and self.current is None:
            run = self.queue.pop(0)
            if run.token > self.watermark:
                assert run.token > self.begun, "runs begin in the order of tokens"
                self.current, self.begun = run, run.token
                return run
        return None

    def end(self, rng: Random, now: float, verdict: Verdict | None = None) -> None:
        """End what runs, with a chance of every verdict, or with this one."""
        run = self.current
        assert run is not None
        self.current = None
        if verdict is None:
            verdict = Verdict(rng.choices([0, 1, 2, 3], [12, 8, 1, 1])[0])
        error = None if verdict == Verdict.VALUE else ErrorInfo("ValueError", "no")
        outcome = Outcome(
            run.task,
            run.token,
            int(verdict),
            now - 0.001,
            rng.choice([0.0001, 0.001, 0.01, 0.1]),
            f"{run.task}:{run.attempt}".encode(),
            (),
            error,
            rng.random() < 0.8,
            rng.choice([None, None, None, 0.0, 3.0]),
        )
        self.unacked.append(outcome)
        self.unsent.append(outcome)

    def holds(self) -> tuple[int, ...]:
        waiting = [run.token for run in self.queue if run.token > self.watermark]
        return (*waiting, *(o.token for o in self.unacked))


@dataclass
class SimEngine:
    """Supervises executors; its messages to the master stay in order."""

    id: str
    pid: int
    groups: tuple[str, ...]
    slots: int
    executors: dict[str, SimExecutor] = field(default_factory=dict)
    inbox: list[e.Order] = field(default_factory=list)
    outbox: list[e.Rare] = field(default_factory=list)
    deaths: list[e.ExecutorEnded] = field(default_factory=list)  #: told again after a greeting
    greeting: bool = True
    silent: bool = False
    born: int = 0
    left: bool = False

    def fill(self) -> None:
        """Have as many executors as slots."""
        idle = [x for x in self.executors.values() if x.current is None]
        while len(self.executors) > self.slots and idle:
            self.bury(idle.pop(), expected=True)
        while len(self.executors) < self.slots:
            self.born += 1
            name = f"{self.id}/{len(self.executors)}.{self.born}"
            self.executors[name] = SimExecutor(name)

    def bury(self, executor: SimExecutor, *, expected: bool) -> None:
        token = executor.current.token if executor.current else 0
        del self.executors[executor.id]
        death = e.ExecutorEnded(executor.id, token, "SIGSEGV", 0, b"", b"", expected)
        if self.greeting:
            self.deaths.append(death)
        else:
            self.outbox.append(death)

    def regreet(self) -> None:
        self.deaths += [m for m in self.outbox if isinstance(m, e.ExecutorEnded)]
        self.inbox.clear()
        self.outbox.clear()
        self.greeting = True

    def greet(self) -> list[e.Rare]:
        self.greeting = False
        running = tuple(
            (x.id, x.current.token if x.current else 0) for x in self.executors.values()
        )
        deaths, self.deaths = self.deaths, []
        came = e.EngineCame(self.id, self.pid, "host", self.groups, self.slots, "3.11", running)
        return [came, *deaths]

    def beat(self, now: float) -> e.EngineBeat:
        running = [(x.id, x.current.token, now) for x in self.executors.values() if x.current]
        return e.EngineBeat(self.id, running, [])

    def obey(self, rng: Random, now: float) -> None:
        """Carry out the orders that have come."""
        orders, self.inbox = self.inbox, []
        for order in orders:
            match order:
                case e.KillOrder():
                    self._kill(order, rng, now)
                case e.RevokeOrder():
                    x = self.executors.get(order.executor)
                    if x is not None:
                        x.watermark = max(x.watermark, order.watermark)
                        answer = e.RevokeAnswered(x.id, x.watermark, x.begun)
                        self.outbox.append(answer)
                case e.SlotsOrder():
                    self.slots = order.slots
                case e.RestartOrder():
                    for x in list(self.executors.values()):
                        self.bury(x, expected=True)
                case e.LeaveOrder():
                    self.left = True

    def _kill(self, order: e.KillOrder, rng: Random, now: float) -> None:
        x = self.executors.get(order.executor)
        if x is None or x.current is None or x.current.token != order.token:
            return
        if rng.random() < 0.7:
            x.end(rng, now, Verdict.INTERRUPTED)
        else:
            self.bury(x, expected=True)
