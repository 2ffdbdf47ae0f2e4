"""CPython's own tests of executors, run against `ClusterExecutor`; and what they leave to us.

The first part takes over every test that does not look at the inside of the process pool. The
second has the rules behind those that do, told through the public interface.
"""

from __future__ import annotations

import gc
import os
import pickle
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import nbcluster
from nbcluster.errors import RemoteTraceback, TaskCrashedError, UndecodableError
from tests.contract.cpython_suite import adapter, locate, tasks
from tests.contract.cpython_suite.exclusions import EXCLUDED, EXCLUDED_LATER
from tests.helpers import eventually, run_processes

_found = locate.find()
if _found is None:
    pytest.skip(locate.HOW_TO_GET, allow_module_level=True)
SUITE: Final[locate.Suite] = _found

# Classes in the module's namespace are what pytest collects.
globals().update(
    adapter.build(
        SUITE,
        nbcluster.ClusterExecutor,
        nbcluster.Future,
        (TaskCrashedError, UndecodableError),
    )
)


def test_the_suite_was_taken_over_whole_but_for_the_exclusions() -> None:
    taken = {
        f"{name.removeprefix('Cluster')}.{test}"
        for name, case in globals().items()
        if name.startswith("Cluster") and isinstance(case, type)
        for test in dir(case)
        if test.startswith("test_") and getattr(case, test) is not None
    }

    assert len(taken) >= 64
    assert set(adapter.names(SUITE)) - taken <= set(EXCLUDED) | set(EXCLUDED_LATER)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the table is that of Python 3.11")
def test_each_exclusion_excludes_something() -> None:
    assert set(EXCLUDED) - set(adapter.names(SUITE)) == set()


# --------------------------------------------------------------------------- the rules behind


@pytest.fixture(autouse=True)
def path_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", adapter.child_path(SUITE))


@pytest.fixture
def executor() -> Iterator[nbcluster.ClusterExecutor]:
    with nbcluster.ClusterExecutor(2) as made:
        yield made


def no_process_is_left() -> bool:
    return not run_processes()


def test_the_end_of_a_with_statement_waits_and_leaves_no_process() -> None:
    with nbcluster.ClusterExecutor(max_workers=2) as executor:
        results = executor.map(abs, range(-5, 5))

    assert no_process_is_left()
    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]


def test_an_executor_that_is_let_go_of_ends_its_work_and_its_processes() -> None:
    executor = nbcluster.ClusterExecutor(max_workers=2)
    results = executor.map(abs, range(-5, 5))

    del executor
    gc.collect()

    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]
    eventually(no_process_is_left, 10)


def test_a_shutdown_without_waiting_still_lets_the_work_end() -> None:
    executor = nbcluster.ClusterExecutor(max_workers=2)
    results = executor.map(abs, range(-5, 5))

    executor.shutdown(wait=False)

    assert list(results) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]
    eventually(no_process_is_left, 10)


def test_a_task_that_cannot_be_sent_does_not_hold_up_a_shutdown_without_waiting() -> None:
    executor = nbcluster.ClusterExecutor(max_workers=2)
    executor.submit(id, 42).result(30)

    future = executor.submit(id, tasks.Unsendable())
    executor.shutdown(wait=False)

    with pytest.raises(pickle.PicklingError):
        future.result(30)
    eventually(no_process_is_left, 10)


def test_the_remote_traceback_is_the_cause_of_the_exception(
    executor: nbcluster.ClusterExecutor,
) -> None:
    error = executor.submit(tasks.fail, "123").exception(30)

    assert type(error) is RuntimeError
    assert error.args == ("123",)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "raise RuntimeError(text)  # this comment" in str(error.__cause__)


def test_an_executor_lets_go_of_arguments_when_the_task_has_ended(
    executor: nbcluster.ClusterExecutor, tmp_path: Path
) -> None:
    trace = tmp_path / "let go"

    executor.submit(id, tasks.Witness(str(trace))).result(30)

    eventually(trace.exists, 10)


def test_the_client_lets_go_of_a_result_with_its_future(
    executor: nbcluster.ClusterExecutor,
) -> None:
    future = executor.submit(tasks.Thing)
    result = weakref.ref(future.result(30))

    del future
    gc.collect()

    eventually(lambda: result() is None)  # the receiver may be about to let go of it


def test_an_executor_goes_on_after_one_of_its_processes_was_killed(
    executor: nbcluster.ClusterExecutor,
) -> None:
    crashed = executor.submit(os._exit, 3)

    assert isinstance(crashed.exception(60), TaskCrashedError)
    assert executor.submit(pow, 2, 8).result(30) == 256
