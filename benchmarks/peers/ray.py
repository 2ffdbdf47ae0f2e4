"""Ray on one machine: loopback only, no dashboard, a small object store."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from benchmarks.peers.base import Roles, installed_version, split_executors

STORE_BYTES = 600 * 2**20  #: room for a few arrays of 100 MB

ENVIRONMENT = {
    # On Linux Ray listens on every interface, whatever address it is given; told that clusters
    # of several machines are not wanted, it stays on loopback.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class Ray:
    """Tasks of one CPU each, on as many CPUs as there are workers."""

    name = "ray"
    _ray: Any = None
    _remote: dict[Callable[..., object], Any]

    def version(self) -> str:
        """Return the installed version."""
        return installed_version("ray")

    def load(self) -> None:
        """Import ray, which reads its environment then."""
        os.environ.update(ENVIRONMENT)
        self._remote = {}
        self._ray = import_module("ray")

    def start(self, workers: int = 2) -> None:
        """Start Ray's own processes; workers come with the first tasks."""
        self._ray.init(
            num_cpus=workers,
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            log_to_driver=False,
            logging_level="error",
            _temp_dir=os.environ.get("TMPDIR"),
        )

    def submit(self, fn: Callable[..., object], /, *args: object) -> Any:
        """Call the remote form of ``fn``, made once."""
        remote = self._remote.get(fn)
        if remote is None:
            remote = self._remote[fn] = self._ray.remote(fn)
        return remote.remote(*args)

    def map(self, fn: Callable[[Any], object], items: Sequence[object]) -> list[object]:
        """One task for each item: Ray's core has no map of its own."""
        return self.gather([self.submit(fn, item) for item in items])

    def result(self, future: Any) -> object:
        """Wait for one object reference."""
        value: object = self._ray.get(future)
        return value

    def gather(self, futures: Sequence[Any]) -> list[object]:
        """Wait for all in one call."""
        return list(self._ray.get(list(futures)))

    def pids(self) -> Roles:
        """Workers are those that call themselves ``ray::IDLE`` or after the task they run."""
        return split_executors(lambda line: line.startswith("ray::") and "Agent" not in line)

    def stop(self) -> None:
        """End Ray's processes."""
        if self._ray is not None and self._ray.is_initialized():
            self._ray.shutdown()
