"""Answers what clients ask. One function for each op; a decision goes to the core as an event."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

import msgspec

from nbcluster.core import events as e
from nbcluster.core import history, views
from nbcluster.core.model import TERMINAL, Definition, EngineState, State, Task
from nbcluster.core.submitting import can_run
from nbcluster.errors import (
    DependencyError,
    InitializerError,
    JournalFullError,
    NbclusterError,
    OptionError,
    UnknownIdError,
)
from nbcluster.master.shell import Shell
from nbcluster.wire import messages as m

#: An answer that is known once the turn was decided and is durable; None: not yet.
Answer = Callable[[], Any]

FULL_DISK: Final = "the disk under the journal is full"
PAGE: Final = 5_000
PAGE_TURNS: Final = 200
PAGE_BYTES: Final = 1 << 21
_AT_WORK: Final = (EngineState.ACTIVE, EngineState.STARTING)


def _columns(names: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Any]]:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def _id(shell: Shell, name: str) -> str:
    """Return the id of the task that ``name`` was submitted as: its key may have had one before."""
    return shell.machine.memo.aliases.get(name, name)


def _task(shell: Shell, name: str) -> Task:
    task = shell.machine.state.tasks.get(_id(shell, name))
    if task is None:
        raise UnknownIdError("task", name, "It was forgotten by retention, or never was.")
    return task


# --------------------------------------------------------------------------- tables


def tasks(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Page of the table of tasks: ``state``, ``limit``, and ``after``, from the page before."""
    state, memo = shell.machine.state, shell.machine.memo
    limit = min(int(args.get("limit", PAGE)), PAGE)
    found = list(islice(views.select_tasks(state, args.get("state"), _place(shell, args)), limit))
    rows = (views.task_row(state, memo, task, shell.now) for task in found)
    answer = {
        "columns": _columns(views.TASK_COLUMNS, rows),
        "after": _cursor(found[-1]) if found and len(found) == limit else None,
    }
    return lambda: answer


def _cursor(task: Task) -> tuple[str, int]:
    """Return what the next page comes after. Places change over a restart, ids may be forgotten."""
    return task.id, task.seq


def _place(shell: Shell, args: dict[str, Any]) -> int:
    name, seq = args.get("after") or ("", 0)
    task = shell.machine.state.tasks.get(str(name))
    return int(seq) if task is None else task.seq


