"""The whole automaton of a task: from which states a record may move it."""

from __future__ import annotations

from typing import Final

from nbcluster.core import records as r
from nbcluster.core.model import State

PENDING, RUNNING, RETRYING, SUCCEEDED, FAILED, CANCELLED = State

_OPEN: Final = frozenset({State.PENDING, State.RUNNING, State.RETRYING})

#: The whole automaton: from which states a record may move a task.
LEGAL: Final[dict[type, frozenset[State]]] = {
    r.Leased: frozenset({PENDING}),
    r.Started: frozenset({PENDING}),
    r.Released: frozenset({PENDING, RUNNING}),
    r.Succeeded: frozenset({PENDING, RUNNING}),
    r.Retrying: frozenset({PENDING, RUNNING}),
    r.Woken: frozenset({RETRYING}),
    r.Crashed: frozenset({PENDING, RUNNING}),
    r.Failed: _OPEN,
    r.Cancelled: _OPEN,
    r.DependencyMet: frozenset({PENDING}),
    r.Progressed: frozenset({RUNNING}),
    r.Redriven: frozenset({FAILED, CANCELLED}),
}
