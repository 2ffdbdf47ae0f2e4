"""Errors of tasks as they are shown under a cell: the user's frames, and no others."""

from __future__ import annotations

import traceback
from typing import Any

from nbcluster.client.future import Future


class Rendering:
    """What IPython shows of an exception in the place of the traceback of this process."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self) -> list[str]:
        return self.text.splitlines()


def as_shown(error: BaseException, future: Future[Any]) -> BaseException:
    """Return what to raise for ``error``, of a task that failed: itself, shown as on the engine."""
    kind = type(error).__name__
    text = (future._traceback_text or f"{kind}: {error}").rstrip()
    place = f"on engine {future.engine}, " if future.engine else ""
    text += f"\n\n{place}task {future.id}"
    if future.attempts > 1:
        text += f"\nfailed after {future.attempts} attempts; last error: {kind}: {error}"
    if isinstance(error, SyntaxError):
        return CellSyntaxError(error, text)
    render(error, text)
    return error


def render(error: BaseException, text: str) -> None:
    """Have IPython show ``text`` of an exception, and no frames of this process."""
    error._render_traceback_ = Rendering(text)  # type: ignore[attr-defined]


class CellSyntaxError(Exception):
    """Something is no Python: the text of a cell, or what a task has compiled.

    No `SyntaxError`: those IPython shows with all frames between the cell and where they were
    raised, which are ours.
    """

    def __init__(self, error: SyntaxError, text: str = "") -> None:
        super().__init__(str(error))
        self._text = text or "".join(traceback.format_exception_only(error)).rstrip()

    def _render_traceback_(self) -> list[str]:
        return self._text.splitlines()


CellSyntaxError.__name__ = "SyntaxError"  # as front ends show it
