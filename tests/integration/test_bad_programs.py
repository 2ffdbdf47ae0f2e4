"""Whatever a task does to its process: its future says so, and the cluster goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

import nbcluster
from nbcluster import Cluster
from tests.helpers import eventually, run_processes
from tests.integration import programs

END_S: Final = 20.0

pytestmark = pytest.mark.usefixtures("cluster_goes_on")


# --------------------------------------------------------------------------- exceptions


@pytest.mark.parametrize(
    ("program", "args", "error"),
    [
        (sys.exit, (3,), SystemExit),
        (programs.interrupt, (), KeyboardInterrupt),
        (programs.recurse, (), RecursionError),
        (programs.recurse_in_c, (), nbcluster.UndecodableError),
        (programs.allocate_beyond_limit, (), MemoryError),
        (input, (), EOFError),
        (programs.generator, (), nbcluster.UndecodableError),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_a_task_raises_arrives_and_costs_no_executor(
    one: Cluster, program: Callable[..., Any], args: tuple[Any, ...], error: type[BaseException]
) -> None:
    executor = one.submit(os.getpid).result(END_S)

    future = one.submit(program, *args)

    assert type(future.exception(END_S)) is error
    assert (future.state, future.crashes) == ("failed", 0)
    assert one.submit(os.getpid).result(END_S) == executor


# --------------------------------------------------------------------------- deaths


@pytest.mark.parametrize(
    ("program", "args", "told"),
    [
        (os._exit, (3,), "exit code 3"),
        (os._exit, (0,), "exit code 0"),
        (programs.segfault, (), "SIGSEGV"),
        (os.abort, (), "SIGABRT"),
        (programs.kill_my_group, (), "SIGKILL"),
    ],
)
def test_a_task_that_ends_its_process_fails_with_the_way_it_died(
    one: Cluster, program: Callable[..., Any], args: tuple[Any, ...], told: str
) -> None:
    engines = list(one.engines().index)

    future = one.options(max_crashes=1).submit(program, *args)

    error = future.exception(END_S)
    assert isinstance(error, nbcluster.TaskCrashedError)
    assert error.signal == told
    assert error.crashes == future.crashes == 1
    assert list(one.engines().index) == engines


def test_a_task_that_kills_its_engine_is_charged_and_the_engine_replaced(one: Cluster) -> None:
    engines = list(one.engines().index)

    future = one.options(max_crashes=1).submit(programs.kill_my_engine)

    assert isinstance(future.exception(END_S), nbcluster.TaskCrashedError)
    eventually(lambda: len(one.engines()) == 1 and list(one.engines().index) != engines)


def test_a_death_between_two_tasks_is_charged_to_nobody(one: Cluster) -> None:
    before = one.submit(os.getpid).result(END_S)

    os.kill(before, signal.SIGKILL)

    futures = [one.submit(os.getpid) for _ in range(3)]
    assert before not in [f.result(END_S) for f in futures]
    assert {(f.attempts, f.crashes) for f in futures} == {(1, 0)}


def test_an_alarm_that_a_task_set_does_not_reach_the_next(one: Cluster) -> None:
    assert one.submit(programs.alarm_later).result(END_S) == "armed"

    future = one.submit(time.sleep, 0.2)

    assert future.result(END_S) is None
    assert future.attempts == 1


# --------------------------------------------------------------------------- without end


def test_an_endless_loop_ends_with_its_timeout(one: Cluster) -> None:
    executor = one.submit(os.getpid).result(END_S)

    future = one.options(timeout=0.3).submit(programs.loop_for_ever)

    assert isinstance(future.exception(END_S), nbcluster.TaskTimeoutError)
    assert one.submit(os.getpid).result(END_S) == executor  # an interrupt was enough


def test_a_task_that_hears_no_interrupt_is_killed_after_the_grace(one: Cluster) -> None:
    executor = one.submit(os.getpid).result(END_S)
    future = one.submit(programs.loop_deaf_for_ever)
    eventually(lambda: future.state == "running")

    assert future.cancel()

    eventually(lambda: executor not in {p.pid for p in run_processes()}, END_S)
    assert future.state == "cancelled"


def test_a_task_that_stopped_its_process_ends_with_its_timeout(one: Cluster) -> None:
    future = one.options(timeout=0.3).submit(programs.stop_myself)

    assert isinstance(future.exception(END_S), nbcluster.TaskTimeoutError)
    assert future.crashes == 0


# --------------------------------------------------------------------------- output


def test_200_mb_of_output_are_bounded_and_keep_both_ends(one: Cluster) -> None:
    future = one.submit(programs.print_much, 200)

    assert future.result(60) == 200
    assert len(future.stdout) <= 2 << 20
    assert future.stdout.startswith("first line\n")
    assert "bytes left out" in future.stdout
    assert future.stdout.endswith("last line\n")


def test_the_output_of_c_code_is_bounded_too(one: Cluster) -> None:
    future = one.submit(programs.write_much_in_c, 50)

    assert future.result(60) == 50
    assert 0 < len(future.stderr) <= 2 << 20


@pytest.mark.parametrize("program", [programs.close_streams, programs.replace_streams])
def test_streams_that_a_task_broke_are_whole_for_the_next(
    one: Cluster, program: Callable[[], str]
) -> None:
    executor = one.submit(os.getpid).result(END_S)
    assert one.submit(program).result(END_S) in ("closed", "replaced")

    future = one.submit(programs.print_much, 0)

    assert future.result(END_S) == 0
    assert future.stdout == "first line\nlast line\n"
    assert one.submit(os.getpid).result(END_S) == executor


def test_a_huge_result_arrives(one: Cluster) -> None:
    assert len(one.submit(programs.huge, 150_000_000).result(60)) == 150_000_000


# --------------------------------------------------------------------------- what is left behind


def test_the_next_task_runs_in_the_directory_of_the_first(one: Cluster) -> None:
    before = one.submit(programs.cwd).result(END_S)

    assert one.submit(programs.change_directory).result(END_S) == "/"

    assert one.submit(programs.cwd).result(END_S) == before


def test_handlers_that_a_task_installed_do_not_protect_the_next(one: Cluster) -> None:
    executor = one.submit(os.getpid).result(END_S)
    one.submit(programs.install_handlers).result(END_S)

    future = one.options(timeout=0.3).submit(programs.loop_for_ever)

    assert isinstance(future.exception(END_S), nbcluster.TaskTimeoutError)
    assert one.submit(os.getpid).result(END_S) == executor


@pytest.mark.parametrize("program", [programs.fork_and_return, programs.fork_and_raise])
def test_a_forked_child_that_comes_back_answers_nothing(
    one: Cluster, program: Callable[[], str]
) -> None:
    futures = [one.submit(program) for _ in range(5)]

    assert [f.result(END_S) for f in futures] == ["parent"] * 5
    assert {f.attempts for f in futures} == {1}


def test_threads_that_stay_behind_hold_nothing_up(one: Cluster) -> None:
    executor = one.submit(os.getpid).result(END_S)

    assert one.submit(programs.leave_threads).result(END_S) >= 3

    assert one.submit(os.getpid).result(END_S) == executor
    one.restart()  # neither do they keep their process alive
    eventually(lambda: executor not in {p.pid for p in run_processes()})


@pytest.mark.parametrize("program", [programs.spoil_interpreter, programs.leave_loop])
def test_what_a_task_spoilt_in_its_interpreter_hurts_no_other(
    one: Cluster, program: Callable[[], str]
) -> None:
    assert one.submit(program).result(END_S) in ("spoilt", "left")

    futures: list[nbcluster.Future[Any]] = [one.submit(programs.run_loop) for _ in range(20)]

    assert [f.result(END_S) for f in futures] == [2] * 20


def test_an_executor_whose_descriptors_were_closed_is_replaced(one: Cluster) -> None:
    executor = one.submit(os.getpid).result(END_S)

    future = one.options(max_crashes=1).submit(programs.close_everything)

    assert isinstance(future.exception(END_S), nbcluster.TaskCrashedError)
    assert one.submit(os.getpid).result(END_S) != executor
