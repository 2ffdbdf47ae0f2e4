"""Decides which executor gets which task.

An executor that has nothing gets a task at once: the one on the engine with the lowest score,
among equals the least recently used. Only when all are busy are they given work ahead, measured
in time: a few milliseconds by what the function took so far, one task where nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nbcluster.core import records as r
from nbcluster.core.engines import started
from nbcluster.core.events import Step
from nbcluster.core.finishing import decide_pins, tell_moved
from nbcluster.core.memo import Memo
from nbcluster.core.model import EngineState, Executor, Run, State, Task
from nbcluster.core.queues import TaskQueue
from nbcluster.core.state import ClusterState
from nbcluster.core.timing import MOMENT_S, watch
from nbcluster.ids import EPOCH_SHIFT, engine_of

#: Work an executor may hold ahead, in seconds of it.
AHEAD_S: Final = 0.008
#: Functions slower than this gain nothing from being sent ahead.
NOT_AHEAD_S: Final = 0.05
#: Arguments above this are not sent ahead by the dozen.
HEAVY_BYTES: Final = 64 << 10
#: Tasks an executor may hold, however short they are: bounds what a crash sends back.
MAX_HELD: Final = 768


def decide_dispatch(state: ClusterState, memo: Memo, now: float, step: Step) -> Iterator[r.Record]:
    """Give every executor that can take some what it should have."""
    for pin, queue in tuple(state.pins.items()):
        if queue:
            bound = [x for x in _usable(state) if pin in (x.engine, x.id)]
            if bound:
                yield from _serve(state, memo, queue, bound, now, step)
            elif _is_gone(state, memo, pin):
                yield from decide_pins(state, memo, pin, now, step)
    for group, queue in state.queues.items():
        if queue:
            able = [x for x in _usable(state) if group in state.engines[x.engine].groups]
            if able:
                yield from _serve(state, memo, queue, able, now, step)


def _usable(state: ClusterState) -> list[Executor]:
    usable: list[Executor] = []
    for engine in state.engines.values():
        if engine.state is EngineState.ACTIVE and engine.slots:
            ready = [x for x in engine.executors.values() if x.ready]
            if len(ready) > engine.slots:  # those too many end when they have nothing left
                ready.sort(key=lambda x: not x.leases)
                del ready[engine.slots :]
            usable += ready
    return usable


def _is_gone(state: ClusterState, memo: Memo, pin: str) -> bool:
    """Return whether an engine or executor is not there and cannot come back."""
    engine = state.engines.get(engine_of(pin))
    if engine is None:
        return True
    # After a restart an executor may be yet to come: its engine will name it.
    return pin != engine.id and pin not in engine.executors and engine.id in memo.present


def _serve(
    state: ClusterState,
    memo: Memo,
    queue: TaskQueue,
    able: list[Executor],
    now: float,
    step: Step,
) -> Iterator[r.Record]:
    engines = state.engines
    idle = [x for x in able if not x.leases]
    while idle and queue:
        task = queue.pop(now)
        if task is None:
            return
        executor = min(idle, key=lambda x: (engines[x.engine].load, engines[x.engine].used, x.used))
        if task.retries and len(idle) > 1:
            executor = _other_engine(idle, executor, task)
        idle.remove(executor)
        executor.touched_at = now
        yield _lease(state, memo, executor, task)
        if task.template.options.at_most_once:
            yield from _begin_claimed(memo, task, now, step)
        _send(executor, task, step)
    if queue:
        yield from _send_ahead(state, memo, queue, able, now, step)


def _other_engine(idle: list[Executor], first: Executor, task: Task) -> Executor:
    """Prefer an engine on which this task has not just failed."""
    last = task.executor.partition("/")[0]
    if first.engine != last:
        return first
    return next((x for x in idle if x.engine != last), first)


def _send_ahead(
    state: ClusterState,
    memo: Memo,
    queue: TaskQueue,
    able: list[Executor],
    now: float,
    step: Step,
) -> Iterator[r.Record]:
    share = -(-len(queue) // len(able))  # no executor takes what another could start
    for executor in sorted(able, key=lambda x: x.cost_s):
        if executor.stalled:
            continue
        given = 0
        while given < share and len(executor.leases) < MAX_HELD:
            task = queue.peek(now)
            if task is None:
                return
            pace = memo.pace_s.get(task.template.fn)
            if not _has_room(executor, task, pace) or task.template.options.at_most_once:
                break
            queue.take(task)
            given += 1
            executor.cost_s += AHEAD_S if pace is None else pace
            yield _lease(state, memo, executor, task)
            _send(executor, task, step)
        if given and not executor.watched:
            executor.watched = True
            watch(memo, executor.id, max(executor.touched_at, now) + MOMENT_S)


def _has_room(executor: Executor, task: Task, pace: float | None) -> bool:
    if len(task.payload) > HEAVY_BYTES:  # to send many would take longer than to run one
        return len(executor.leases) < 2
    if pace is None or pace > AHEAD_S:
        # At most one ahead, and none of a function that is known to take long.
        return len(executor.leases) < 2 and (pace is None or pace < NOT_AHEAD_S)
    return executor.cost_s + pace <= AHEAD_S


def _lease(state: ClusterState, memo: Memo, executor: Executor, task: Task) -> r.Leased:
    """Return the record of a lease under a new token."""
    state.dispatched += 1
    memo.used += 1
    executor.used = state.engines[executor.engine].used = memo.used
    return r.Leased(task.id, state.epoch << EPOCH_SHIFT | state.dispatched, executor.id)


def _begin_claimed(memo: Memo, task: Task, now: float, step: Step) -> Iterator[r.Record]:
    """Begin an at-most-once task, on record before user code runs: to be sent is to begin."""
    yield r.Started(task.id, task.token, now)
    started(memo, task, now)
    tell_moved(memo, task, step)


def _send(executor: Executor, task: Task, step: Step) -> None:
    """Put the attempt of a task that was leased into the executor's message."""
    template = task.template
    options = template.options
    run = Run(
        task.id,
        task.token,
        task.attempts + (task.state is State.PENDING),
        template.fn,
        task.payload,
        task.blobs,
        options.retry_on,
        task.name,
        options.timeout,
    )
    runs = step.runs.get(executor.id)
    if runs is None:
        step.runs[executor.id] = [run]
    else:
        runs.append(run)
