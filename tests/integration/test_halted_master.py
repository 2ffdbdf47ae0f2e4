"""A master that somebody halted, as by SIGSTOP, and that will not go on."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil
import pytest

import nbcluster
from nbcluster import Cluster
from nbcluster.client import asking, silence
from nbcluster.cluster.owning import take_in_dead
from nbcluster.errors import ClusterTimeoutError, MasterLostError, NbclusterWarning, TaskKeptError
from nbcluster.transport.rundir import cluster_dir
from tests.conftest import Up
from tests.helpers import eventually, has_ended
from tests.integration import calls

END_S: Final = 20.0
#: Less than a question that is not answered takes.
SOON_S: Final = 15.0


def halt_master(cluster: Cluster) -> psutil.Process:
    master = psutil.Process(int(cluster.stats()["master_pid"]))
    master.suspend()
    eventually(lambda: master.status() == psutil.STATUS_STOPPED)
    return master


def fail_in_a_with_block(cluster: Cluster) -> None:
    with pytest.raises(ZeroDivisionError), cluster:
        calls.divide(1, 0)


@pytest.mark.parametrize(
    "end",
    [
        lambda cluster: cluster.shutdown(cancel_futures=True),
        lambda cluster: cluster.stop(),
        fail_in_a_with_block,
    ],
    ids=["cancelling", "stop", "with"],
)
def test_a_cluster_of_our_own_ends_soon(
    up: Up, gate: Path, end: Callable[[Cluster], object]
) -> None:
    cluster = up(1)
    future = cluster.submit(calls.wait_for, str(gate))
    eventually(future.running)
    engine = psutil.Process(int(cluster.engines().pid.iloc[0]))
    executors = engine.children()
    master = halt_master(cluster)
    began = time.monotonic()

    with pytest.warns(NbclusterWarning, match=f"pid {master.pid}.* was halted") as told:
        end(cluster)

    assert time.monotonic() - began < SOON_S
    assert len(told) == 1
    assert isinstance(future.exception(0), MasterLostError)
    assert all(map(has_ended, [master, engine, *executors]))
    assert not cluster_dir(cluster.name).path.exists()


def test_the_warning_names_the_line_that_ends_the_cluster(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SILENT_S", 0.1)
    cluster = up(0)
    halt_master(cluster)

    with pytest.warns(NbclusterWarning) as told, cluster:
        pass

    assert told[0].filename == __file__


def test_what_is_open_is_kept_if_that_is_asked_for(
    up: Up, home: Path, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SILENT_S", 0.1)
    cluster = up(1, name="kept")
    future = cluster.submit(calls.wait_for, str(gate), 7)
    eventually(future.running)
    halt_master(cluster)

    with pytest.warns(NbclusterWarning, match="was halted"):
        cluster.stop(keep=True)

    assert isinstance(future.exception(0), TaskKeptError)
    gate.touch()
    assert up(1, name="kept").future(future.id).result(END_S) == 7


def test_a_drain_and_a_cluster_that_is_not_our_own_leave_it_alone(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "SILENT_S", 0.1)
    cluster = up(1)
    other = nbcluster.connect(cluster.name)
    master = halt_master(cluster)

    for handle, mode in ((cluster, "drain"), (other, "now")):
        with pytest.raises(ClusterTimeoutError):
            handle._stop(mode, timeout=0.3)

    assert master.status() == psutil.STATUS_STOPPED
    master.resume()

    def is_taken_in() -> bool:  # not at once: the first thread of a process may end before others
        take_in_dead()
        return not psutil.pid_exists(master.pid)

    eventually(is_taken_in)  # it has heard both
    other.close()


def test_who_waits_is_told_that_the_master_is_halted(
    up: Up, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "STUCK_S", 0.1)
    cluster = up(1)
    master = halt_master(cluster)
    future = cluster.submit(len, "ab")

    with pytest.raises(TimeoutError):
        future.result(1.5)

    assert f"kill -CONT {master.pid}" in caplog.text
    master.resume()
    assert future.result(END_S) == 2


def is_gone(pid: str) -> bool:
    try:
        return has_ended(psutil.Process(int(pid)))
    except psutil.NoSuchProcess:
        return True


ENDS: Final = """
import nbcluster, psutil
cluster = nbcluster.start(1, name="ends")
master = psutil.Process(cluster.stats()["master_pid"])
print(master.pid, *cluster.engines().pid)
master.suspend()
"""


def test_a_program_that_ends_takes_it_along(home: Path) -> None:
    began = time.monotonic()

    ended = subprocess.run(
        [sys.executable, "-c", ENDS], check=True, timeout=60, capture_output=True, text=True
    )

    assert time.monotonic() - began < SOON_S
    assert "was halted, as by SIGSTOP" in ended.stderr
    assert all(map(is_gone, ended.stdout.split()))
    assert not cluster_dir("ends").path.exists()
