"""``nbcluster.progress``: a bar that counts items, in a notebook, on a terminal, or in a log."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from html import escape
from typing import Any, Final

from nbcluster.client.faces import bar, dimmed, framed, printable
from nbcluster.client.future import Future
from nbcluster.client.mapping import MapIterator
from nbcluster.errors import OptionError
from nbcluster.ids import random_id
from nbcluster.notebook.counting import Part, Reading, Tally, sort_out
from nbcluster.notebook.updating import PERIOD_S, Updater, notebook_shell, publish, updater

#: Characters of a bar on a terminal.
_BAR: Final = 20


def progress(*futures: Future[Any] | MapIterator | Any, wait: bool = False) -> None:
    """Show a progress bar that counts items and updates itself until all are done.

    In a notebook it is shown below the cell; on a terminal it is a line on standard error, and
    where that is no terminal, a single line at the end. Running tasks that call
    ``current_task().progress()`` get bars of their own, the first five of them.

    Parameters
    ----------
    futures : Future, iterator of ``map()``, or collection of them
        What is counted. A future is one item; a map counts the items it was given, while its
        values are taken.
    wait : bool
        Return when all are done, and not at once.

    Raises
    ------
    OptionTypeError
        If something else is named.
    OptionError
        If ``wait`` is set and there is a map: it goes on only while its values are taken.

    Examples
    --------
    >>> nbcluster.progress(futures)                   # doctest: +SKIP
    >>> values = cluster.map(fn, items)               # doctest: +SKIP
    >>> nbcluster.progress(values); list(values)      # doctest: +SKIP
    """
    single, maps = sort_out(futures)
    if wait and maps:
        raise OptionError(
            "progress(wait=True) cannot wait for a map(): it goes on while its values are taken. "
            "Leave wait out, and take them"
        )
    start(Tally(list(single), maps), updater)
    if wait:
        for future in single:
            future._ended_within(None)
        updater.flush()


def start(tally: Tally, by: Updater) -> None:
    """Show a bar and have it kept up to date."""
    shell = notebook_shell()
    shown = NotebookBar(tally, shell) if shell is not None else TerminalBar(tally)
    if shown.refresh():
        by.add(shown)


class NotebookBar:
    """A bar below the cell that asked for it."""

    period_s = PERIOD_S

    def __init__(self, tally: Tally, shell: Any) -> None:
        self._tally = tally
        self._shell = shell
        self._id = random_id("progress-")
        self._shown: dict[str, str] = {}

    def refresh(self) -> bool:
        """Show it as it is now; return whether it may still change."""
        reading = self._tally.read()
        bundle = {"text/plain": text_of(reading), "text/html": html_of(reading)}
        if bundle != self._shown:
            publish(self._shell, bundle, self._id, update=bool(self._shown))
            self._shown = bundle
        return not reading.is_over

    def leave(self) -> None:
        """Show it for the last time."""
        self.refresh()


class TerminalBar:
    """A line on standard error that is written anew; without a terminal, one line at the end."""

    period_s = PERIOD_S

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._width = 0  #: of what stands there now
        self._is_over = False

    def refresh(self) -> bool:
        """Show it as it is now; return whether it may still change."""
        reading = self._tally.read()
        self._write(reading, is_last=reading.is_over)
        return not reading.is_over

    def leave(self) -> None:
        """End the line."""
        self._write(self._tally.read(), is_last=True)

    def _write(self, reading: Reading, *, is_last: bool) -> None:
        stream = sys.stderr
        if stream is None or self._is_over:
            return
        self._is_over = is_last
        if stream.isatty():
            line = line_of(reading)[: _columns(stream) - 1]
            stream.write(f"\r{line:<{self._width}}" + "\n" * is_last)
            self._width = len(line)
        elif is_last:
            stream.write(text_of(reading) + "\n")
        stream.flush()


def _columns(stream: Any) -> int:
    """Return how wide the terminal is; 80, if it does not say so."""
    with suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(stream.fileno()).columns or 80
    return 80


# --------------------------------------------------------------------------- words


def text_of(reading: Reading) -> str:
    """Return a reading as a sentence."""
    many = f"{reading.done:,}"
    if not (reading.is_over and reading.done == reading.total):
        many += " of ?" if reading.share is None else f" of {reading.total:,.0f}"
    word = "item" if many == "1" else "items"
    words = [f"{many} {word} in {_time(reading.elapsed_s)}", *_counts(reading)]
    if reading.rate:
        words.append(f"{_rate(reading.rate)}/s")
    if reading.left_s is not None:
        words.append(f"{_time(reading.left_s)} left")
    return ", ".join(words)


def line_of(reading: Reading) -> str:
    """Return a reading with a bar, in plain characters: the terminal may know no others."""
    words = text_of(reading)
    if reading.parts:
        words += f" | {_part_text(reading.parts[0])}"
    if reading.share is None:
        return words
    full = round(reading.share * _BAR)
    return f"[{'#' * full}{'.' * (_BAR - full)}] {reading.share:4.0%} {words}"


def html_of(reading: Reading) -> str:
    """Return a reading as HTML, with the bars of running tasks."""
    state = "running"
    if reading.is_over:
        is_whole = reading.done == reading.total and not reading.failed
        state = "succeeded" if is_whole else "failed" if reading.failed else "cancelled"
    body = bar(reading.share, state, "20em") + " " if reading.share is not None else ""
    body += dimmed(text_of(reading))
    for part in reading.parts:
        body += f'<div class="nbcluster-part">{escape(printable(part.name))} '
        body += bar(part.share) + " " if part.share is not None else ""
        body += dimmed(part.message) + "</div>"
    known: dict[str, object] = {"done": reading.done, "failed": reading.failed}
    if reading.share is not None:
        known["total"] = int(reading.total)
    return framed(body, state, "progress", known | {"over": str(reading.is_over).lower()})


def _counts(reading: Reading) -> list[str]:
    counts = {s: getattr(reading, s) for s in ("running", "failed", "cancelled")}
    return [f"{number:,} {state}" for state, number in counts.items() if number]


def _part_text(part: Part) -> str:
    share = f"{part.share:.0%}" if part.share is not None else ""
    return " ".join(printable(word) for word in (part.name, share, part.message) if word)


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
