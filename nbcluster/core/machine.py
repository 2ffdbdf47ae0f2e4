"""One turn of the master, decided.

``handle`` takes all that came in during a turn, and ``now``; it returns the records to make
durable and the messages to send after that. It waits for nothing, reads no clock, opens no
socket, draws no random number: every crash and race can be replayed in a test, from a list.

The order inside a turn: new tasks, results, everything rare in the order of its arrival, timers,
and last the dispatch, which so sees every slot that became free and every task that came.
Results go before the rare events because a death is told over another connection than the
results that were sent before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from nbcluster.core import control, engines
from nbcluster.core import events as e
from nbcluster.core import records as r
from nbcluster.core.dispatch import decide_dispatch
from nbcluster.core.finishing import decide_executor_end, decide_outcomes
from nbcluster.core.memo import Limits, Memo, Timer
from nbcluster.core.model import TERMINAL, EngineState, State
from nbcluster.core.restoring import refill_queues
from nbcluster.core.retention import plan_retention
from nbcluster.core.state import ClusterState
from nbcluster.core.submitting import decide_submissions
from nbcluster.core.timing import decide_timers, excuse

Decider = Callable[[ClusterState, Memo, Any, float, e.Step], Iterator[r.Record]]

_DECIDERS: Final[dict[type, Decider]] = {
    e.EngineCame: engines.decide_engine_came,
    e.EngineBeat: engines.decide_beat,
    e.EngineDied: engines.decide_engine_end,
    e.EngineLeft: engines.decide_engine_end,
    e.ExecutorCame: engines.decide_executor_came,
    e.ExecutorEnded: decide_executor_end,
    e.RevokeAnswered: engines.decide_revoked,
    e.SetupAnswered: engines.decide_setup_answered,
    e.SetupAsked: engines.decide_setup_asked,
    e.CancelAsked: control.decide_cancel,
    e.RedriveAsked: control.decide_redrive,
    e.WatchAsked: control.decide_watch,
    e.ReleaseAsked: control.decide_release,
    e.ClientCame: control.decide_client_came,
    e.ClientGone: control.decide_client_gone,
    e.DrainAsked: engines.decide_drain,
    e.SlotsAsked: engines.decide_slots,
    e.ScaleAsked: engines.decide_scale,
    e.RestartAsked: engines.decide_restart,
}


class Machine:
    """The state of a cluster and the rules by which it changes."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.state = ClusterState()
        self.memo = Memo(limits or Limits())

    def handle(self, batch: e.Batch, now: float, leapt_s: float = 0.0) -> e.Step:
        """Take in all that came during one turn and return what must follow.

        Parameters
        ----------
        batch
            What came in.
        now
            The time, in seconds since the epoch; never goes back.
        leapt_s
            By how much it went forward, since the last turn, while nothing ran.
        """
        state, memo = self.state, self.memo
        step = e.Step()
        excuse(state, memo, now, leapt_s)
        if batch.submissions:
            self._take(decide_submissions(state, memo, batch.submissions, now, step), now, step)
        if batch.outcomes:
            self._take(decide_outcomes(state, memo, batch.outcomes, now, step), now, step)
        for event in batch.rare:
            self._take(_DECIDERS[type(event)](state, memo, event, now, step), now, step)
        self._take(decide_timers(state, memo, now, step), now, step)
        if batch.outcomes or batch.rare:
            for engine in state.engines.values():
                if engine.state is EngineState.DRAINING:
                    engines.leave_if_drained(engine, step)
        self._take(decide_dispatch(state, memo, now, step), now, step)
        for client, news in step.news.items():
            control.note_holder(state, memo, client, news)
        return step

    def _take(self, records: Iterator[r.Record], now: float, step: e.Step) -> None:
        apply, keep = self.state.apply, step.records.append
        for record in records:
            apply(record, now)
            keep(record)

    def due(self, now: float) -> float | None:
        """Return when the next turn is due at the latest; None: when something comes."""
        timer = self.memo.due()
        retention = plan_retention(self.state, self.memo, now)
        known = [t for t in (timer, retention) if t is not None]
        return min(known, default=None)

    def begin(self, epoch: int, now: float) -> list[r.Record]:
        """Begin an epoch, after the replay: queues are filled and timers set again."""
        state, memo = self.state, self.memo
        refill_queues(state)
        memo.begun_at = now
        memo.sweep_bytes = sum(len(known.blob) for known in state.definitions.values())
        record = r.MasterStarted(epoch)
        state.apply(record, now)
        for task in state.tasks.values():
            if task.state in TERMINAL:
                continue
            options = task.template.options
            if task.state is State.RETRYING:
                memo.at(task.due, Timer.WAKE, task.id)
            elif task.state is State.RUNNING:
                memo.untimed.add(task.token)
            elif options.expires is not None:
                memo.at(task.submitted_at + options.expires, Timer.EXPIRE, task.id)
        if state.engines:
            memo.at(now + memo.limits.suspect_s, Timer.ENGINES)
        for engine in state.engines.values():
            if engine.state is EngineState.DRAINING:
                memo.at(now + memo.limits.drain_s, Timer.DRAIN, engine.id)
        return [record]

    def replay(self, records: Iterable[tuple[r.Record, float]]) -> None:
        """Apply what a journal holds."""
        self.state.replaying = True
        for record, now in records:
            self.state.apply(record, now)
