"""Decides what a passed time means: wake, stop, expire, suspect, give up, forget."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from nbcluster.core import records as r
from nbcluster.core.engines import decide_absent, decide_drain_over, decide_engine_end, revoke
from nbcluster.core.events import EngineDied, KillOrder, Step
from nbcluster.core.finishing import settle, tell_moved
from nbcluster.core.memo import Memo, Timer
from nbcluster.core.model import (
    TERMINAL,
    Cause,
    Definition,
    EngineState,
    State,
    Template,
)
from nbcluster.core.retention import decide_forgotten
from nbcluster.core.state import ClusterState
from nbcluster.core.submitting import no_attempt_failure
from nbcluster.errors import TaskExpiredError

#: An executor that is busy for longer than this does not keep others' tasks waiting.
MOMENT_S = 0.02
#: A turn this much later than it was due was kept from coming. Below what lies between the two
#: silences of `Limits`, less the seconds between two beats.
AWAY_S = 2.0
#: What is timed by these is work; the rest is due by the calendar.
_OF_WORK = frozenset({Timer.TIMEOUT, Timer.DRAIN, Timer.ABSENT})
#: A function that was named in a submission this lately stays known, with tasks or without:
#: clients trust for a minute that it is.
FORGET_FN_S = 120.0
#: Bytes of definitions at which those that are not needed are looked for.
SWEEP_BYTES = 64 << 20
#: Seconds until the next such look; twice as many each time that nothing was found, to the limit.
SWEEP_S = 10.0
_SWEEP_LIMIT_S = 320.0


def excuse(state: ClusterState, memo: Memo, now: float, leapt_s: float) -> None:
    """Blame no engine for a silence in which the master itself was away.

    A turn that comes long after it was due tells it: the master was stopped. If the whole machine
    was asleep, or the clock was set, by ``leapt_s``, attempts have not run for so long either.
    """
    due = memo.due()
    if leapt_s:
        memo.put_off(_OF_WORK, leapt_s)
    if leapt_s or (due is not None and now - due > AWAY_S):
        for engine in state.engines.values():
            engine.seen_at = now


def decide_timers(state: ClusterState, memo: Memo, now: float, step: Step) -> Iterator[r.Record]:
    """Look at everything whose time has come."""
    timers = memo.timers
    while timers and timers[0][0] <= now:
        _, _, kind, name, token = heapq.heappop(timers)
        match kind:
            case Timer.WAKE:
                yield from _wake(state, memo, name, now, step)
            case Timer.TIMEOUT:
                _time_out(state, memo, name, token, step)
            case Timer.EXPIRE:
                yield from _expire(state, memo, name, now, step)
            case Timer.STALL:
                _look_for_stall(state, memo, name, now, step)
            case Timer.ENGINES:
                yield from _look_at_engines(state, memo, now, step)
            case Timer.DRAIN:
                yield from decide_drain_over(state, memo, name, now, step)
            case Timer.ABSENT:
                yield from decide_absent(state, memo, name, now, step)
            case Timer.RETENTION:
                pass  # looked at in every turn; the timer only makes one happen
    _purge(state, memo)
    yield from decide_forgotten(state, memo, now, step)
    yield from _sweep(state, memo, now)


def _purge(state: ClusterState, memo: Memo) -> None:
    """Drop the timers of tasks that have ended, which may be due in days."""
    if len(memo.timers) <= memo.purge_at:
        return
    tasks, of_tasks = state.tasks, (Timer.WAKE, Timer.TIMEOUT, Timer.EXPIRE)

    def is_open(name: str) -> bool:
        return name in tasks and tasks[name].state not in TERMINAL

    memo.timers[:] = [t for t in memo.timers if t[2] not in of_tasks or is_open(t[3])]
    heapq.heapify(memo.timers)
    memo.purge_at = max(10_000, 2 * len(memo.timers))


def _wake(state: ClusterState, memo: Memo, name: str, now: float, step: Step) -> Iterator[r.Record]:
    task = state.tasks.get(name)
    if task is not None and task.state is State.RETRYING and task.due <= now:
        yield r.Woken(name)
        tell_moved(memo, task, step)


def _time_out(state: ClusterState, memo: Memo, name: str, token: int, step: Step) -> None:
    task = state.tasks.get(name)
    if task is None or task.token != token or task.state is not State.RUNNING:
        return
    executor = state.executors.get(task.executor)
    if executor is not None:
        # The attempt ends when its executor says so: until then the slot is not free.
        memo.timed_out[token] = name
        step.orders.append(KillOrder(executor.engine, executor.id, token, "timeout"))


def _expire(
    state: ClusterState, memo: Memo, name: str, now: float, step: Step
) -> Iterator[r.Record]:
    task = state.tasks.get(name)
    if task is None or task.state is not State.PENDING or task.attempts or task.crashes:
        return
    if task.token:  # with an executor: it begins in a moment, or it comes back
        memo.at(now + 10 * MOMENT_S, Timer.EXPIRE, name)
        return
    message = f"was not started within {task.template.options.expires:g} s (expires=)."
    yield no_attempt_failure(task, Cause.EXPIRED, TaskExpiredError(name, message))
    yield from settle(state, memo, task, now, step)


def _look_for_stall(state: ClusterState, memo: Memo, name: str, now: float, step: Step) -> None:
    executor = state.executors.get(name)
    if executor is None:
        return
    executor.watched = False
    if len(executor.leases) < 2 or executor.stalled:
        return
    if now - executor.touched_at < MOMENT_S:
        # Never at a time that has come already, or rounding could keep this turn from ending.
        watch(memo, executor.id, max(executor.touched_at + MOMENT_S, now + MOMENT_S / 10))
        executor.watched = True
    else:
        revoke(executor, step)


def watch(memo: Memo, executor: str, due: float) -> None:
    """Look at ``due`` whether this executor keeps tasks waiting behind a long one."""
    memo.at(due, Timer.STALL, executor)


def _look_at_engines(state: ClusterState, memo: Memo, now: float, step: Step) -> Iterator[r.Record]:
    """Suspect engines that are silent, give up those that are so for too long."""
    limits = memo.limits
    for engine in list(state.engines.values()):
        silent_s = now - engine.seen_at
        if silent_s >= limits.lost_s:
            why = f"silent for {silent_s:.0f} s"
            yield from decide_engine_end(state, memo, EngineDied(engine.id, why, {}), now, step)
        elif silent_s >= limits.suspect_s and engine.state is EngineState.ACTIVE:
            yield r.EngineChanged(engine.id, EngineState.SUSPECT, engine.slots)
    if state.engines:
        due = min(
            e.seen_at + (limits.suspect_s if e.state is EngineState.ACTIVE else limits.lost_s)
            for e in state.engines.values()
        )
        # Not later than the next suspicion, or an absence of the master could go unnoticed.
        memo.at(min(max(due, now + 0.5), now + limits.suspect_s), Timer.ENGINES)


def _sweep(state: ClusterState, memo: Memo, now: float) -> Iterator[r.Record]:
    """Drop options that no retained task has, and functions that none will run again.

    A task that succeeded needs no more of its function than the name. A client sends a definition
    again when it has not done so for a minute, so what was named lately is kept for those that
    trust it to be here.
    """
    is_much = memo.sweep_bytes > SWEEP_BYTES and now >= memo.sweep_after
    if not is_much and len(state.templates) <= memo.sweep_at:
        return
    used = {id(task.template): task.template for task in state.tasks.values()}
    active = {
        id(task.template): task.template
        for task in state.tasks.values()
        if task.state is not State.SUCCEEDED
    }
    late = {t.fn for t in state.templates.values() if _was_named(memo, t.fn, now)}
    templates = [n for n, t in state.templates.items() if id(t) not in used and t.fn not in late]
    going = set(templates)
    named = _functions(t for number, t in state.templates.items() if number not in going)
    lasting = {setup.fn for setup in state.setups}
    named |= lasting
    spared = _functions(t for t in state.templates.values() if t.fn in late)
    needed = _functions(active.values()) | lasting
    spent = [
        known
        for known in state.definitions.values()
        if known.blob and known.hash not in needed and known.hash not in spared
    ]
    for known in spent:  # the name stays, for the tables
        yield r.Defined(Definition(known.hash, known.name, b""))
    gone = tuple(fn for fn in state.definitions if fn not in named)
    if templates or gone:
        yield r.Dropped(gone, tuple(templates))
    for fn in gone:
        memo.named_at.pop(fn, None)
        memo.pace_s.pop(fn, None)
    memo.sweep_at = max(1_000, 2 * len(state.templates))
    memo.sweep_bytes = sum(len(known.blob) for known in state.definitions.values())
    memo.sweep_bytes -= sum(len(state.definitions[fn].blob) for fn in lasting)
    memo.sweep_wait_s = (
        SWEEP_S if spent else min(max(2 * memo.sweep_wait_s, SWEEP_S), _SWEEP_LIMIT_S)
    )
    memo.sweep_after = now + memo.sweep_wait_s
    if memo.sweep_bytes > SWEEP_BYTES:
        memo.at(memo.sweep_after, Timer.RETENTION)


def _was_named(memo: Memo, fn: str, now: float) -> bool:
    return now - memo.named_at.get(fn, memo.begun_at) <= FORGET_FN_S


def _functions(templates: Iterable[Template]) -> set[str]:
    return {fn for t in templates for fn in (t.fn, t.options.retry_on) if fn}
