"""Functions that run on the cluster when they are called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack

from nbcluster.client.future import Future
from nbcluster.options import Options, check_callable, shows_options

P = ParamSpec("P")
R = TypeVar("R")


class _Runner(Protocol):
    """A `Cluster`."""

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]: ...
    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[R]: ...
    def options(self, **changes: Unpack[Options]) -> _Runner: ...


class RemoteFunction(Generic[P, R]):
    """What ``@cluster.remote`` makes of a function: a call returns a future.

    Attributes
    ----------
    __wrapped__
        The function itself, for a call here.
    """

    def __init__(self, cluster: _Runner, fn: Callable[P, R]) -> None:
        check_callable(fn, "remote()")
        functools.update_wrapper(self, fn)
        self._cluster = cluster
        self._fn = fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self._cluster.submit(self._fn, *args, **kwargs)

    def map(
        self,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[R]:
        """Run the function for each item; see `Cluster.map`."""
        return self._cluster.map(self._fn, *iterables, timeout=timeout, chunksize=chunksize)

    @shows_options
    def options(self, **changes: Unpack[Options]) -> RemoteFunction[P, R]:
        """Return the same function with other options."""
        return RemoteFunction(self._cluster.options(**changes), self._fn)

    def __reduce__(self) -> tuple[Any, ...]:
        # Inside a task it is the plain function: there is no cluster to call there.
        return _itself, (self._fn,)

    def __repr__(self) -> str:
        return f"<remote {getattr(self._fn, '__qualname__', self._fn)!s}>"


def _itself(fn: Callable[P, R]) -> Callable[P, R]:
    return fn
