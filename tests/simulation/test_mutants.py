"""Who tests the tests? Each entry plants one bug in the core; the tests must find it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.mutant import FOUND, LIVES

ROOT: Final = Path(__file__).parents[2]

#: what the bug does -> module, what stands there, what is planted
MUTANTS: Final[dict[str, tuple[str, str, str]]] = {
    "counts a result of a lost lease": (
        "finishing",
        "if task is None or task.token != outcome.token or task.state in TERMINAL:",
        "if task is None or task.state in TERMINAL:",
    ),
    "runs a task sent again": (
        "submitting",
        "if new.id in state.tasks:",
        "if new.id in state.tasks and state.tasks[new.id].state in TERMINAL:",
    ),
    "charges what was only held": (
        "finishing",
        "if token == event.token and not event.expected:",
        "if not event.expected:",
    ),
    "never wakes a retrying task": (
        "finishing",
        "memo.at(task.due, Timer.WAKE, task.id)",
        "pass",
    ),
    "loses revoked leases": (
        "engines",
        'yield from give_back(memo, task, "revoked", step)\n            else:\n'
        "                _forget_lease(state, executor, token)\n    executor.cost_s",
        "yield from ()\n            else:\n"
        "                _forget_lease(state, executor, token)\n    executor.cost_s",
    ),
    "leaves a cancelled task in its queue": (
        "state",
        "        self._unqueue(task)\n        self._end(task, CANCELLED, now)",
        "        self._end(task, CANCELLED, now)",
    ),
    "has no limit of crashes": (
        "finishing",
        "task.crashes + 1 >= options.max_crashes",
        "task.crashes >= 1_000",
    ),
    "never meets a dependency": (
        "finishing",
        "yield r.DependencyMet(name, first.id)",
        "pass",
    ),
    "does not fail what waits for a failure": (
        "finishing",
        "                over.append(dependent)",
        "                pass",
    ),
    "uses the number of an attempt again that was given back": (
        "state",
        "if record.started_at:",
        "if False:",
    ),
    "uses tokens again after a restart": (
        "dispatch",
        "state.epoch << EPOCH_SHIFT | state.dispatched",
        "state.dispatched",
    ),
    "runs at-most-once tasks again": (
        "finishing",
        "        elif task.template.options.at_most_once:",
        "        elif False:",
    ),
    "retries once too often": (
        "finishing",
        "task.retries < task.template.options.retries",
        "task.retries <= task.template.options.retries",
    ),
    "revokes what has begun": (
        "engines",
        "if event.begun < token <= event.watermark:",
        "if token <= event.watermark:",
    ),
    "gives a suspect engine work": (
        "dispatch",
        "if engine.state is EngineState.ACTIVE and engine.slots:",
        "if engine.slots:",
    ),
    "never gives up a silent engine": (
        "timing",
        "if silent_s >= limits.lost_s:",
        "if silent_s >= 1e9:",
    ),
    "blames engines for an absence of the master": (
        "timing",
        "if leapt_s or (due is not None and now - due > AWAY_S):",
        "if False:",
    ),
    "puts what comes back to the tail": (
        "state",
        "self.queue_of(task).push_front(task)",
        "self.queue_of(task).push(task)",
    ),
    "keeps the slot of a result that counts no more": (
        "finishing",
        "lease = executor.leases.pop(outcome.token, None) if executor is not None else None",
        "lease = None",
    ),
    "forgets the keys of nobody": (
        "state",
        "if task.key and self.keys.get(task.key) == name:",
        "if False:",
    ),
    "does not stop what was cancelled before a restart": (
        "engines",
        "if token and (task is None or task.state in TERMINAL):",
        "if False:",
    ),
    "forgets leases lost on the way": (
        "engines",
        "        if token in held:\n            continue",
        "        if True:\n            continue",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    module, old, new = MUTANTS[name]
    command = [
        sys.executable,
        "-m",
        "tests.simulation.mutant",
        f"nbcluster.core.{module}",
        old,
        new,
    ]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == FOUND, f"{name}: {done.stdout[-500:]}{done.stderr[-500:]}"


def test_without_a_planted_bug_nothing_is_found() -> None:
    line = "if new.id in state.tasks:"
    module = "nbcluster.core.submitting"
    command = [sys.executable, "-m", "tests.simulation.mutant", module, line, line]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == LIVES, done.stdout[-500:]
