"""Decides over the lives of engines and executors."""

from __future__ import annotations

from collections.abc import Iterator

from nbcluster.calls import INITIALIZER, PATH
from nbcluster.core import records as r
from nbcluster.core.events import (
    DrainAsked,
    EngineBeat,
    EngineCame,
    EngineDied,
    EngineLeft,
    ExecutorCame,
    ExecutorEnded,
    KillOrder,
    LeaveOrder,
    RestartAsked,
    RestartOrder,
    RevokeAnswered,
    RevokeOrder,
    ScaleAsked,
    SetupAnswered,
    SetupAsked,
    SlotsAsked,
    SlotsOrder,
    Step,
)
from nbcluster.core.finishing import (
    SETUP_DEATHS,
    decide_broken,
    decide_executor_end,
    decide_lost,
    decide_pins,
    give_back,
    tell_moved,
)
from nbcluster.core.memo import Memo, Timer
from nbcluster.core.model import (
    TERMINAL,
    Engine,
    EngineState,
    Executor,
    State,
    Task,
)
from nbcluster.core.state import ClusterState

#: Seconds in which an engine that came back tells how its executors ended.
ABSENT_S = 1.0


def decide_engine_came(
    state: ClusterState, memo: Memo, event: EngineCame, now: float, step: Step
) -> Iterator[r.Record]:
    """An engine registers, or comes back after the master was away."""
    known = state.engines.get(event.engine)
    same_process = known is not None and known.pid == event.pid
    if known is not None and not same_process:
        yield from decide_engine_end(
            state, memo, EngineDied(event.engine, "replaced by another process", {}), now, step
        )
    slots = known.slots if known is not None and same_process else event.slots
    yield r.EngineUp(event.engine, event.pid, event.host, event.groups, slots, event.python)
    engine = state.engines[event.engine]
    memo.present.add(engine.id)
    if slots != event.slots:  # the order was lost with the connection
        step.orders.append(SlotsOrder(engine.id, slots))
    if not memo.timers or all(kind is not Timer.ENGINES for _, _, kind, _, _ in memo.timers):
        memo.at(now + memo.limits.suspect_s, Timer.ENGINES)
    yield from _decide_seen_running(state, memo, engine, event.running, now, step)


def _decide_seen_running(
    state: ClusterState,
    memo: Memo,
    engine: Engine,
    running: tuple[tuple[str, int], ...],
    now: float,
    step: Step,
) -> Iterator[r.Record]:
    """Adopt what the engine's executors run, and write off executors that are no more."""
    alive = dict(running)
    for name, executor in engine.executors.items():
        if name not in alive and not executor.ready:
            # How it ended is told next, if anybody knows; so its attempt can still be charged.
            memo.at(now + ABSENT_S, Timer.ABSENT, name)
    for name, token in running:
        executor = state.executor(name)
        _repeat_orders(state, memo, executor, now, step)
        task = executor.leases.get(token)
        if token and (task is None or task.state in TERMINAL):
            # Of a lease that was lost or cancelled; the order to stop it may have been, too.
            step.orders.append(KillOrder(engine.id, name, token, "cancel"))
        elif task is not None and task.state is State.PENDING and task.token == token:
            yield r.Started(task.id, token, now)
            started(memo, task, now)
            tell_moved(memo, task, step)
        elif token in memo.timed_out:
            step.orders.append(KillOrder(engine.id, name, token, "timeout"))


def _repeat_orders(
    state: ClusterState, memo: Memo, executor: Executor, now: float, step: Step
) -> None:
    """Give again what may have been lost with the connection, or with the last master."""
    executor.stalled = False
    if len(executor.leases) > 1:
        executor.watched = True
        memo.at(now, Timer.STALL, executor.id)
    if any(task.state in TERMINAL for task in executor.leases.values()):
        revoke(executor, step)
    version = state.setups[-1].version if state.setups else 0
    if executor.pid and not executor.ready and executor.setup >= version:
        order = RestartOrder(executor.engine)  # nothing else makes it unfit for work
        if order not in step.orders:
            step.orders.append(order)


def decide_absent(
    state: ClusterState, memo: Memo, name: str, now: float, step: Step
) -> Iterator[r.Record]:
    """Write off an executor that its engine did not name when it came back."""
    executor = state.executors.get(name)
    if executor is not None and not executor.ready:
        token = _presumed_begun(executor)
        gone = ExecutorEnded(name, token, "gone while the master was away", 0, b"", b"", False)
        yield from decide_executor_end(state, memo, gone, now, step)


def started(memo: Memo, task: Task, at: float) -> None:
    """Watch the time of an attempt that has begun."""
    timeout = task.template.options.timeout
    if timeout is not None:
        memo.at(at + timeout, Timer.TIMEOUT, task.id, task.token)


