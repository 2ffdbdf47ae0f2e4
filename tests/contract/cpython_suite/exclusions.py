"""Tests of CPython that look at the inside of its process pool, each with the reason.

Where there is a rule behind such a test, ``test_cpython_suite.py`` has one of ours for it, which
goes through the public interface.
"""

from __future__ import annotations

from typing import Final

_PROCESSES: Final = "counts the entries of the pool's private dict of processes"
_RECYCLING: Final = "max_tasks_per_child is an option of the process pool that we do not offer"
_OTHER_POOL: Final = "builds a ProcessPoolExecutor itself and joins its private thread"

#: case -> reason; these stand in the tests of Python 3.11.
EXCLUDED: Final[dict[str, str]] = {
    "ProcessPoolShutdownTest.test_processes_terminate": _PROCESSES,
    "ProcessPoolShutdownTest.test_context_manager_shutdown": _OTHER_POOL,
    "ProcessPoolShutdownTest.test_del_shutdown": _OTHER_POOL,
    "ProcessPoolShutdownTest.test_shutdown_no_wait": _OTHER_POOL,
    "ProcessPoolExecutorTest.test_killed_child": (
        "wants a killed child to break the whole pool; ours replaces it"
    ),
    "ProcessPoolExecutorTest.test_max_workers_too_large": "a limit of Windows",
    "ProcessPoolExecutorTest.test_traceback": "wants the pool's private class _RemoteTraceback",
    "ProcessPoolExecutorTest.test_saturation": _PROCESSES,
    "ProcessPoolExecutorTest.test_idle_process_reuse_one": _PROCESSES,
    "ProcessPoolExecutorTest.test_idle_process_reuse_multiple": _PROCESSES,
    "ProcessPoolExecutorTest.test_max_tasks_per_child": _RECYCLING,
    "ProcessPoolExecutorTest.test_max_tasks_per_child_defaults_to_spawn_context": _RECYCLING,
    "ProcessPoolExecutorTest.test_max_tasks_early_shutdown": _RECYCLING,
    "ExecutorDeadlockTest.test_shutdown_deadlock_pickle": (
        "reads the pool's private manager thread"
    ),
}

#: The same for what newer versions added.
EXCLUDED_LATER: Final[dict[str, str]] = {
    "ProcessPoolExecutorTest.test_python_finalization_error": (
        "replaces the thread that the process pool starts by one that fails"
    ),
    "ProcessPoolExecutorTest.test_force_shutdown_workers": _PROCESSES,
    "ProcessPoolExecutorTest.test_process_pool_executor_terminate_workers": _PROCESSES,
    "ProcessPoolExecutorTest.test_process_pool_executor_kill_workers": _PROCESSES,
    "ExecutorDeadlockTest.test_crash_big_data": "patches the pool's private error class",
    "ExecutorDeadlockTest.test_gh105829_should_not_deadlock_if_wakeup_pipe_full": (
        "replaces the pool's private pipe"
    ),
}
