"""Stacks of running attempts: asked for by a signal, read from a file a moment later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from nbcluster.engine.children import Child
from nbcluster.transport.page import CURRENT
from nbcluster.wire import messages as m

#: Seconds an executor has to write its stack; one that is stopped never does.
_PATIENCE_S: Final = 2.0


@dataclass(slots=True)
class Stacks:
    """The stacks that were asked for and not told yet."""

    _waiting: list[tuple[int, Child, int, float, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ask(self, wanted: m.StackWanted, child: Child | None, now: float) -> m.Stack | None:
        """Ask an executor for its stack; return the answer if there is none to wait for."""
        if child is None or child.page.words[CURRENT] != wanted.token:
            return m.Stack(wanted.request, "")
        try:
            start = child.ask_stack()
        except OSError as error:
            return m.Stack(wanted.request, f"the executor cannot be asked: {error}")
        self._waiting.append((wanted.request, child, start, now + _PATIENCE_S, ""))
        return None

    def answers(self, now: float) -> Iterator[m.Stack]:
        """Yield the stacks that were written meanwhile."""
        waiting, self._waiting = self._waiting, []
        for request, child, start, until, before in waiting:
            text, is_alive = before, True
            try:
                text = child.stack(start)
            except OSError:
                is_alive = False
            if is_alive and not text and now >= until:
                text = (
                    f"process {child.pid} did not write it within {_PATIENCE_S:g} s: is it stopped?"
                )
            # It is whole once it has not grown from one look to the next.
            if (text and text == before) or not is_alive or now >= until:
                yield m.Stack(request, text)
            else:
                self._waiting.append((request, child, start, until, text))
