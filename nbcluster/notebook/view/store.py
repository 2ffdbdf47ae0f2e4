"""All rows of a live view as columns of numbers, and what of them its front end was not told of.

Strings are told once and named by their place from then on; so a row that changes costs 26 bytes.
No IPython here, and no pandas.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nbcluster.client.feed import STATES, Changes

#: What a row is: never changes; a number of an id that does not end in one is `NO_NUMBER`.
IDENTITY: Final = (("prefix", "<u4"), ("number", "<u4"), ("name", "<u4"))
#: What changes of it, the widest first: so each column of a message lies where its type may.
#: ``started``: hundredths of a second since `TaskStore.origin`, from 1. ``progress``: percent.
CHANGING: Final = (
    *(("error", "<u4"), ("engine", "<u4"), ("started", "<u4"), ("duration", "<f4")),
    *(("attempts", "<u2"), ("retries", "<u2")),
    *(("state", "u1"), ("progress", "u1")),
)
NO_NUMBER: Final = 0xFFFF_FFFF
UNKNOWN: Final = 255  #: a share that is not known
GONE: Final = 255  #: in place of a state: the task is not kept any more
#: Rows in a message: a browser takes that many in within a few milliseconds.
PAGE: Final = 10_000
MAX_TEXT: Final = 200  #: characters of a name or an error that are shown; a row opens for more
_RATE_S: Final = 10.0  #: seconds over which tasks are counted for the rate
_FIRST: Final = 1_024

_RUNNING, _RETRYING, _FAILED = (STATES.index(s) for s in ("running", "retrying", "failed"))


@dataclass
class Message:
    """One page of changes: what can be JSON, and the columns."""

    header: dict[str, Any]
    body: bytes


@dataclass(frozen=True)
class Row:
    """One task as it is shown to people."""

    task: str
    name: str
    state: str
    attempts: int
    retries: int
    engine: str
    started: float  #: seconds since the epoch; 0: not yet
    duration: float | None  #: so far, if it runs
    error: str


class TaskStore:
    """The tasks of one cluster as one view knows them. Not for several threads at a time."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = dict.fromkeys(STATES, 0)
        self.workers: list[tuple[str, str, int, int, float, int]] = []
        self.now = 0.0  #: of the master's clock, when it was asked last
        self.origin = 0.0
        self._history: deque[tuple[float, int]] = deque()
        self._forget()

    def _forget(self) -> None:
        """Begin with no rows; the next message says so."""
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._columns: dict[str, NDArray[Any]] = {
            name: np.zeros(_FIRST, kind) for name, kind in IDENTITY + CHANGING
        }
        self._dirty = np.zeros(_FIRST, bool)
        self._strings: list[str] = [""]
        self._codes: dict[str, int] = {"": 0}
        self._gone = 0
        self.tell_all()

    def __len__(self) -> int:
        return len(self._rows)

    # ------------------------------------------------------------------ taking in

    def apply(self, changes: Changes) -> bool:
        """Take in what a `Feed` has told; return whether anything is different now."""
        if changes.reset:
            self._forget()
            self.origin = 0.0
        before = (self.counts, self.workers)
        self.now = changes.now
        self.counts = dict.fromkeys(STATES, 0) | changes.counts
        # Memory goes up and down by a little all the time: whole MiB are enough to be told.
        self.workers = [(*w[:4], float(round(w[4])), w[5]) for w in changes.workers]
        self._note_rate()
        if changes.ids:
            self._put(changes)
        for name in changes.gone:
            self._remove(name)
        if self._gone > max(PAGE, len(self._rows)):
            self._compact()
        is_moved = bool(changes.ids or changes.gone or changes.reset)
        return is_moved or before != (self.counts, self.workers)

    def _put(self, changes: Changes) -> None:
        started = np.frombuffer(changes.started, "f8")
        if not self.origin:
            begun = started[started > 0]
            self.origin = float(begun.min()) if begun.size else changes.now
        places = np.fromiter(map(self._place, changes.ids), np.intp, len(changes.ids))
        columns = self._columns
        columns["name"][places] = self._encode(changes.names)
        columns["error"][places] = self._encode(changes.errors)
        columns["engine"][places] = self._encode(changes.engines)
        ticks = np.clip((started - self.origin) * 100 + 1, 1, NO_NUMBER)
        columns["started"][places] = np.where(started > 0, ticks, 0)
        finished = np.frombuffer(changes.finished, "f8")
        is_over = (started > 0) & (finished > 0)
        columns["duration"][places] = np.where(is_over, np.maximum(0, finished - started), np.nan)
        for name in ("attempts", "retries"):
            columns[name][places] = np.minimum(np.frombuffer(getattr(changes, name), "u4"), 0xFFFF)
        columns["state"][places] = np.frombuffer(changes.states, "u1")
        share = np.frombuffer(changes.progress, "f4")
        percent = np.nan_to_num(np.clip(share, 0, 1) * 100, nan=UNKNOWN)
        columns["progress"][places] = percent
        self._dirty[places] = True

    def _place(self, task: str) -> int:
        """Return the row of a task; a new one if it has none."""
        place = self._rows.get(task)
        if place is not None:
            return place
        place = self._rows[task] = len(self._ids)
        self._ids.append(task)
        if place >= len(self._dirty):
            for name, column in self._columns.items():
                self._columns[name] = np.concatenate([column, np.zeros_like(column)])
            self._dirty = np.concatenate([self._dirty, np.zeros_like(self._dirty)])
        prefix, dash, number = task.rpartition("-")
        is_numbered = dash and number.isascii() and number.isdigit() and number[0] != "0"
        if not is_numbered or int(number) >= NO_NUMBER:
            prefix, number = task, str(NO_NUMBER)
        self._columns["prefix"][place] = self._encode([prefix])[0]
        self._columns["number"][place] = int(number)
        return place

    def _encode(self, texts: list[str]) -> list[int]:
        """Return the places of strings, and give one to each new one."""
        codes = self._codes
        found = list(map(codes.get, texts))
        if None not in found:
            return found  # type: ignore[return-value]
        return [
            self._code(text) if code is None else code
            for text, code in zip(texts, found, strict=True)
        ]

    def _code(self, text: str) -> int:
        text = text[:MAX_TEXT]
        code = self._codes.get(text)
        if code is None:
            code = self._codes[text] = len(self._strings)
            self._strings.append(text)
        return code

    def _remove(self, task: str) -> None:
        place = self._rows.pop(task, None)
        if place is not None:
            self._columns["state"][place] = GONE
            self._dirty[place] = True
            self._gone += 1

    def _compact(self) -> None:
        """Leave out the rows of tasks that are gone, and the strings that only they had."""
        kept = np.fromiter(self._rows.values(), np.intp, len(self._rows))
        old, ids, strings = self._columns, list(self._rows), self._strings
        self._forget()
        for task in ids:
            self._place(task)
        count = len(ids)
        for name, _ in CHANGING:
            self._columns[name][:count] = old[name][kept]
        for name in ("name", "error", "engine"):
            self._columns[name][:count] = self._encode([strings[c] for c in old[name][kept]])
        self._dirty[:count] = True

    # ------------------------------------------------------------------ telling

    def tell_all(self) -> None:
        """Have the next messages tell everything: somebody has just come."""
        self._is_reset = True
        self._told_strings = self._told_rows = 0
        self._dirty[: len(self._ids)] = True

    def messages(self) -> list[Message]:
        """Return what has changed since the last call, a page in each message; at least one."""
        dirty = np.flatnonzero(self._dirty[: len(self._ids)])
        pages = [dirty[first : first + PAGE] for first in range(0, len(dirty), PAGE)]
        self._dirty[: len(self._ids)] = False
        return [self._message(page) for page in pages or [dirty]]

    def _message(self, places: NDArray[np.intp]) -> Message:
        columns = self._columns
        # Rows are told in order, so those that are new to the front end are the last ones.
        fresh = places[places >= self._told_rows]
        last = int(fresh[-1]) + 1 if len(fresh) else self._told_rows
        assert last - self._told_rows == len(fresh)
        used = [columns[name][places] for name in ("name", "error", "engine", "prefix")]
        most = max((int(codes.max()) + 1 for codes in used if codes.size), default=0)
        first, until = self._told_strings, max(most, self._told_strings)
        header = {
            **{"type": "rows", "reset": self._is_reset, "origin": self.origin, **self.facts()},
            **{"rows": len(places), "fresh": len(fresh), "first": self._told_rows},
            **{"strings": self._strings[first:until], "strings_from": first},
        }
        body = [columns[name][fresh].tobytes() for name, _ in IDENTITY]
        body.append(places.astype("<u4").tobytes())
        body += [columns[name][places].tobytes() for name, _ in CHANGING]
        self._is_reset, self._told_rows, self._told_strings = False, last, until
        return Message(header, b"".join(body))

    # ------------------------------------------------------------------ looking

    def facts(self) -> dict[str, Any]:
        """Return what the head of a view shows."""
        left = self.seconds_left
        return {
            **{"counts": self.counts, "retries": self.retries, "workers": self.workers},
            **{"now": self.now, "rate": round(self.rate, 3)},
            "left": None if left is None else round(left, 1),
        }

    @property
    def total(self) -> int:
        """How many tasks the cluster knows."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """How many have ended."""
        return sum(self.counts[state] for state in ("succeeded", "failed", "cancelled"))

    @property
    def retries(self) -> int:
        """How often tasks were repeated, over all rows."""
        count = len(self._ids)
        kept = self._columns["state"][:count] != GONE
        return int(self._columns["retries"][:count].sum(where=kept, dtype=np.int64))

    def _note_rate(self) -> None:
        history = self._history
        if history and self.done < history[-1][1]:
            history.clear()  # retention has forgotten some
        history.append((self.now, self.done))
        while len(history) > 2 and history[1][0] < self.now - _RATE_S:
            history.popleft()

    @property
    def rate(self) -> float:
        """Tasks that ended a second, of late."""
        if len(self._history) < 2:
            return 0.0
        (since, before), (until, after) = self._history[0], self._history[-1]
        return (after - before) / (until - since) if until > since else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all have ended, if it goes on like this."""
        rate, todo = self.rate, self.total - self.done
        return todo / rate if rate > 0 and todo else None

    def row(self, place: int) -> Row:
        """Return one row."""
        c = {name: column[place].item() for name, column in self._columns.items()}
        started = self.origin + (c["started"] - 1) / 100 if c["started"] else 0.0
        duration: float | None = None if np.isnan(c["duration"]) else c["duration"]
        if c["state"] == _RUNNING and started:
            duration = max(0.0, self.now - started)
        strings = self._strings
        return Row(
            *(self._ids[place], strings[c["name"]], STATES[c["state"]]),
            *(c["attempts"], c["retries"], strings[c["engine"]]),
            *(started, duration, strings[c["error"]]),
        )

    def worth_telling(self, limit: int, state: str | None = None) -> list[Row]:
        """Return the rows, all or those in one state, that people look for first.

        Those that failed, then those at work, then the most repeated, then the slowest.
        """
        count = len(self._ids)
        c = {name: column[:count] for name, column in self._columns.items()}
        rank = np.full(count, 3, np.int8)
        rank[c["state"] == _RUNNING] = 2
        rank[c["state"] == _RETRYING] = 1
        rank[c["state"] == _FAILED] = 0
        wanted = c["state"] != GONE if state is None else c["state"] == STATES.index(state)
        kept = np.flatnonzero(wanted)
        keys = (-np.nan_to_num(c["duration"]), -c["retries"].astype(np.int64), rank)
        chosen = kept[np.lexsort([key[kept] for key in keys])[:limit]]
        return [self.row(int(place)) for place in chosen]
