"""The tables that people look at, as plain rows, and why a task waits, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import dropwhile, islice
from typing import Any, Final

from nbcluster.calls import INITIALIZER
from nbcluster.core.memo import Memo
from nbcluster.core.model import TERMINAL, Engine, EngineState, State, Task
from nbcluster.core.state import ClusterState
from nbcluster.ids import engine_of

TASK_COLUMNS: Final = (
    "id",
    "name",
    "state",
    "reason",
    "attempts",
    "retries",
    "crashes",
    "group",
    "engine",
    "priority",
    "progress",
    "submitted_at",
    "started_at",
    "finished_at",
    "duration_s",
    "error",
    "cause",
    "job",
)
ATTEMPT_COLUMNS: Final = (
    "task",
    "attempt",
    "engine",
    "executor",
    "started_at",
    "ended_at",
    "outcome",
    "error",
    "traceback",
)
ENGINE_COLUMNS: Final = (
    "id",
    "state",
    "group",
    "slots",
    "running",
    "load",
    "done",
    "pid",
    "host",
    "executor_pid",
    "rss_mb",
    "last_seen_s",
)
DEAD_LETTER_COLUMNS: Final = (
    "id",
    "name",
    "group",
    "cause",
    "error",
    "attempts",
    "retries",
    "crashes",
    "submitted_at",
    "finished_at",
    "payload_bytes",
)


def name_of(state: ClusterState, task: Task) -> str:
    """Return the task's own name, or else its function's."""
    if task.name:
        return task.name
    definition = state.definitions.get(task.template.fn)
    return definition.name if definition else ""


def error_of(task: Task) -> str:
    """Return the last error in one line, empty if there was none."""
    if task.error is not None:
        return f"{task.error.type}: {task.error.message}" if task.error.message else task.error.type
    return f"{task.code}: {task.args[-1]}" if task.code and task.args else task.code


def _cause_of(task: Task) -> str:
    return task.cause if task.state is State.FAILED else ""


def duration_of(task: Task, now: float) -> float | None:
    """Return the seconds the last attempt has taken so far, or took."""
    if not task.started_at:
        return None
    if task.state is State.RUNNING:
        return max(0.0, now - task.started_at)
    return max(0.0, task.finished_at - task.started_at) if task.finished_at else None


def progress_of(task: Task) -> float | None:
    """Return the share that is done, 0 to 1, as far as is known."""
    if task.state is State.SUCCEEDED:
        return 1.0
    progress = task.progress
    return progress.done / progress.total if progress and progress.total else None


def task_row(state: ClusterState, memo: Memo, task: Task, now: float) -> tuple[Any, ...]:
    """Return one row of the table of tasks, in the order of `TASK_COLUMNS`."""
    options = task.template.options
    started = task.attempts > 0
    return (
        task.id,
        name_of(state, task),
        task.state,
        reason_of(state, memo, task),
        task.attempts,
        task.retries,
        task.crashes,
        options.group,
        engine_of(task.executor) if started else "",
        options.priority,
        progress_of(task),
        task.submitted_at,
        task.started_at if started else None,
        task.finished_at or None,
        duration_of(task, now) if started else None,
        error_of(task),
        _cause_of(task),
        "",
    )


def select_tasks(state: ClusterState, wanted: str | None, after: int = 0) -> Iterable[Task]:
    """Return the tasks in a state: one of the six, ``open``, ``done``, or None for all.

    In the order of their submission, those with a place (``seq``) ``after`` that one.
    """
    forgotten = state.submitted - len(state.tasks)  # at the most so many went before any place
    tasks: Iterable[Task] = islice(state.tasks.values(), max(0, after - forgotten), None)
    tasks = dropwhile(lambda task: task.seq <= after, tasks)
    if wanted is None:
        return tasks
    if wanted == "open":
        return (t for t in tasks if t.state not in TERMINAL)
    if wanted == "done":
        return (t for t in tasks if t.state in TERMINAL)
    return (t for t in tasks if t.state == wanted)


def attempt_rows(task: Task) -> Iterator[tuple[Any, ...]]:
    """Yield a row for every attempt of ``task``, in the order of `ATTEMPT_COLUMNS`."""
    for a in task.history:
        error = f"{a.error.type}: {a.error.message}" if a.error else ""
        text = a.error.traceback if a.error else ""
        yield (
            *(task.id, a.number, a.engine, a.executor, a.started_at, a.ended_at),
            *(a.outcome, error, text),
        )
    last_is_told = bool(task.history) and task.history[-1].number == task.attempts
    if task.attempts and not last_is_told:
        yield (
            *(task.id, task.attempts, engine_of(task.executor), task.executor),
            *(task.started_at, task.finished_at or None, str(task.state), "", ""),
        )


def engine_rows(state: ClusterState, now: float) -> Iterator[tuple[Any, ...]]:
    """Yield a row for every engine, in the order of `ENGINE_COLUMNS`."""
    for engine in state.engines.values():
        shown = engine.state
        if (
            shown is EngineState.ACTIVE
            and engine.slots
            and not any(x.ready for x in engine.executors.values())
        ):
            shown = EngineState.STARTING
        yield (
            engine.id,
            shown,
            ",".join(engine.groups),
            engine.slots,
            running_on(engine),
            engine.load,
            engine.done,
            engine.pid,
            engine.host,
            next((x.pid for x in engine.executors.values() if x.pid), None),
            engine.rss_bytes / 2**20,
            max(0.0, now - engine.seen_at),
        )


def running_on(engine: Engine) -> int:
    """Return how many attempts were seen running on an engine."""
    return sum(
        task.state is State.RUNNING and task.token == token
        for x in engine.executors.values()
        for token, task in x.leases.items()
    )


def dead_letter_rows(state: ClusterState) -> Iterator[tuple[Any, ...]]:
    """Yield a row for every dead letter, in the order of `DEAD_LETTER_COLUMNS`."""
    for name in state.dead_letters:
        task = state.tasks[name]
        yield (
            name,
            name_of(state, task),
            task.template.options.group,
            task.cause,
            error_of(task),
            task.attempts,
            task.retries,
            task.crashes,
            task.submitted_at,
            task.finished_at,
            len(task.payload),
        )


def counters(state: ClusterState) -> dict[str, Any]:
    """Return how many tasks are in each state, and what the engines offer."""
    engines = state.engines.values()
    result: dict[str, Any] = {str(s): n for s, n in state.counts.items()}
    result["engines"] = len(state.engines)
    result["slots"] = sum(e.slots for e in engines)
    running = [(engine.id, running_on(engine)) for engine in engines]
    result["running_by_engine"] = dict(sorted(running, key=lambda pair: pair[1]))
    result["epoch"] = state.epoch
    return result


# --------------------------------------------------------------------------- why


def reason_of(state: ClusterState, memo: Memo, task: Task) -> str:
    """Return in a few words why a task is not running; empty if it is, or has ended."""
    if task.state is State.RETRYING:
        return f"waits for its backoff after attempt {task.attempts}"
    if task.state is not State.PENDING:
        return ""
    if task.after:
        more = f" and {len(task.after) - 1} more" if len(task.after) > 1 else ""
        return f"waits for task {min(task.after)}{more}"
    if task.token:
        return f"next on engine {engine_of(task.executor)}"
    if memo.broken:
        return f"the initializer failed: {memo.broken.partition(chr(10))[0]}"
    pin = task.template.options.pin
    return _pin_reason(state, task, pin) if pin else _group_reason(state, task)


def _pin_reason(state: ClusterState, task: Task, pin: str) -> str:
    """Of a task that is bound to one engine, or to one executor."""
    engine = state.engines.get(engine_of(pin))
    what = f"{'executor' if engine_of(pin) != pin else 'engine'} {pin}"
    if engine is None or (pin != engine.id and pin not in engine.executors):
        return f"{what}, which it is bound to, is not there"
    bound = [x for x in engine.executors.values() if pin in (engine.id, x.id)]
    if engine.state is not EngineState.ACTIVE:
        how = str(engine.state)
    elif not engine.slots:
        how = "paused: it has 0 slots"
    elif not any(x.ready for x in bound):
        how = "starting"
    else:
        how = f"busy, {len(state.queue_of(task))} waiting"
    return f"{what}, which it is bound to, is {how}"


def _group_reason(state: ClusterState, task: Task) -> str:
    options = task.template.options
    group = options.group
    engines = [e for e in state.engines.values() if group in e.groups]
    if not engines:
        return f"no engines in group {group!r}"
    active = [e for e in engines if e.state is EngineState.ACTIVE]
    if not active:
        states = ", ".join(sorted({str(e.state) for e in engines}))
        return f"{_all(len(engines), 'engine', group)} {states}"
    slots = sum(e.slots for e in active)
    if not slots:
        return f"paused: the engines of group {group!r} have 0 slots"
    executors = [x for e in active for x in e.executors.values()]
    if not any(x.ready for x in executors):
        late = [s for s in state.setups if any(x.pid and x.setup < s.version for x in executors)]
        is_initializing = any(s.names == INITIALIZER for s in late)
        what = "running the initializer" if is_initializing else "starting"
        return f"the executors of group {group!r} are {what}"
    ahead = len(state.queue_of(task))
    return f"{_all(slots, 'slot', group)} busy, {ahead} waiting"


def _all(number: int, what: str, group: str) -> str:
    if number == 1:
        return f"the only {what} of group {group!r} is"
    return f"all {number} {what}s of group {group!r} are"
