"""Futures that show themselves and go on changing until they are done.

IPython asks what is registered for a class before the object itself. A live display cannot be
what a cell returns (``execute_result``), since front ends update only what was displayed; so a
future is displayed, under a ``display_id`` of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final

from nbcluster.client.future import Future
from nbcluster.ids import random_id
from nbcluster.notebook.updating import TICK_S, publish, updater

_NEVER: Final[dict[str, str]] = {}


class FutureDisplay:
    """One display of one future.

    Parameters
    ----------
    future
        What is shown.
    show
        Called with a MIME bundle, and whether that is an update.
    """

    period_s = TICK_S

    def __init__(self, future: Future[Any], show: Callable[[dict[str, str], bool], None]) -> None:
        self._future = future
        self._show = show
        self._shown = _NEVER
        self._end_watch = future._watch(updater.wake)

    def refresh(self) -> bool:
        """Show it, if it has changed; return whether it may still change."""
        future = self._future
        is_over = future.done()  # before it is looked at
        bundle = future._repr_mimebundle_()
        if bundle != self._shown:
            self._show(bundle, self._shown is not _NEVER)
            self._shown = bundle
        if is_over:
            self._end_watch()
        return not is_over

    def leave(self) -> None:
        """Show it for the last time."""
        self.refresh()


class _Face:
    """What is registered with one shell."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self._numbers = itertools.count(1)
        self._prefix = random_id("future-", 8)

    def display(self, future: Future[Any]) -> None:
        """Show a future, and keep that up to date."""
        display_id = f"{self._prefix}-{next(self._numbers)}"

        def show(bundle: dict[str, str], is_update: bool) -> None:
            publish(self.shell, bundle, display_id, update=is_update)

        shown = FutureDisplay(future, show)
        if shown.refresh():
            updater.add(shown)


_face: _Face | None = None


def install(shell: Any) -> None:
    """Have futures update themselves where a cell of this shell shows them.

    Does nothing on a terminal: what is printed there stays as it is.

    Parameters
    ----------
    shell : InteractiveShell
        That of the notebook.
    """
    global _face  # noqa: PLW0603 - a process has one shell
    uninstall()
    if getattr(shell, "kernel", None) is None:
        return
    _face = _Face(shell)
    shell.display_formatter.ipython_display_formatter.for_type(Future, _face.display)


def uninstall() -> None:
    """Undo `install`. What is shown already goes on until it is done."""
    global _face
    if _face is None:
        return
    shell, _face = _face.shell, None
    shell.display_formatter.ipython_display_formatter.pop(Future, None)
