"""The place below a cell where its tasks write when the cell itself runs no more."""

from __future__ import annotations

import html
import itertools
import time
from typing import Any, Final

from nbcluster.client.future import Future
from nbcluster.ids import random_id
from nbcluster.notebook.output import Piece, Source, jupyter_data, sources_of
from nbcluster.notebook.updating import TICK_S, publish, updater
from nbcluster.wire.shown import Shown

#: Characters that are shown of what was printed: each update sends all of it anew.
TAIL: Final = 64_000
#: Characters that updates of one area send in a second, about.
_RATE: Final = 400_000
_numbers: Final = itertools.count(1)


class Area:
    """One display of what some tasks print and show; the last part of what is printed."""

    period_s = TICK_S

    def __init__(
        self, shell: Any, futures: list[Future[Any]], sources: list[Source] | None = None
    ) -> None:
        self._shell = shell
        self._futures = futures
        self._sources = sources or sources_of(futures)
        self._id = f"{random_id('output-', 8)}-{next(_numbers)}"
        self._parts: list[Piece] = []
        self._is_shown = False
        self._not_before = 0.0
        self._ends = [future._watch(updater.wake) for future in futures]

    def open(self) -> None:
        """Show it below the cell that runs now, and keep it up to date."""
        self._render()
        if self.refresh():
            updater.add(self)

    def refresh(self) -> bool:
        """Show what has come; return whether more may come."""
        is_over = all(future.done() for future in self._futures)
        if not is_over and time.monotonic() < self._not_before:
            return True
        pieces = [piece for source in self._sources for piece in source.take()]
        for piece in pieces:
            self._add(piece)
        if pieces:
            sent = self._render()
            self._not_before = time.monotonic() + sent / _RATE
        if is_over:
            for end in self._ends:
                end()
        return not is_over

    def leave(self) -> None:
        """Show it for the last time."""
        self._not_before = 0.0
        self.refresh()

    def _add(self, piece: Piece) -> None:
        parts = self._parts
        if isinstance(piece, Shown):
            if piece.clear:
                parts.clear()
            if piece.update:
                for i, old in enumerate(parts):
                    if isinstance(old, Shown) and old.display_id == piece.display_id:
                        parts[i] = piece
                return
            if piece.data:
                parts.append(piece)
        elif parts and not isinstance(parts[-1], Shown) and parts[-1][0] == piece[0]:
            parts[-1] = piece[0], _tail(parts[-1][1] + piece[1])
        else:
            parts.append((piece[0], _tail(piece[1])))

    def _render(self) -> int:
        plain = "".join(map(_plain, self._parts))
        rich = "".join(map(_html, self._parts))
        data = {"text/plain": plain, "text/html": f"<div class='nbcluster-output'>{rich}</div>"}
        publish(self._shell, data, self._id, update=self._is_shown)
        self._is_shown = True
        return len(plain) + len(rich)


def _tail(text: str) -> str:
    if "\r" in text:  # a progress bar draws itself anew in its line
        lines = text.replace("\r\n", "\n").split("\n")
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    if len(text) <= TAIL:
        return text
    cut = text.find("\n", len(text) - TAIL) + 1 or len(text) - TAIL
    return text[cut:]


def _plain(piece: Piece) -> str:
    if isinstance(piece, Shown):
        return str(piece.data.get("text/plain", "")) + "\n"
    return piece[1]


def _html(piece: Piece) -> str:
    if not isinstance(piece, Shown):
        style = " style='background: var(--jp-rendermime-error-background)'" * (piece[0] == 2)
        return f"<pre{style}>{html.escape(piece[1])}</pre>"
    data = jupyter_data(piece)
    for mime in ("text/html", "image/svg+xml"):
        if mime in data:
            return str(data[mime])
    for mime in ("image/png", "image/jpeg"):
        if mime in data:
            return f"<img src='data:{mime};base64,{data[mime]}'>"
    return f"<pre>{html.escape(str(data.get('text/plain', '')))}</pre>"
