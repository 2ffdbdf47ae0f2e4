"""Answers questions of clients: tables, and what is to know of one task. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from nbcluster.core import events as e
from nbcluster.core import history, views
from nbcluster.core.model import State, Task
from nbcluster.core.submitting import can_run
from nbcluster.errors import (
    JournalFullError,
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


def _columns(names: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Any]]:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def id_of(shell: Shell, name: str) -> str:
    """Return the id of the task that ``name`` was submitted as: its key may have had one before."""
    return shell.machine.memo.aliases.get(name, name)


def task_of(shell: Shell, name: str) -> Task:
    task = shell.machine.state.tasks.get(id_of(shell, name))
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


def changes(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Page of what has changed since ``view`` asked last; ``fresh``: of all there is."""
    view, fresh = str(args["view"]), bool(args.get("fresh"))
    return lambda: shell.feeds.answer(view, shell.machine.state, shell.now, fresh=fresh)


def attempts(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Page of the attempts of one ``task``, or of all, ``after`` those of the page before."""
    name, place = args.get("task"), _place(shell, args)

    def answer() -> dict[str, Any]:
        rows: list[tuple[Any, ...]] = []
        if name is not None:
            rows += views.attempt_rows(task_of(shell, str(name)))
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
    state, wanted = shell.machine.state, id_of(shell, str(args["task"]))
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
    known = {name: state.tasks.get(id_of(shell, name)) for name in args["tasks"]}
    answer = {name: views.name_of(state, task) for name, task in known.items() if task}
    return lambda: answer


def why(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Why a task is not running, in words, and what its history is."""

    def answer() -> dict[str, Any]:
        task = task_of(shell, str(args["task"]))
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
    task = task_of(shell, str(args["task"]))
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
    task = task_of(shell, str(args["task"]))
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
