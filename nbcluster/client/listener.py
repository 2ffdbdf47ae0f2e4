"""Whom a link tells what comes in."""

from __future__ import annotations

from typing import Any, Protocol

from nbcluster.errors import ClusterConnectionError


class Listener(Protocol):
    """Who is told what comes in. Called by the thread that receives; must be quick."""

    def on_message(self, message: Any) -> None:
        """Take in a message."""

    def on_session(self, again: bool) -> None:
        """A session was opened; ``again``: after another one was lost."""

    def on_idle(self) -> None:
        """Whoever receives is about to wait, or was woken."""

    @property
    def is_unneeded(self) -> bool:
        """Whether nobody will ask anything of the link any more."""

    def close(self) -> None:
        """It is unneeded. Only called by the I/O thread: closing waits for who else receives."""

    def on_lost(self) -> None:
        """The master is gone; a new one is looked for."""

    def on_forgotten(self) -> None:
        """The master does not know this session any more; another one is opened."""

    def on_still_lost(self) -> None:
        """The next master is looked for once more."""

    def on_end(self, error: ClusterConnectionError) -> None:
        """There will be no session any more."""
