"""What the master remembers and need not keep: timers, pace of functions, who watches what."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from nbcluster.core.model import Task

#: Weight of the newest duration in the running mean.
_NEWEST: Final = 0.3
_PACE_LIMIT: Final = 10_000


class Timer(IntEnum):
    """What is looked at when a time has come."""

    WAKE = 1  #: a retrying task goes on
    TIMEOUT = 2  #: an attempt has run for too long
    EXPIRE = 3  #: a task has waited for too long
    STALL = 4  #: an executor may be stuck on a long task with others behind it
    ENGINES = 5  #: an engine may be silent
    DRAIN = 6  #: an engine has drained for long enough
    RETENTION = 7  #: ended tasks may leave
    ABSENT = 8  #: an executor was not named by its engine


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and times that the cluster was started with."""

    max_pending: int = 0  #: open tasks at the most; 0: no limit
    retention_s: float = 86_400.0
    retention_tasks: int = 100_000
    retention_bytes: int = 1 << 30  #: of ended tasks, by `kept_bytes`
    suspect_s: float = 9.0  #: silence after which an engine gets no new work
    lost_s: float = 15.0  #: silence after which it is given up
    drain_s: float = 25.0  #: time for running attempts to end


@dataclass(slots=True)
class Memo:
    """Things that are learned again after a restart."""

    limits: Limits = field(default_factory=Limits)
    timers: list[tuple[float, int, Timer, str, int]] = field(default_factory=list)
    pace_s: dict[str, float] = field(default_factory=dict)  #: by function: usual seconds
    watchers: dict[str, set[str]] = field(default_factory=dict)  #: task -> other clients
    clients: set[str] = field(default_factory=set)  #: that are here
    #: ended task with shared buffers -> clients here that were told so and have not let go of it
    holders: dict[str, set[str]] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)  #: tasks that one let go of while others hold
    aliases: dict[str, str] = field(default_factory=dict)  #: submitted -> task that had its key
    spared: set[str] = field(default_factory=set)  #: of those held, the ones retention would take
    spared_bytes: int = 0  #: that these keep, by `kept_bytes`
    timed_out: dict[int, str] = field(default_factory=dict)  #: token of a kill for time -> task
    untimed: set[int] = field(default_factory=set)  #: tokens of what ran before this master
    present: set[str] = field(default_factory=set)  #: engines that came in this epoch
    broken: str = ""  #: why no executor can run anything: the initializer's error
    named_at: dict[str, float] = field(default_factory=dict)  #: function -> last submission
    begun_at: float = 0.0  #: when this master began; what it found counts as named then
    sweep_at: int = 1_000  #: templates at which those that are not needed are looked for
    sweep_bytes: int = 0  #: of definitions: those that the last sweep left, and what came since
    sweep_after: float = 0.0  #: when the next sweep may be
    sweep_wait_s: float = 0.0  #: from the last sweep to that
    setup_deaths: int = 0  #: executors that ended in their setups since one got through
    worked: int = 0  #: version of the setups that an executor has run
    failed_setups: dict[int, str] = field(default_factory=dict)  #: version -> how, where it can be
    #: done without
    old_blobs: list[str] = field(default_factory=list)  #: of setups that were replaced
    used: int = 0
    timer_count: int = 0
    purge_at: int = 10_000  #: timers at which those that came to nothing are looked for

    def at(self, due: float, kind: Timer, name: str = "", token: int = 0) -> None:
        """Have a look at ``name`` when ``due``."""
        self.timer_count += 1
        heapq.heappush(self.timers, (due, self.timer_count, kind, name, token))

    def put_off(self, kinds: Collection[Timer], by_s: float) -> None:
        """Have all looks of these kinds later."""
        self.timers[:] = [
            (due + by_s if kind in kinds else due, count, kind, name, token)
            for due, count, kind, name, token in self.timers
        ]
        heapq.heapify(self.timers)

    def due(self) -> float | None:
        """Return when the next look is due, None for never."""
        return self.timers[0][0] if self.timers else None

    def learn(self, fn: str, duration_s: float) -> None:
        """Take in how long an attempt of ``fn`` took."""
        known = self.pace_s.get(fn)
        if known is None:
            if len(self.pace_s) >= _PACE_LIMIT:
                self.pace_s.clear()
            self.pace_s[fn] = duration_s
        else:
            self.pace_s[fn] = known + _NEWEST * (duration_s - known)

    def audience(self, task: Task) -> set[str]:
        """Return the clients that want news of ``task``."""
        others = self.watchers.get(task.id)
        return {task.client} if others is None else others | {task.client}
