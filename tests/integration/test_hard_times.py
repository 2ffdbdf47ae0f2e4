"""Interrupts, races, full disks, engines that cannot live: nothing is lost, and all is told."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import nbcluster
from nbcluster import Cluster
from nbcluster.transport.rundir import cluster_dir
from tests.conftest import Up
from tests.helpers import eventually, executor_pids
from tests.integration import calls
from tests.integration.small_disk import run_on_a_small_disk

END_S: Final = 40.0


def results(futures: list[nbcluster.Future[Any]]) -> list[Any]:
    concurrent.futures.wait(futures, END_S)
    return [future.result(0) for future in futures]


@pytest.fixture
def name() -> Iterator[str]:
    """Return the name of a cluster of which nothing is left after the test."""
    name = f"hard{os.getpid()}"
    yield name
    cluster_dir(name).remove()


# --------------------------------------------------------------------------- owners

OWNER: Final = """
import signal, sys, time, nbcluster
from tests.integration import calls
signal.signal(signal.SIGINT, lambda *_: None)
cluster = nbcluster.start(1, name=sys.argv[1])
future = cluster.submit(calls.wait_for, sys.argv[2], "whole")
while not future.running(): time.sleep(0.01)
print("runs", flush=True)
print(future.result(), future.attempts, future.crashes, flush=True)
"""


def test_an_interrupt_of_the_owners_whole_process_group_reaches_no_process_of_the_cluster(
    name: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    command = [sys.executable, "-c", OWNER, name, str(gate)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "runs\n"
        family = psutil.Process(owner.pid).children(recursive=True)

        for _ in range(3):
            os.killpg(owner.pid, signal.SIGINT)
        gate.touch()

        assert owner.stdout.readline() == "whole 1 0\n"
        assert owner.wait(20) == 0
    assert len(family) == 3  # master, engine, executor: none was replaced


# --------------------------------------------------------------------------- clients that stop

STOPPED: Final = """
import sys, nbcluster
from tests.integration import calls
cluster = nbcluster.connect(sys.argv[1])
cluster.submit(calls.wait_for, sys.argv[2])
inline = [cluster.submit(calls.bytes_of, 900_000) for _ in range(150)]
shared = [cluster.submit(calls.bytes_of, 3_000_000) for _ in range(4)]
small = [cluster.submit(calls.double, x) for x in range(2_000)]
cluster.stats()  # the master has them all
print("ready", flush=True)
sys.stdin.readline()
right = sum(len(f.result()) in (900_000, 3_000_000) for f in inline + shared)
print(right, sum(f.result() for f in small), flush=True)
"""


def test_a_client_that_is_stopped_loses_nothing_that_ended_meanwhile(
    up: Up, name: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    watcher = up(1, name=name, retention_tasks=100, retention_bytes=1 << 20)
    command = [sys.executable, "-c", STOPPED, name, str(gate)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        os.kill(client.pid, signal.SIGSTOP)
        try:
            gate.touch()
            eventually(lambda: not any(watcher.stats()[x] for x in ("pending", "running")), END_S)
        finally:
            os.kill(client.pid, signal.SIGCONT)
        client.stdin.write("go on\n")
        client.stdin.flush()

        assert client.stdout.readline() == f"154 {2 * sum(range(2_000))}\n"
        assert client.wait(20) == 0


STARTER: Final = """
import os, sys, nbcluster
print("ready", flush=True)
while not os.path.exists(sys.argv[2]): pass
cluster = nbcluster.start(1, name=sys.argv[1], persist=True)
print(cluster.submit(len, "ab").result(20), cluster.stats()["master_pid"], flush=True)
cluster.close()
"""


def test_starts_at_the_same_moment_meet_in_one_cluster(name: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", STARTER, name, str(gate)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]

    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"

    gate.touch()
    said = [starter.communicate(timeout=60)[0].split() for starter in starters]

    nbcluster.connect(name).stop()
    assert [starter.returncode for starter in starters] == [0, 0, 0]
    assert [value for value, _ in said] == ["2"] * 3
    assert len({pid for _, pid in said}) == 1


# --------------------------------------------------------------------------- races


def test_a_cancel_that_meets_the_begin_leaves_nothing_running(up: Up) -> None:
    cluster = up(2)
    executors = executor_pids(cluster)

    for round_ in range(100):
        futures = [cluster.submit(calls.slowly, 5.0, i) for i in range(3)]
        if round_ % 3 == 0:
            eventually(lambda fs=futures: any(f.running() for f in fs))  # type: ignore[misc]
        assert all([future.cancel() for future in futures])

    assert cluster.submit(len, "ab").result(END_S) == 2
    eventually(lambda: not cluster.stats()["running"])
    assert cluster.stats()["cancelled"] == 300
    assert executor_pids(cluster) == executors


# --------------------------------------------------------------------------- restarts


def test_large_arguments_and_results_outlive_a_stop_that_keeps_them(
    up: Up, name: str, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.db"
    before = up(0, name=name, journal=journal, persist=True)
    data = os.urandom(3_000_000)
    waiting = before.submit(calls.first_and_size, data)
    before.stop(keep=True)

    after = up(1, name=name, journal=journal)

    assert after.future(waiting.id).result(END_S) == (data[0], 3_000_000)


# --------------------------------------------------------------------------- engines


def test_engines_that_die_again_and_again_are_told_of_and_a_scale_tries_once_more(
    up: Up,
) -> None:
    cluster = up(1)
    eventually(lambda: _is_given_up_after_kills(cluster), 60)

    future = cluster.submit(len, "ab")

    eventually(lambda: "die" in future.why(), message=future.why)
    assert "scale" in future.why()
    cluster.scale(1)
    assert future.result(END_S) == 2


def _is_given_up_after_kills(cluster: Cluster) -> bool:
    for pid in cluster.engines().pid:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(int(pid)).kill()
    log = cluster_dir(cluster.name).logs / "master.log"
    return "engines die as soon as they start" in log.read_text()


# --------------------------------------------------------------------------- a full disk

ON_A_SMALL_DISK: Final = """
import os, signal, sys, time, nbcluster
from tests.helpers import eventually
from tests.integration import calls
disk, name = sys.argv[1:]
ballast = os.path.join(disk, "ballast")
open(ballast, "wb").write(bytes(800_000))
cluster = nbcluster.start(1, name=name, journal=os.path.join(disk, "journal.db"), persist=True)
accepted, refused = [], None
def submit():
    global refused
    future = cluster.options(group="later").submit(calls.size, os.urandom(20_000))
    told = lambda: next((w for w in ("pending", "disk") if w in future.why()), "")
    word = eventually(lambda: future.done() or told(), 20, future.why)
    if future.done(): refused = future.exception()
    elif word == "pending": accepted.append(future.id)  # else it waits for room in the master
    return refused is not None
eventually(submit, 60)
print("refused:", type(refused).__name__, str(refused).replace("\\n", " "), flush=True)
assert len(accepted) > 2, accepted
os.kill(int(cluster.stats()["master_pid"]), signal.SIGKILL)
os.unlink(ballast)
again = nbcluster.start(1, name=name, journal=os.path.join(disk, "journal.db"), persist=True)
known = set(again.tasks().index)
print("lost:", [t for t in accepted if t not in known], flush=True)
again.scale(1, group="later")
print("values:", {again.future(t).result(20) for t in accepted}, flush=True)
print("goes on:", again.submit(len, "ab").result(20), flush=True)
again.stop()
"""


def test_on_a_full_disk_new_work_is_refused_and_nothing_accepted_is_lost_with_the_master(
    home: Path, tmp_path: Path
) -> None:
    said, everything = run_on_a_small_disk(ON_A_SMALL_DISK, tmp_path, "small")

    assert "disk" in said.get("refused", ""), everything
    assert (said.get("lost"), said.get("values")) == ("[]", "{20000}"), everything
    assert said.get("goes on") == "2", everything
