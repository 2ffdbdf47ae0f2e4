"""Calls that every executor makes before it runs anything else, now and later."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final

from nbcluster.calls import INITIALIZER, PATH, add_paths, initialize, push_names
from nbcluster.client.owner import Owner
from nbcluster.errors import InitializerError, PushError

#: Names of the directories in which packages are installed.
_INSTALLED: Final = ("site-packages", "dist-packages")


def set_up(
    client: Owner, fn: Callable[..., Any], args: tuple[Any, ...], timeout: float | None = None
) -> None:
    """Have every executor, now and later, call ``fn(*args)`` before it runs anything else.

    Raises
    ------
    InitializerError
        If it raises on the executors, or did so before.
    PushError
        If it raises on the executors and they can do without.
    """
    version = begin_set_up(client, fn, args)
    answer = client.ask("setup_done", timeout, version=version)
    if answer["error"]:
        raise InitializerError(answer["error"])
    if answer["without"]:
        raise PushError(answer["without"])


def begin_set_up(client: Owner, fn: Callable[..., Any], args: tuple[Any, ...]) -> int:
    """As `set_up`, without waiting for it; return the version to wait for."""
    client.follow_paths()
    names = args[0] if fn is push_names else INITIALIZER if fn is initialize else ()
    version: int = client.ask("setup", **_order(client, fn, args, list(names)))
    return version


def _order(
    client: Owner, fn: Callable[..., Any], args: tuple[Any, ...], names: list[str]
) -> dict[str, Any]:
    """Return the call as it is sent, with the names that it binds."""
    definition = client.packer.define(fn)
    payload, blobs = client.packer.dumps_call(args, {})
    return {
        "hash": definition.hash,
        "name": definition.name,
        "blob": definition.blob,
        "payload": payload,
        "blobs": list(blobs),
        "names": names,
    }


class Paths:
    """Has executors look for modules where this process has looked since it came to the cluster.

    Parameters
    ----------
    client
        Whose functions and arguments may need the modules.
    """

    def __init__(self, client: Owner) -> None:
        self._client = client
        self.seen = list(sys.path)  #: ``sys.path`` as it was followed last
        self._orders: list[dict[str, Any]] = []

    def follow(self) -> None:
        """Send the directories that are new in ``sys.path`` ahead of what is submitted next."""
        now = list(sys.path)
        known = set(self.seen)
        front: list[str] = []
        back: list[str] = []
        side = front
        for entry in now:
            if os.path.basename(entry) in _INSTALLED:
                side = back
            if entry not in known and os.path.exists(entry or "."):
                side.append(os.path.abspath(entry))
        if front or back:
            names = [*PATH, *front, *back]
            order = _order(self._client, add_paths, (front, back), names)
            self._orders.append(order)
            self._client.asks.order("setup", order)
        # Last, since another thread that finds it seen relies on its being sent.
        self.seen = now

    def tell_again(self) -> None:
        """Send all again: a master that went may not have put them on record."""
        for order in self._orders:
            self._client.asks.order("setup", order)
