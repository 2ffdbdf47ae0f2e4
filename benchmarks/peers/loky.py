"""loky: the process pool of joblib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from benchmarks.peers.base import FuturesPeer


class Loky(FuturesPeer):
    """As the process pool, with fresh interpreters as workers and cloudpickle."""

    name = "loky"
    package = "loky"
    _pool: Any = None
    _module: Any = None

    def load(self) -> None:
        """Import loky."""
        self._module = import_module("loky")

    def start(self, workers: int = 2) -> None:
        """Make a pool of its own, not the shared reusable one."""
        self._pool = self._module.ProcessPoolExecutor(workers)

    def submit(self, fn: Callable[..., object], /, *args: object) -> Any:
        """Submit one call."""
        return self._pool.submit(fn, *args)

    def map(self, fn: Callable[[Any], object], items: Sequence[object]) -> list[object]:
        """Map with the default chunk size, which is 1."""
        return list(self._pool.map(fn, items))

    def stop(self) -> None:
        """End the workers at once: loky lets idle ones linger otherwise."""
        if self._pool is not None:
            self._pool.shutdown(kill_workers=True)
