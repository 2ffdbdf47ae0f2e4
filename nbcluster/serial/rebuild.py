"""What pickled streams call to build things up again. All of it can be imported by name."""

from __future__ import annotations

import builtins
import importlib
import sys
import threading
import types
from contextlib import suppress
from functools import lru_cache
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, Final

from nbcluster.serial import identity
from nbcluster.serial.code import load_code
from nbcluster.serial.spaces import namespace, private_module

_EMPTY: Final = "empty"


def attribute(module: str, name: str) -> Any:
    """Return what ``name`` (with dots) means in ``module``."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def code(raw: bytes) -> CodeType:
    """Return a code object."""
    return load_code(raw)


def module(name: str) -> ModuleType:
    """Return a module: imported, this process's ``__main__``, or an empty one for a space."""
    known = sys.modules.get(name)
    if known is not None:
        return known
    return private_module(name)


def imported(name: str) -> ModuleType:
    """Return an importable module."""
    return importlib.import_module(name)


def fill_module(target: ModuleType, state: dict[str, Any]) -> None:
    """Give a module that came by value its contents, unless it is known here."""
    if sys.modules.get(target.__name__) is not target:
        vars(target).update(state)


# --------------------------------------------------------------------------- functions


def cell() -> CellType:
    """Return an empty cell; `fill_function` fills it, so that closures may be circular."""
    return CellType()


def fill_cell(target: CellType, content: tuple[Any, ...]) -> None:
    """Fill a cell with the only item of ``content``; leave it empty if there is none."""
    for item in content:
        target.cell_contents = item


def function(
    raw: bytes, space: str, name: str, closure: tuple[CellType, ...] | None
) -> FunctionType:
    """Return a function without its attributes; a space that begins with '=' is a module."""
    home = vars(imported(space[1:])) if space.startswith("=") else namespace(space)
    return FunctionType(load_code(raw), home, name, None, closure)


def fill_function(
    target: FunctionType,
    state: tuple[dict[str, Any], dict[str, Any], list[tuple[Any, ...]], list[str]],
) -> None:
    """Give a function its attributes, closure contents and submodules."""
    slots, attributes, contents, submodules = state
    for name, value in slots.items():
        setattr(target, name, value)
    vars(target).update(attributes)
    for target_cell, content in zip(target.__closure__ or (), contents, strict=True):
        fill_cell(target_cell, content)
    for name in submodules:
        with suppress(ImportError):
            importlib.import_module(name)


def cached(target: Any, maxsize: int | None, typed: bool) -> Any:
    """Return a function with an empty ``lru_cache`` around it."""
    return lru_cache(maxsize=maxsize, typed=typed)(target)


def marker(name: str) -> object:
    """Return the one ``object()`` of that tracking id."""
    known = identity.find(name)
    if known is None:
        known = object()
        identity.remember(name, known)
    return known


def tracked(name: str, maker: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Return the one thing of that tracking id, made by ``maker`` if it is new here."""
    known = identity.find(name)
    if known is None:
        known = maker(*args, **options)
        identity.remember(name, known)
    return known


def local(state: dict[str, Any]) -> threading.local:
    """Return a thread-local object with these attributes in this thread."""
    made = threading.local()
    vars(made).update(state)
    return made


def static(kind: Any, inner: Any, state: dict[str, Any]) -> Any:
    """Return a ``staticmethod`` or ``classmethod``."""
    made = kind(inner)
    with suppress(AttributeError):
        vars(made).update(state)
    return made


def nameless(name: str) -> type:
    """Return a builtin type by the name that `types` gives it."""
    found: type = getattr(types, name)
    return found


def builtin(name: str) -> Any:
    """Return a builtin."""
    return getattr(builtins, name)


# --------------------------------------------------------------------------- exceptions


def exception(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Return an exception of ``cls`` without calling an ``__init__`` written in Python.

    What such an ``__init__`` takes need not be what ``args`` holds. The builtin below it is
    called instead: it sets what has no place in ``__dict__``, as ``errno`` or ``code``.
    """
    native = next(
        base for base in cls.__mro__ if isinstance(vars(base).get("__init__"), _SlotWrapper)
    )
    made = cls.__new__(cls, *args)
    with suppress(TypeError):
        native.__init__(made, *args)  # type: ignore[misc]  # of the class that was looked for
    made.args = args
    return made


_SlotWrapper: Final = type(BaseException.__init__)


def raised(maker: Any, args: tuple[Any, ...]) -> BaseException:
    """Return an exception the way its own ``__reduce__`` wants it."""
    made: BaseException = maker(*args)
    return made


def fill_exception(
    target: BaseException, state: tuple[Any, BaseException | None, BaseException | None, bool]
) -> None:
    """Give an exception its attributes, cause and context."""
    attributes, cause, context, suppressed = state
    if isinstance(attributes, dict):
        _set_state(target, attributes)
    elif attributes is not None:
        target.__setstate__(attributes)
    target.__cause__, target.__context__ = cause, context
    target.__suppress_context__ = suppressed


def _set_state(target: BaseException, attributes: dict[str, Any]) -> None:
    notes = attributes.pop("__notes__", None)
    try:
        target.__setstate__(attributes)
    finally:
        for note in notes or ():
            target.add_note(note)
