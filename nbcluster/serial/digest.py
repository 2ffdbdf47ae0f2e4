"""What a call is, as a few bytes: by it a key tells whether it is used for the same call again.

Payloads would not do. Their large parts are elsewhere; and the pickle of a set, of a class of the
notebook or of compiled code is another one in each process, while a key is there for a kernel that
was started anew. So a digest is taken of a pickle nobody reads, in which sets and dicts are sorted,
functions and classes are named, and buffers and texts are their contents.
"""

from __future__ import annotations

import contextvars
import pickle
import typing
from collections.abc import Callable, Collection, Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from math import isnan
from operator import itemgetter
from types import CodeType, FunctionType
from typing import Any, Final

from nbcluster.serial.origin import by_reference, local_file
from nbcluster.serial.picklers import PROTOCOL, FastPickler, Sink
from nbcluster.serial.session import Session, captured
from nbcluster.serial.stream import write

_BYTES: Final = 16
_LONG: Final = 64  #: texts of more characters are hashed apart, so that no copy of them is kept
_PLAIN: Final = frozenset({int, float, bool, type(None), list, tuple})
#: What sorts by value alone; NaN apart, and where two can be compared at all.
_SORTABLE: Final = frozenset({int, float, bool, str, bytes})
_BUFFERS: Final = frozenset({bytes, bytearray, memoryview, pickle.PickleBuffer})
#: Told apart by identity, which ends with the process: here by name.
_NAMED: Final = (
    typing.TypeVar,
    typing.ParamSpec,
    typing.TypeVarTuple,
    typing.NewType,
    contextvars.ContextVar,
)


def digest_of(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return the digest of a call that can be pickled."""
    call = fn, args, dict(sorted(kwargs.items()))
    try:
        return _digest(call, {})
    except Exception:  # noqa: BLE001 - user code runs while its objects are pickled
        return _digest_of_payload(call)


def _digest_of_payload(call: Any) -> bytes:
    """Return the digest of what would travel, which holds in this process at least."""
    written = write(call, Session(), out_of_band=False)
    total = blake2b(written.header, digest_size=_BYTES)
    for chunk in written.chunks:
        total.update(chunk)
    return total.digest()


def _digest(obj: Any, seen: dict[int, Any]) -> bytes:
    total = blake2b(digest_size=_BYTES)
    _Canonical(total.update, seen).dump(obj)
    return total.digest()


def _digest_of_plain(items: list[Any]) -> bytes:
    """Return the digest of what `_ordered` has put in order."""
    total = blake2b(digest_size=_BYTES)
    pickler = pickle.Pickler(Sink(total.update), PROTOCOL)
    pickler.fast = True  # no memory of what was written: equal texts are one object or two
    pickler.dump(items)
    return total.digest()


def _ordered(items: Collection[Any]) -> list[Any] | None:
    """Return items that differ in an order that depends on nothing else; None: they have none."""
    flat: Iterable[Any] = items
    kinds = set(map(type, items))
    if kinds == {tuple}:
        flat = [*chain.from_iterable(items)]
        kinds = set(map(type, flat))
    if not kinds <= _SORTABLE:
        return None
    if float in kinds and any(type(x) is float and isnan(x) for x in flat):
        return None
    try:
        return sorted(items)
    except TypeError:  # for any order they come in: neighbours must be compared
        return None


class _Canonical(FastPickler):
    """Writes the same bytes for the same thing in every process; they cannot be read again."""

    def __init__(self, write: Callable[[Any], Any], seen: dict[int, Any]) -> None:
        super().__init__(write, Session(), None)
        self._seen = seen  #: functions and classes that were written in full
        #: dicts -> what is written in place of them: once, and alive as long as their ids are used
        self._dicts: dict[int, tuple[dict[Any, Any], Any]] = {}

    def persistent_id(self, obj: Any) -> Any:
        """Return what is written in place of ``obj``; None for "as usual"."""
        kind = type(obj)
        if kind in _PLAIN:
            return None
        if kind is str:  # equal texts are one object or two, as it happens
            raw = obj.encode("utf-8", "surrogatepass")
            return b"s" + (raw if len(raw) <= _LONG else blake2b(raw).digest())
        if kind in _BUFFERS:
            view = obj.raw() if kind is pickle.PickleBuffer else obj
            return kind.__name__.encode() + blake2b(view).digest()
        if kind is FunctionType:
            return self._function(obj)
        if isinstance(obj, (set, frozenset)):
            return self._set(obj)
        if kind is dict:
            known = self._dicts.get(id(obj))
            if known is None:
                known = self._dicts[id(obj)] = obj, self._dict(obj)
            return known[1]
        if isinstance(obj, type):
            return self._class(obj)
        return _named(obj)

    def _set(self, obj: set[Any] | frozenset[Any]) -> Any:
        items = _ordered(obj)
        content = sorted(self._digests(obj)) if items is None else _digest_of_plain(items)
        return type(obj), content, getattr(obj, "__dict__", None)

    def _dict(self, obj: dict[Any, Any]) -> list[Any]:
        keys = _ordered(obj)
        if keys is None:
            pairs = sorted(zip(self._digests(obj), obj, strict=True), key=itemgetter(0))
            keys = [key for _, key in pairs]
        return [*keys, *map(obj.__getitem__, keys)]  # of all in its place, only this is a list

    def _digests(self, items: Iterable[Any]) -> Iterator[bytes]:
        for item in items:
            yield _digest(item, dict(self._seen))

    def _class(self, cls: type) -> Any:
        """Return the name of a class; of one that travels itself also what its instances do."""
        name = f"c{cls.__module__}.{cls.__qualname__}".encode()
        if id(cls) in self._seen or by_reference(cls) is not None:
            return name
        self._seen[id(cls)] = cls
        does = [(key, _functions_of(value)) for key, value in sorted(vars(cls).items())]
        return name, cls.__bases__, [(key, known) for key, known in does if known]

    def _function(self, obj: FunctionType) -> Any:
        name = f"{obj.__module__}.{obj.__qualname__}"
        module = by_reference(obj)
        if id(obj) in self._seen or (module is not None and local_file(module) is None):
            return b"f" + name.encode()
        self._seen[id(obj)] = obj
        taken = [] if module is not None else captured(obj)
        held = [(known, namespace[known]) for _, namespace, known in taken if known in namespace]
        defaults = obj.__defaults__, obj.__kwdefaults__
        return name, obj.__code__, defaults, obj.__closure__, held


def _named(obj: Any) -> Any:
    """Return the name of what has one; None of all else."""
    kind = type(obj)
    if kind is CodeType:
        return _code(obj)
    if kind is object:
        return b"o"
    if isinstance(obj, _NAMED):
        return kind, obj.name if isinstance(obj, contextvars.ContextVar) else obj.__name__
    return None


def _functions_of(member: Any) -> list[FunctionType]:
    """Return the functions of a member of a class."""
    if isinstance(member, property):
        held = [member.fget, member.fset, member.fdel]
    else:
        held = [getattr(member, "__func__", member)]  # of a class method or a static one
    return [function for function in held if isinstance(function, FunctionType)]


def _code(code: CodeType) -> Any:
    """Return what code does, without where it stands; sets among its constants are sorted."""
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    takes = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    return code.co_code, code.co_consts, names, takes, code.co_exceptiontable
