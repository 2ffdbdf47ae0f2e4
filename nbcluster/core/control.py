"""Decides over what people ask for: cancel, redrive, watch, release."""

from __future__ import annotations

from collections.abc import Iterator

from nbcluster.core import records as r
from nbcluster.core.engines import revoke
from nbcluster.core.events import (
    CancelAsked,
    KillOrder,
    RedriveAsked,
    ReleaseAsked,
    Step,
    WatchAsked,
    ended,
    moved,
)
from nbcluster.core.finishing import settle, tell_moved
from nbcluster.core.memo import Memo, Timer
from nbcluster.core.model import TERMINAL, State
from nbcluster.core.state import ClusterState


def decide_cancel(
    state: ClusterState, memo: Memo, event: CancelAsked, now: float, step: Step
) -> Iterator[r.Record]:
    """Cancel tasks, whatever they do. What runs is stopped; its result counts no more."""
    held: set[str] = set()
    kills: list[KillOrder] = []
    for name in event.tasks:
        task = state.tasks.get(name)
        if task is None or task.state in TERMINAL:
            continue
        memo.timed_out.pop(task.token, None)
        executor = state.executors.get(task.executor) if task.token else None
        if executor is not None:
            kills.append(KillOrder(executor.engine, executor.id, task.token, "cancel"))
            if task.state is not State.RUNNING:
                held.add(executor.id)
        yield r.Cancelled(name)
        event.cancelled.append(name)
        yield from settle(state, memo, task, now, step)
    # First the watermarks: what has not begun by then never will, and what has is killed.
    for executor_id in held:
        revoke(state.executors[executor_id], step)
    step.orders.extend(kills)


def decide_redrive(
    state: ClusterState, memo: Memo, event: RedriveAsked, now: float, step: Step
) -> Iterator[r.Record]:
    """Put dead letters back as new tasks, so that each task still ends exactly once."""
    for name in event.tasks:
        task = state.tasks.get(name)
        if task is None:
            continue
        if task.state is State.RETRYING:
            yield r.Woken(name)
            tell_moved(memo, task, step)
            event.successors[name] = name
        elif task.state in (State.FAILED, State.CANCELLED) and not task.successor:
            successor = _successor_of(state, name)
            yield r.Redriven(name, successor, event.client or task.client)
            event.successors[name] = successor
            expires = task.template.options.expires
            if expires is not None:
                memo.at(now + expires, Timer.EXPIRE, successor)


def _successor_of(state: ClusterState, name: str) -> str:
    base, mark, count = name.rpartition("~")
    if not mark or not count.isdecimal():
        base, count = name, "0"
    number = int(count) + 1
    while f"{base}~{number}" in state.tasks:  # ids are the clients' to choose
        number += 1
    return f"{base}~{number}"


def decide_watch(
    state: ClusterState, memo: Memo, event: WatchAsked, now: float, step: Step
) -> Iterator[r.Record]:
    """Tell a client where its tasks are, and from now on what becomes of them."""
    news = step.news_for(event.client)
    for name in event.tasks:
        task = state.tasks.get(name)
        if task is None:
            hint = "It was forgotten by retention, or never accepted."
            news.refused.append((name, "UnknownIdError", ("task", name, hint)))
        elif task.state in TERMINAL:
            news.ended.append(ended(task))
        else:
            if event.client != task.client:
                memo.watchers.setdefault(name, set()).add(event.client)
            if task.state is not State.PENDING or task.attempts or task.crashes:
                news.moved.append(moved(task))
    return
    yield  # decides nothing on record, and is a generator like its siblings


def decide_release(
    state: ClusterState, memo: Memo, event: ReleaseAsked, now: float, step: Step
) -> Iterator[r.Record]:
    """Let go of shared buffers that the client has mapped and dropped."""
    for name in event.tasks:
        task = state.tasks.get(name)
        if task is not None and task.state in TERMINAL:
            step.garbage.extend(task.result_blobs)
    return
    yield  # decides nothing on record, and is a generator like its siblings
