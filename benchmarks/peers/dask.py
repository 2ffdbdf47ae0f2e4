"""Dask's distributed scheduler: a local cluster of worker processes, scheduler in the client."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from benchmarks.peers.base import FuturesPeer


class Dask(FuturesPeer):
    """One thread per worker process, no dashboard, no memory limit."""

    name = "dask"
    package = "distributed"
    _module: Any = None
    _cluster: Any = None
    _client: Any = None

    def load(self) -> None:
        """Import distributed."""
        self._module = import_module("distributed")

    def start(self, workers: int = 2) -> None:
        """Start on loopback and wait for the workers."""
        warnings.filterwarnings("ignore", message="Sending large graph")
        self._cluster = self._module.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.ERROR,
        )
        self._client = self._module.Client(self._cluster)

    def submit(self, fn: Callable[..., object], /, *args: object) -> Any:
        """Submit one call that is not taken for a repeat of an earlier one."""
        return self._client.submit(fn, *args, pure=False)

    def map(self, fn: Callable[[Any], object], items: Sequence[object]) -> list[object]:
        """Map and gather."""
        return self.gather(self._client.map(fn, items, pure=False))

    def gather(self, futures: Sequence[Any]) -> list[object]:
        """Gather all in one request."""
        return list(self._client.gather(list(futures)))

    def stop(self) -> None:
        """Close client and cluster."""
        for part in (self._client, self._cluster):
            if part is not None:
                part.close()
