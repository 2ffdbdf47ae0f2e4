"""Task events, read off the records: there is no second truth beside the journal.

What a record tells by itself is read by the master. What needs earlier events, the engine of a
token and the number of an attempt, is filled in by the reader, who follows them from the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from nbcluster.core import records as r
from nbcluster.core.model import ErrorInfo
from nbcluster.ids import engine_of

EVENT_COLUMNS: Final = ("offset", "time", "kind", "task", "attempt", "engine", "detail")
#: As the master tells them. ``begins``: 1 if an attempt began with it, -1 if one turned out not to.
RAW_COLUMNS: Final = ("offset", "time", "kind", "task", "begins", "token", "engine", "detail")

#: An event's offset is the turn's number and, in these lowest bits, its place in the turn.
OFFSET_SHIFT: Final = 20

#: kind, task, begins, token, engine, detail
_Brief = tuple[str, str, int, int, str, str]


def events(seq: int, at: float, records: Iterable[r.Record]) -> Iterator[tuple[Any, ...]]:
    """Yield the events of turn ``seq``, made ``at``, in the order of `RAW_COLUMNS`."""
    place = 0
    for record in records:
        for brief in _project(record, at):
            place += 1
            yield (seq << OFFSET_SHIFT | place, at, *brief)


class Follower:
    """Fills in what needs earlier events; give it all of them, in order."""

    def __init__(self) -> None:
        self._engines: dict[int, str] = {}
        self._attempts: dict[str, int] = {}

    def rows(self, raw: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Yield the events in the order of `EVENT_COLUMNS`."""
        engines, attempts = self._engines, self._attempts
        for offset, at, kind, task, begins, token, engine, detail in raw:
            if begins > 0:
                attempts[task] = attempts.get(task, 0) + 1
            if token and engine:
                engines[token] = engine
            where = engine or engines.get(token, "")
            yield offset, at, kind, task, attempts.get(task, 0), where, detail
            if begins < 0:
                attempts[task] = attempts.get(task, 1) - 1


def _project(record: r.Record, at: float) -> Iterator[_Brief]:
    match record:
        case r.Submitted():
            yield "accepted", record.task.id, 0, 0, "", ""
        case r.Leased():
            yield "scheduled", record.task, 0, record.token, engine_of(record.executor), ""
        case r.Started():
            yield "started", record.task, 1, record.token, "", ""
        case r.Succeeded() | r.Retrying() | r.Crashed() | r.Failed():
            yield from _ends(record, at)
        case r.Released():
            if record.started_at and not record.begun:
                yield "started", record.task, 1, record.token, "", ""
            if record.started_at or record.begun:
                begins = 0 if record.started_at else -1
                yield "given_back", record.task, begins, record.token, "", record.why
        case _:
            yield from _rarely(record)


def _rarely(record: r.Record) -> Iterator[_Brief]:
    match record:
        case r.Cancelled():
            yield "cancelled", record.task, 0, 0, "", ""
        case r.Redriven():
            yield "redriven", record.task, 0, 0, "", record.successor
            yield "accepted", record.successor, 0, 0, "", record.task
        case r.Progressed():
            progress = record.progress
            detail = f"{progress.done:g}/{progress.total:g} {progress.message}".strip()
            yield "progress", record.task, 0, record.token, "", detail
        case r.EngineUp():
            yield "engine_up", "", 0, 0, record.engine, ",".join(record.groups)
        case r.EngineGone():
            yield "engine_down", "", 0, 0, record.engine, record.why
        case r.MasterStarted():
            yield "master_started", "", 0, 0, "", f"epoch {record.epoch}"
        case _:
            return


def _ends(record: r.Succeeded | r.Retrying | r.Crashed | r.Failed, at: float) -> Iterator[_Brief]:
    task, token = record.task, record.token
    if token and not record.begun:
        yield "started", task, 1, token, "", ""
    match record:
        case r.Succeeded():
            yield "succeeded", task, 0, token, "", ""
        case r.Retrying():
            detail = _detail(record.error, record.outcome)
            yield "attempt_failed", task, 0, token, "", detail
            yield "retrying", task, 0, 0, "", f"in {max(0.0, record.due - at):.3g} s"
        case r.Crashed():
            yield "crashed", task, 0, token, "", _detail(record.error, "crash")
        case r.Failed():
            if record.cause == "crash":
                yield "crashed", task, 0, token, "", _detail(record.error, "crash")
            elif token:
                detail = _detail(record.error, record.cause)
                yield "attempt_failed", task, 0, token, "", detail
            yield "failed", task, 0, token, "", record.cause


def _detail(error: ErrorInfo | None, otherwise: str) -> str:
    return f"{error.type}: {error.message}" if error else otherwise
