"""The state after a restart: tasks from snapshots, and what is on no record, made anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from nbcluster.core import records as r
from nbcluster.core.automaton import FAILED, PENDING
from nbcluster.core.model import NOTHING, TERMINAL, Task, kept_bytes
from nbcluster.core.state import ClusterState


def restore_task(state: ClusterState, task: Task) -> None:
    """Put in a task from a snapshot, with all that hangs on it."""
    number = state.template_numbers.get(task.template)
    if number is not None:
        task.template = state.templates[number]  # one object for all that share it
    task.after = task.after or NOTHING
    state.insert(task)
    state.submitted = max(state.submitted, task.seq)
    if task.state is FAILED and not task.successor and task.template.options.dead_letter:
        state.dead_letters[task.id] = None
    if task.token and task.state not in TERMINAL:
        state.lease(task, r.Leased(task.id, task.token, task.executor), task.queued_at)


def refill_queues(state: ClusterState) -> None:
    """Fill the queues after a replay, in the order in which tasks came to wait."""
    state.replaying = False
    state.queues.clear()
    state.pins.clear()
    state.dependents = {}
    for task in state.tasks.values():
        for dependency in task.after if task.state is PENDING else ():
            state.dependents.setdefault(dependency, []).append(task.id)
    waiting: Iterable[Task] = (
        t for t in state.tasks.values() if t.state is PENDING and not t.token and not t.after
    )
    for task in sorted(waiting, key=lambda t: (t.queued_at, t.seq)):
        state.queue_of(task).push(task)
    gone = sorted(
        (t for t in state.tasks.values() if t.state in TERMINAL), key=lambda t: t.finished_at
    )
    state.ended = deque(t.id for t in gone)
    state.ended_bytes = sum(map(kept_bytes, gone))
