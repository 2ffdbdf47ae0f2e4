"""``ClusterExecutor``: a stand-alone executor that starts and stops its own cluster."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any, TypeVar

from nbcluster.calls import initialize
from nbcluster.client.client import Client
from nbcluster.client.cluster import Cluster
from nbcluster.client.future import Future
from nbcluster.client.mapping import Chunks, MapIterator
from nbcluster.client.setups import begin_set_up
from nbcluster.cluster.start import start
from nbcluster.core.model import Ended
from nbcluster.errors import (
    ClosedError,
    InitializerError,
    MasterLostError,
    NbclusterError,
    OptionError,
    OptionTypeError,
    UnpicklableError,
)
from nbcluster.ids import random_id
from nbcluster.options import MAX_WHOLE, check_callable, check_no_key, seconds, whole

T = TypeVar("T")

#: Where the standard pools report a broken initializer; who listens there listens for ours too.
log = logging.getLogger("concurrent.futures")

_exiting = False
_executors: weakref.WeakSet[ClusterExecutor] = weakref.WeakSet()


def _end(client: Client, reap: Callable[[bool], None]) -> None:
    """End an executor whose master has ended: nobody but its user could start the next one."""
    text = "the master of this executor has ended, and with it what was open; make a new one"
    client.on_end(MasterLostError(text))
    reap(False)


class ClusterExecutor(Cluster):
    """A drop-in for ``concurrent.futures.ProcessPoolExecutor`` on a cluster of its own.

    Parameters
    ----------
    max_workers
        Engines; default: the processors of this machine.
    initializer, initargs
        Called once in every executor process before it runs anything.

    Raises
    ------
    OptionError
        If ``max_workers`` is below 1 (a ``ValueError``), or something has the wrong type (a
        ``TypeError`` too).
    ClusterError
        If its cluster cannot be started.

    Notes
    -----
    As with the standard pools, what is open when the program ends is finished first, and what
    tasks print appears on this process's own streams.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        workers = os.cpu_count() or 1 if max_workers is None else max_workers
        if whole("max_workers", workers, least=-MAX_WHOLE) <= 0:
            raise OptionError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise OptionTypeError("initializer must be a callable")
        if not isinstance(initargs, (tuple, list)):
            raise OptionTypeError(f"initargs= must be a tuple of arguments, not {initargs!r}")
        self._broken: str | bool = False
        self._workers = workers
        # What runs is finished, as in the standard pools; so are those about to be run.
        self._spared = workers
        self._is_shut_down = False
        name = random_id("executor-", 10)
        cluster = start(workers, name=name)
        super().__init__(cluster._client, name, owned=True, reap=cluster._reap)
        self._room = int(self._client.ask("info")["max_pending"])  #: for open tasks; 0: no limit
        cluster._client.echo = _relay
        weak = weakref.WeakMethod(self._note_broken)

        def note_broken(text: str) -> None:
            note = weak()
            if note is not None:
                note(text)

        cluster._client.on_broken = note_broken
        cluster._client.on_master_lost = functools.partial(_end, cluster._client, cluster._reap)
        # As the standard pools: one that nobody holds any more ends after its work.
        self._let_go = weakref.finalize(self, cluster.shutdown, wait=False)
        if initializer is not None:
            # Not waited for: as with the standard pools, its failure fails what is submitted.
            begin_set_up(self._client, initialize, (initializer, initargs))
        _executors.add(self)

    def _note_broken(self, message: str) -> None:
        if not self._broken:
            self._broken = message
            log.critical("Exception in initializer: %s", message)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` in an executor process and return its future.

        Raises
        ------
        OptionTypeError
            If ``fn`` cannot be called.
        RuntimeError
            After ``shutdown``, or while the interpreter ends.
        BrokenExecutor
            If the initializer failed.
        """
        check_callable(fn, "submit()")
        if self._broken:
            raise InitializerError(str(self._broken))
        if _exiting:
            # Plain, as the standard pools raise it: programs look for its name in their logs.
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._is_shut_down:
            raise ClosedError("cannot schedule new futures after shutdown")
        try:
            return self._client.submit(self._options, fn, args, kwargs)
        except (UnpicklableError, pickle.PicklingError) as error:
            # As with the standard pools: what cannot be pickled fails the future.
            failed: Future[T] = Future(self._client, "", "")
            failed._on_refused(error)
            return failed

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[T]:
        """Run ``fn`` for each item and yield the values in order.

        As with the standard pools everything is sent before this returns; it waits where it has
        as many tasks open as the cluster takes (``max_pending``). ``chunksize`` is 1 by default.

        Raises
        ------
        OptionError
            If ``chunksize`` is less than 1 or ``timeout`` below 0, ``fn`` cannot be called, or
            ``key`` is set, which names one task.
        TimeoutError
            From the iterator, if a value has not come ``timeout`` seconds after this call. At
            once, if there was no room for all by then.
        """
        check_callable(fn, "map()")
        check_no_key(self._options, "map()")
        timeout = seconds("timeout", timeout)
        size = 1 if chunksize is None else whole("chunksize", chunksize, least=-MAX_WHOLE)
        if size < 1:
            raise OptionError("chunksize must be >= 1.")
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        submit = functools.partial(self._submit_in_room, deadline)
        chunks = Chunks(submit, fn, iterables, self._workers, size, timeout, eager=True)
        return MapIterator(chunks, is_kept=True)

    def _submit_in_room(
        self, deadline: float, fn: Callable[..., Any], /, *args: Any
    ) -> Future[Any]:
        """Submit, once fewer tasks are open than the cluster may hold."""
        while 0 < self._room <= len(open_futures := self._client.open_futures()):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(
                    "map() has found no room for all its items in time: the cluster holds as "
                    "many open tasks as it may (max_pending)"
                )
            wait(open_futures, None if left == math.inf else left, FIRST_COMPLETED)
        return self.submit(fn, *args)

    def __enter__(self) -> ClusterExecutor:
        return self

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End it, as ``concurrent.futures.Executor.shutdown``."""
        if self._is_shut_down and not wait:
            return
        self._is_shut_down = True
        self._let_go.detach()
        super().shutdown(wait=wait, cancel_futures=cancel_futures)


def _relay(ended: Ended) -> None:
    """Write what a task printed to this process's own streams; what they refuse is lost."""
    for stream, data in ((sys.stdout, ended.stdout), (sys.stderr, ended.stderr)):
        if data and stream is not None:
            text = bytes(data).decode("utf-8", "replace")
            try:
                encoding = getattr(stream, "encoding", None) or "utf-8"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
                stream.flush()
            except Exception as error:  # noqa: BLE001 - a closed pipe, or a stream of the user's
                log.debug("what task %s wrote cannot be shown: %r", ended.task, error)


def _finish_all() -> None:
    """Finish what is open before the interpreter ends, as the standard pools do."""
    global _exiting  # noqa: PLW0603 - a fact about the process
    _exiting = True
    for executor in list(_executors):
        with contextlib.suppress(NbclusterError):
            executor.shutdown(wait=True)


# Before threads are joined: ``atexit`` comes too late for a thread to be started or waited for.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]