def decide_beat(
    state: ClusterState, memo: Memo, event: EngineBeat, now: float, step: Step
) -> Iterator[r.Record]:
    """An engine lives; it tells which attempts have begun and how far they are."""
    engine = state.engines.get(event.engine)
    if engine is None:
        return
    engine.seen_at = now
    engine.rss_bytes = event.rss_bytes
    if engine.state is EngineState.SUSPECT:
        yield r.EngineChanged(engine.id, EngineState.ACTIVE, engine.slots)
    for name, token, at in event.running:
        executor = state.executors.get(name)
        task = executor.leases.get(token) if executor else None
        if task is not None and task.token == token:
            yield from _decide_begun(memo, task, at, now, step)
    tokens = dict(event.progress)
    if tokens:
        for executor in engine.executors.values():
            for token in tokens.keys() & executor.leases.keys():
                task = executor.leases[token]
                if task.state is State.RUNNING and task.token == token:
                    yield r.Progressed(task.id, token, tokens[token])
                    tell_moved(memo, task, step)


def _decide_begun(memo: Memo, task: Task, at: float, now: float, step: Step) -> Iterator[r.Record]:
    if task.state is State.PENDING:
        begun_at = min(max(at, task.submitted_at), now)
        yield r.Started(task.id, task.token, begun_at)
        started(memo, task, begun_at)
        tell_moved(memo, task, step)
    elif task.token in memo.untimed:
        # The start on record may lie too far back: the machine slept since, or its clock was set.
        # By what its engine tells it has run for ``now - at``.
        memo.untimed.remove(task.token)
        started(memo, task, at)


def decide_engine_end(
    state: ClusterState, memo: Memo, event: EngineDied | EngineLeft, now: float, step: Step
) -> Iterator[r.Record]:
    """An engine is gone, with all its executors."""
    memo.present.discard(event.engine)
    engine = state.engines.get(event.engine)
    if engine is None:
        return
    left = isinstance(event, EngineLeft)
    for name in list(engine.executors):
        end = ExecutorEnded(name, event.begun.get(name, 0), "engine lost", 0, b"", b"", left)
        if not left and name not in event.begun:
            end.token = _presumed_begun(engine.executors[name])
        yield from decide_executor_end(state, memo, end, now, step)
    yield r.EngineGone(engine.id, "left" if isinstance(event, EngineLeft) else event.why)
    yield from decide_pins(state, memo, engine.id, now, step)


def _presumed_begun(executor: Executor) -> int:
    """Of an executor whose page cannot be read: what was seen running counts as begun."""
    for token, task in executor.leases.items():
        if task.state is State.RUNNING and task.token == token:
            return token
    return 0


def decide_executor_came(
    state: ClusterState, memo: Memo, event: ExecutorCame, now: float, step: Step
) -> Iterator[r.Record]:
    """An executor is ready. Leases it does not hold were lost on the way to it."""
    executor = state.executor(event.executor)
    executor.pid = event.pid
    executor.touched_at = now
    held = set(event.holds)
    for token, task in reversed(list(executor.leases.items())):
        if token in held:
            continue
        if task.token == token and task.state not in TERMINAL:
            yield from give_back(memo, task, "revoked", step)
        else:
            _forget_lease(state, executor, token)
    if state.setups and executor.setup < state.setups[-1].version:
        executor.ready = False
        step.setup_executors.add(executor.id)
    else:
        executor.ready = True


def decide_revoked(
    state: ClusterState, memo: Memo, event: RevokeAnswered, now: float, step: Step
) -> Iterator[r.Record]:
    """What has not begun there goes to the front of its queue and to another executor.

    An executor begins in the order of tokens: up to ``begun`` results come, after it, up to the
    watermark, nothing will ever begin.
    """
    executor = state.executors.get(event.executor)
    if executor is None:
        return
    for token, task in reversed(list(executor.leases.items())):
        if event.begun < token <= event.watermark:
            if task.token == token and task.state not in TERMINAL:
                yield from give_back(memo, task, "revoked", step)
            else:
                _forget_lease(state, executor, token)
    executor.cost_s = 0.0


def _forget_lease(state: ClusterState, executor: Executor, token: int) -> None:
    task = executor.leases.pop(token, None)
    engine = state.engines.get(executor.engine)
    if task is not None and engine is not None:
        engine.load -= task.template.options.load


# --------------------------------------------------------------------------- setups


def decide_setup_asked(
    state: ClusterState, memo: Memo, event: SetupAsked, now: float, step: Step
) -> Iterator[r.Record]:
    """A new call for all executors. Until it has run there they get nothing else."""
    call = (event.definition.hash, event.payload)
    for setup in state.setups if event.names[:1] in (INITIALIZER, PATH) else ():
        if (setup.fn, setup.payload) == call:  # of an earlier master: it has run, or will
            event.version = setup.version
            step.garbage.extend(event.blobs)
            return
    if not state.defines(event.definition.hash):
        yield r.Defined(event.definition)
    event.version = state.setups[-1].version + 1 if state.setups else 1
    replaced = _replaced(state, event.names, call)
    yield r.SetupAdded(
        event.version,
        event.definition.hash,
        event.payload,
        event.blobs,
        event.names,
        tuple(setup.version for setup in replaced),
    )
    memo.old_blobs.extend(blob for setup in replaced for blob in setup.blobs)
    for setup in replaced:
        memo.failed_setups.pop(setup.version, None)
    for executor in state.executors.values():
        executor.ready = False
        step.setup_executors.add(executor.id)


