"""What is done on every engine of a cluster: `run`, `push`, `pull`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from keyword import iskeyword
from typing import Any, TypeVar

from msgspec import structs

from nbcluster.calls import pull_name, push_names
from nbcluster.client.client import Client
from nbcluster.client.future import Future
from nbcluster.client.setups import set_up
from nbcluster.errors import NbclusterError, OptionError
from nbcluster.options import (
    CallOptions,
    call_options,
    check_callable,
    check_no_key,
    seconds,
    text,
)

T = TypeVar("T")


class Everywhere:
    """Calls and names on all engines at once; part of `Cluster`."""

    _client: Client
    _options: CallOptions

    def run(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> dict[str, T]:
        """Run ``fn`` once on every engine; return the values by engine.

        Waits for engines that are busy: each runs it after what it has begun. Interrupted, or
        once ``fn`` has raised on an engine, it cancels what is still open.

        Raises
        ------
        Exception
            The first one that ``fn`` raised on an engine.
        """
        check_callable(fn, "run()")
        check_no_key(self._options, "run()")
        return self._run(None, fn, *args, **kwargs)

    def _run(
        self, deadline: float | None, fn: Callable[..., T], /, *args: Any, **kwargs: Any
    ) -> dict[str, T]:
        futures: dict[str, Future[T]] = {}
        try:
            table = self._client.ask("engines")  # no DataFrame: to load pandas takes a second
            for engine, state in zip(table["id"], table["state"], strict=True):
                if state not in ("active", "starting"):
                    continue
                bound = call_options(self._options, {"engine": engine})
                options = replace(bound, task=structs.replace(bound.task, dead_letter=False))
                futures[engine] = self._client.submit(options, fn, args, kwargs)
            return {
                engine: future.result(None if deadline is None else deadline - time.monotonic())
                for engine, future in futures.items()
            }
        except BaseException:
            with contextlib.suppress(NbclusterError):  # nobody is there to cancel it
                self._client.cancel(f.id for f in futures.values() if not f.done())
            raise

    def push(self, names: Mapping[str, Any], timeout: float | None = None) -> None:
        """Bind names in the global namespace of every executor, also of those to come.

        Waits until it is done; an executor that is busy does it after its task.

        Parameters
        ----------
        names : mapping
            The names and what they are bound to.
        timeout : float
            Seconds to wait; None: for ever.

        Raises
        ------
        OptionError
            If it is no mapping, or a key is no name.
        UnpicklableError
            If a value cannot travel.
        PushError
            If an executor cannot load a value; the names are not bound there.
        ClusterTimeoutError
            If it is not done in time. It still will be.
        """
        limit = seconds("timeout", timeout)
        try:
            bound = dict(names)
            is_valid = all(name.isidentifier() and not iskeyword(name) for name in bound)
        except (AttributeError, TypeError, ValueError):
            is_valid = False
        if not is_valid:
            raise OptionError(f"push takes a dict of names and values, not {names!r}")
        set_up(self._client, push_names, (bound,), limit)

    def pull(self, name: str, timeout: float | None = None) -> dict[str, Any]:
        """Return what ``name`` is bound to on every engine, by engine.

        Waits for engines that are busy, as `run`.

        Parameters
        ----------
        name : str
            The name.
        timeout : float
            Seconds to wait; None: for ever.

        Raises
        ------
        NameError
            If it is not bound on one of them.
        TimeoutError
            If an engine has not told it in time.
        """
        limit = seconds("timeout", timeout)
        deadline = None if limit is None else time.monotonic() + limit
        check_no_key(self._options, "pull()")
        return self._run(deadline, pull_name, text("name", name))
