"""The promises, judged from outside after every turn."""

from __future__ import annotations

from collections import Counter

from nbcluster.core.model import TERMINAL, State, kept_bytes
from nbcluster.core.state import ClusterState
from tests.unit.core.story import order_of


def check_state(state: ClusterState) -> None:
    """Look whether all tables of the state tell the same."""
    tasks = state.tasks.values()
    counted = Counter(task.state for task in tasks)
    assert {s: n for s, n in state.counts.items() if n} == dict(counted)
    assert state.ended_bytes == sum(kept_bytes(t) for t in tasks if t.state in TERMINAL)
    assert sorted(state.ended) == sorted(t.id for t in tasks if t.state in TERMINAL)
    _check_queues(state)
    _check_leases(state)
    for key, name in state.keys.items():
        assert state.tasks[name].key == key
    dead = {t.id for t in tasks if t.state is State.FAILED and not t.successor}
    assert set(state.dead_letters) == dead
    for task in tasks:
        if task.state is State.PENDING:
            for dependency in task.after:
                assert state.tasks[dependency].state not in TERMINAL, "waits for ever"
                assert task.id in state.dependents[dependency]


def _check_queues(state: ClusterState) -> None:
    expected: dict[tuple[str, str], set[str]] = {}
    for task in state.tasks.values():
        if task.state is State.PENDING and not task.token and not task.after:
            options = task.template.options
            place = ("pin", options.pin) if options.pin else ("group", options.group)
            expected.setdefault(place, set()).add(task.id)
    found = {}
    for kind, table in (("pin", state.pins), ("group", state.queues)):
        for name, queue in table.items():
            order = order_of(queue, 0.0)
            assert len(order) == len(set(order)), "twice in its queue"
            assert len(queue) == len(order)
            if order:
                found[kind, name] = set(order)
    assert found == expected


def _check_leases(state: ClusterState) -> None:
    holders = Counter(token for x in state.executors.values() for token in x.leases)
    assert not holders or max(holders.values()) == 1, "two executors hold one lease"
    for task in state.tasks.values():
        assert task.state is not State.RUNNING or task.token
        assert task.state is not State.RETRYING or not task.token
        if task.token and task.state not in TERMINAL:
            assert state.executors[task.executor].leases[task.token] is task
    for executor in state.executors.values():
        for token, task in executor.leases.items():
            assert task.token == token, "a lease of a task that is leased elsewhere"
            assert task.state not in (State.SUCCEEDED, State.RETRYING)
    for engine in state.engines.values():
        mine = {x.id: x for x in state.executors.values() if x.engine == engine.id}
        assert engine.executors == mine
        loads = [t.template.options.load for x in mine.values() for t in x.leases.values()]
        assert engine.load == sum(loads)
