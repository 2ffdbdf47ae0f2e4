"""A view in one line, for terminals, scripts, and whatever shows neither widgets nor HTML."""

from __future__ import annotations

import sys
from typing import Final, TextIO

from nbcluster.client.feed import STATES
from nbcluster.notebook.view.store import TaskStore

_BAR: Final = 20


def line(name: str, store: TaskStore) -> str:
    """Return the state of a cluster as one line of text."""
    counts = [f"{store.counts[s]:,} {s}" for s in STATES if store.counts[s]]
    text = f"cluster {name}: {store.done:,}/{store.total:,} done"
    text += f" | {', '.join(counts)}" if counts else ""
    text += f" | {count(store.retries, 'retry', 'retries')}" if store.retries else ""
    return f"{text} | {count(len(store.workers), 'engine')}{_pace(store)}"


def count(number: int, one: str, many: str = "") -> str:
    """Return a number and what it counts."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """Return a duration in at most seven characters; empty if it is not known."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02} min"


def _pace(store: TaskStore) -> str:
    left = store.seconds_left
    return f" | {store.rate:,.1f}/s, {duration(left)} left" if left is not None else ""


class TextView:
    """A line that is printed at the beginning and the end; on a terminal, one that moves."""

    def __init__(self, name: str, store: TaskStore, out: TextIO | None = None) -> None:
        self._name = name
        self._store = store
        self._out = out
        self._width = 0  #: of what is on the terminal's line now
        self._last = ""

    @property
    def is_moving(self) -> bool:
        """Whether a progress line stands on the terminal."""
        return self._width > 0

    @property
    def _stream(self) -> TextIO:
        return self._out or sys.stdout  # looked up each time: a shell may replace it

    def begin(self) -> None:
        """Print the line."""
        self._last = line(self._name, self._store)
        print(self._last, file=self._stream, flush=True)

    def refresh(self, changed: bool, lost: bool) -> None:
        """Move the progress line, if this is a terminal."""
        if not changed or not self._stream.isatty() or self._store.done == self._store.total:
            return
        share = self._store.done / max(1, self._store.total)
        bar = "#" * int(share * _BAR)
        text = f"[{bar:.<{_BAR}}] {line(self._name, self._store)}"[:200]
        self._stream.write(f"\r{text:<{self._width}}")
        self._stream.flush()
        self._width = len(text)

    def publish(self) -> None:
        """Print how it is now, unless that is what stands there."""
        text = line(self._name, self._store)
        if text != self._last:
            self._last = text
            before = f"\r{'':<{self._width}}\r" if self._width else ""
            print(f"{before}{text}", file=self._stream, flush=True)
        self._width = 0

    def close(self) -> None:
        """Nothing is held."""
