"""Takes orders of clients: one function for each op; a decision goes to the core as an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from nbcluster.core import events as e
from nbcluster.core.model import TERMINAL, Definition, EngineState, State
from nbcluster.errors import (
    DependencyError,
    InitializerError,
    NbclusterError,
    OptionError,
    UnknownIdError,
)
from nbcluster.master.questions import (
    Answer,
    attempts,
    call_of,
    changes,
    dead_letters,
    engines,
    events,
    find,
    id_of,
    names,
    stack,
    stats,
    task_of,
    tasks,
    why,
)
from nbcluster.master.shell import Shell

_AT_WORK: Final = (EngineState.ACTIVE, EngineState.STARTING)


# --------------------------------------------------------------------------- orders


def cancel(shell: Shell, args: dict[str, Any], batch: e.Batch, client: str) -> Answer:
    """Cancel the ``tasks`` named, or all that are open; fail if one of ``known`` is not."""
    for name in args.get("known") or ():
        task_of(shell, str(name))
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
    asked = {str(name): id_of(shell, str(name)) for name in names}
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
        *(tasks, changes, attempts, engines, dead_letters, events, stats, find, why, call_of),
        *(
            stack,
            cancel,
            names,
            redrive,
            setup,
            setup_done,
            wait_engines,
            scale,
            drain,
            slots,
            restart,
        ),
        *(stop, info),
    )
}

#: Questions that change nothing: answered even while nothing can be put on record.
READ_ONLY: Final = frozenset(
    f.__name__
    for f in (
        *(tasks, changes, attempts, engines, dead_letters, events, stats, find, why, call_of),
        *(stack, names, setup_done, wait_engines, info),
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
