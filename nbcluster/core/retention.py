"""Which ended tasks leave: those too old, and of too many, or too large ones, the oldest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from nbcluster.core import records as r
from nbcluster.core.events import Step
from nbcluster.core.memo import Memo
from nbcluster.core.model import Task, kept_bytes
from nbcluster.core.state import ClusterState

#: Forgetting is done in portions of at least this many, so that it costs little for each task.
FORGET_AT_ONCE = 500
_FORGET_PER_TURN = 5_000
#: ... or this part of the tasks, or of the bytes, that may be kept.
FORGET_PART = 16


def decide_forgotten(state: ClusterState, memo: Memo, now: float, step: Step) -> Iterator[r.Record]:
    """Let ended tasks leave; those whose buffers a client is to read stay until it has them."""
    gone = list(_surplus(state, memo, now))
    for _ in gone:
        state.ended.popleft()
    held = [task for task in gone if task.id in memo.holders]
    for task in held:
        memo.spared.add(task.id)
        memo.spared_bytes += kept_bytes(task)
    if len(gone) == len(held):
        return
    leaving = [task for task in gone if task.id not in memo.spared]
    for task in leaving:
        step.garbage.extend(task.result_blobs)
        step.garbage.extend(task.blobs)
        memo.watchers.pop(task.id, None)
        memo.released.discard(task.id)
    yield r.Forgotten(tuple(task.id for task in leaving))


def _surplus(state: ClusterState, memo: Memo, now: float) -> Iterator[Task]:
    """Give the first of the ended tasks, as long as there are too many."""
    limits, order = memo.limits, state.ended
    if not order:
        return
    surplus = len(order) - limits.retention_tasks
    spare_bytes = limits.retention_bytes - (state.ended_bytes - memo.spared_bytes)
    too_old = now - state.tasks[order[0]].finished_at >= limits.retention_s
    at_once = min(FORGET_AT_ONCE, max(1, limits.retention_tasks // FORGET_PART))
    if surplus < at_once and spare_bytes >= 0 and not too_old:
        return
    if spare_bytes < 0:  # some more, so that it is not done again in the next turn
        spare_bytes -= limits.retention_bytes // FORGET_PART
    for name in islice(order, _FORGET_PER_TURN):
        task = state.tasks[name]
        old = now - task.finished_at >= limits.retention_s
        if not old and surplus <= 0 and spare_bytes >= 0:
            return
        surplus -= 1
        spare_bytes += kept_bytes(task)
        yield task


def unspare(state: ClusterState, memo: Memo, task: Task) -> None:
    """No client is to read the buffers of this task any more: it leaves as others do."""
    if task.id in memo.spared:
        memo.spared.remove(task.id)
        memo.spared_bytes -= kept_bytes(task)
        state.ended.appendleft(task.id)


def plan_retention(state: ClusterState, memo: Memo, now: float) -> float | None:
    """Return when the oldest ended task becomes too old."""
    if not state.ended:
        return None
    first = state.tasks.get(state.ended[0])
    return None if first is None else first.finished_at + memo.limits.retention_s
