"""Finds what inside an object cannot be pickled, and how one gets there.

Called after pickling failed, so it may take a moment, though not for ever: the search tries the
parts of an object one by one and goes down into the first that fails.
"""

from __future__ import annotations

import functools
import io
import threading
import time
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any, Final

from nbcluster.errors import UnpicklableError
from nbcluster.serial.classes import class_state
from nbcluster.serial.picklers import PROTOCOL
from nbcluster.serial.session import Session, captured
from nbcluster.serial.stream import write

_MOST_PARTS: Final = 2_000
_MOST_DEPTH: Final = 30
_MOST_S: Final = 2.0

Parts = Iterator[tuple[str, Any]]


def refuse(what: str, obj: Any, error: BaseException) -> UnpicklableError:
    """Return the error that says why ``obj`` cannot travel.

    Parameters
    ----------
    what
        ``"argument"`` (then ``obj`` is a pair of args and kwargs), ``"function"``, ``"class"``,
        ``"result"`` or ``"exception"``.
    obj
        What was to be pickled.
    error
        What the pickler raised.
    """
    search = _Search()
    if what == "argument":
        path = search.first(_arguments(*obj), 0)
    else:
        path = [_title(obj, what), *search.below(obj, 0)]
    reason = str(error) or type(error).__name__
    if isinstance(error, RecursionError):
        reason = "it is nested too deeply, or its pickling never ends"
    return UnpicklableError(what, " -> ".join(path), reason[:500])


def refuse_large(what: str, obj: Any, size: int, limit: int) -> UnpicklableError:
    """Return the error that says what of ``obj``, a function or classes, is too large."""
    sizes = sorted(((_size(part), label) for label, part in _parts(obj)), reverse=True)
    large = [f"{label} ({part >> 20} MiB)" for part, label in sizes[:3] if part >> 20]
    reason = (
        f"it has {size >> 20} MiB, and what travels with a {what} may have {limit >> 20}: pass it "
        "as an argument, since arguments travel in shared memory"
    )
    path = " -> ".join(filter(None, [_title(obj, what), ", ".join(large)]))
    return UnpicklableError(what, path, reason)


def _size(obj: Any) -> int:
    try:
        written = write(obj, Session(), out_of_band=True)
    except Exception:  # noqa: BLE001 - user code runs while its objects are pickled
        return 0
    return written.stream_size() + sum(buffer.raw().nbytes for buffer in written.buffers)


def _title(obj: Any, what: str) -> str:
    name = getattr(obj, "__name__", None)
    return name if isinstance(name, str) else what


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
    for number, value in enumerate(args):
        yield f"args[{number}]", value
    for name, value in kwargs.items():
        yield f"kwargs[{name!r}]", value


class _Search:
    """One search, bounded in time, depth and number of parts tried."""

    def __init__(self) -> None:
        self.deadline = time.monotonic() + _MOST_S
        self.left = _MOST_PARTS
        self.above: set[int] = set()

    def below(self, obj: Any, depth: int) -> list[str]:
        """Return the way from ``obj`` to the culprit, which ends in the name of its type."""
        if _refuses(obj):
            return [_type_name(obj)]
        self.above.add(id(obj))
        return self.first(_parts(obj), depth) or [_type_name(obj)]

    def first(self, parts: Parts, depth: int) -> list[str]:
        """Return the way that leads through the first of ``parts`` that cannot be pickled."""
        if depth > _MOST_DEPTH:
            return []
        for label, part in parts:
            self.left -= 1
            if self.left < 0 or time.monotonic() > self.deadline:
                return []
            if id(part) not in self.above and not _can_travel(part):
                return [label, *self.below(part, depth + 1)]
        return []


def _can_travel(obj: Any) -> bool:
    try:
        write(obj, Session(), out_of_band=True)
    except Exception:  # noqa: BLE001 - user code runs while its objects are pickled
        return False
    return True


def _refuses(obj: Any) -> bool:
    """Return whether it is refused as it is: then its parts are not the reason."""
    if isinstance(obj, (threading.Thread, io.IOBase)):
        return True
    cls = type(obj)
    for name, args in (("__reduce_ex__", (PROTOCOL,)), ("__reduce__", ()), ("__getstate__", ())):
        own = getattr(cls, name)
        if own is not getattr(object, name):
            try:
                own(obj, *args)
            except Exception:  # noqa: BLE001 - user code runs while its objects are pickled
                return True
            return False  # the others are called by this one, or by nobody
    return False


def _type_name(obj: Any) -> str:
    cls = type(obj)
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


def _parts(obj: Any) -> Parts:
    if isinstance(obj, FunctionType):
        yield from _parts_of_function(obj)
    elif isinstance(obj, (MethodType, functools.partial, functools._lru_cache_wrapper)):
        yield from _parts_of_callable(obj)
    elif isinstance(obj, type):
        for name, value in class_state(obj).items():
            yield f"attribute {name!r}", value
    elif isinstance(obj, Mapping):
        for key, value in list(obj.items()):
            yield f"key {key!r}"[:80], value
            yield "a key", key
    elif isinstance(obj, (list, tuple, set, frozenset)):
        for number, value in enumerate(obj):
            yield f"item {number}", value
    else:
        yield from _parts_of_object(obj)


def _parts_of_callable(obj: Any) -> Parts:
    if isinstance(obj, MethodType):
        yield "its object", obj.__self__
        yield "its function", obj.__func__
    elif isinstance(obj, functools.partial):
        yield "its function", obj.func
        yield from _arguments(obj.args, obj.keywords)
    else:
        yield "its function", obj.__wrapped__


def _parts_of_function(obj: FunctionType) -> Parts:
    for _, namespace, name in captured(obj):
        yield f"global {name!r}", namespace[name]
    for name, cell in zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True):
        try:
            yield f"closure {name!r}", cell.cell_contents
        except ValueError:
            continue
    for number, value in enumerate(obj.__defaults__ or ()):
        yield f"default {number}", value
    for name, value in (obj.__kwdefaults__ or {}).items():
        yield f"default {name!r}", value
    for name, value in vars(obj).items():
        yield f"attribute {name!r}", value


def _parts_of_object(obj: Any) -> Parts:
    if isinstance(obj, BaseException):
        for number, value in enumerate(obj.args):
            yield f"args[{number}]", value
    for name, value in dict(getattr(obj, "__dict__", {})).items():
        yield f"attribute {name!r}", value
    for cls in type(obj).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name not in ("__dict__", "__weakref__") and hasattr(obj, name):
                yield f"attribute {name!r}", getattr(obj, name)
    yield "its class", type(obj)
