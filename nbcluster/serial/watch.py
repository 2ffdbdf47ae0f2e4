"""Notices whether a function or class would be written the same way again.

A watch pins everything that a function reads: its code, its defaults, the globals it names, what
its closure holds, and the same of the functions and classes it reaches. If every pinned value is
one that cannot change, comparing identities is enough. Where something mutable is reached there
is no watch, and the function is written anew each time.
"""

from __future__ import annotations

import enum
import functools
import logging
import os
import re
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, Final, TypeVar
from weakref import ref

from nbcluster.serial.code import global_names
from nbcluster.serial.origin import (
    Stamp,
    by_reference,
    global_generator,
    is_importable,
    local_modules,
    stamp,
)
from nbcluster.serial.session import captured
from nbcluster.serial.spaces import space_of

_MISSING: Final = object()
_ATOMS: Final = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type(...), type(NotImplemented), range}
    | {object, slice, re.Pattern, logging.Logger, TypeVar, types.GenericAlias}
    | {types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType}
)
#: The same, of modules that need not be loaded for that.
_NAMED_ATOMS: Final = frozenset(
    {("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID")}
    | {("datetime", name) for name in ("date", "datetime", "time", "timedelta", "timezone")}
)
#: Dictionaries of a class that are made with it and not written to afterwards.
_FIXED: Final = frozenset(
    {"__annotations__", "__dataclass_fields__", "__dataclass_params__", "__match_args__"}
    | {
        "__parameters__",
        "__orig_bases__",
        "_abc_impl",
        "__doc__",
        "__slots__",
        "__static_attributes__",
    }
    | {"_member_map_", "_member_names_", "_value2member_map_", "_member_type_", "_field_defaults"}
    | {"_unhashable_values_", "__abstractmethods__", "__protocol_attrs__"}
)


#: Seconds for which a local module counts as unchanged once its file was looked at: what a loop
#: submits meanwhile could reach its executor before a change or after it anyway.
LOOK_S: Final = 0.0002

#: Modules whose generated methods hold only working state beside what the class says anyway.
_GENERATED: Final = frozenset({"dataclasses", "reprlib"})


class _CannotTellError(Exception):
    """Something mutable is reached."""


@dataclass(slots=True)
class Watch:
    """What must be as it was. All tests together take about a microsecond for a small function."""

    #: mapping, key, value
    items: list[tuple[Any, str, Any]] = field(default_factory=list)
    #: the same for what must not be kept alive: the value is held weakly
    weak_items: list[tuple[Any, str, ref[Any]]] = field(default_factory=list)
    cells: list[tuple[CellType, Any]] = field(default_factory=list)
    weak_cells: list[tuple[CellType, ref[Any]]] = field(default_factory=list)
    functions: list[tuple[ref[FunctionType], CodeType, Any]] = field(default_factory=list)
    sizes: list[tuple[Any, int]] = field(default_factory=list)  #: mapping, number of items
    stamps: list[Stamp] = field(default_factory=list)  #: local modules as they were on disk
    looked_at: float = 0.0  #: when they were last found unchanged

    def holds(self) -> bool:
        """Return whether nothing changed."""
        for mapping, key, value in self.items:
            if mapping.get(key, _MISSING) is not value:
                return False
        for function, code, defaults in self.functions:
            now = function()
            if now is None or now.__code__ is not code or now.__defaults__ is not defaults:
                return False
        for mapping, key, weak in self.weak_items:
            if mapping.get(key, _MISSING) is not weak():
                return False
        return self._rest_holds()

    def _rest_holds(self) -> bool:
        for cell, value in self.cells:
            if _content(cell) is not value:
                return False
        for cell, weak in self.weak_cells:
            if _content(cell) is not weak():
                return False
        for mapping, size in self.sizes:
            if len(mapping) != size:
                return False
        return not self.stamps or self._files_hold()

    def _files_hold(self) -> bool:
        now = monotonic()
        if now - self.looked_at > LOOK_S:
            if any(stamp(old[0], old[1]) != old for old in self.stamps):
                return False
            self.looked_at = now
        return True


def watch_function(function: FunctionType, modules: Iterable[str]) -> Watch | None:
    """Return a watch over a function that refers to ``modules``, or None."""
    return _watch(lambda pins: pins.function(function), modules)


def watch_class(cls: type) -> Watch | None:
    """Return a watch over a class itself, without the globals of its methods, or None."""
    return _watch(lambda pins: pins.cls(cls, deep=False), ())


def watch_reference(obj: Any, modules: Iterable[str]) -> Watch | None:
    """Return a watch over something that is found by name in a module."""
    return _watch(lambda pins: pins.reference(obj), modules)


