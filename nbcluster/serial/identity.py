"""Names for things whose identity must survive a journey and back.

A class of the notebook, a type variable or a bare ``object()`` used as a marker is compared by
identity. Each gets a random id where it is made. Another process keeps what it built under that
id; at home the id leads to the thing itself.
"""

from __future__ import annotations

import secrets
import threading
from typing import Any, Final
from weakref import ref

_LOCK: Final = threading.RLock()
#: id() of a thing -> its tracking id and the thing, weakly where that is possible
_IDS: Final[dict[int, tuple[str, Any]]] = {}
#: tracking id (with a version, for classes built elsewhere) -> the thing
_THINGS: Final[dict[str, Any]] = {}


def id_of(thing: Any) -> str:
    """Return the tracking id of ``thing``, made at the first call."""
    with _LOCK:
        known = _IDS.get(id(thing))
        if known is not None and known[1]() is thing:
            return known[0]
        name = secrets.token_hex(8)
        remember(name, thing)
        return name


def known_id(thing: Any) -> str | None:
    """Return the tracking id of ``thing`` if it has one."""
    known = _IDS.get(id(thing))
    return known[0] if known is not None and known[1]() is thing else None


def find(name: str) -> Any:
    """Return the thing of that tracking id, or None."""
    thing = _THINGS.get(name)
    return None if thing is None else thing()


def remember(name: str, thing: Any, key: str = "") -> None:
    """Keep ``thing`` under ``name``; other things are found under ``key`` if it is given."""
    key = key or name
    number = id(thing)
    with _LOCK:
        _IDS[number] = name, _hold(thing, number, key)
        _THINGS[key] = _IDS[number][1]


def _hold(thing: Any, number: int, key: str) -> Any:
    def forget(dead: Any) -> None:
        with _LOCK:
            if (entry := _IDS.get(number)) is not None and entry[1] is dead:
                del _IDS[number]
            if _THINGS.get(key) is dead:
                del _THINGS[key]

    try:
        return ref(thing, forget)
    except TypeError:  # a bare object(): tiny, and there are few
        return lambda: thing
