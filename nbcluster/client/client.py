"""One client of one cluster: the table of its futures, and its questions to the master."""

from __future__ import annotations

import itertools
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from nbcluster.client.after import error_of, sort_out
from nbcluster.client.asking import ASK_S, AT_ONCE, Asks
from nbcluster.client.callbacks import Callbacks
from nbcluster.client.future import Future
from nbcluster.client.holding import Handles, Held
from nbcluster.client.interrupts import SignalSafeLock
from nbcluster.client.link import Link
from nbcluster.client.outgoing import Call
from nbcluster.client.setups import Paths
from nbcluster.client.silence import Loss
from nbcluster.core.model import Definition, Ended, NewTask, Template
from nbcluster.errors import (
    ClosedError,
    ClusterConnectionError,
    ClusterTimeoutError,
    InitializerError,
    NbclusterError,
    NbclusterWarning,
    TaskKeptError,
    from_code,
)
from nbcluster.ids import random_id
from nbcluster.options import CallOptions
from nbcluster.serial.blobs import BlobStore
from nbcluster.serial.digest import digest_of
from nbcluster.serial.pack import Packer
from nbcluster.wire import messages as m

#: Tasks in the outbox at which the submitting thread sends them itself.
FLUSH_AT: Final = 128
#: A submission that comes this long after the last one is sent at once: somebody waits for it.
QUIET_S: Final = 0.0003
#: Serialised functions that are kept for their next call.
MAX_CALL_BYTES: Final = 64 << 20
#: Seconds after which counters that are known from before are given instead.
STATS_S: Final = 3.0


