"""Somebody sets the clock of the machine: what is due stays due when it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from nbcluster.transport.rundir import cluster_dir

#: Loaded by every process of the cluster, before anything of ours: sets their clock.
SITECUSTOMIZE: Final = """
import os, time

def shown(time=time.time, path=os.environ["SET_BY"]):
    with open(path) as file:
        return time() + float(file.read() or 0)

time.time = shown
"""

OWNER: Final = """
import json, os, sys, time
import nbcluster
from tests.helpers import eventually
from tests.integration import calls

END_S, HOUR_S, SLACK_S = 30.0, 3600.0, 60.0
name, word, gate, never = sys.argv[1:]

def set_clock(by_s):
    with open(os.environ["SET_BY"] + ".new", "w") as file:
        file.write(str(by_s))
    os.rename(file.name, os.environ["SET_BY"])

def ended(options, fn, *args):
    future = cluster.options(**options).submit(fn, *args)
    return type(future.exception(END_S)).__name__, future.retries

def is_running(future):
    return 0 < (future.duration or 0) < SLACK_S

def live():
    told = {}
    before = cluster.options(timeout=10 * SLACK_S).submit(calls.talk_between, word, gate)
    eventually(before.running)
    engines = set(cluster.engines().index)

    set_clock(-HOUR_S)
    told["retried"] = ended({"retries": 1, "backoff": nbcluster.Backoff(0.1)}, calls.divide, 1, 0)
    told["too long"] = ended({"timeout": 0.2}, calls.wait_for, never)
    told["too late"] = ended({"expires": 0.2, "group": "none"}, len, "")
    eventually(lambda: is_running(before))
    open(word, "w").close()
    eventually(lambda: before.stdout == "hello\\n")  # what runs is looked at as before
    other = nbcluster.connect(name)  # has seen nothing of the clock before it was set
    eventually(lambda: is_running(other.future(before.id)))
    other.close()

    set_clock(HOUR_S)
    told["plain"] = ended({}, len, "")
    open(gate, "w").close()
    told["before"] = before.result(END_S), before.attempts
    told["same engines"] = set(cluster.engines().index) == engines
    table = cluster.tasks()
    times = table[["submitted_at", "started_at", "finished_at"]].dropna()
    ordered = times.submitted_at.le(times.started_at) & times.started_at.le(times.finished_at)
    told["order"] = bool(ordered.all())
    short = table.drop(before.id).duration_s.dropna()
    told["durations"] = bool((short < SLACK_S).all())
    told["last"] = bool(table.submitted_at.max().timestamp() > time.time() - SLACK_S)
    return told

cluster = nbcluster.start(2, name=name)
try:
    told = live()
finally:
    for path in word, gate:
        open(path, "w").close()  # or what waits for it would be waited for
    cluster.shutdown()
print(json.dumps(told))
"""


@pytest.fixture
def name() -> Iterator[str]:
    """Return the name of a cluster of which nothing is left after the test."""
    name = f"clock{os.getpid()}"
    yield name
    cluster_dir(name).remove()


def test_backoff_timeout_and_expiry_go_on_though_the_clock_is_set_back_and_forward(
    name: str, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
    (tmp_path / "set-by").touch()
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([str(site), root, os.environ.get("PYTHONPATH", "")])
    files = [str(tmp_path / file) for file in ("word", "gate", "never")]
    command = [sys.executable, "-c", OWNER, name, *files]

    owner = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path, "SET_BY": str(tmp_path / "set-by")},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert owner.returncode == 0, owner.stderr
    assert json.loads(owner.stdout) == {
        "retried": ["ZeroDivisionError", 1],
        "too long": ["TaskTimeoutError", 0],
        "too late": ["TaskExpiredError", 0],
        "plain": ["NoneType", 0],
        "before": ["whole", 1],
        "same engines": True,
        "order": True,
        "durations": True,
        "last": True,
    }
