"""The globals of functions that came by value, and who may write there.

All functions of one home module share one dictionary, as they did at home: what one of them
declares ``global`` the others see, in later tasks too. For ``__main__`` it is the dictionary of
this process's own ``__main__``, so that pushed names are found by every function.

Two versions of a function may want different values of one name, and either may run next. Every
captured value therefore has a fingerprint. Before a call, each name whose last shipped value has
another fingerprint is set; a name whose fingerprint is the same keeps what tasks made of it. So
what is rebound in the notebook wins, and what a task counts or loads is kept until then.

The price: functions of two notebooks that use one executor share these names. What they capture
is right for each, because it is set before each call; what they only set themselves is shared.
"""

from __future__ import annotations

import builtins
import secrets
import sys
import threading
from types import ModuleType
from typing import Any, Final

from nbcluster.serial.origin import is_importable

#: space -> name -> fingerprint of the captured value
Prints = dict[str, dict[str, bytes]]
#: space -> name -> value
Values = dict[str, dict[str, Any]]

_PRIVATE: Final[dict[str, ModuleType]] = {}
_FOREIGN: Final[dict[int, str]] = {}  # id() of a dictionary that is no module's -> its space
#: space -> its dictionary, and the fingerprints of what was last shipped into it
_ACTIVE: Final[dict[str, tuple[dict[str, Any], dict[str, bytes]]]] = {}
_LOCK: Final = threading.RLock()


def space_of(namespace: dict[str, Any]) -> tuple[str, bool]:
    """Return the space of a function's globals, and whether it is an importable module."""
    name = namespace.get("__name__")
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is not None and vars(module) is namespace:
        return str(name), is_importable(name)
    for key, private in list(_PRIVATE.items()):
        if vars(private) is namespace:
            return key, False
    return _FOREIGN.setdefault(id(namespace), f"{name}#{secrets.token_hex(6)}"), False


def namespace(space: str) -> dict[str, Any]:
    """Return the dictionary of a space, made if need be."""
    found = vars(sys.modules.get(space) or private_module(space))
    # Without it, what imports on behalf of a function (as numpy does) fails with a KeyError.
    found.setdefault("__builtins__", builtins)
    return found


def private_module(space: str) -> ModuleType:
    """Return the module that stands for a space which nobody can import."""
    with _LOCK:
        module = _PRIVATE.get(space)
        if module is None:
            module = _PRIVATE[space] = ModuleType(space.partition("#")[0])
        return module


def activate(prints: Prints, values: Values) -> None:
    """Set each name whose last shipped value was another one."""
    for space, wanted in prints.items():
        home = namespace(space)
        entry = _ACTIVE.get(space)
        if entry is None or entry[0] is not home:  # a new __main__ was put in place
            entry = _ACTIVE[space] = home, {}
        active = entry[1]
        for name, mark in wanted.items():
            if active.get(name) != mark:
                home[name] = values[space][name]
                active[name] = mark


def fill(values: Values) -> None:
    """Set only names that are missing: at home the notebook's own values stand."""
    for space, named in values.items():
        home = namespace(space)
        for name, value in named.items():
            home.setdefault(name, value)


def was_shipped(space: str, name: str) -> bool:
    """Return whether ``name`` of ``space`` came here from elsewhere."""
    entry = _ACTIVE.get(space)
    return entry is not None and name in entry[1]
