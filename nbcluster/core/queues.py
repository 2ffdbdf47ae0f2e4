"""The pending tasks of one group: by priority with ageing, first in, first out inside.

Cancelled and expired tasks are not searched for: they stay where they are until they come to the
front, or until half of the queue is such tasks; then it is swept.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from nbcluster.core.model import State, Task

#: Waiting this long is worth one point of priority, so that nothing starves.
AGEING_S: Final = 60.0
_SWEEP_AT: Final = 1_000


class TaskQueue:
    """Tasks that wait for a free executor. ``len`` counts those that still do."""

    __slots__ = ("_lanes", "_stale", "_waiting")

    def __init__(self) -> None:
        self._lanes: dict[int, deque[Task]] = {}
        self._waiting = 0
        self._stale = 0

    def __len__(self) -> int:
        return self._waiting

    def push(self, task: Task) -> None:
        """Put a task at the tail of its priority."""
        self._lane(task).append(task)
        self._waiting += 1

    def push_front(self, task: Task) -> None:
        """Put a task that comes back through no fault of its own before all of its priority.

        Of those that came back, the older goes first: so the order is that after a restart.
        """
        lane, place = self._lane(task), 0
        for other in lane:  # only what came back before it can be older: mostly nothing is
            if (other.queued_at, other.seq) > (task.queued_at, task.seq):
                break
            place += 1
        lane.insert(place, task)
        self._waiting += 1

    def discard(self) -> None:
        """Take note that one of the queued tasks is pending no more."""
        self._waiting -= 1
        self._stale += 1
        if self._stale > _SWEEP_AT and self._stale > self._waiting:
            self._sweep()

    def peek(self, now: float) -> Task | None:
        """Return the task whose turn it is, and leave it there."""
        lane = self._best_lane(now)
        return lane[0] if lane else None

    def pop(self, now: float) -> Task | None:
        """Take out the task whose turn it is."""
        lane = self._best_lane(now)
        if not lane:
            return None
        self._waiting -= 1
        return lane.popleft()

    def take(self, task: Task) -> None:
        """Take out the task that `peek` has just returned."""
        self._waiting -= 1
        self._lanes[task.template.options.priority].popleft()

    def _lane(self, task: Task) -> deque[Task]:
        priority = task.template.options.priority
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
        return lane

    def _best_lane(self, now: float) -> deque[Task] | None:
        if len(self._lanes) == 1:  # nearly always, and this is asked for each task
            for lane in self._lanes.values():
                if lane and lane[0].state is State.PENDING:
                    return lane
        best, best_rank = None, 0.0
        for priority, lane in tuple(self._lanes.items()):
            while lane and lane[0].state is not State.PENDING:
                lane.popleft()
                self._stale -= 1
            if not lane:
                if len(self._lanes) > 1:  # the last one stays: most clusters know one priority
                    del self._lanes[priority]
                continue
            rank = priority + (now - lane[0].queued_at) / AGEING_S
            if best is None or rank > best_rank:
                best, best_rank = lane, rank
        return best

    def _sweep(self) -> None:
        for priority, lane in self._lanes.items():
            self._lanes[priority] = deque(t for t in lane if t.state is State.PENDING)
        self._stale = 0
