"""A whole cluster in one thread: the real core; network, clock, disk and deaths moved by chance.

A turn of the master can be lost before its commit (the batch is gone, as if it never came) or
after it (nothing is sent). Peers keep what is not acknowledged and send it again.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

import msgspec

from nbcluster.core import events as e
from nbcluster.core import records as r
from nbcluster.core.machine import Machine
from nbcluster.core.memo import Limits
from nbcluster.core.model import TERMINAL, Run, Verdict
from nbcluster.core.restoring import refill_queues
from tests.simulation.checks import check_state
from tests.simulation.nodes import SimEngine, SimExecutor
from tests.unit.core.story import CLIENT, Journal, compare, replayed, submission

GROUPS: Final = ("default", "gpu")
_encode: Final = msgspec.msgpack.encode


class World:
    """One cluster and its misfortunes, all drawn from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now = 1_000.0
        self.limits = Limits(retention_s=self.rng.choice([40.0, 1e6]), drain_s=5.0)
        self.journal: Journal = []
        self.machine = Machine(self.limits)
        self.commit(self.machine.begin(1, self.now))
        self.engines: dict[str, SimEngine] = {}
        self.pids = 0
        self.wishes: dict[str, dict[str, Any]] = {}  #: submissions, until they are acknowledged
        self.asks: list[e.Rare] = []
        self.mine: dict[str, str] = {}  #: task -> its end as the client was told, or nothing yet
        self.ends: dict[str, tuple[str, float]] = {}
        self.began: dict[str, list[tuple[int, int]]] = {}  #: task -> attempt and token
        self.given_back: set[int] = set()  #: tokens of what, to the master, never began
        self.once: set[str] = set()  #: tasks that may run at most once
        self.turns = 0
        self.awake_at = self.now  #: since when there were turns whenever one was due
        for _ in range(self.rng.choice([1, 2, 3])):
            self.add_engine()

    # ------------------------------------------------------------------ the master

    def commit(self, records: list[r.Record]) -> None:
        if records:
            self.journal.append((_encode(records), self.now))

    def turn(self, crash: str = "") -> None:
        """Have the master take what has come; ``crash``: it dies ``before`` or ``after`` commit."""
        batch, taken = self._collect()
        step = self.machine.handle(batch, self.now)
        self.turns += 1
        if crash == "before":
            self.restart()
            return
        self.commit(step.records)
        self._note(step.records)
        if crash:
            self.restart()
            return
        for executor, outcomes in taken:
            if self.rng.random() < 0.8:  # else the acknowledgement is late
                executor.unacked = [o for o in executor.unacked if o not in outcomes]
        self._deliver(step)
        self._check()

    def restart(self) -> None:
        epoch = self.machine.state.epoch + 1
        self.machine = replayed(self.journal, self.limits)
        self.commit(self.machine.begin(epoch, self.now))
        for engine in self.engines.values():
            engine.regreet()
            for executor in engine.executors.values():
                executor.regreet()
        self.asks = [e.WatchAsked(CLIENT, [n for n, end in self.mine.items() if not end])]
        self._check()

    def _collect(self) -> tuple[e.Batch, list[tuple[SimExecutor, list[Any]]]]:
        rng, batch = self.rng, e.Batch()
        taken: list[tuple[SimExecutor, list[Any]]] = []
        for name, wish in list(self.wishes.items()):
            if rng.random() < 0.9:
                batch.submissions.append(submission(name, **wish))
        if rng.random() < 0.9:
            batch.rare, self.asks = [*self.asks], []
        for engine in rng.sample(list(self.engines.values()), len(self.engines)):
            if rng.random() < 0.8 and not engine.silent:
                batch.rare += engine.greet() if engine.greeting else ()
                batch.rare += engine.outbox
                engine.outbox = []
            for executor in engine.executors.values():
                if rng.random() < 0.8:
                    outcomes = self._hear(executor, batch)
                    taken += [(executor, outcomes)] if outcomes else []
        return batch, taken

    def _hear(self, executor: SimExecutor, batch: e.Batch) -> list[Any]:
        if executor.greeting:
            if executor.current is None:  # who runs user code cannot greet
                batch.rare.append(e.ExecutorCame(executor.id, 7, executor.holds()))
                executor.greeting, executor.welcomed = False, True
                executor.unsent = list(executor.unacked)
            return []
        if executor.setup is not None:
            batch.rare.append(e.SetupAnswered(executor.id, executor.setup, ""))
            executor.setup = None
        outcomes, executor.unsent = executor.unsent, []
        if outcomes:
            batch.outcomes.append((executor.id, outcomes))
        return outcomes

    def _deliver(self, step: e.Step) -> None:
        for name, runs in step.runs.items():
            executor = self.executor(name)
            if executor is not None and executor.welcomed:
                executor.inbox += msgspec.msgpack.decode(_encode(runs), type=list[Run])
        for name in step.setup_executors:
            executor = self.executor(name)
            if executor is not None and executor.welcomed:
                executor.setup = self.machine.state.setups[-1].version
        for order in step.orders:
            engine = self.engines.get(order.engine)
            if engine is not None and not engine.greeting:
                engine.inbox.append(order)
        self._tell(step.news.get(CLIENT, e.News()))

    def _tell(self, news: e.News) -> None:
        for ended in news.ended:
            known = self.mine.get(ended.task)
            assert not known or known == ended.state, "a future was resolved in two ways"
            self.mine[ended.task] = ended.state
        elsewhere = [name for name, _ in news.aliases] + [name for name, _, _ in news.refused]
        for name in elsewhere:
            self.mine[name] = self.mine.get(name) or "elsewhere"
        for name in list(self.wishes):
            if name in self.machine.state.tasks or self.mine.get(name):
                del self.wishes[name]

    def _note(self, records: list[r.Record]) -> None:
        for record in records:
            if isinstance(record, r.Released) and not record.started_at:
                self.given_back.add(record.token)
            elif isinstance(record, r.Redriven):
                self.mine[record.successor] = ""
                if record.task in self.once:
                    self.once.add(record.successor)
            elif isinstance(record, r.EngineGone) and record.why.startswith("silent"):
                listened_s = self.now - self.awake_at
                assert listened_s >= self.limits.lost_s, "blamed for an absence of the master"

    # ------------------------------------------------------------------ promises

    def _check(self) -> None:
        state = self.machine.state
        check_state(state)
        for name, task in state.tasks.items():
            if task.state in TERMINAL:
                end = (str(task.state), task.finished_at)
                assert self.ends.setdefault(name, end) == end, "it ended twice"
            else:
                assert name not in self.ends, "it ended and came back"
            if name not in self.once:
                begun = len({token for _, token in self.began.get(name, [])})
                assert task.attempts <= begun, "charged for an attempt that never began"
            options = task.template.options
            assert task.crashes <= options.max_crashes
            assert task.retries <= options.retries
        if self.turns % 10 == 0:
            self.check_replay()

    def check_replay(self) -> None:
        again = replayed(self.journal, self.limits).state
        refill_queues(again)
        compare(self.machine.state, again, self.now)

    def begin(self, executor: SimExecutor) -> None:
        run = executor.start()
        if run is None:
            return
        if self.rng.random() < 0.03:  # no user code ran
            executor.end(self.rng, self.now, Verdict.UNKNOWN_FUNCTION)
            return
        tries = self.began.setdefault(run.task, [])
        others = {token for number, token in tries if number == run.attempt}
        assert others <= self.given_back, "two attempts have one number"
        assert not (tries and run.task in self.once), "ran twice, and was to run at most once"
        tries.append((run.attempt, run.token))

    # ------------------------------------------------------------------ nodes

    def add_engine(self, groups: tuple[str, ...] = (), slots: int = 0) -> SimEngine:
        self.pids += 1
        groups = groups or self.rng.choice([GROUPS, GROUPS[:1], GROUPS[1:]])
        slots = slots or self.rng.choice([1, 1, 2, 3])
        engine = SimEngine(f"e{self.pids}", self.pids, groups, slots)
        engine.fill()
        self.engines[engine.id] = engine
        return engine

    def executor(self, name: str) -> SimExecutor | None:
        engine = self.engines.get(name.partition("/")[0])
        return engine.executors.get(name) if engine else None

    def executors(self) -> list[SimExecutor]:
        return [x for engine in self.engines.values() for x in engine.executors.values()]

    def tend(self) -> None:
        """Let engines obey, refill their slots, and come back if they were given up."""
        for engine in list(self.engines.values()):
            if engine.silent:
                continue
            engine.obey(self.rng, self.now)
            if engine.left:
                del self.engines[engine.id]
                self.asks.append(e.EngineLeft(engine.id))
                continue
            engine.fill()
            if not (engine.id in self.machine.state.engines or engine.greeting):
                engine.regreet()
                for executor in engine.executors.values():
                    executor.regreet()
            if not engine.greeting:
                engine.outbox.append(engine.beat(self.now))

    def advance(self, seconds: float) -> None:
        """Let time pass; a turn is made whenever the core wants one."""
        until = self.now + seconds
        for _ in range(50):
            due = self.machine.due(self.now)
            if due is None or due >= until:
                break
            self.now = max(self.now, due)
            self.tend()
            self.turn()
        self.now = until

    # ------------------------------------------------------------------ liveness

    def heal(self) -> None:
        """Stop all faults and have everything end."""
        for engine in self.engines.values():
            engine.silent = False
        self.turn()
        self.add_engine(GROUPS, 2)
        for name in list(self.machine.state.engines):
            self.asks.append(e.SlotsAsked(name, 2))
        for _ in range(400):
            self.tend()
            self.turn()
            for executor in self.executors():
                executor.receive()
                for _ in range(5):
                    if executor.current is not None:
                        executor.end(self.rng, self.now, Verdict.VALUE)
                    self.begin(executor)
            self.advance(0.5)
            if not self.unfinished():
                break
        assert not self.unfinished(), self.unfinished()
        self.check_replay()

    def unfinished(self) -> list[str]:
        """Name all that has not come to rest."""
        state = self.machine.state
        open_tasks = [f"{t.id} {t.state}" for t in state.tasks.values() if t.state not in TERMINAL]
        untold = [n for n, end in self.mine.items() if not end and n in state.tasks]
        held = [f"lease on {x.id}" for x in state.executors.values() if x.leases]
        memo = [f"timed out {name}" for name in self.machine.memo.timed_out.values()]
        return [*open_tasks, *untold, *held, *memo, *self.wishes]