def _replaced(
    state: ClusterState, names: tuple[str, ...], call: tuple[str, bytes]
) -> list[r.SetupAdded]:
    """Return the setups whose every name is bound again later, and the same call made before."""
    bound = set(names)
    replaced = []
    for setup in reversed(state.setups):
        same = call == (setup.fn, setup.payload)
        if bound.issuperset(setup.names) if setup.names else same:
            replaced.append(setup)
        bound.update(setup.names)
    return replaced


def is_vital(setup: r.SetupAdded) -> bool:
    """Return whether nothing may run where the setup failed; a pushed name may be missing."""
    return setup.names in ((), INITIALIZER)


def decide_setup_answered(
    state: ClusterState, memo: Memo, event: SetupAnswered, now: float, step: Step
) -> Iterator[r.Record]:
    """An executor has run its setups, or could not: if none can, all must know."""
    executor = state.executor(event.executor)
    latest = state.setups[-1].version if state.setups else 0
    if not event.error:
        memo.broken, memo.setup_deaths = "", 0
        memo.failed_setups.update(event.without)
        memo.worked = max(memo.worked, event.version)
        executor.setup = event.version
        executor.ready = event.version >= latest
        if all(x.setup >= latest for x in state.executors.values() if x.pid):
            step.garbage.extend(memo.old_blobs)  # nobody is about to read them any more
            memo.old_blobs.clear()
        return
    executor.ready = False
    executor.setup = -1
    if any(x.ready or (x.pid and x.setup >= 0) for x in state.executors.values()):
        return  # another one works, or has yet to answer
    memo.setup_deaths += 1
    # What has worked before may fail once for a reason of that moment.
    if memo.worked < latest or memo.setup_deaths >= SETUP_DEATHS:
        yield from decide_broken(state, memo, event.error, now, step)


# --------------------------------------------------------------------------- orders


def decide_drain(
    state: ClusterState, memo: Memo, event: DrainAsked, now: float, step: Step
) -> Iterator[r.Record]:
    """Let an engine end what runs, and give back what has not begun."""
    engine = state.engines.get(event.engine)
    if engine is None or engine.state is EngineState.DRAINING:
        return
    yield r.EngineChanged(engine.id, EngineState.DRAINING, engine.slots)
    memo.at(now + memo.limits.drain_s, Timer.DRAIN, engine.id)
    for executor in engine.executors.values():
        revoke(executor, step)
    leave_if_drained(engine, step)


def revoke(executor: Executor, step: Step) -> None:
    """Ask for all that this executor holds and has not begun."""
    if executor.leases:
        step.orders.append(RevokeOrder(executor.engine, executor.id, max(executor.leases)))
        executor.stalled = True


def leave_if_drained(engine: Engine, step: Step) -> None:
    """Let a draining engine go once nothing runs on it."""
    if engine.state is EngineState.DRAINING and not any(
        x.leases for x in engine.executors.values()
    ):
        step.orders.append(LeaveOrder(engine.id, "drained"))


def decide_drain_over(
    state: ClusterState, memo: Memo, name: str, now: float, step: Step
) -> Iterator[r.Record]:
    """The time to drain is over: what still runs is given back, uncounted."""
    engine = state.engines.get(name)
    if engine is None or engine.state is not EngineState.DRAINING:
        return
    for executor in engine.executors.values():
        for token, task in reversed(list(executor.leases.items())):
            if task.token != token or task.state in TERMINAL:
                continue
            if task.template.options.at_most_once:
                yield from decide_lost(state, memo, task, "engine", now, step)
            else:
                yield from give_back(memo, task, "drained", step)
    step.orders.append(LeaveOrder(engine.id, "drain time is over"))


def decide_slots(
    state: ClusterState, memo: Memo, event: SlotsAsked, now: float, step: Step
) -> Iterator[r.Record]:
    """Give an engine more or fewer executors."""
    engine = state.engines.get(event.engine)
    if engine is None:
        return
    fewer = event.slots < engine.slots
    yield r.EngineChanged(engine.id, engine.state, event.slots)
    if fewer:
        for executor in engine.executors.values():
            revoke(executor, step)
    step.orders.append(SlotsOrder(engine.id, event.slots))


def decide_scale(
    state: ClusterState, memo: Memo, event: ScaleAsked, now: float, step: Step
) -> Iterator[r.Record]:
    """Put on record how many engines a group is to have: the next master starts those missing."""
    yield r.GroupWanted(event.group, event.engines, event.slots)


def decide_restart(
    state: ClusterState, memo: Memo, event: RestartAsked, now: float, step: Step
) -> Iterator[r.Record]:
    """Replace all executors; what they hold is given back when their ends are told."""
    for engine in state.engines.values():
        step.orders.append(RestartOrder(engine.id))
        for executor in engine.executors.values():
            executor.ready = False
    return iter(())