def _watch(pin: Callable[[_Pins], None], modules: Iterable[str]) -> Watch | None:
    pins = _Pins()
    try:
        pin(pins)
    except Exception:  # noqa: BLE001 - _CannotTellError, or a user's object that dislikes questions
        return None
    pins.watch.stamps = [stamp(n, path) for n, path in local_modules(set(modules)).items()]
    return pins.watch


class _Pins:
    """Collects the pins of a watch."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.seen: set[int] = set()
        self.alive: list[Any] = []  # so that the ids in `seen` stay true while it collects
        self.deep = True

    def function(self, function: FunctionType) -> None:
        if self._was_seen(function):
            return
        watch = self.watch
        watch.functions.append((ref(function), function.__code__, function.__defaults__))
        if function.__globals__.get("__name__") in _GENERATED:
            return
        for default in function.__defaults__ or ():
            self.value(default)
        for mapping in (function.__kwdefaults__, vars(function)):
            if mapping:
                self._mapping(mapping)
        if not function.__kwdefaults__ and not vars(function):
            watch.sizes.append((vars(function), 0))
        for cell in function.__closure__ or ():
            self._cell(cell)
        if self.deep:
            self._globals(function)

    def _globals(self, function: FunctionType) -> None:
        if space_of(function.__globals__)[1]:
            return
        there = {name for _, _, name in captured(function)}
        for name in global_names(function.__code__):
            if name in there or name not in function.__globals__:
                self._item(function.__globals__, name, function.__globals__.get(name, _MISSING))

    def cls(self, cls: type, deep: bool = True) -> None:
        if self._was_seen(cls):
            return
        before, self.deep = self.deep, deep and self.deep
        own = vars(cls)
        self.watch.sizes.append((own, len(own)))
        for name, value in own.items():
            if name in ("__dict__", "__weakref__", "__module__", "__slotnames__"):
                continue
            self._item(own, name, value, fixed=name in _FIXED)
        for base in cls.__bases__:
            if by_reference(base) is None:
                self.cls(base, deep)
        self.deep = before

    def reference(self, obj: Any) -> None:
        module = by_reference(obj)
        if module is None or "." in obj.__qualname__:
            raise _CannotTellError
        import sys

        self._item(vars(sys.modules[module]), obj.__qualname__, obj, fixed=True)

    def value(self, value: Any) -> None:
        """Pin what can be reached from ``value``, or give up."""
        kind = type(value)
        if kind in _ATOMS or value is _MISSING:
            return
        if kind is tuple or kind is frozenset:
            for item in value:
                self.value(item)
        elif isinstance(value, ModuleType):
            if not is_importable(value.__name__):
                raise _CannotTellError
        elif global_generator(value) or by_reference(value) is not None:
            return
        elif isinstance(value, FunctionType):
            self.function(value)
        elif isinstance(value, type):
            self.cls(value)
        else:
            self._other(value)

    def _other(self, value: Any) -> None:
        if isinstance(value, (staticmethod, classmethod)):
            self.value(value.__func__)
        elif isinstance(value, property):
            for part in (value.fget, value.fset, value.fdel):
                self.value(part)
        elif isinstance(value, enum.Enum):
            self.cls(type(value))
        elif isinstance(value, types.BuiltinFunctionType):
            self.value(value.__self__)
        elif isinstance(value, functools._lru_cache_wrapper):
            self._mapping(vars(value))
        elif not _is_constant(value):
            raise _CannotTellError

    def _mapping(self, mapping: dict[str, Any]) -> None:
        self.watch.sizes.append((mapping, len(mapping)))
        for key, value in mapping.items():
            self._item(mapping, key, value)

    def _item(self, mapping: Any, key: str, value: Any, fixed: bool = False) -> None:
        if not fixed:
            self.value(value)
        if _is_heavy(value):
            self.watch.weak_items.append((mapping, key, ref(value)))
        else:
            self.watch.items.append((mapping, key, value))

    def _cell(self, cell: CellType) -> None:
        value = _content(cell)
        self.value(value)
        if _is_heavy(value):
            self.watch.weak_cells.append((cell, ref(value)))
        else:
            self.watch.cells.append((cell, value))

    def _was_seen(self, thing: Any) -> bool:
        if id(thing) in self.seen:
            return True
        self.seen.add(id(thing))
        self.alive.append(thing)
        return False


def _is_constant(value: Any) -> bool:
    kind = type(value)
    return (
        isinstance(value, (os.PathLike, types.DynamicClassAttribute))
        or kind.__module__ == "dataclasses"  # its markers
        or (kind.__module__, kind.__name__) in _NAMED_ATOMS
    )


def _is_heavy(value: Any) -> bool:
    """Return whether holding ``value`` might keep alive what the user has dropped."""
    return isinstance(value, (FunctionType, type, functools._lru_cache_wrapper))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING
