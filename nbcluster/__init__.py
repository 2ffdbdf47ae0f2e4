"""The interactive cluster for notebooks: submit functions, get futures, watch every task.

>>> import nbcluster
>>> cluster = nbcluster.start(engines=2)          # doctest: +SKIP
>>> cluster.submit(pow, 2, 10).result()           # doctest: +SKIP
1024
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nbcluster._version import __version__

if TYPE_CHECKING:
    from nbcluster.client.cluster import Cluster
    from nbcluster.client.future import Future
    from nbcluster.cluster.connecting import connect
    from nbcluster.cluster.executor import ClusterExecutor
    from nbcluster.cluster.known import clusters
    from nbcluster.cluster.start import start
    from nbcluster.current import CurrentTask, current_task
    from nbcluster.errors import NbclusterError, PermanentFailure
    from nbcluster.notebook import load_ipython_extension, unload_ipython_extension
    from nbcluster.notebook.progress import progress
    from nbcluster.options import Backoff

#: What is public, and the module each name is taken from at its first use: importing nbcluster
#: costs a millisecond and loads nothing that a program does not use.
_HOMES = {
    "Backoff": "options",
    "Cluster": "client.cluster",
    "ClusterExecutor": "cluster.executor",
    "CurrentTask": "current",
    "Future": "client.future",
    "NbclusterError": "errors",
    "PermanentFailure": "errors",
    "clusters": "cluster.known",
    "connect": "cluster.connecting",
    "current_task": "current",
    "load_ipython_extension": "notebook",
    "progress": "notebook.progress",
    "start": "cluster.start",
    "unload_ipython_extension": "notebook",
}

__all__ = [
    "Backoff",
    "Cluster",
    "ClusterExecutor",
    "CurrentTask",
    "Future",
    "NbclusterError",
    "PermanentFailure",
    "__version__",
    "clusters",
    "connect",
    "current_task",
    "load_ipython_extension",
    "progress",
    "start",
    "unload_ipython_extension",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        value = getattr(importlib.import_module(f"nbcluster.{home}"), name)
    else:
        value = _errors().get(name) if name[:1].isupper() else None
        if value is None:
            raise AttributeError(f"module 'nbcluster' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*_errors(), *__all__})


def _errors() -> dict[str, Any]:
    module = importlib.import_module("nbcluster.errors")
    return {e.__name__: e for e in vars(module).values() if _is_own(e)}


def _is_own(thing: Any) -> bool:
    return isinstance(thing, type) and thing.__module__ == "nbcluster.errors"
