"""The cluster as its user holds it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, Unpack, overload

from nbcluster.client.asking import ASK_S
from nbcluster.client.client import Client
from nbcluster.client.ending import ask_to_stop, cancel_open, end_with_master, stop_on_interrupt
from nbcluster.client.everywhere import Everywhere
from nbcluster.client.faces import cluster_html, cluster_text
from nbcluster.client.farewell import say_farewell
from nbcluster.client.future import Future
from nbcluster.client.mapping import Chunks, MapIterator, slots_of
from nbcluster.client.remote import RemoteFunction
from nbcluster.client.silence import await_end
from nbcluster.client.tables import Tables
from nbcluster.errors import (
    ClosedError,
    NbclusterError,
    OptionTypeError,
)
from nbcluster.options import (
    CallOptions,
    Options,
    call_options,
    check_callable,
    check_no_key,
    seconds,
    shows_options,
    text,
    unknown_option,
    whole,
)

T = TypeVar("T")

_STOPS = ("now", "drain", "ask")


class Cluster(Everywhere, Tables, concurrent.futures.Executor):
    """A running cluster: submit work, look at tables, change its size.

    Made by `nbcluster.start` and `nbcluster.connect`. It is a ``concurrent.futures.Executor``:
    everything that takes one takes a cluster. Thread safe. Used as a context manager it shuts
    down at the end.

    Attributes
    ----------
    name : str
        The cluster's name.
    """

    _spared = 0  #: open tasks, the first ones, that a shutdown does not cancel

    def __init__(
        self,
        client: Client,
        name: str,
        *,
        owned: bool,
        options: CallOptions | None = None,
        reap: Callable[[bool], None] = lambda keep: None,
    ) -> None:
        self._client = client
        self._lease = client.handles.lease()  # with the last one, and what is open, it ends
        self.name = name
        self._owner = owned  # it ends with us
        self._options = options or CallOptions()
        self._reap = reap  # waits for a master that we started; if it was killed, tidies up

    @property
    def _owned(self) -> bool:
        """Whether it ends with us: the next master of the name may have been started to stay."""
        connection = self._client.link.connection
        return self._owner and not (connection is not None and connection.persist)

    # ------------------------------------------------------------------ submitting

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` on an engine and return its future.

        Returns at once, also when no engine is free or the master is away.

        Raises
        ------
        UnpicklableError
            If function or arguments cannot travel; it names the way to the culprit.
        OptionTypeError
            If ``fn`` cannot be called.
        ClosedError
            After ``shutdown`` or ``close``.
        """
        if not callable(fn):
            check_callable(fn, "submit()")
        return self._client.submit(self._options, fn, args, kwargs)

    @shows_options
    def options(self, **changes: Unpack[Options]) -> Cluster:
        """Return this cluster with other options for what is submitted through it.

        Parameters
        ----------
        retries : int or math.inf
            How often an attempt that raised or ran out of time is repeated. Default 0.
        retry_on : exception class or tuple of them
            Which exceptions are worth another attempt. Default: every ``Exception``.
        backoff : Backoff or float
            Wait between attempts; a number is the base in seconds.
        timeout : float
            Seconds an attempt may run.
        priority : int
            Higher goes first. Waiting a minute counts as one point.
        group : str
            Group of engines that may run it.
        name : str
            Shown in the tables.
        key : str
            Idempotency key: as long as the task is retained, the same key is the same task.
        delivery : {"at_least_once", "at_most_once"}
            Whether it may run again after a crash.
        max_crashes : int
            Executors it may take down before it fails.
        expires : float
            Seconds it may wait for its first start.
        after : Future, id, or list of them
            Tasks that must have succeeded before; if one does not, it fails: cause ``permanent``.
        wait : bool
            False: fail at once where no engine can run it.
        load : int
            What it adds to its engine's score while it runs.
        engine : str
            Id of the one engine that may run it.

        Raises
        ------
        OptionError
            If a value is impossible, or there is no such option (the nearest one is named).
        """
        options = call_options(self._options, changes)
        return Cluster(self._client, self.name, owned=self._owner, options=options, reap=self._reap)

    @shows_options
    def config(self, **defaults: Unpack[Options]) -> CallOptions:
        """Set options for what is submitted from now on; return those that are in force.

        The names, and the errors, are those of `options`.
        """
        self._options = call_options(self._options, defaults)
        return self._options

    @overload
    def remote(self, fn: Callable[..., T], /) -> RemoteFunction[..., T]: ...
    @overload
    def remote(
        self, /, **options: Unpack[Options]
    ) -> Callable[[Callable[..., T]], RemoteFunction[..., T]]: ...

    @shows_options
    def remote(self, fn: Callable[..., Any] | None = None, /, **options: Unpack[Options]) -> Any:
        """Decorate a function so that calling it submits it: ``@cluster.remote(retries=3)``.

        The options, and the errors, are those of `options`.
        """
        chosen = self.options(**options) if options else self
        if fn is not None:
            return RemoteFunction(chosen, fn)
        return lambda function: RemoteFunction(chosen, function)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
    ) -> Iterator[T]:
        """Run ``fn`` for each item and yield the values in order.

        Parameters
        ----------
        timeout
            Seconds from this call within which each value must have come.
        chunksize
            Items in one task. None: found out on the way, from 1 upwards, so that a task takes
            some 20 ms.

        Notes
        -----
        Lazy: items are taken from the iterables as slots become free, so they may be endless.
        What is on its way when the iterator is dropped is cancelled. Where ``max_pending`` of the
        cluster is reached it waits; items of a chunk that was refused are pickled again then.

        Raises
        ------
        OptionError
            If ``chunksize`` is less than 1 or ``timeout`` below 0, ``fn`` cannot be called, or
            ``key`` is set, which names one task.
        TimeoutError
            From the iterator, if a value has not come in time.
        """
        check_callable(fn, "map()")
        check_no_key(self._options, "map()")
        if not iterables:
            raise OptionTypeError("map() must be given at least one iterable beside the function")
        timeout = seconds("timeout", timeout)
        if chunksize is not None:
            chunksize = whole("chunksize", chunksize, least=1)
        slots = slots_of(self._client)
        submit = self.submit
        if not self._options.name:
            submit = self.options(name=str(getattr(fn, "__name__", "map"))[:500]).submit
        return MapIterator(Chunks(submit, fn, iterables, slots, chunksize, timeout))

    # ------------------------------------------------------------------ ending

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End it, as ``concurrent.futures.Executor.shutdown``.

        A cluster that this process started, and that is not ``persist=True``, is stopped after
        the open tasks of this client, or once that wait is interrupted; any other is left.

        Parameters
        ----------
        wait
            False: return at once. What is stopped still is stopped after the open tasks, by a
            thread that the interpreter waits for; what is left is left with them.
        cancel_futures
            Cancel the open tasks.

        Raises
        ------
        ClusterConnectionError
            If tasks were to be cancelled, and the cluster goes on and has no master now.
        JournalFullError
            If tasks were to be cancelled, and the cluster goes on and its disk is full.
        """
        ending = self._client.ending
        if self._client.is_closed:
            self._client.close()  # somebody else may have stopped the cluster
            if wait and ending is not None:
                ending.join()
            return
        stop = self.stop if wait and self._owned else None
        with stop_on_interrupt(self._client, self.name, stop):
            self._shut_down(wait, cancel_futures)

    def _shut_down(self, wait: bool, cancel_futures: bool) -> None:
        ending = self._client.ending
        if self._owned:
            end_with_master(self._client)
        open_futures = self._client.open_futures()
        if cancel_futures and len(open_futures) > self._spared:
            spared, others = open_futures[: self._spared], open_futures[self._spared :]
            open_futures = spared + cancel_open(self._client, others, owned=self._owned)
        if not self._owned:
            self._end(open_futures if wait else [])
        elif not wait and ending is None:
            # One of its own: this may be the finalizer of the last handle.
            ending = threading.Thread(target=self._end, args=(open_futures,), daemon=False)
            ending.name = f"nbcluster-shutdown-{self.name}"
            self._client.ending = ending
            ending.start()
        elif wait and ending is not None:
            ending.join()
        elif wait:
            self._end(open_futures)

    def _end(self, open_futures: list[Future[Any]]) -> None:
        """Stop or leave the cluster after these tasks."""
        for future in open_futures:
            await_end(self._client, future, None)
        if self._owned:
            with contextlib.suppress(ClosedError):  # it was stopped meanwhile
                self.stop()
        else:
            self.close()

    def stop(self, *, mode: str = "now", keep: bool = False) -> dict[str, Any]:
        """Stop the cluster for everybody; the CLI's ``stop``.

        Parameters
        ----------
        mode
            ``now``; ``drain``: after what runs; ``ask``: refuse while tasks are open.
        keep
            Keep the journal, so that the next start of the same name goes on. Open futures end
            with `TaskKeptError`.

        Returns
        -------
        dict
            ``stopped``; where it was refused also how many tasks are ``pending``, ``running``.

        Raises
        ------
        OptionError
            If there is no such mode.
        ClusterConnectionError
            If the master is gone, and the cluster is not this process's own.
        """
        if mode not in _STOPS:
            raise unknown_option(text("mode", mode), _STOPS, "mode")
        return self._stop(mode, keep=keep)

    def _stop(self, mode: str, *, keep: bool = False, timeout: float = ASK_S) -> dict[str, Any]:
        say_farewell(self._client)
        answer = ask_to_stop(self._client, mode, timeout, keep=keep, owned=self._owned)
        if answer["stopped"]:
            self._client.await_end(60.0)
            self.close()
            self._reap(keep)
        return answer

    def close(self) -> None:
        """Leave the cluster; it goes on. Open futures of this object fail with `ClosedError`."""
        say_farewell(self._client)
        self._client.close()

    def __reduce__(self) -> Any:
        raise TypeError(
            "a Cluster cannot be sent to a task: inside a task use nbcluster.connect(name)"
        )

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is None:
            self.shutdown()
            return
        with contextlib.suppress(NbclusterError):  # what was raised is worth more
            self.shutdown(cancel_futures=True)

    def _counts(self) -> dict[str, Any] | str:
        """Return the master's counters, or in words why there are none."""
        if self._client.is_closed:
            return "closed"
        try:
            return dict(self._client.ask("stats", timeout=2.0))
        except (ClosedError, NbclusterError) as error:
            return f"not reachable: {error}"

    def __repr__(self) -> str:
        return self._text(self._counts())

    def _text(self, counts: dict[str, Any] | str) -> str:
        text = counts if isinstance(counts, str) else cluster_text(counts)
        return f"<{self._title} {text}>"

    @property
    def _title(self) -> str:
        return f"{type(self).__name__} {self.name!r}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        counts = self._counts()  # asked for once
        return {"text/plain": self._text(counts), "text/html": cluster_html(self._title, counts)}

    @property
    def directory(self) -> Path:
        """Where the cluster keeps its files."""
        return self._client.link.connection_file.parent
