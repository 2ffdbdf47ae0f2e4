"""Whatever a task leaves behind in its process, the tasks after it find it fit for use."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import nbcluster
from nbcluster import Cluster
from nbcluster.transport.rundir import cluster_dir
from tests.conftest import Up
from tests.helpers import eventually, run_processes
from tests.integration import habits

END_S: Final = 20.0

pytestmark = pytest.mark.usefixtures("cluster_goes_on")


def executor_of(cluster: Cluster) -> int:
    """Return the process of the only executor."""
    return cluster.submit(os.getpid).result(END_S)


# --------------------------------------------------------------------------- the process


@pytest.mark.parametrize("habit", habits.HABITS, ids=lambda habit: habit.__name__)
def test_a_habit_costs_neither_its_task_nor_its_executor_nor_a_later_task(
    one: Cluster, habit: Callable[[], str]
) -> None:
    executor = executor_of(one)

    future = one.submit(habit)
    after = [one.submit(habits.speak, str(i)) for i in range(5)]

    assert future.result(END_S) == "done"
    assert [f.result(END_S) for f in after] == list("01234")
    assert [f.stdout.split()[-1] for f in after] == list("01234")
    assert {f.crashes for f in (future, *after)} == {0}
    assert one.submit(habits.is_unwatched).result(END_S)
    stuck = one.submit(time.sleep, 60)
    eventually(stuck.running)
    assert stuck.cancel()
    assert executor_of(one) == executor  # an interrupt was enough


def test_what_a_detached_stream_was_given_arrives(one: Cluster) -> None:
    future = one.submit(habits.detach_stdout)

    assert future.result(END_S) == "done"
    assert future.stdout == "through a wrapper of its own\n"


@pytest.mark.parametrize("program", [habits.nest_json, habits.nest_repr])
def test_what_is_too_deep_for_c_code_is_an_exception(
    one: Cluster, program: Callable[[], str]
) -> None:
    executor = executor_of(one)

    assert isinstance(one.submit(program).exception(END_S), RecursionError)

    assert executor_of(one) == executor


@pytest.mark.parametrize("code", [0, 3, "a text", None])
def test_an_exit_is_an_exception_whatever_its_code(one: Cluster, code: Any) -> None:
    executor = executor_of(one)

    error = one.submit(exit_with, code).exception(END_S)

    assert isinstance(error, SystemExit)
    assert error.code == code
    assert executor_of(one) == executor


def exit_with(code: Any) -> None:
    raise SystemExit(code)


def test_who_closes_the_pipe_of_orders_is_replaced_and_nobody_pays(one: Cluster) -> None:
    executor = executor_of(one)

    future = one.options(max_crashes=1).submit(habits.close_control)
    after = [one.options(max_crashes=1).submit(time.sleep, 0.1) for _ in range(5)]

    assert future.result(END_S) == "done"
    assert [f.result(END_S) for f in after] == [None] * 5
    assert executor_of(one) != executor


def test_the_first_executor_too_holds_no_pipe_but_those_of_its_supervisor(up: Up) -> None:
    assert up(1).submit(habits.count_pipes).result(END_S) == 2


def test_a_task_may_submit_to_its_own_cluster(up: Up) -> None:
    cluster = up(2)

    assert cluster.submit(habits.submit_to, cluster.name, 3).result(END_S) == 9


# --------------------------------------------------------------------------- stopped


def test_an_executor_that_is_stopped_while_idle_is_replaced_and_holds_no_task(
    one: Cluster,
) -> None:
    executor = executor_of(one)
    os.kill(executor, signal.SIGSTOP)

    future = one.submit(os.getpid)

    assert future.result(END_S) != executor
    assert (future.attempts, future.crashes) == (1, 0)
    eventually(lambda: executor not in {p.pid for p in run_processes()}, END_S)


def test_an_executor_that_is_stopped_in_an_attempt_ends_after_timeout_and_grace(
    one: Cluster,
) -> None:
    future = one.options(timeout=0.5).submit(time.sleep, 60)
    eventually(future.running)
    executor = int(one.engines().executor_pid.iloc[0])

    os.kill(executor, signal.SIGSTOP)

    assert isinstance(future.exception(END_S), nbcluster.TaskTimeoutError)
    assert future.crashes == 0
    assert executor_of(one) != executor


# --------------------------------------------------------------------------- memory


def test_a_task_that_wants_more_than_the_limit_gets_a_memory_error(up: Up) -> None:
    cluster = up(1, memory_limit=400 << 20)
    executor = executor_of(cluster)

    greedy = cluster.submit(habits.take_much, 2 << 30)
    modest = cluster.submit(habits.take_much, 1 << 20)

    assert isinstance(greedy.exception(END_S), MemoryError)
    assert modest.result(END_S) == 1 << 20
    assert (greedy.crashes, executor_of(cluster)) == (0, executor)


def test_arguments_that_want_more_than_the_limit_are_a_memory_error(up: Up) -> None:
    cluster = up(1, memory_limit=400 << 20)

    greedy = cluster.submit(len, habits.Swelling(2 << 30))

    assert isinstance(greedy.exception(END_S), MemoryError)
    assert cluster.tasks().loc[greedy.id, "cause"] == "exception"


def test_a_result_without_room_to_pickle_it_is_a_memory_error(up: Up) -> None:
    cluster = up(1, memory_limit=400 << 20)

    greedy = cluster.submit(habits.Hoarding)

    assert isinstance(greedy.exception(END_S), MemoryError)


# --------------------------------------------------------------------------- shared memory


def blobs_of(cluster: Cluster) -> set[str]:
    return {path.name for path in cluster_dir(cluster.name).blobs.iterdir()}


def share_result(cluster: Cluster) -> tuple[nbcluster.Future[bytes], str, Path]:
    """Return a result in shared memory, its buffer's name, and a free path of the same executor."""
    kept = cluster.submit(bytes, 5_000_000)
    kept.exception(END_S)
    (name,) = blobs_of(cluster)
    return kept, name, cluster_dir(cluster.name).blobs / (name.rpartition("-")[0] + "-77")


def test_what_a_dead_executor_left_in_shared_memory_goes_and_its_results_stay(up: Up) -> None:
    cluster = up(1)
    kept, name, left = share_result(cluster)

    crashed = cluster.options(max_crashes=1).submit(habits.write_file_and_die, str(left))

    assert isinstance(crashed.exception(END_S), nbcluster.TaskCrashedError)
    eventually(lambda: blobs_of(cluster) == {name})
    assert kept.result(END_S) == bytes(5_000_000)


def test_what_the_executors_of_a_dead_engine_left_in_shared_memory_goes(up: Up) -> None:
    cluster = up(1)
    kept, name, left = share_result(cluster)
    future = cluster.options(max_crashes=1).submit(habits.write_file_and_wait, str(left))
    eventually(left.exists)

    psutil.Process(int(cluster.engines().pid.iloc[0])).kill()

    assert isinstance(future.exception(END_S), nbcluster.TaskCrashedError)
    eventually(lambda: blobs_of(cluster) == {name})
    assert kept.result(END_S) == bytes(5_000_000)
