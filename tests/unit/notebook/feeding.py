"""Changes of tasks as a master tells them, made from plain rows; and a browser's side of it."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbcluster.client.feed import STATES, Changes
from nbcluster.notebook.view.store import CHANGING, GONE, IDENTITY, NO_NUMBER, Message

NOW = 1_700_000_000.0


@dataclass
class Task:
    """One row of the master's."""

    id: str
    state: str = "pending"
    name: str = "f"
    engine: str = ""
    error: str = ""
    attempts: int = 0
    retries: int = 0
    progress: float = math.nan
    started: float = 0.0
    finished: float = 0.0


def changes(
    tasks: Sequence[Task],
    *,
    known: Iterable[Task] | None = None,
    gone: Sequence[str] = (),
    reset: bool = False,
    now: float = NOW,
) -> Changes:
    """Return what a feed tells of ``tasks``, where ``known`` (these by default) are all."""
    zeros = array("I", [0] * len(tasks)).tobytes()
    return Changes(
        reset=reset,
        more=False,
        now=now,
        gone=list(gone),
        counts=dict(Counter(t.state for t in (tasks if known is None else known))),
        workers=[("e1", "active", 2, 1, 50.2, 1234)],
        ids=[t.id for t in tasks],
        names=[t.name for t in tasks],
        groups=["default"] * len(tasks),
        engines=[t.engine for t in tasks],
        errors=[t.error for t in tasks],
        states=bytes(STATES.index(t.state) for t in tasks),
        attempts=array("I", [t.attempts for t in tasks]).tobytes(),
        retries=array("I", [t.retries for t in tasks]).tobytes(),
        crashes=zeros,
        priority=zeros,
        progress=array("f", [t.progress for t in tasks]).tobytes(),
        submitted=array("d", [NOW - 100.0] * len(tasks)).tobytes(),
        started=array("d", [t.started for t in tasks]).tobytes(),
        finished=array("d", [t.finished for t in tasks]).tobytes(),
    )


@dataclass
class Reader:
    """Takes messages in as the front end does."""

    strings: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    head: dict[str, Any] = field(default_factory=dict)
    told: int = 0  #: rows, over all messages

    def take(self, messages: Iterable[Message]) -> None:
        """Take some in.

        Raises
        ------
        AssertionError
            If something before one of them is missing.
        """
        for message in messages:
            head = self.head = message.header
            if head["reset"]:
                self.strings, self.rows = [], []
            assert head["first"] == len(self.rows)
            assert head["strings_from"] == len(self.strings)
            self.strings += head["strings"]
            self._take_rows(head, message.body)

    def _take_rows(self, head: dict[str, Any], body: bytes) -> None:
        at = 0

        def cut(kind: str, count: int) -> Any:
            nonlocal at
            assert at % np.dtype(kind).itemsize == 0  # a typed array can begin here
            part = np.frombuffer(body, kind, count, at)
            at += part.nbytes
            return part

        identity = {name: cut(kind, head["fresh"]) for name, kind in IDENTITY}
        self.rows += [
            {name: column[i].item() for name, column in identity.items()}
            for i in range(head["fresh"])
        ]
        places = cut("<u4", head["rows"])
        for name, kind in CHANGING:
            for place, value in zip(places, cut(kind, head["rows"]), strict=True):
                self.rows[place][name] = value.item()
        assert at == len(body)
        self.told += head["rows"]

    def tasks(self) -> dict[str, tuple[Any, ...]]:
        """Return name, state, retries, engine and error of each task, by its id."""
        found = {}
        for row in self.rows:
            if row["state"] == GONE:
                continue
            task = self.strings[row["prefix"]]
            if row["number"] != NO_NUMBER:
                task += f"-{row['number']}"
            texts = (self.strings[row[name]] for name in ("name", "engine", "error"))
            found[task] = (*texts, STATES[row["state"]], row["retries"])
        return found


def shown(tasks: Iterable[Task]) -> dict[str, tuple[Any, ...]]:
    """Return what a front end must know of tasks."""
    return {t.id: (t.name, t.engine, t.error[:200], t.state, t.retries) for t in tasks}
