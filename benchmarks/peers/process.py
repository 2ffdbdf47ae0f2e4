"""The standard library's ``ProcessPoolExecutor``, with the start method it chooses itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from benchmarks.peers.base import FuturesPeer


class ProcessPool(FuturesPeer):
    """Manager thread in the client, pipes to the workers."""

    name = "process"
    _pool: Any = None
    _module: Any = None

    def load(self) -> None:
        """Import the pool."""
        self._module = import_module("concurrent.futures.process")

    def start(self, workers: int = 2) -> None:
        """Make the pool; the workers come with the first task."""
        self._pool = self._module.ProcessPoolExecutor(workers)

    def submit(self, fn: Callable[..., object], /, *args: object) -> Any:
        """Submit one call."""
        return self._pool.submit(fn, *args)

    def map(self, fn: Callable[[Any], object], items: Sequence[object]) -> list[object]:
        """Map with the default chunk size, which is 1."""
        return list(self._pool.map(fn, items))

    def stop(self) -> None:
        """Wait for the workers to end."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