class Client:
    """Submits, listens, asks. Thread safe."""

    def __init__(self, connection_file: Path) -> None:
        self.id = random_id(length=8)
        self._link = Link(connection_file, self.id, self)
        self._futures: dict[str, Future[Any]] = {}
        self._held = Held(self._link.wake)
        self.handles = Handles(self._link.wake)
        self._aliases: dict[str, list[Future[Any]]] = {}  #: more futures of one task, by its key
        self.asks = Asks(self._link)
        self.callbacks = Callbacks(f"nbcluster-callbacks-{self.id}")
        self._numbers = itertools.count(1)
        #: By the ids of definition and options; the values keep both alive.
        self._calls: dict[tuple[int, int], tuple[Call, CallOptions]] = {}
        self._call_bytes = 0
        self._retry_on: dict[tuple[type[BaseException], ...], Definition] = {}
        self._expected = 1  #: number of the next `Updates`
        self._packer: Packer | None = None
        self.paths = Paths(self)
        self._sent_at = 0.0
        self.last_stats: dict[str, Any] = {}  #: empty: it was never told
        self._stats_at = 0.0
        self._closed: NbclusterError | None = None
        self.ending: threading.Thread | None = None  #: shuts the cluster down after its work
        self._loss = Loss()
        self._lock = SignalSafeLock()
        self.echo: Callable[[Ended], None] | None = None
        self.on_broken: Callable[[str], None] | None = None
        self.on_master_lost: Callable[[], None] | None = None

    def open(self, timeout_s: float) -> None:
        """Connect; see `Link.open`."""
        self._link.open(timeout_s)
        connection = self._link.connection
        assert connection is not None
        self._packer = Packer(BlobStore(connection.blobs, self.id, connection.make_blobs))

    @property
    def link(self) -> Link:
        """The connection."""
        return self._link

    @property
    def packer(self) -> Packer:
        """The serialiser of this client."""
        assert self._packer is not None
        return self._packer

    # ------------------------------------------------------------------ submitting

    def submit(
        self, options: CallOptions, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> Future[Any]:
        """Put a call into the outbox and return its future. Never waits for the master.

        Raises
        ------
        UnpicklableError
            If function or arguments cannot travel; names the way to the culprit.
        ClosedError
            If the cluster was closed.
        """
        if self._closed is not None:
            raise ClosedError(str(self._closed))
        if self.ending is not None:
            raise ClosedError("cannot schedule new futures after shutdown")
        packer = self._packer
        assert packer is not None
        if sys.path != self.paths.seen:
            self.follow_paths()
        definition = packer.define(fn)
        payload, blobs = packer.dumps_call(args, kwargs)
        digest = digest_of(fn, args, kwargs) if options.key else b""
        known = self._calls.get((id(definition), id(options)))
        call = known[0] if known else self._call(definition, options)
        name = f"{self.id}-{next(self._numbers)}"
        future: Future[Any] = Future(self, name, options.name or definition.name)
        future._retries_allowed = options.task.retries
        after: tuple[str, ...] = ()
        if options.after:
            after, future._failed_before = sort_out(self, options.after)
        try:
            self._futures[name] = future
            if self._closed is not None:
                raise ClosedError(str(self._closed))  # closed meanwhile, so nobody would end it
            task = NewTask(name, 0, payload, blobs, options.name, options.key, after, digest)
            waiting = self._link.outgoing.add(task, call)
            future._is_out = True
            self._send_on(waiting)
        except BaseException:  # an interrupt too: nobody has this future, and nothing will end it
            self._futures.pop(name, None)
            self._link.wake()
            raise
        return future

    def follow_paths(self) -> None:
        """Have what was added to ``sys.path`` found on the executors."""
        self.paths.follow()

    def _send_on(self, waiting: int) -> None:
        """Send the outbox if it is time, or have it sent."""
        if 1 < waiting < FLUSH_AT:
            self._link.soon()
            return
        now = time.monotonic()
        if waiting > 1 or now - self._sent_at > QUIET_S:
            self._link.flush()
        else:
            self._link.soon()
        self._sent_at = now

    def _call(self, definition: Definition, options: CallOptions) -> Call:
        """Return what all calls of this function with these options share."""
        task, needed = options.task, None
        if options.retry_on:
            needed = self._retry_on.get(options.retry_on)
            if needed is None:
                assert self._packer is not None
                needed = self._packer.define_classes(options.retry_on)
                self._retry_on[options.retry_on] = needed
            task = msgspec.structs.replace(task, retry_on=needed.hash)
        call = (Template(definition.hash, task), definition, needed)
        # A loop may make functions or options anew each time.
        if len(self._calls) > 5_000 or self._call_bytes > MAX_CALL_BYTES:
            self._calls.clear()
            self._call_bytes = 0
        for note in self.packer.notes():
            warnings.warn(note, NbclusterWarning, stacklevel=4)
        self._calls[id(definition), id(options)] = call, options
        self._call_bytes += len(definition.blob)
        return call

    # ------------------------------------------------------------------ waiting

    def wait_for(self, is_over: Callable[[], bool], timeout: float | None) -> bool:
        """Receive until ``is_over()``; False if it is not, or somebody else receives."""
        self._link.flush()
        return self._link.lead(is_over, timeout)

    def take_in(self) -> None:
        """Give what has come a chance to be taken in."""
        self._link.lead(lambda: False, 0.001)

    def load(self, ended: Ended, views: list[memoryview] | None) -> Any:
        """Unpickle what a task of this client ended with."""
        return self.packer.loads(ended.payload, ended.blobs, views)

    def on_idle(self) -> None:
        """Tell the master what nobody wants, and which results nobody holds, any more."""
        self.asks.tell()
        gone = self._held.free()
        if gone:
            self._link.send(m.Release(gone))

    @property
    def is_unneeded(self) -> bool:
        """Whether the last handle has gone, and nothing is open, asked or held."""
        is_open = self._futures or not (self.asks.are_answered and self._held.is_empty)
        return self.handles.are_gone and not is_open

    # ------------------------------------------------------------------ asking

    def ask(
        self,
        op: str,
        timeout: float | None = ASK_S,
        on_silence: Callable[[], bool] | None = None,
        **args: Any,
    ) -> Any:
        """Ask the master and return its answer, as `Asks.ask`; `ClosedError` after the end."""
        if self._closed is not None:
            raise ClosedError(str(self._closed))
        return self.asks.ask(op, timeout, args, on_silence)

    def lost_text(self) -> str:
        """Return what to say when there is no master."""
        return self.asks.lost_text()

    def stats(self) -> dict[str, Any]:
        """Return the master's counters, or the last known ones if it does not answer."""
        self._link.flush()
        known = self.last_stats
        try:
            answer = self.ask("stats", timeout=STATS_S if known else ASK_S)
        except ClusterTimeoutError:
            if not known:
                raise
            return {**known, "age_s": time.monotonic() - self._stats_at}
        self.last_stats, self._stats_at = answer, time.monotonic()
        return {**answer, "age_s": 0.0}

    def cancel(
        self, tasks: Iterable[str], on_silence: Callable[[], bool] | None = None
    ) -> list[str]:
        """Cancel tasks; return those that were still open."""
        self._link.flush()
        names = list(tasks)
        done: list[str] = []
        if self._link.is_lost:
            raise ClusterConnectionError(self.lost_text())
        for first in range(0, len(names), AT_ONCE):
            done += self.ask("cancel", ASK_S, on_silence, tasks=names[first : first + AT_ONCE])
        return done

    def settle(self) -> None:
        """Wait until the master knows what was submitted: it answers after having taken it in."""
        if not self._link.outgoing.is_settled:
            self.ask("names", tasks=[])

    # ------------------------------------------------------------------ watching

    def adopt(self, task: str, name: str) -> Future[Any]:
        """Return the future of a task that is already known to the master."""
        future = self._futures.get(task)
        if future is None:
            future = Future(self, task, name)
            future._is_out = True
            self._futures[task] = future
            self._link.send(m.Watch([task]))
        return future

    def open_futures(self) -> list[Future[Any]]:
        """Return the futures that have not ended."""
        return [f for f in list(self._futures.values()) if not f.done()]

    # ------------------------------------------------------------------ listener

    def on_message(self, message: Any) -> None:
        """Take in a message of the master."""
        match message:
            case m.Updates():
                self._on_updates(message)
            case m.Reply():
                self.asks.on_reply(message)
            case m.OutputNews():
                for task, _attempt, stream, offset, data in message.chunks:
                    future = self._futures.get(task)
                    if future is not None:
                        future._on_output(stream, offset, data)
            case m.NotTaken():
                for name in self._link.withdraw(message.number):
                    self._on_refused(name, from_code(message.code, tuple(message.args)))
            case m.Closing():
                error = ClusterConnectionError(f"the cluster has stopped: {message.reason}")
                self.on_end(error, message.start)

    def _on_updates(self, news: m.Updates) -> None:
        futures = self._futures
        for moved in news.moved:
            future = futures.get(moved.task)
            if future is not None:
                future._on_moved(moved)
        for sent, known in news.aliases:
            self._on_alias(sent, known)
        for ended in news.ended:
            future = futures.get(ended.task)
            if future is not None:  # dropped at the last: whatever is raised, it is asked for again
                self._on_ended(future, ended)
                futures.pop(ended.task, None)
            elif ended.blobs:
                self._held.forgo(ended.task)
        for task, code, args in news.refused:
            self._on_refused(task, from_code(code, tuple(args)))
        if news.number != self._expected:
            # Something was dropped on the way: ask where everything is.
            self.asks.fail(
                ClusterConnectionError("the answer was lost; what was asked may be done")
            )
            self._watch_all()
        self._expected = news.number + 1

    def _on_refused(self, task: str, error: NbclusterError) -> None:
        future = self._futures.get(task)
        if isinstance(error, InitializerError) and self.on_broken is not None:
            self.on_broken(error.message)
        if future is not None:
            future._on_refused(error_of(future, error))
            self._futures.pop(task, None)

    def _on_ended(self, future: Future[Any], ended: Ended) -> None:
        if self.echo is not None:
            self.echo(ended)
        if ended.code == "InitializerError" and self.on_broken is not None:
            self.on_broken(str(ended.args[0]))
        others = self._aliases.pop(ended.task, ()) if self._aliases else ()
        copies = [msgspec.structs.replace(ended) for _ in others]  # each drops its own payload
        if ended.blobs:
            for one in (future, *others):
                self._held.hold(one, ended.task)
                one._views = self.packer.map_ahead(ended.blobs)  # it may outlive the cluster
        future._on_ended(ended)
        for other, copy in zip(others, copies, strict=True):
            other._on_ended(copy)

    def _on_alias(self, sent: str, known: str) -> None:
        future = self._futures.get(sent)
        if future is None:
            return
        future.id = known
        first = self._futures.setdefault(known, future)
        if first is not future:
            self._aliases.setdefault(known, []).append(future)
        self._futures.pop(sent, None)

    def _watch_all(self) -> None:
        # The master cannot know what is not in the outbox yet, and tells what becomes of the rest
        # that it has not acknowledged. In this order, since other threads submit meanwhile.
        known = [name for name, future in list(self._futures.items()) if future._is_out]
        unknown = self._link.outgoing.unaccepted()
        names = [name for name in known if name not in unknown]
        for first in range(0, len(names), 5_000):
            self._link.send(m.Watch(names[first : first + 5_000]))

    def on_session(self, again: bool) -> None:
        """A session was opened; after a lost one, ask where everything is."""
        self._expected = 1
        self._loss.end()
        if again:
            self.paths.tell_again()
            self._watch_all()

    def on_lost(self) -> None:
        """The master is gone: nobody will answer what was asked of it."""
        self._loss.begin()
        self.asks.fail(ClusterConnectionError(self.lost_text()))
        if self.on_master_lost is not None:
            self.on_master_lost()

    def on_forgotten(self) -> None:
        """The master dropped our session: it has not seen what was asked since."""
        self.asks.fail(ClusterConnectionError("the master lost sight of this client; ask again"))

    def on_still_lost(self) -> None:
        """Nobody may know why nothing comes."""
        if self._futures:
            self._loss.tell(self.lost_text())

    def on_end(self, error: ClusterConnectionError, start: str = "") -> None:
        """There will be no session any more: what has not ended never will, here."""
        with self._lock:
            if self._closed is not None:
                return
            self._closed = error
        self.on_lost_all(error, start)
        self._link.end()

    def on_lost_all(self, error: NbclusterError, start: str = "") -> None:
        """Fail everything that is still awaited; with ``start`` what was accepted is kept."""
        self.asks.fail(error)
        lost = self._link.outgoing.unaccepted() if start else ()
        while self._futures:
            name, future = self._futures.popitem()
            is_kept = start and future._is_out and name not in lost
            for one in (future, *self._aliases.pop(name, ())):
                one._on_refused(TaskKeptError(one.id, start) if is_kept else error)

    # ------------------------------------------------------------------ closing

    def close(self) -> None:
        """End the session. Futures that are open fail with `ClosedError`."""
        with self._lock:
            already = self._closed is not None
            self._closed = self._closed or ClosedError("this cluster object was closed")
        self._link.close(polite=not already)
        self.on_lost_all(ClosedError("the cluster object was closed before the task had ended"))
        self.callbacks.close()

    def disown(self) -> None:
        """Be closed: this process is a fork of the one whose client this is."""
        self._closed = ClosedError(
            "this process was forked from the one that uses the cluster; "
            "connect to it anew with nbcluster.connect()"
        )
        self._lock = SignalSafeLock()
        self._link.disown()
        self.callbacks = Callbacks("nbcluster-callbacks")
        futures, self._futures = self._futures, {}
        for future in futures.values():
            future._disown(self._closed)

    def await_end(self, timeout: float) -> None:
        """Wait until the master has said that the cluster stops, or is gone."""

        def over() -> bool:
            return self._closed is not None or self._link.is_lost

        self._link.lead(over, timeout)
        deadline = time.monotonic() + timeout
        while not over() and time.monotonic() < deadline:
            time.sleep(0.01)
        self._link.process.await_end(10.0)

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be submitted any more."""
        return self._closed is not None
