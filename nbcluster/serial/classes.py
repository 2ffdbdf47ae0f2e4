"""Classes that travel by value, and stay one class wherever they go.

A class is written as its tracking id, its version and its contents. The contents are bytes of
their own: who knows the id (the notebook it comes from) or the version (an executor that has
built it) does not even read them. The version is a hash of what the class itself holds; the
globals that its methods use travel beside it, with whatever refers to the class.
"""

from __future__ import annotations

import _abc  # type: ignore[import-not-found]  # the only way to ask for registered subclasses
import abc
import enum
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final
from weakref import WeakKeyDictionary

from nbcluster.serial import identity
from nbcluster.serial.building import RECEIVED, fill_class, load_class, make_class, make_enum
from nbcluster.serial.session import Name, Session
from nbcluster.serial.watch import Watch, watch_class

#: What every class has of its own, and what `building` makes anew.
_MADE_BY_TYPE: Final = frozenset(
    {"__dict__", "__weakref__", "__module__", "__qualname__", "__slots__", "__orig_bases__"}
    | {"_abc_impl", "__abstractmethods__", "__annotations_cache__", "__slotnames__"}
)
_MADE_BY_ENUM: Final = frozenset(
    {"_member_map_", "_member_names_", "_value2member_map_", "_unhashable_values_"}
    | {"_member_type_", "_value_repr_", "__new__", "_hashable_values_", "_unhashable_values_map_"}
)

Dump = Callable[[Any, Session], bytes]


@dataclass(slots=True)
class Contents:
    """A class in full, with the globals that its methods use."""

    version: str
    raw: bytes
    taken: tuple[Name, ...]
    modules: frozenset[str]
    watch: Watch


_KNOWN: Final[WeakKeyDictionary[type, Contents]] = WeakKeyDictionary()
_LOCK: Final = threading.RLock()


def reduce_class(cls: type, session: Session, dump: Dump) -> Any:
    """Return the reduction of a class that travels by value."""
    name = identity.id_of(cls)
    if session.root is not None:  # inside a class: all in one stream, so that cycles close
        return _in_full(cls, name, session, dump)
    came = RECEIVED.get(cls)
    if session.homeward and came is not None and came[1]:
        return load_class, (name, *came)
    contents = contents_of(cls, dump)
    for entry in contents.taken:
        session.take_name(entry)
    session.modules |= contents.modules
    return load_class, (name, contents.version, b"" if session.shallow else contents.raw)


def contents_of(cls: type, dump: Dump) -> Contents:
    """Return what is to be sent of ``cls``, from memory as long as nothing in it changed."""
    with _LOCK:
        known = _KNOWN.get(cls)
        if known is not None and known.watch.holds():
            return known
        watch = watch_class(cls)
        version = _version(cls, dump)
        session = Session(root=cls)
        raw = dump(cls, session)
        contents = Contents(
            version, raw, tuple(session.taken), frozenset(session.modules), watch or Watch()
        )
        if watch is not None:
            _KNOWN[cls] = contents
        return contents


def _version(cls: type, dump: Dump) -> str:
    """Return a hash of what ``cls`` itself and the classes above it hold."""
    if (came := RECEIVED.get(cls)) is not None:
        return came[0]
    known = _KNOWN.get(cls)
    if known is not None and known.watch.holds():
        return known.version
    above = [_version(b, dump) if identity.known_id(b) else b.__qualname__ for b in cls.__bases__]
    raw = dump(_Own(cls), Session(shallow=True, root=cls))
    return blake2b(repr(above).encode() + raw, digest_size=8).hexdigest()


class _Own:
    """Stands for a class while its own contents are hashed."""

    def __init__(self, cls: type) -> None:
        self.cls = cls

    def __reduce__(self) -> tuple[Any, ...]:
        members = _members(self.cls) if isinstance(self.cls, enum.EnumMeta) else ()
        return str, (self.cls.__qualname__, class_state(self.cls), members)


def _in_full(cls: type, name: str, session: Session, dump: Dump) -> Any:
    if session.shallow:  # in a fingerprint another class is its id: it has a version of its own
        return load_class, (name, "", b"")
    frame = (name, _version(cls, dump), type(cls), cls.__name__, cls.__bases__, _frame(cls))
    if isinstance(cls, enum.EnumMeta):
        return make_enum, (*frame, _members(cls)), class_state(cls), None, None, fill_class
    return make_class, frame, class_state(cls), None, None, fill_class


def _frame(cls: type) -> dict[str, Any]:
    """Return what a class must have from its first moment."""
    own = vars(cls)
    frame = {k: own[k] for k in ("__module__", "__qualname__", "__orig_bases__") if k in own}
    frame["__qualname__"] = cls.__qualname__
    if "__slots__" in own:
        slots = own["__slots__"]
        frame["__slots__"] = slots if isinstance(slots, str) else tuple(slots)
    return frame


def class_state(cls: type) -> dict[str, Any]:
    """Return the attributes that are set once the class is there."""
    skipped = _MADE_BY_TYPE
    if isinstance(cls, enum.EnumMeta):
        skipped = skipped | _MADE_BY_ENUM | set(cls.__members__)
    state = {
        name: value
        for name, value in vars(cls).items()
        if name not in skipped and not isinstance(value, types.MemberDescriptorType)
    }
    if isinstance(cls, abc.ABCMeta):
        registered = [weak() for weak in _abc._get_dump(cls)[0]]
        state["__registered__"] = [sub for sub in registered if sub is not None]
    return state


def _members(cls: type) -> list[tuple[str, Any, Any, dict[str, Any]]]:
    """Return of each member of an enum: name, plain value, and its attributes."""
    assert isinstance(cls, enum.EnumMeta)
    mixed: Any = vars(cls)["_member_type_"]
    found = []
    member: Any
    for name, member in cls.__members__.items():
        plain = None if mixed is object else _plain(mixed, member)
        state = {k: v for k, v in vars(member).items() if k not in _OF_MEMBER}
        found.append((name, plain, member._value_, state))
    return found


_OF_MEMBER: Final = frozenset({"_name_", "_value_", "__objclass__", "_sort_order_", "_inverted_"})


def _plain(mixed: type, member: Any) -> Any:
    """Return a member of a mixed enum as the plain value below it."""
    base: Any
    for base in (int, str, float, bytes, complex):
        if issubclass(mixed, base):
            return base.__new__(base, *base.__getnewargs__(member))
    return member._value_
