"""Task events, read off the records: there is no second truth beside the journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from nbcluster.core import records as r
from nbcluster.core.model import ErrorInfo
from nbcluster.ids import engine_of

EVENT_COLUMNS: Final = ("offset", "time", "kind", "task", "attempt", "engine", "detail")

#: An event's offset is the turn's number and, in these lowest bits, its place in the turn.
OFFSET_SHIFT: Final = 20

#: kind, task, engine, detail
_Brief = tuple[str, str, str, str]


def events(
    seq: int, at: float, records: Iterable[r.Record], leases: dict[int, str], tries: dict[str, int]
) -> Iterator[tuple[Any, ...]]:
    """Yield the events of one turn, in the order of `EVENT_COLUMNS`.

    Parameters
    ----------
    seq, at
        Number and time of the turn.
    records
        Its records.
    leases, tries
        What earlier turns told: the engine of each token, the attempts of each task. Both are
        brought up to date; give the same ones for consecutive turns.
    """
    place = 0
    for record in records:
        for kind, task, engine, detail in _project(record, leases, tries):
            place += 1
            yield (
                seq << OFFSET_SHIFT | place,
                at,
                kind,
                task,
                tries.get(task, 0),
                engine,
                detail,
            )


def _project(record: r.Record, leases: dict[int, str], tries: dict[str, int]) -> Iterator[_Brief]:
    match record:
        case r.Submitted():
            yield "accepted", record.task.id, "", ""
        case r.Leased():
            leases[record.token] = engine_of(record.executor)
            yield "scheduled", record.task, leases[record.token], ""
        case r.Started():
            tries[record.task] = tries.get(record.task, 0) + 1
            yield "started", record.task, leases.get(record.token, ""), ""
        case r.Succeeded() | r.Retrying() | r.Crashed() | r.Failed():
            yield from _ends(record, leases, tries)
        case _:
            yield from _rarely(record, leases)
    if isinstance(record, r.Released) and record.begun:
        tries[record.task] = tries.get(record.task, 1) - 1  # it counts nowhere


def _rarely(record: r.Record, leases: dict[int, str]) -> Iterator[_Brief]:
    match record:
        case r.Released():
            engine = leases.pop(record.token, "")
            if record.begun:
                yield "given_back", record.task, engine, record.why
        case r.Cancelled():
            yield "cancelled", record.task, "", ""
        case r.Redriven():
            yield "redriven", record.task, "", record.successor
            yield "accepted", record.successor, "", record.task
        case r.Progressed():
            progress = record.progress
            detail = f"{progress.done:g}/{progress.total:g} {progress.message}".strip()
            yield "progress", record.task, leases.get(record.token, ""), detail
        case r.EngineUp():
            yield "engine_up", "", record.engine, ",".join(record.groups)
        case r.EngineGone():
            yield "engine_down", "", record.engine, record.why
        case r.MasterStarted():
            yield "master_started", "", "", f"epoch {record.epoch}"
        case _:
            return


def _ends(
    record: r.Succeeded | r.Retrying | r.Crashed | r.Failed,
    leases: dict[int, str],
    tries: dict[str, int],
) -> Iterator[_Brief]:
    task, engine = record.task, leases.pop(record.token, "")
    if record.token and not record.begun:
        tries[task] = tries.get(task, 0) + 1
        yield "started", task, engine, ""
    match record:
        case r.Succeeded():
            yield "succeeded", task, engine, ""
        case r.Retrying():
            yield "attempt_failed", task, engine, _detail(record.error, record.outcome)
            yield "retrying", task, "", f"until {record.due:.3f}"
        case r.Crashed():
            yield "crashed", task, engine, _detail(record.error, "crash")
        case r.Failed():
            if record.cause == "crash":
                yield "crashed", task, engine, _detail(record.error, "crash")
            elif record.token:
                yield "attempt_failed", task, engine, _detail(record.error, record.cause)
            yield "failed", task, engine, record.cause


def _detail(error: ErrorInfo | None, otherwise: str) -> str:
    return f"{error.type}: {error.message}" if error else otherwise