def attempts(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Page of the attempts of one ``task``, or of all, ``after`` those of the page before."""
    name, place = args.get("task"), _place(shell, args)

    def answer() -> dict[str, Any]:
        rows: list[tuple[Any, ...]] = []
        if name is not None:
            rows += views.attempt_rows(_task(shell, str(name)))
            return {"columns": _columns(views.ATTEMPT_COLUMNS, rows), "after": None}
        size, after = 0, None
        chosen = views.select_tasks(shell.machine.state, None, place)
        for number, task in enumerate(chosen, 1):
            for row in views.attempt_rows(task):
                rows.append(row)
                size += len(row[-1]) + len(row[-2])  # traceback and error
            if number >= PAGE or len(rows) >= PAGE or size >= PAGE_BYTES:
                after = _cursor(task)
                break
        return {"columns": _columns(views.ATTEMPT_COLUMNS, rows), "after": after}

    return answer


def engines(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Table of engines."""
    return lambda: _columns(views.ENGINE_COLUMNS, views.engine_rows(shell.machine.state, shell.now))


def dead_letters(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Table of dead letters."""
    return lambda: _columns(views.DEAD_LETTER_COLUMNS, views.dead_letter_rows(shell.machine.state))


def events(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Page of the events of the turns after ``seq``; ``seq`` of the answer: go on from there."""
    after = int(args.get("seq", 0))

    def answer() -> dict[str, Any]:
        rows: list[tuple[Any, ...]] = []
        seq = None
        for turn in shell.journal.turns(after, PAGE_TURNS):
            rows += history.events(turn.seq, turn.at, turn.records)
            seq = turn.seq
            if len(rows) >= PAGE:
                break
        return {"columns": _columns(history.RAW_COLUMNS, rows), "seq": seq}

    return answer


def stats(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Counters of the cluster."""
    return lambda: views.counters(shell.machine.state) | shell.counters()


def find(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Id of the task of that id, or the latest of that name."""
    state, wanted = shell.machine.state, _id(shell, str(args["task"]))
    if wanted not in state.tasks:
        named = [t.id for t in state.tasks.values() if views.name_of(state, t) == wanted]
        if not named:
            raise UnknownIdError("task", wanted, "See cluster.tasks() for those that are known.")
        wanted = named[-1]
    task = state.tasks[wanted]
    answer = {"id": task.id, "name": views.name_of(state, task)}
    return lambda: answer


def names(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Names of those of the ``tasks`` that are known, by the ids that were given."""
    state = shell.machine.state
    known = {name: state.tasks.get(_id(shell, name)) for name in args["tasks"]}
    answer = {name: views.name_of(state, task) for name, task in known.items() if task}
    return lambda: answer


def why(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Why a task is not running, in words, and what its history is."""

    def answer() -> dict[str, Any]:
        task = _task(shell, str(args["task"]))
        return {
            "state": task.state,
            "reason": _reason(shell, task),
            "stuck": shell.disk_is_full or _is_stuck(shell, task),
            "error": views.error_of(task),
            "cause": task.cause,
            "attempts": task.attempts,
            "retries": task.retries,
            "crashes": task.crashes,
            "engine": task.executor.partition("/")[0],
            "due_s": max(0.0, task.due - shell.now) if task.due else 0.0,
        }

    return answer


def _is_stuck(shell: Shell, task: Task) -> bool:
    """Return whether nothing that is there will ever run it, however long it waits."""
    waits = task.state is State.PENDING and not task.token and not task.after
    return waits and not can_run(shell.machine.state, task)


def _reason(shell: Shell, task: Task) -> str:
    if shell.disk_is_full:
        if shell.is_owed(task):
            raise JournalFullError(f"{FULL_DISK}; it is accepted as soon as there is room")
        return f"{FULL_DISK}: nothing is begun, or ends, until there is room"
    return views.reason_of(shell.machine.state, shell.machine.memo, task) + _despair(shell, task)


def _despair(shell: Shell, task: Task) -> str:
    """Return what is to be said where engines died too fast, if the task waits for such ones."""
    group = task.template.options.group
    waits = task.state is State.PENDING and not task.token and group in shell.keeper.wanted
    if not (waits and shell.keeper.retry_at):
        return ""
    due_s = max(0.0, shell.keeper.retry_at - shell.now)
    return (
        f"; engines die as soon as they start: more are started in {due_s:.0f} s, or by scale(). "
        f"Their logs: {shell.keeper.logs}"
    )


def stack(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Where a running attempt is, as text; answered when its engine has told."""
    task = _task(shell, str(args["task"]))
    executor = shell.machine.state.executors.get(task.executor)
    if task.state is not State.RUNNING or executor is None:
        raise OptionError(f"task {task.id} is {task.state}; only a running one has a stack")
    request = max(shell.stacks, default=0) + 1
    shell.stacks[request] = None
    shell.sender.send_to(executor.engine, m.StackWanted(executor.id, task.token, request))

    def answer() -> Any:
        text = shell.stacks[request]
        if text is None and executor.engine in shell.machine.state.engines:
            return None
        del shell.stacks[request]
        return text or "it ended before its stack could be taken"

    return answer


def call_of(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Function and payload of a task that failed, so that it can be run elsewhere."""
    task = _task(shell, str(args["task"]))
    definition = shell.machine.state.definitions.get(task.template.fn)
    if definition is None or not task.payload:
        raise UnknownIdError("payload of task", task.id, "It is kept for tasks that failed.")
    answer = {
        "fn": definition.hash,
        "name": definition.name,
        "blob": definition.blob,
        "payload": task.payload,
        "blobs": list(task.blobs),
    }
    return lambda: answer


# --------------------------------------------------------------------------- orders


def cancel(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Cancel the ``tasks`` named, or all that are open; fail if one of ``known`` is not."""
    for name in args.get("known") or ():
        _task(shell, str(name))
    names = args.get("tasks")
    if names is None:
        names = [t.id for t in shell.machine.state.tasks.values() if t.state not in TERMINAL]
    event = e.CancelAsked([str(name) for name in names])
    batch.rare.append(event)
    return lambda: event.cancelled


def redrive(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Put the ``tasks`` named back as new ones, or all dead letters."""
    names = args.get("tasks")
    if names is None:
        names = list(shell.machine.state.dead_letters)
    asked = {str(name): _id(shell, str(name)) for name in names}
    event = e.RedriveAsked(list(asked.values()), client)
    batch.rare.append(event)

    def answer() -> dict[str, str]:
        for task, dependency in event.refused.items():
            known = dependency in shell.machine.state.tasks
            hint = f"redrive {dependency} first, or with it" if known else "submit it anew"
            others = len(event.successors)
            raise DependencyError(
                task,
                f"cannot be put back: task {dependency}, named in its after=, "
                f"{'did not succeed' if known else 'is not known any more'}; {hint}."
                + (f" Others that were named were put back: {others}." if others else ""),
            )
        return {name: event.successors[x] for name, x in asked.items() if x in event.successors}

    return answer


def setup(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Have every executor make a call; answered with the version to wait for."""
    definition = Definition(str(args["hash"]), str(args["name"]), bytes(args["blob"]))
    blobs, names = tuple(args.get("blobs") or ()), tuple(map(str, args.get("names") or ()))
    event = e.SetupAsked(definition, bytes(args["payload"]), blobs, names)
    batch.rare.append(event)
    return lambda: event.version


def setup_done(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Answered when every executor there is has run setup ``version``, or nothing can run."""
    version = int(args["version"])

    def answer() -> Any:
        memo, executors = shell.machine.memo, shell.machine.state.executors.values()
        if memo.broken:
            return {"error": memo.broken}
        if any(x.pid and x.setup < version for x in executors):
            return None
        # One that has died, or not come yet, has not made the call either.
        engines = shell.machine.state.engines.values()
        missing = any(len(e.executors) < e.slots for e in engines if e.state in _AT_WORK)
        return None if missing else {"error": "", "without": memo.failed_setups.get(version, "")}

    return answer


def wait_engines(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Answered when ``count`` engines (of ``group``) are ready."""
    count, group = int(args["count"]), args.get("group")

    def answer() -> Any:
        ready = [
            engine
            for engine in shell.machine.state.engines.values()
            if engine.state is EngineState.ACTIVE
            and (group is None or group in engine.groups)
            and engine.id in shell.machine.memo.present
            # After a restart those that are busy greet us when they have ended what they run.
            and sum(x.ready or bool(x.leases) for x in engine.executors.values()) >= engine.slots
        ]
        if shell.machine.memo.broken:
            raise InitializerError(shell.machine.memo.broken)
        return len(ready) if len(ready) >= count else None

    return answer


def scale(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Want ``count`` engines in ``group``; those too many drain, the youngest first."""
    group, count = str(args["group"]), int(args["count"])
    slots = int(shell.keeper.slots_of(group) if args.get("slots") is None else args["slots"])
    staying = shell.keeper.staying(group)
    for engine in staying[count:]:
        shell.keeper.leaving.add(engine)
        batch.rare.append(e.DrainAsked(engine))
    shell.keeper.scale(group, count, slots)
    batch.rare.append(e.ScaleAsked(group, count, slots))
    return lambda: count


def drain(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Let one engine finish what runs, then leave; answered when it has left."""
    engine = str(args["engine"])
    known = shell.machine.state.engines.get(engine)
    if known is None:
        raise UnknownIdError("engine", engine, "See cluster.engines() for those that are there.")
    group = known.groups[0] if known.groups else "default"
    if engine in shell.keeper.staying(group) and group in shell.keeper.wanted:
        count = shell.keeper.wanted[group] = max(0, shell.keeper.wanted[group] - 1)
        on_record = shell.machine.state.groups.get(group)
        if on_record is not None:  # else the next start says how many there are to be
            batch.rare.append(e.ScaleAsked(group, count, on_record.slots))
    shell.keeper.leaving.add(engine)
    batch.rare.append(e.DrainAsked(engine))
    return lambda: True if engine not in shell.machine.state.engines else None


def slots(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Give the engines of ``group``, or one ``engine``, another number of executors."""
    number, group, engine = int(args["slots"]), str(args["group"]), args.get("engine")
    chosen = [
        known.id
        for known in shell.machine.state.engines.values()
        if known.id == engine or (engine is None and group in known.groups)
    ]
    if engine is not None and not chosen:
        raise UnknownIdError("engine", str(engine))
    if engine is None:
        shell.keeper.set_slots(group, number)  # who takes the place of another one has as many
        on_record = shell.machine.state.groups.get(group)
        if on_record is not None:
            batch.rare.append(e.ScaleAsked(group, on_record.engines, number))
    batch.rare.extend(e.SlotsAsked(name, number) for name in chosen)
    return lambda: chosen


def restart(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Replace all executors; answered when the new ones are ready."""
    before = {x.id for x in shell.machine.state.executors.values()}
    batch.rare.append(e.RestartAsked())

    def answer() -> Any:
        state = shell.machine.state
        gone = not before & state.executors.keys()
        ready = all(
            any(x.ready for x in engine.executors.values())
            for engine in state.engines.values()
            if engine.slots
        )
        return True if gone and ready else None

    return answer


def stop(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Stop the cluster. ``mode``: ``ask`` (refuse while tasks are open), ``drain``, ``now``."""
    mode = str(args.get("mode", "now"))
    counts = shell.machine.state.counts
    if mode == "ask" and shell.machine.state.open_tasks:
        return lambda: {
            "stopped": False,
            "pending": counts[State.PENDING] + counts[State.RETRYING],
            "running": counts[State.RUNNING],
        }
    if mode == "drain":
        for engine in shell.machine.state.engines:
            shell.keeper.leaving.add(engine)
            batch.rare.append(e.DrainAsked(engine))
        shell.keeper.wanted.clear()
    shell.stop_when_drained(mode, keep=bool(args.get("keep")))
    return lambda: {"stopped": True}


def info(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """What the cluster was started with."""
    return lambda: msgspec.to_builtins(shell.config)


OPS: Final[dict[str, Callable[[Shell, dict[str, Any], e.Batch, str], Answer]]] = {
    f.__name__: f
    for f in (
        *(tasks, attempts, engines, dead_letters, events, stats, find, why, call_of, stack, cancel),
        *(names, redrive, setup, setup_done, wait_engines, scale, drain, slots, restart),
        *(stop, info),
    )
}

#: Questions that change nothing: answered even while nothing can be put on record.
READ_ONLY: Final = frozenset(
    f.__name__
    for f in (
        *(tasks, attempts, engines, dead_letters, events, stats, find, why, call_of, stack),
        *(names, setup_done, wait_engines, info),
    )
)


def answer_to(
    shell: Shell, op: str, args: dict[str, Any], batch: e.Batch, client: str
) -> Answer | NbclusterError:
    """Return the answer to one question, or the error to send instead."""
    ask = OPS.get(op)
    if ask is None:
        return OptionError(f"there is no request {op!r}")
    try:
        return ask(shell, args, batch, client)
    except NbclusterError as error:
        return error
    except (KeyError, TypeError, ValueError) as error:
        return OptionError(f"request {op!r}: {type(error).__name__}: {error}")
