"""Builds test cases for an executor of ours from the mixins of CPython's tests.

CPython mixes each set of tests with each of its own executors; the same is done here with ours.
Four things in those tests name the process pool and are put right:

- ``mp_context=`` is taken and ignored;
- ``BrokenProcessPool`` stands for our errors of a task that went down with its process;
- scripts run in a child import our executor, not one of ``concurrent.futures``;
- the tests of ``Future`` run on our subclass.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from tests.contract.cpython_suite.exclusions import EXCLUDED, EXCLUDED_LATER
from tests.contract.cpython_suite.locate import Suite
from tests.helpers import LEAK_DEADLINE_S, eventually, note_clusters, run_processes

_ROOT: Final = str(Path(__file__).parents[3])
_MIXINS: Final = (
    *("InitializerMixin", "FailingInitializerMixin", "ProcessPoolShutdownTest", "WaitTests"),
    *("AsCompletedTests", "ProcessPoolExecutorTest", "ExecutorDeadlockTest"),
)
_STATES: Final[
    dict[str, tuple[str, dict[str, Any]]]
] = {  # name in the tests -> arguments of `create_future`
    "PENDING_FUTURE": ("PENDING", {}),
    "RUNNING_FUTURE": ("RUNNING", {}),
    "CANCELLED_FUTURE": ("CANCELLED", {}),
    "CANCELLED_AND_NOTIFIED_FUTURE": ("CANCELLED_AND_NOTIFIED", {}),
    "EXCEPTION_FUTURE": ("FINISHED", {"exception": OSError()}),
    "SUCCESSFUL_FUTURE": ("FINISHED", {"result": 42}),
}

Case = type[unittest.TestCase]


def build(
    suite: Suite,
    executor: type[Executor],
    future: type[Future[Any]],
    broken: tuple[type[BaseException], ...],
) -> dict[str, Case]:
    """Return the test cases for an executor, by name.

    Parameters
    ----------
    suite
        The tests of this interpreter.
    executor
        Takes ``max_workers``, ``initializer`` and ``initargs``.
    future
        What its ``submit`` returns; can be made without arguments.
    broken
        What a task fails with whose process went down, or whose payload cannot be unpickled.
    """
    _name_our_errors(suite, broken)
    _run_our_scripts(suite, executor)
    mixin = _executor_mixin(suite, executor)
    cases = {
        f"Cluster{name}": _case(suite.get(name), mixin, suite.get("BaseTestCase"))
        for name in _MIXINS
    }
    return {**cases, "ClusterFutureTests": _future_case(suite, future)}


def names(suite: Suite) -> Iterator[str]:
    """Yield all tests that the suite has for an executor of processes, as ``Class.test``."""
    for mixin in _MIXINS:
        yield from (f"{mixin}.{test}" for test in dir(suite.get(mixin)) if _is_test(test))


def child_path(suite: Suite) -> str:
    """Return the ``PYTHONPATH`` with which a child can import the tests and nbcluster."""
    places = [_ROOT, suite.folder, os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(place for place in places if place)


def _is_test(name: str) -> bool:
    return name.startswith("test_")


def _case(mixin: type, executor_mixin: type, base: type) -> Case:
    excluded = {
        name.partition(".")[2]: None  # what is None is no test
        for name in {**EXCLUDED, **EXCLUDED_LATER}
        if name.startswith(f"{mixin.__name__}.")
    }
    return type(f"Cluster{mixin.__name__}", (mixin, executor_mixin, _NothingLeft, base), excluded)


class _NothingLeft:
    """Runs between the shutdown of the executor and CPython's own tidying."""

    def tearDown(self) -> None:
        eventually(
            lambda: not run_processes(),
            LEAK_DEADLINE_S,
            lambda: f"all processes have ended: {run_processes()}",
        )
        super().tearDown()  # type: ignore[misc]  # the test case comes next


def _executor_mixin(suite: Suite, executor: type[Executor]) -> type:
    class WithoutContext(executor):  # type: ignore[misc, valid-type]  # known at run time only
        def __init__(self, *args: Any, mp_context: Any = None, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            note_clusters()

    WithoutContext.__name__ = executor.__name__  # CPython puts it into its scripts

    class ClusterMixin(suite.get("ExecutorMixin")):  # type: ignore[misc]  # untyped
        executor_type = WithoutContext

        def setUp(self) -> None:
            environment = patch.dict(os.environ, PYTHONPATH=child_path(suite))
            environment.start()
            self.addCleanup(environment.stop)
            super().setUp()

        def get_context(self) -> Any:
            return multiprocessing.get_context("spawn")

    return ClusterMixin


def _name_our_errors(suite: Suite, broken: tuple[type[BaseException], ...]) -> None:
    for module in suite.having("BrokenProcessPool"):
        module.BrokenProcessPool = broken  # type: ignore[attr-defined]  # `except` takes a tuple


def _run_our_scripts(suite: Suite, executor: type[Executor]) -> None:
    for module in suite.having("assert_python_ok"):
        if getattr(module.assert_python_ok, "is_ours", False):
            continue
        module.assert_python_ok = _script_runner(  # type: ignore[attr-defined]  # as above
            suite, executor, module.assert_python_ok
        )


def _script_runner(
    suite: Suite, executor: type[Executor], run: Callable[..., Any]
) -> Callable[..., Any]:
    def run_ours(*args: str, **variables: str) -> Any:
        script = args[-1].replace(
            f"from concurrent.futures import {executor.__name__}",
            f"from {executor.__module__.partition('.')[0]} import {executor.__name__}",
        )
        if suite.folder:
            script = script.replace("from test.test_concurrent_futures", f"from {suite.name}")
        variables.setdefault("PYTHONPATH", child_path(suite))
        return run(*args[:-1], script, __isolated=False, **variables)

    run_ours.is_ours = True  # type: ignore[attr-defined]  # a mark for the line above
    return run_ours


def _future_case(suite: Suite, future: type[Future[Any]]) -> Case:
    class ClusterFutureTests(suite.get("FutureTests")):  # type: ignore[misc]  # untyped
        def setUp(self) -> None:
            super().setUp()
            # They read stderr, where logging writes only if no handler (pytest has one) is found.
            logger = logging.getLogger("concurrent.futures")
            self.enterContext(patch.object(logger, "propagate", False))
            for module in suite.having("Future"):
                self._put(module, "Future", future)
            for name, (state, rest) in _STATES.items():
                made = suite.get("create_future")(state=state, **rest)
                for module in suite.having(name):
                    self._put(module, name, made)

        def _put(self, module: Any, name: str, value: Any) -> None:
            self.enterContext(patch.object(module, name, value))

    return ClusterFutureTests
