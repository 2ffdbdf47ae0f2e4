"""Who wants to look at a cluster once more before it is stopped or left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from nbcluster.client.client import Client

_wishes: Final[WeakKeyDictionary[Client, dict[Callable[[], None], None]]] = WeakKeyDictionary()


def before_end(client: Client, fn: Callable[[], None]) -> Callable[[], None]:
    """Have ``fn()`` called while the master still answers; return what takes that back."""
    _wishes.setdefault(client, {})[fn] = None

    def take_back() -> None:
        _wishes.get(client, {}).pop(fn, None)

    return take_back


def say_farewell(client: Client) -> None:
    """Let all look once more."""
    if not client.is_closed:
        for fn in list(_wishes.get(client, ())):
            fn()
