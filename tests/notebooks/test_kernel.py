"""What happens to a cluster when its kernel is interrupted, killed or restarted."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

import psutil
import pytest

import nbcluster
from nbcluster.transport.rundir import cluster_dir
from tests.helpers import eventually, note_clusters
from tests.notebooks.kernels import Kernel, kernel

GONE_S: Final = 5.0  #: the promise to the user
_NUMBERS: Final = count(1)

START: Final = """
import os, time, nbcluster
cluster = nbcluster.start(engines=2, name={name!r}, persist={persist})
"""


@pytest.fixture
def ipython(tmp_path: Path) -> Iterator[Kernel]:
    """Return a kernel of this test alone."""
    with kernel(tmp_path) as found:
        yield found


@pytest.fixture
def name() -> str:
    """Return the name of a cluster that does not exist."""
    return f"kernel-{os.getpid()}-{next(_NUMBERS)}"


def start(ipython: Kernel, name: str, *, persist: bool = False) -> set[int]:
    """Start a cluster in the kernel; return its processes."""
    ipython.run(START.format(name=name, persist=persist))
    note_clusters()
    return processes(ipython)


def processes(ipython: Kernel) -> set[int]:
    engines = ipython.value("cluster.engines()[['pid', 'executor_pid']].values.ravel().tolist()")
    return {ipython.value("cluster.stats()['master_pid']"), *engines}


def wait_until_running(name: str, number: int) -> None:
    cluster = nbcluster.connect(name)
    try:
        eventually(lambda: cluster.stats()["running"] == number)
    finally:
        cluster.close()


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if psutil.pid_exists(pid)}


def payloads(name: str) -> list[Path]:
    return [path for path in cluster_dir(name).blobs.glob("**/*") if path.is_file()]


def assert_all_is_gone(name: str, pids: set[int]) -> None:
    where = cluster_dir(name)
    eventually(lambda: not alive(pids), GONE_S, lambda: f"alive: {alive(pids)}")
    eventually(lambda: not where.path.exists(), GONE_S)
    assert not where.blobs.exists()


def kill(ipython: Kernel) -> None:
    os.kill(ipython.value("os.getpid()"), signal.SIGKILL)


# --------------------------------------------------------------------------- interrupts


def test_an_interrupt_ends_a_wait_for_a_result_and_harms_no_task(
    ipython: Kernel, name: str
) -> None:
    pids = start(ipython, name)
    cell = ipython.begin("waited = cluster.submit(time.sleep, 60); waited.result()")
    wait_until_running(name, 1)

    ipython.interrupt()

    outcome = ipython.outcome(cell)
    assert (outcome["status"], outcome["ename"]) == ("error", "KeyboardInterrupt")
    assert ipython.value("cluster.submit(len, 'ab').result(10)") == 2
    assert ipython.value("waited.state") == "running"
    assert alive(pids) == pids
    assert ipython.value("[waited.cancel(), waited.attempts]") == [True, 1]
    assert processes(ipython) == pids


def test_interrupts_at_any_time_lose_no_task(ipython: Kernel, name: str) -> None:
    start(ipython, name)
    ipython.run(
        "futures = []\n"
        "def go():\n"
        "    while True:\n"
        "        futures.append(cluster.submit(pow, len(futures), 2))\n"
        "        if len(futures) % 100 == 0: futures[-1].result()\n"
    )

    for _ in range(5):
        before = ipython.value("len(futures)")
        cell = ipython.begin("go()")
        wait_for_more(name, before)
        ipython.interrupt()
        assert ipython.outcome(cell)["ename"] == "KeyboardInterrupt"

    assert ipython.value("all(f.result(20) == i * i for i, f in enumerate(futures))")
    assert ipython.value("len(cluster.tasks(state='open'))") == 0


def wait_for_more(name: str, before: int) -> None:
    cluster = nbcluster.connect(name)
    try:
        eventually(lambda: cluster.stats()["succeeded"] > before + 150)
    finally:
        cluster.close()


# --------------------------------------------------------------------------- deaths


def test_a_killed_busy_kernel_takes_everything_with_it(ipython: Kernel, name: str) -> None:
    pids = start(ipython, name)
    ipython.run(
        "kept = cluster.submit(bytes, 20_000_000); kept.exception()\n"
        "sent = cluster.submit(len, bytearray(20_000_000))\n"
        "sleeper = cluster.submit(time.sleep, 60)"
    )
    wait_until_running(name, 1)
    pid = ipython.value("os.getpid()")
    ipython.begin("while True: pass")
    assert alive(pids) == pids

    os.kill(pid, signal.SIGKILL)

    assert_all_is_gone(name, pids)


def test_a_restarted_busy_kernel_can_start_its_cluster_again(ipython: Kernel, name: str) -> None:
    pids = start(ipython, name)
    ipython.begin("cluster.submit(time.sleep, 60).result()")
    wait_until_running(name, 1)

    ipython.restart()

    eventually(lambda: not alive(pids), GONE_S)
    start(ipython, name)
    assert ipython.value("cluster.submit(len, 'ab').result(10)") == 2
    assert ipython.value("len(cluster.tasks())") == 1


def test_a_kernel_that_is_shut_down_stops_its_cluster(tmp_path: Path, name: str) -> None:
    with kernel(tmp_path) as ipython:
        pids = start(ipython, name)

    assert_all_is_gone(name, pids)


# --------------------------------------------------------------------------- persistence


def test_a_persistent_cluster_outlives_its_kernel_and_another_goes_on(
    ipython: Kernel, name: str, tmp_path: Path
) -> None:
    pids = start(ipython, name, persist=True)
    gate = tmp_path / "gate"
    ipython.run(
        "def slow(path):\n"
        "    while not os.path.exists(path): time.sleep(0.01)\n"
        "    return 'late'\n"
        f"f = cluster.options(name='slow').submit(slow, {str(gate)!r})\n"
        "big = cluster.options(name='big').submit(bytes, 20_000_000); big.exception()"
    )
    wait_until_running(name, 1)

    ipython.restart()
    ipython.run(f"import nbcluster; cluster = nbcluster.connect({name!r})")

    try:
        assert processes(ipython) == pids
        assert ipython.value("cluster.future('slow').state") == "running"
        gate.touch()
        assert ipython.value("cluster.future('slow').result(10)") == "late"
        assert ipython.value("cluster.future('slow').attempts") == 1
        assert ipython.value("len(cluster.future('big').result(10))") == 20_000_000
    finally:
        ipython.run("cluster.stop()")
    assert_all_is_gone(name, pids)
