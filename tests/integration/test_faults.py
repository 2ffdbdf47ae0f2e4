"""Processes that die under load: nothing is lost, nothing runs twice that need not."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import nbcluster
from nbcluster import Backoff, Cluster, Future
from nbcluster.transport.rundir import cluster_dir
from tests.conftest import Up
from tests.helpers import eventually, executor_pids, has_ended
from tests.integration import calls

END_S: Final = 40.0


def kill(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    process = psutil.Process(pid)
    process.kill()
    eventually(lambda: has_ended(process))


def kill_master(cluster: Cluster) -> None:
    kill(int(cluster.stats()["master_pid"]))


@pytest.fixture
def start_again(up: Up, tmp_path: Path) -> Callable[[Cluster], Cluster]:
    """Return a function that starts a cluster on the journal of one whose master is dead."""

    def start(old: Cluster, engines: int = 2) -> Cluster:
        return up(engines, name=old.name, journal=journal_of(tmp_path))

    return start


def journal_of(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def leftovers() -> Iterator[list[str]]:
    """Return a list for names of clusters; their large results, kept for a next start, go."""
    names: list[str] = []
    yield names
    for name in names:
        cluster_dir(name).remove()


@pytest.fixture
def journaled(leftovers: list[str], up: Up, tmp_path: Path) -> Cluster:
    """Return a cluster of two engines whose journal outlives it."""
    cluster = up(2, journal=journal_of(tmp_path))
    leftovers.append(cluster.name)
    return cluster


def results(futures: list[Future[Any]]) -> list[Any]:
    concurrent.futures.wait(futures, END_S)
    return [future.result(0) for future in futures]


# --------------------------------------------------------------------------- an engine dies


def test_all_tasks_succeed_when_an_engine_is_killed_among_200_of_50_ms(up: Up) -> None:
    cluster = up(2)
    engines = set(cluster.engines().index)
    futures = [cluster.submit(calls.slowly, 0.05, i) for i in range(200)]
    eventually(lambda: cluster.stats()["succeeded"] >= 20)

    killed = sorted(engines)[0]
    kill(int(cluster.engines().loc[killed, "pid"]))

    assert results(futures) == list(range(200))
    eventually(lambda: len(cluster.engines()) == 2)
    assert killed not in cluster.engines().index
    tasks = cluster.tasks()
    assert tasks.crashes.sum() <= 1  # it had one slot
    assert (tasks.attempts == tasks.crashes + 1).all()
    assert (tasks.retries == 0).all()


def test_the_executors_of_a_killed_engine_are_gone_with_it(up: Up) -> None:
    cluster = up(1)
    executor = cluster.submit(os.getpid).result(END_S)
    future = cluster.submit(time.sleep, 60)
    eventually(future.running)

    kill(int(cluster.engines().pid.iloc[0]))

    eventually(lambda: not psutil.pid_exists(executor))
    assert future.cancel()


def test_an_engine_that_is_stopped_for_a_while_keeps_its_tasks(up: Up) -> None:
    cluster = up(1)
    pid = int(cluster.engines().pid.iloc[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        # Executors talk to the master themselves.
        assert results([cluster.submit(calls.double, i) for i in range(100)]) == [
            2 * i for i in range(100)
        ]
    finally:
        os.kill(pid, signal.SIGCONT)

    assert cluster.tasks().attempts.eq(1).all()


def test_an_engine_that_was_given_up_and_comes_back_runs_tasks_again(up: Up) -> None:
    cluster = up(1)
    pid = int(cluster.engines().pid.iloc[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: cluster.engines().empty, 40)
    finally:
        os.kill(pid, signal.SIGCONT)

    assert cluster.submit(calls.double, 21).result(20) == 42
    assert cluster.engines().pid.tolist() == [pid]


def test_many_executors_that_die_at_once_cost_only_what_they_ran(up: Up) -> None:
    cluster = up(2, slots=2)
    futures = [cluster.submit(calls.slowly, 0.02, i) for i in range(200)]
    eventually(lambda: cluster.stats()["succeeded"] >= 10)

    for pid in executor_pids(cluster):
        os.kill(pid, signal.SIGKILL)

    assert results(futures) == list(range(200))
    assert cluster.tasks().crashes.sum() <= 4
    assert len(cluster.engines()) == 2


# --------------------------------------------------------------------------- the master dies


def test_every_future_resolves_when_the_master_is_killed_under_load(
    journaled: Cluster, start_again: Callable[[Cluster], Cluster]
) -> None:
    pid = journaled.stats()["master_pid"]
    futures = []
    for i in range(6000):
        futures.append(journaled.submit(calls.double, i))
        if i == 3000:
            os.kill(pid, signal.SIGKILL)

    new = start_again(journaled)

    assert results(futures) == [2 * i for i in range(6000)]
    assert new.stats()["epoch"] == 2
    assert len(new.tasks()) == 6000
    assert set(new.tasks().state) == {"succeeded"}


def test_the_master_may_be_killed_twice(
    journaled: Cluster, start_again: Callable[[Cluster], Cluster]
) -> None:
    futures = [journaled.submit(calls.double, i) for i in range(2000)]
    kill_master(journaled)
    futures += [journaled.submit(calls.double, i) for i in range(2000, 3000)]
    second = start_again(journaled)
    futures += [second.submit(calls.double, i) for i in range(3000, 4000)]
    kill_master(second)
    futures += [journaled.submit(calls.double, i) for i in range(4000, 5000)]

    third = start_again(second)

    assert results(futures) == [2 * i for i in range(5000)]
    assert third.stats()["epoch"] == 3
    assert len(third.tasks()) == 5000


def test_engines_come_back_with_what_they_run_and_nothing_runs_twice(
    journaled: Cluster,
    start_again: Callable[[Cluster], Cluster],
    gate: Path,
    tmp_path: Path,
) -> None:
    ran = tmp_path / "ran"
    engines = set(journaled.engines().index)
    futures = [journaled.submit(calls.append_when, str(gate), str(ran), str(i)) for i in range(4)]
    eventually(lambda: journaled.stats()["running"] == 2)

    kill_master(journaled)
    new = start_again(journaled)
    gate.touch()

    assert results(futures) == ["0", "1", "2", "3"]
    assert sorted(ran.read_text().split()) == ["0", "1", "2", "3"]
    assert set(new.tasks().attempts) == {1}
    assert set(new.engines().index) == engines


def test_what_an_engine_finished_while_there_was_no_master_counts(
    journaled: Cluster,
    start_again: Callable[[Cluster], Cluster],
    gate: Path,
    tmp_path: Path,
) -> None:
    ran = tmp_path / "ran"
    future = journaled.submit(calls.append_when, str(gate), str(ran), "once")
    eventually(future.running)
    kill_master(journaled)
    gate.touch()
    eventually(ran.exists)

    start_again(journaled)

    assert future.result(END_S) == "once"
    assert (future.attempts, ran.read_text()) == (1, "once\n")


def test_dead_letters_attempts_and_results_survive_a_restart(
    journaled: Cluster, start_again: Callable[[Cluster], Cluster], tmp_path: Path
) -> None:
    failed = journaled.options(retries=1, backoff=Backoff(0)).submit(
        calls.fail_until, str(tmp_path / "calls"), 2
    )
    crashed = journaled.options(max_crashes=2).submit(os._exit, 3)
    large = journaled.submit(bytes, 5_000_000)
    assert isinstance(failed.exception(END_S), OSError)
    assert isinstance(crashed.exception(END_S), nbcluster.TaskCrashedError)
    large.exception(END_S)
    before = journaled.tasks()
    kill_master(journaled)

    new = start_again(journaled)

    columns = ["name", "state", "attempts", "retries", "crashes", "cause", "error", "finished_at"]
    assert new.tasks()[columns].equals(before[columns])
    assert set(new.dead_letters().index) == {failed.id, crashed.id}
    assert len(new.attempts(failed)) == len(new.attempts(crashed)) == 2
    assert isinstance(new.future(failed.id).exception(END_S), OSError)
    (again,) = new.redrive(failed)
    assert again.result(END_S) == 3


def test_a_task_that_waited_for_its_backoff_goes_on_after_a_restart(
    journaled: Cluster, start_again: Callable[[Cluster], Cluster], tmp_path: Path
) -> None:
    future = journaled.options(retries=3, backoff=Backoff(1.0)).submit(
        calls.fail_until, str(tmp_path / "calls"), 1
    )
    eventually(lambda: future.state == "retrying")
    kill_master(journaled)

    start_again(journaled)

    assert future.result(END_S) == 2
    assert (future.attempts, future.retries) == (2, 1)


def test_keys_dependencies_and_groups_survive_a_restart(
    journaled: Cluster, start_again: Callable[[Cluster], Cluster], gate: Path
) -> None:
    first = journaled.options(key="k").submit(calls.wait_for, str(gate), 1)
    after = journaled.options(after=[first]).submit(len, "ab")
    elsewhere = journaled.options(group="gpu").submit(len, "abc")
    eventually(first.running)
    kill_master(journaled)

    new = start_again(journaled)
    again = new.options(key="k").submit(calls.wait_for, str(gate), 1)
    gate.touch()
    new.scale(1, group="gpu")

    assert results([first, again, after, elsewhere]) == [1, 1, 2, 3]
    assert again.id == first.id


def test_while_there_is_no_master_futures_say_so_and_submit_does_not_wait(
    journaled: Cluster, start_again: Callable[[Cluster], Cluster]
) -> None:
    kill_master(journaled)

    future = journaled.submit(len, "ab")

    eventually(lambda: "has ended" in future.why())
    assert journaled.name in future.why()
    assert future.state == "pending"
    start_again(journaled)
    assert future.result(END_S) == 2


def test_engine_and_master_may_die_together(
    journaled: Cluster, start_again: Callable[[Cluster], Cluster]
) -> None:
    futures = [journaled.submit(calls.slowly, 0.02, i) for i in range(100)]
    eventually(lambda: journaled.stats()["succeeded"] >= 10)
    engine = int(journaled.engines().pid.iloc[0])
    os.kill(int(journaled.stats()["master_pid"]), signal.SIGKILL)
    kill(engine)

    new = start_again(journaled)

    assert results(futures) == list(range(100))
    eventually(lambda: len(new.engines()) == 2)
    assert new.tasks().crashes.sum() <= 1
