"""ipyparallel: a controller of several processes, engines that are kernels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from benchmarks.peers.base import Roles, installed_version, split_executors


class IPyParallel:
    """Tasks through the load-balanced view."""

    name = "ipyparallel"
    _module: Any = None
    _cluster: Any = None
    _client: Any = None
    _view: Any = None

    def version(self) -> str:
        """Return the installed version."""
        return installed_version("ipyparallel")

    def load(self) -> None:
        """Import ipyparallel."""
        self._module = import_module("ipyparallel")

    def start(self, workers: int = 2) -> None:
        """Start controller and engines on loopback and wait for all engines."""
        self._cluster = self._module.Cluster(
            n=workers, controller_ip="127.0.0.1", log_level=logging.ERROR
        )
        self._client = self._cluster.start_and_connect_sync(n=workers, activate=False)
        self._view = self._client.load_balanced_view()

    def submit(self, fn: Callable[..., object], /, *args: object) -> Any:
        """Submit one call."""
        return self._view.apply_async(fn, *args)

    def map(self, fn: Callable[[Any], object], items: Sequence[object]) -> list[object]:
        """Map with the default chunk size, which is 1."""
        return list(self._view.map_sync(fn, items))

    def result(self, future: Any) -> object:
        """Wait for one result."""
        value: object = future.get()
        return value

    def gather(self, futures: Sequence[Any]) -> list[object]:
        """Wait for one result after the other."""
        return [future.get() for future in futures]

    def pids(self) -> Roles:
        """Engines and their nannies run user code or watch it; the rest is the controller."""
        return split_executors(lambda line: "ipyparallel.engine" in line)

    def stop(self) -> None:
        """End client, engines and controller."""
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            self._cluster.stop_cluster_sync()
