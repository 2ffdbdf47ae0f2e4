"""The tasks named in ``after=``, as far as the client knows how they ended."""

from __future__ import annotations

from typing import Any

from nbcluster.client.future import Future
from nbcluster.core.model import State
from nbcluster.errors import DependencyError, NbclusterError, UnknownIdError
from nbcluster.options import task_id


def sort_out(client: object, after: tuple[Any, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the ids of those to wait for, and of them those that are known to have failed.

    Who has succeeded is left out: the master may have forgotten it since.
    """
    names: list[str] = []
    failed: list[str] = []
    for one in after:
        name = task_id(one, "after=")
        if isinstance(one, Future) and one._client is client and one.done():
            if one._ended is not None and one._ended.state is State.SUCCEEDED:
                continue
            failed.append(name)  # left to the master, as long as it knows it: it may run again
        names.append(name)
    return tuple(names), frozenset(failed)


def error_of(future: Future[Any], error: NbclusterError) -> NbclusterError:
    """Return why ``future`` was refused: the master may have forgotten a task that failed."""
    if isinstance(error, UnknownIdError) and error.name in future._failed_before:
        return DependencyError.of(future.id, error.name)
    return error
