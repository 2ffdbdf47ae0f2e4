"""What each live view has not been told of yet: it asks a few times a second what has changed."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from nbcluster.core import records as r
from nbcluster.core import views
from nbcluster.core.model import State, Task
from nbcluster.core.state import ClusterState
from nbcluster.ids import engine_of
from nbcluster.journal.replay import touched

#: Rows in an answer.
PAGE: Final = 5_000
#: A view that has not asked for so long is closed.
_FORGET_S: Final = 60.0
_STATES: Final = {state: number for number, state in enumerate(State)}


@dataclass
class _Feed:
    """One view."""

    asked_at: float
    waiting: dict[str, None] = field(default_factory=dict)  #: tasks it is to be told of


class Feeds:
    """The views there are, by client and name."""

    def __init__(self) -> None:
        self._feeds: dict[str, _Feed] = {}

    def note(self, records: Iterable[r.Record], now: float) -> None:
        """Take note of what a turn has put on record."""
        if not self._feeds:
            return
        for name, feed in list(self._feeds.items()):
            if now - feed.asked_at > _FORGET_S:
                del self._feeds[name]
        names = dict.fromkeys(name for record in records for name in touched(record))
        for feed in self._feeds.values():
            feed.waiting.update(names)

    def answer(self, name: str, state: ClusterState, now: float, *, fresh: bool) -> dict[str, Any]:
        """Return a page of what one view has not been told of; with ``fresh`` begin with all."""
        feed = self._feeds.get(name)
        is_fresh = fresh or feed is None
        if feed is None or fresh:
            feed = self._feeds[name] = _Feed(now, dict.fromkeys(state.tasks))
        feed.asked_at = now
        some = list(islice(feed.waiting, PAGE))
        for task in some:
            del feed.waiting[task]
        found = [state.tasks[task] for task in some if task in state.tasks]
        return {
            "reset": is_fresh,
            "more": bool(feed.waiting),
            "now": now,
            "gone": [task for task in some if task not in state.tasks],
            "counts": {str(kind): count for kind, count in state.counts.items()},
            "workers": [_worker(row) for row in views.engine_rows(state, now)],
            **_columns(state, found),
        }


def _worker(row: tuple[Any, ...]) -> tuple[Any, ...]:
    by_name = dict(zip(views.ENGINE_COLUMNS, row, strict=True))
    return tuple(by_name[name] for name in ("id", "state", "slots", "running", "rss_mb", "pid"))


def _columns(state: ClusterState, tasks: list[Task]) -> dict[str, Any]:
    """Return rows as columns; numbers as bytes, so that nobody makes objects of them."""
    return {
        "ids": [t.id for t in tasks],
        "names": [views.name_of(state, t) for t in tasks],
        "groups": [t.template.options.group for t in tasks],
        "engines": [engine_of(t.executor) if t.attempts else "" for t in tasks],
        "errors": [views.error_of(t) for t in tasks],
        "states": bytes(_STATES[t.state] for t in tasks),
        "attempts": array("I", [t.attempts for t in tasks]).tobytes(),
        "retries": array("I", [t.retries for t in tasks]).tobytes(),
        "crashes": array("I", [t.crashes for t in tasks]).tobytes(),
        "priority": array("i", [t.template.options.priority for t in tasks]).tobytes(),
        "progress": array("f", [_progress(t) for t in tasks]).tobytes(),
        "submitted": array("d", [t.submitted_at for t in tasks]).tobytes(),
        "started": array("d", [t.started_at if t.attempts else 0.0 for t in tasks]).tobytes(),
        "finished": array("d", [t.finished_at for t in tasks]).tobytes(),
    }


def _progress(task: Task) -> float:
    share = views.progress_of(task)
    return math.nan if share is None else share
