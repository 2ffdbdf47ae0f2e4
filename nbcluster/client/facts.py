"""What is known of a task at the moment, as its future tells it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures._base import FINISHED, PENDING, RUNNING
from typing import Any, Final

from nbcluster.client.owner import Owner
from nbcluster.core.model import Ended, Moved, State
from nbcluster.errors import TaskKeptError
from nbcluster.wire.shown import SHOWN_STREAM, Shown, decode

#: Bytes that are kept of what a task that runs has written, of each stream.
OUTPUT_LIMIT: Final = 1 << 20


class Facts:
    """State, counts, times and output of a task; part of `Future`."""

    id: str
    name: str
    _client: Owner | None
    _moved: Moved | None  #: the latest news of it
    _ended: Ended | None  #: the last news of it
    _output: dict[int, bytearray] | None
    _shown: list[Shown]
    _watchers: tuple[Callable[[Any], None], ...]
    _state: str
    _exception: BaseException | None
    _retries_allowed: float = 0  #: as far as is known here

    @property
    def state(self) -> str:
        """One of ``pending running retrying succeeded failed cancelled``."""
        if self._ended is None and self._state == FINISHED:
            # Nothing more is heard of it; one that is kept goes on.
            return "pending" if isinstance(self._exception, TaskKeptError) else "failed"
        news = self._ended or self._moved
        if news is not None:
            return str(news.state)
        return "pending" if self._state in (PENDING, RUNNING) else "cancelled"

    @property
    def attempts(self) -> int:
        """Attempts that were started so far."""
        news = self._ended or self._moved
        return news.attempts if news else 0

    @property
    def retries(self) -> int:
        """How often it was tried again after an exception or a timeout."""
        news = self._ended or self._moved
        return news.retries if news else 0

    @property
    def crashes(self) -> int:
        """Attempts that ended because their executor or engine died."""
        news = self._ended or self._moved
        return news.crashes if news else 0

    @property
    def engine(self) -> str:
        """Id of the engine that runs it or ran it last; empty before the first start."""
        news = self._ended or self._moved
        return news.engine if news else ""

    @property
    def progress(self) -> float | None:
        """Share that is done, 0 to 1, as far as the task tells; 1.0 once it has succeeded."""
        if self._ended is not None:
            return 1.0 if self._ended.state is State.SUCCEEDED else None
        told = self._moved.progress if self._moved else None
        return told.done / told.total if told and told.total else None

    @property
    def duration(self) -> float | None:
        """Seconds the last attempt took, or has taken so far; None before the first start."""
        if self._ended is not None:
            started = self._ended.started_at
            return self._ended.finished_at - started if started else None
        if self._client is not None and self._moved is not None and self._moved.started_at:
            return max(0.0, self._client.link.clock.read() - self._moved.started_at)
        return None

    @property
    def stdout(self) -> str:
        """What the last attempt wrote to its standard output; grows while it runs."""
        return self._text(1)

    @property
    def stderr(self) -> str:
        """What the last attempt wrote to its standard error; grows while it runs."""
        return self._text(2)

    def _text(self, stream: int) -> str:
        if self._ended is not None:
            written = self._ended.stdout if stream == 1 else self._ended.stderr
        else:
            if self._client is not None:
                self._client.take_in()
            written = bytes((self._output or {}).get(stream, b""))
        return written.decode("utf-8", "replace")

    # ------------------------------------------------------------------ what it writes and shows

    def _on_output(self, stream: int, offset: int, data: bytes) -> None:
        """Take in a piece of what the running attempt writes or shows."""
        if stream == SHOWN_STREAM:
            if offset == len(self._shown):
                self._shown.append(decode(data))
        else:
            if self._output is None:
                self._output = {1: bytearray(), 2: bytearray()}
            kept = self._output[stream]
            if offset <= len(kept) < OUTPUT_LIMIT:
                kept[offset:] = data
        self._tell_watchers()

    def _watch(self, fn: Callable[[Any], None]) -> Callable[[], None]:
        """Have ``fn(future)`` called at all news; return what ends that.

        In the thread that receives: it must be quick, and neither wait nor raise.
        """
        self._watchers = (*self._watchers, fn)

        def end() -> None:
            self._watchers = tuple(watcher for watcher in self._watchers if watcher is not fn)

        return end

    def _tell_watchers(self) -> None:
        for watcher in self._watchers:
            watcher(self)
