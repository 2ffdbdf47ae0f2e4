"""Decides over what people ask for: cancel, redrive, watch, release."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nbcluster.core import records as r
from nbcluster.core.engines import revoke
from nbcluster.core.events import (
    CancelAsked,
    ClientCame,
    ClientGone,
    KillOrder,
    News,
    RedriveAsked,
    ReleaseAsked,
    Step,
    WatchAsked,
    ended,
    moved,
)
from nbcluster.core.finishing import settle, tell_moved
from nbcluster.core.memo import Memo, Timer
from nbcluster.core.model import TERMINAL, State, Task
from nbcluster.core.retention import unspare
from nbcluster.core.state import ClusterState

_ENDED_BADLY: Final = (State.FAILED, State.CANCELLED)


def decide_cancel(
    state: ClusterState, memo: Memo, event: CancelAsked, now: float, step: Step
) -> Iterator[r.Record]:
    """Cancel tasks, whatever they do. What runs is stopped; its result counts no more."""
    held: set[str] = set()
    kills: list[KillOrder] = []
    for asked in event.tasks:
        name = memo.aliases.get(asked, asked)
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
    for name in _in_order(state, event.tasks):
        task = state.tasks[name]
        if task.state is State.RETRYING:
            yield r.Woken(name)
            tell_moved(memo, task, step)
            event.successors[name] = name
        elif task.state in (State.FAILED, State.CANCELLED) and not task.successor:
            after = [_latest(state, dependency) for dependency in sorted(task.after)]
            bad = [x for x in after if x not in state.tasks or state.tasks[x].state in _ENDED_BADLY]
            if bad:
                event.refused[name] = bad[0]
                continue
            waits = tuple(x for x in after if state.tasks[x].state not in TERMINAL)
            successor = _successor_of(state, name)
            yield r.Redriven(name, successor, event.client or task.client, waits)
            event.successors[name] = successor
            expires = task.template.options.expires
            if expires is not None:
                memo.at(now + expires, Timer.EXPIRE, successor)


def _in_order(state: ClusterState, names: list[str]) -> dict[str, None]:
    """Return the names that are known, each after those that it waits for."""
    stack = [name for name in reversed(names) if name in state.tasks]
    wanted = set(stack)
    found: dict[str, None] = {}
    while stack:
        after = [_latest(state, name) for name in sorted(state.tasks[stack[-1]].after)]
        before = [name for name in after if name in wanted and name not in found]
        if before:
            stack += before
        else:
            found[stack.pop()] = None
    return found


def _latest(state: ClusterState, name: str) -> str:
    """Return the task that took the place of ``name``, itself if none did."""
    while name in state.tasks and state.tasks[name].successor:
        name = state.tasks[name].successor
    return name


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
            hint = "It was never accepted, or ended so long ago that retention has dropped it."
            news.refused.append((name, "UnknownIdError", ("task", name, hint)))
        elif task.state in TERMINAL:
            news.ended.append(ended(task))
        else:
            if event.client != task.client:
                memo.watchers.setdefault(name, set()).add(event.client)
            if task.state is not State.PENDING or task.attempts or task.crashes:
                news.moved.append(moved(task))
    note_holder(state, memo, event.client, news)  # before others let go of them in this turn
    return iter(())


def note_holder(state: ClusterState, memo: Memo, client: str, news: News) -> None:
    """Take note of the results in shared buffers that a client is told of: it may map them."""
    for end in news.ended if client in memo.clients else ():
        if end.blobs and end.task in state.tasks:  # else it was forgotten in this turn
            memo.holders.setdefault(end.task, set()).add(client)


def decide_release(
    state: ClusterState, memo: Memo, event: ReleaseAsked, now: float, step: Step
) -> Iterator[r.Record]:
    """A client has dropped results: their shared buffers go when nobody else holds them.

    Who uses a key again is to get the same result, so such buffers stay as long as their task.
    """
    for name in event.tasks:
        task = state.tasks.get(name)
        if task is not None and task.state in TERMINAL and task.result_blobs:
            if not task.key:
                memo.released.add(name)
            _let_go(state, memo, task, event.client, step)
    return iter(())


def decide_client_came(
    state: ClusterState, memo: Memo, event: ClientCame, now: float, step: Step
) -> Iterator[r.Record]:
    """A client is here: what it is told of it holds."""
    memo.clients.add(event.client)
    return iter(())


def decide_client_gone(
    state: ClusterState, memo: Memo, event: ClientGone, now: float, step: Step
) -> Iterator[r.Record]:
    """A client is gone, and holds nothing any more. What nobody let go of stays for the next."""
    memo.clients.discard(event.client)
    for name in [n for n, holders in memo.holders.items() if event.client in holders]:
        _let_go(state, memo, state.tasks[name], event.client, step)
    return iter(())


def _let_go(state: ClusterState, memo: Memo, task: Task, client: str, step: Step) -> None:
    holders = memo.holders.get(task.id, set())
    holders.discard(client)
    if not holders:
        memo.holders.pop(task.id, None)
        unspare(state, memo, task)
        if task.id in memo.released:
            memo.released.remove(task.id)
            step.garbage.extend(task.result_blobs)
