"""Builds classes from what `classes` wrote.

A class is made bare, by ``type.__new__``, and gets its attributes afterwards. So it can refer to
itself, and nothing of the user's runs that ran at home already: no metaclass, no
``__init_subclass__``, no ``__set_name__``. What those did is among the attributes.
"""

from __future__ import annotations

import _abc  # type: ignore[import-not-found]  # the only way to a bare abstract class
import abc
import pickle
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

from nbcluster.serial import identity

#: classes made here from a stream -> their version, and their contents if they came alone
RECEIVED: Final[WeakKeyDictionary[type, tuple[str, bytes]]] = WeakKeyDictionary()
_UNFINISHED: Final[set[int]] = set()
#: One class is built by one thread: another must not see it half made.
_LOCK: Final = threading.RLock()

Member = tuple[str, Any, Any, dict[str, Any]]


def load_class(name: str, version: str, raw: bytes) -> type:
    """Return the class of tracking id ``name``: the own one, one built before, or a new one."""
    with _LOCK:
        known = _known(name, version)
        if known is None:
            known = pickle.loads(raw)
            RECEIVED[known] = version, raw
        return known


def _known(name: str, version: str) -> type | None:
    own: type | None = identity.find(name)  # made in this process: whatever its version
    return own if own is not None else identity.find(f"{name}:{version}")


def make_class(
    name: str, version: str, meta: type, title: str, bases: tuple[type, ...], frame: dict[str, Any]
) -> type:
    """Return the class if it is known, else make it without its attributes."""
    with _LOCK:
        known = _known(name, version)
        if known is not None:
            return known
        with _no_subclass_hooks(bases):
            made: type = type.__new__(meta, title, bases, frame)
        return _started(name, version, made)


def make_enum(
    name: str,
    version: str,
    meta: Any,
    title: str,
    bases: tuple[type, ...],
    frame: dict[str, Any],
    members: list[Member],
) -> type:
    """Return the enum if it is known, else make it with members and without its methods."""
    with _LOCK:
        known = _known(name, version)
        if known is not None:
            return known
        space = meta.__prepare__(title, bases)
        for key, value in frame.items():
            space[key] = value
        space["__new__"], space["__init__"] = _member_maker(members), _no_init
        for number, member in enumerate(members):
            space[member[0]] = _Number(number)
        with _no_subclass_hooks(bases):
            made: type = meta.__new__(meta, title, bases, space)
        type.__delattr__(made, "__init__")
        return _started(name, version, made)


class _Number:
    """Value of a member while its enum is made: says which one it is, and hides what it is."""

    def __init__(self, number: int) -> None:
        self.number = number


def _no_init(member: Any, *args: Any) -> None:
    """Do nothing: what the enum's own ``__init__`` did is among the member's attributes."""


def _member_maker(members: list[Member]) -> Any:
    def make(cls: Any, number: _Number) -> Any:
        _, plain, value, state = members[number.number]
        mixed = cls._member_type_
        made = object.__new__(cls) if mixed is object else mixed.__new__(cls, plain)
        made._value_ = value
        vars(made).update(state)
        return made

    return make


@contextmanager
def _no_subclass_hooks(bases: tuple[type, ...]) -> Iterator[None]:
    """Take ``__init_subclass__`` away from the classes above while a class is made below them."""
    hidden: list[tuple[type, Any]] = []
    seen = {cls for base in bases for cls in base.__mro__}
    try:
        for cls in seen:
            if "__init_subclass__" in vars(cls) and cls.__flags__ & _HEAP_TYPE:
                hidden.append((cls, vars(cls)["__init_subclass__"]))
                type.__delattr__(cls, "__init_subclass__")
        yield
    finally:
        for cls, hook in hidden:
            type.__setattr__(cls, "__init_subclass__", hook)


_HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE


def _started(name: str, version: str, made: type) -> type:
    if isinstance(made, abc.ABCMeta):
        _abc._abc_init(made)
    identity.remember(name, made, f"{name}:{version}")
    RECEIVED[made] = version, b""
    _UNFINISHED.add(id(made))
    return made


def fill_class(cls: type, state: dict[str, Any]) -> None:
    """Give a new class its attributes; one that was known keeps those it has."""
    with _LOCK:
        if id(cls) not in _UNFINISHED:
            return
        _UNFINISHED.discard(id(cls))
        registered = state.pop("__registered__", ())
        for name, value in state.items():
            type.__setattr__(cls, name, value)
        if isinstance(cls, abc.ABCMeta):
            _abc._abc_init(cls)  # again: only now it is known what is abstract
            for sub in registered:
                cls.register(sub)
