"""A cluster told as a story: each line is a turn, and what it wrote is kept for a replay."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final

import msgspec

from nbcluster.core import events as e
from nbcluster.core import records as r
from nbcluster.core.machine import Machine
from nbcluster.core.memo import Limits
from nbcluster.core.model import (
    TERMINAL,
    Definition,
    Ended,
    ErrorInfo,
    NewTask,
    Outcome,
    Run,
    State,
    Task,
    Template,
    Verdict,
)
from nbcluster.core.queues import TaskQueue
from nbcluster.core.restoring import refill_queues
from nbcluster.core.state import ClusterState
from nbcluster.options import Backoff, TaskOptions

CLIENT: Final = "c1"
START: Final = 1_000.0
_encode: Final = msgspec.msgpack.encode
_decode: Final = msgspec.msgpack.Decoder(list[r.Record]).decode

Journal = list[tuple[bytes, float]]


class Story:
    """One master and all that happens to it; `now` is moved by hand."""

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.machine = Machine(self.limits)
        self.now = START
        self.journal: Journal = []
        self.write(self.machine.begin(1, self.now))

    # ------------------------------------------------------------------ turns

    @property
    def state(self) -> ClusterState:
        return self.machine.state

    def write(self, records: list[r.Record]) -> None:
        if records:
            self.journal.append((_encode(records), self.now))

    def handle(self, batch: e.Batch) -> e.Step:
        step = self.machine.handle(batch, self.now)
        self.write(step.records)
        return step

    def tell(self, *events: e.Rare) -> e.Step:
        return self.handle(e.Batch(rare=list(events)))

    def later(self, seconds: float, *, silent: bool = False) -> e.Step:
        """Let time pass, with a turn whenever one is due; ``silent``: no engine beats."""
        until = self.now + seconds
        total = e.Step()
        while True:
            due = self.machine.due(self.now)
            self.now = until if due is None or due > until else max(due, self.now)
            beats = () if silent else tuple(self.state.engines)
            step = self.tell(*(e.EngineBeat(name, [], []) for name in beats))
            total.records += step.records
            total.orders += step.orders
            for executor, runs in step.runs.items():
                total.runs.setdefault(executor, []).extend(runs)
            for client, news in step.news.items():
                total.news_for(client).ended.extend(news.ended)
                total.news_for(client).moved.extend(news.moved)
            total.garbage += step.garbage
            after = self.machine.due(self.now)
            if self.now >= until and (after is None or after > until):
                return total

    def sleep(self, seconds: float) -> e.Step:
        """Have the whole machine sleep, or its clock set forward."""
        self.now += seconds
        step = self.machine.handle(e.Batch(), self.now, seconds)
        self.write(step.records)
        return step

    # ------------------------------------------------------------------ clients

    def submit(self, *names: str, client: str = CLIENT, **more: Any) -> e.Step:
        """Submit tasks; options of the task and fields of `NewTask` by name."""
        return self.handle(e.Batch(submissions=[submission(*names, client=client, **more)]))

    def cancel(self, *names: str) -> e.Step:
        return self.tell(e.CancelAsked(list(names)))

    def redrive(self, *names: str) -> dict[str, str]:
        asked = e.RedriveAsked(list(names), CLIENT)
        self.tell(asked)
        return asked.successors

    # ------------------------------------------------------------------ engines

    def engine(self, name: str = "e", executors: int = 1, **more: Any) -> e.Step:
        """Have an engine come, with executors that are ready."""
        ids = [f"{name}/{slot}.1" for slot in range(executors)]
        return self.tell(
            came(name, slots=executors, **more), *(e.ExecutorCame(x, 7, ()) for x in ids)
        )

    def finish(self, *runs: Run, executor: str = "e/0.1", **more: Any) -> e.Step:
        outcomes = [outcome(run, self.now, **more) for run in runs]
        return self.handle(e.Batch(outcomes=[(executor, outcomes)]))

    def fail(self, run: Run, executor: str = "e/0.1", **more: Any) -> e.Step:
        more.setdefault("verdict", Verdict.EXCEPTION)
        more.setdefault("retryable", True)
        return self.finish(
            run, executor=executor, error=ErrorInfo("ValueError", "no", "Traceback"), **more
        )

    def die(self, executor: str = "e/0.1", token: int = 0, *, expected: bool = False) -> e.Step:
        return self.tell(
            e.ExecutorEnded(executor, token, "SIGSEGV", 1 << 20, b"out", b"tail", expected)
        )

    def beat(self, *running: tuple[str, Run], engine: str = "e") -> e.Step:
        seen = [(executor, run.token, self.now) for executor, run in running]
        return self.tell(e.EngineBeat(engine, seen, []))

    def restart(self) -> None:
        """Kill the master and start the next from the journal."""
        epoch = self.state.epoch + 1
        self.machine = replayed(self.journal, self.limits)
        self.write(self.machine.begin(epoch, self.now))

    # ------------------------------------------------------------------ looking

    def task(self, name: str) -> Task:
        return self.state.tasks[name]

    def seen(self, name: str) -> str:
        return str(self.task(name).state)

    def waiting(self, group: str = "default") -> list[str]:
        queue = self.state.queues.get(group)
        return order_of(queue, self.now) if queue is not None else []

    def check_replay(self) -> None:
        """Compare what is in memory with what the journal makes."""
        other = replayed(self.journal, self.limits)
        refill_queues(other.state)
        compare(self.state, other.state, self.now)


# --------------------------------------------------------------------------- what is told


def came(name: str = "e", **more: Any) -> e.EngineCame:
    more = {"groups": ("default",), "slots": 1, "pid": 1, **more}
    return e.EngineCame(
        name, more["pid"], "host", more["groups"], more["slots"], "3.11", more.get("running", ())
    )


def submission(*names: str, client: str = CLIENT, **more: Any) -> e.Submission:
    fields = {k: more.pop(k) for k in ("key", "after", "blobs", "name", "digest") if k in more}
    payload = more.pop("payload", b"args")
    fn = more.pop("fn", "f")
    more.setdefault("backoff", Backoff(1.0))
    tasks = [NewTask(name, 0, payload, **fields) for name in names]
    definitions = [Definition(fn, f"module.{fn}", b"code")]
    return e.Submission(client, definitions, [Template(fn, TaskOptions(**more))], tasks)


def outcome(run: Run, now: float, **more: Any) -> Outcome:
    duration_s = more.pop("duration_s", 0.001)
    verdict = int(more.pop("verdict", Verdict.VALUE))
    payload = more.pop("payload", b"value")
    return Outcome(run.task, run.token, verdict, now - duration_s, duration_s, payload, **more)


def only(step: e.Step, executor: str | None = None) -> Run:
    """Return the one run that was sent."""
    runs = [run for name, sent in step.runs.items() for run in sent if executor in (None, name)]
    assert len(runs) == 1, runs
    return runs[0]


def names(runs: Iterable[Run]) -> list[str]:
    return [run.task for run in runs]


def told(step: e.Step, client: str = CLIENT) -> list[Ended]:
    news = step.news.get(client)
    return news.ended if news is not None else []


def refused(step: e.Step) -> list[str]:
    news = step.news.get(CLIENT)
    return [code for _, code, _ in news.refused] if news is not None else []


def orders(step: e.Step, kind: type) -> list[Any]:
    return [order for order in step.orders if isinstance(order, kind)]


# --------------------------------------------------------------------------- replay


def replayed(journal: Journal, limits: Limits) -> Machine:
    machine = Machine(limits)
    for data, at in journal:
        machine.replay((record, at) for record in _decode(data))
    machine.state.replaying = True
    return machine


def order_of(queue: TaskQueue, now: float) -> list[str]:
    """Return the tasks of a queue, those of each priority in their order."""
    lanes = sorted(queue._lanes.items(), key=lambda lane: -lane[0])
    return [t.id for _, lane in lanes for t in lane if t.state is State.PENDING]


def leases(state: ClusterState) -> set[tuple[str, int, str]]:
    return {
        (x.id, token, task.id)
        for x in state.executors.values()
        for token, task in x.leases.items()
        if task.state not in TERMINAL
    }


def _dependents(state: ClusterState) -> dict[str, list[str]]:
    def waits(name: str, on: str) -> bool:
        task = state.tasks.get(name)
        return task is not None and task.state is State.PENDING and on in task.after

    found = {d: [n for n in ns if waits(n, d)] for d, ns in state.dependents.items()}
    return {d: ns for d, ns in found.items() if ns}


def _by_instant(state: ClusterState, queue: TaskQueue, now: float) -> list[tuple[float, str]]:
    """Return the order of a queue; what came to wait in one turn has no order among itself."""
    order = [(state.tasks[name].queued_at, name) for name in order_of(queue, now)]
    lanes = [list(lane) for _, lane in groupby(order, key=lambda pair: pair[0])]
    return [pair for lane in lanes for pair in sorted(lane)]


def compare(memory: ClusterState, rebuilt: ClusterState, now: float) -> None:
    assert list(rebuilt.tasks) == list(memory.tasks)
    for name, task in memory.tasks.items():
        assert rebuilt.tasks[name] == task
    assert rebuilt.counts == memory.counts
    assert rebuilt.keys == memory.keys
    assert list(rebuilt.dead_letters) == list(memory.dead_letters)
    assert rebuilt.ended_bytes == memory.ended_bytes
    assert sorted(rebuilt.ended) == sorted(memory.ended)
    assert _dependents(rebuilt) == _dependents(memory)
    assert leases(rebuilt) == leases(memory)
    assert (rebuilt.epoch, rebuilt.submitted) == (memory.epoch, memory.submitted)
    assert rebuilt.definitions == memory.definitions
    assert rebuilt.templates == memory.templates
    assert rebuilt.setups == memory.setups
    assert rebuilt.groups == memory.groups
    for left, right in ((memory.queues, rebuilt.queues), (memory.pins, rebuilt.pins)):
        for name in left.keys() | right.keys():
            mine, other = left.get(name, TaskQueue()), right.get(name, TaskQueue())
            assert len(mine) == len(other), name
            assert _by_instant(memory, mine, now) == _by_instant(rebuilt, other, now), name
    kept = {(x.id, x.pid, x.groups, x.slots, x.state) for x in memory.engines.values()}
    again = {(x.id, x.pid, x.groups, x.slots, x.state) for x in rebuilt.engines.values()}
    assert kept == again
