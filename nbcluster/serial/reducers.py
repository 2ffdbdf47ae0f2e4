"""How each kind of thing is reduced, where the standard pickler or dill would get it wrong.

``reduce`` is the ``reducer_override`` of both picklers. It answers NotImplemented for all that
the pickler itself does right, so the common things stay at the speed of C.
"""

from __future__ import annotations

import contextvars
import dataclasses
import enum
import functools
import io
import logging
import operator
import sys
import threading
import types
import typing
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from gc import get_referents
from pickle import PicklingError
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final, NewType, ParamSpec, TypeVar, TypeVarTuple

from nbcluster.serial import identity, rebuild
from nbcluster.serial.classes import Dump, reduce_class
from nbcluster.serial.code import all_names, dump_code
from nbcluster.serial.origin import by_reference, global_generator, is_importable, nameless_type
from nbcluster.serial.session import Session, needed_submodules

Reducer = Callable[[Any, Session, Dump], Any]

_SLOTS: Final = (
    "__name__",
    "__qualname__",
    "__module__",
    "__doc__",
    "__defaults__",
    "__kwdefaults__",
)


def reduce(obj: Any, session: Session, dump: Dump) -> Any:
    """Return how ``obj`` is to be pickled, or NotImplemented for "as usual"."""
    kind = type(obj)
    reducer = _EXACT.get(kind)
    if reducer is not None:
        return reducer(obj, session, dump)
    if not isinstance(obj, _SPECIAL):
        managers = sys.modules.get("multiprocessing.managers")
        if managers is not None and isinstance(obj, managers.BaseProxy):
            return _manager_proxy(obj, managers)
        return NotImplemented
    if isinstance(obj, type):
        return _class(obj, session, dump)
    if isinstance(obj, enum.Enum):
        return _member(obj, session, dump)
    if isinstance(obj, BaseException):
        return _exception(obj, session, dump)
    return _refused(obj, session, dump)


# --------------------------------------------------------------------------- code


def _function(obj: FunctionType, session: Session, dump: Dump) -> Any:
    module = by_reference(obj)
    if module is not None:
        session.refer(module)
        return NotImplemented
    code = obj.__code__
    space = session.take(obj)
    cells = obj.__closure__
    session.keep.append(cells)
    session.cells.update(id(cell) for cell in cells or ())
    slots = {name: getattr(obj, name) for name in _SLOTS}
    if notes := _annotations(obj):
        slots["__annotations__"] = notes
    contents = [_content(cell) for cell in cells or ()]
    submodules = needed_submodules(obj, all_names(code))
    state = slots, dict(vars(obj)), contents, submodules
    # The pickler knows a thing by its id: what is made for it here must live as long.
    session.keep.append(state)
    return (
        rebuild.function,
        (dump_code(code), space, obj.__name__, cells),
        state,
        None,
        None,
        rebuild.fill_function,
    )


def _annotations(obj: Any) -> dict[str, Any]:
    try:
        return dict(obj.__annotations__)
    except NameError:  # evaluated late, and not there yet
        return {}


def _content(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not filled yet
        return ()


def _cell(obj: CellType, session: Session, dump: Dump) -> Any:
    if id(obj) in session.cells:
        return rebuild.cell, ()
    return rebuild.cell, (), _content(obj), None, None, rebuild.fill_cell


def _code(obj: CodeType, session: Session, dump: Dump) -> Any:
    return rebuild.code, (dump_code(obj),)


def _class(obj: type, session: Session, dump: Dump) -> Any:
    if obj is type(None) or obj is type(...) or obj is type(NotImplemented):
        return NotImplemented
    module = by_reference(obj)
    if module is not None:
        session.refer(module)
        return NotImplemented
    if (name := nameless_type(obj)) is not None:
        return rebuild.nameless, (name,)
    return reduce_class(obj, session, dump)


def _builtin(obj: Any, session: Session, dump: Dump) -> Any:
    found = global_generator(obj)
    return NotImplemented if found is None else (rebuild.attribute, found)


def _method(obj: MethodType, session: Session, dump: Dump) -> Any:
    found = global_generator(obj)
    if found is not None:
        return rebuild.attribute, found
    if getattr(obj.__self__, obj.__func__.__name__, None) == obj:
        return NotImplemented
    return MethodType, (obj.__func__, obj.__self__)  # its name leads elsewhere


def _module(obj: ModuleType, session: Session, dump: Dump) -> Any:
    name = obj.__name__
    if sys.modules.get(name) is obj and is_importable(name):
        session.refer(name)
        return rebuild.imported, (name,)
    if name == "__main__":
        return rebuild.module, (name,)
    state = {k: v for k, v in vars(obj).items() if k not in _OF_MODULE}
    return rebuild.module, (name,), state, None, None, rebuild.fill_module


_OF_MODULE: Final = frozenset({"__builtins__", "__loader__", "__spec__", "__name__"})


def _wrapped_static(obj: Any, session: Session, dump: Dump) -> Any:
    return rebuild.static, (type(obj), obj.__func__, {})


def _property(obj: property, session: Session, dump: Dump) -> Any:
    return property, (obj.fget, obj.fset, obj.fdel, obj.__doc__)


def _cached(obj: Any, session: Session, dump: Dump) -> Any:
    if by_reference(obj) is not None:
        session.refer(obj.__module__)
        return NotImplemented
    settings = obj.cache_parameters()
    state = {name: value for name, value in vars(obj).items() if name != "__wrapped__"}
    args = obj.__wrapped__, settings["maxsize"], settings["typed"]
    return rebuild.cached, args, state


# --------------------------------------------------------------------------- identity


def _marker(obj: object, session: Session, dump: Dump) -> Any:
    return rebuild.marker, (identity.id_of(obj),)


def _member(obj: enum.Enum, session: Session, dump: Dump) -> Any:
    cls = type(obj)
    if obj.name not in cls.__members__ or by_reference(cls) is not None:
        return NotImplemented
    return operator.getitem, (cls, obj.name)  # its value may be equal to nothing but itself


def _dataclass_marker(obj: Any, session: Session, dump: Dump) -> Any:
    name = next(name for name, value in vars(dataclasses).items() if value is obj)
    return rebuild.attribute, ("dataclasses", name)


def _type_variable(obj: Any, session: Session, dump: Dump) -> Any:
    if _is_named(obj):
        return NotImplemented
    kinds = {"covariant": obj.__covariant__, "contravariant": obj.__contravariant__}
    args = (obj.__name__, *obj.__constraints__)
    return rebuild.tracked, (identity.id_of(obj), TypeVar, args, {"bound": obj.__bound__, **kinds})


def _plain_type_variable(obj: Any, session: Session, dump: Dump) -> Any:
    if _is_named(obj):
        return NotImplemented
    return rebuild.tracked, (identity.id_of(obj), type(obj), (obj.__name__,), {})


def _new_type(obj: Any, session: Session, dump: Dump) -> Any:
    if by_reference(obj) is not None:
        return NotImplemented
    args = obj.__name__, obj.__supertype__
    return rebuild.tracked, (identity.id_of(obj), NewType, args, {})


def _type_alias(obj: Any, session: Session, dump: Dump) -> Any:
    if _is_named(obj):
        return NotImplemented
    args = obj.__name__, obj.__value__
    options = {"type_params": obj.__type_params__}
    return rebuild.tracked, (identity.id_of(obj), type(obj), args, options)


def _is_named(obj: Any) -> bool:
    module = sys.modules.get(obj.__module__)
    return is_importable(obj.__module__) and getattr(module, obj.__name__, None) is obj


def _context_variable(obj: Any, session: Session, dump: Dump) -> Any:
    options = {}
    with suppress(LookupError):
        options["default"] = contextvars.Context().run(obj.get)
    return rebuild.tracked, (identity.id_of(obj), contextvars.ContextVar, (obj.name,), options)


# --------------------------------------------------------------------------- state of a process


def _lock(obj: Any, session: Session, dump: Dump) -> Any:
    return threading.Lock, ()  # free, whoever holds it here


def _recursive_lock(obj: Any, session: Session, dump: Dump) -> Any:
    return threading.RLock, ()


def _condition(obj: Any, session: Session, dump: Dump) -> Any:
    return threading.Condition, (obj._lock,)


def _thread_local(obj: Any, session: Session, dump: Dump) -> Any:
    return rebuild.local, (dict(vars(obj)),)


def _proxy(obj: Any, session: Session, dump: Dump) -> Any:
    # The mapping itself and no copy: singledispatch shows its registry through such a view.
    return types.MappingProxyType, (get_referents(obj)[0],)


def _manager_proxy(obj: Any, managers: ModuleType) -> Any:
    """As a proxy of a manager is sent to a child of its process, which has the key already."""
    if type(obj).__reduce__ is not managers.BaseProxy.__reduce__:
        return NotImplemented
    make, (kind, token, serializer, options) = obj.__reduce__()
    return make, (kind, token, serializer, options | {"authkey": bytes(obj._authkey)})


def _weak_mapping(obj: Any, session: Session, dump: Dump) -> Any:
    return type(obj), (), None, None, iter(list(obj.items()))


def _weak_set(obj: Any, session: Session, dump: Dump) -> Any:
    return weakref.WeakSet, (list(obj),)


def _weak_reference(obj: Any, session: Session, dump: Dump) -> Any:
    target = obj()
    if target is None:
        raise PicklingError("cannot pickle a weak reference whose target is gone")
    return weakref.ref, (target,)


def _stream(obj: Any, session: Session, dump: Dump) -> Any:
    for name in ("stdout", "stderr", "stdin", "__stdout__", "__stderr__", "__stdin__"):
        if obj is getattr(sys, name):
            return rebuild.attribute, ("sys", name.strip("_"))
    return _refused(obj, session, dump)


def _logger(obj: logging.Logger, session: Session, dump: Dump) -> Any:
    return logging.getLogger, (() if obj.name == "root" else (obj.name,))


def _future(obj: Future[Any]) -> Any:
    if obj.done() or type(obj).__reduce__ is not object.__reduce__:
        return NotImplemented
    raise PicklingError(
        f"cannot pickle {type(obj).__name__!r} object: it has not ended, and nothing would end "
        "the copy; its result() can be sent"
    )


def _refused(obj: Any, session: Session, dump: Dump) -> Any:
    if isinstance(obj, Future):
        return _future(obj)
    if isinstance(obj, (io.BytesIO, io.StringIO)):
        return NotImplemented
    if isinstance(obj, io.IOBase) and any(obj is s for s in (sys.stdout, sys.stderr, sys.stdin)):
        return _stream(obj, session, dump)
    raise PicklingError(f"cannot pickle {type(obj).__name__!r} object: it belongs to its process")


_SPECIAL: Final = (type, enum.Enum, BaseException, io.IOBase, threading.Thread, Future)


# --------------------------------------------------------------------------- exceptions


def _exception(obj: BaseException, session: Session, dump: Dump) -> Any:
    maker, args, state = _rebuilt(obj, session)
    links: tuple[Any, ...] = (None, None, False)
    if session.chain:
        linked = [_link(link, session) for link in (obj.__cause__, obj.__context__)]
        links = (*linked, obj.__suppress_context__)
    whole = (state, *links)
    session.keep.append(whole)
    return maker, args, whole, None, None, rebuild.fill_exception


def _link(link: BaseException | None, session: Session) -> BaseException | None:
    return None if link is None or id(link) in session.unchained else link


def _rebuilt(obj: BaseException, session: Session) -> tuple[Any, tuple[Any, ...], Any]:
    cls = type(obj)
    if session.by_hand or (_has_own_init(cls) and not _has_own_reduce(cls)):
        return rebuild.exception, (cls, obj.args), dict(vars(obj)) or None
    reduced = obj.__reduce_ex__(4)
    if not isinstance(reduced, tuple) or len(reduced) < 2:
        raise PicklingError(f"{cls.__name__}.__reduce__ gave no (callable, arguments)")
    state = reduced[2] if len(reduced) > 2 else None
    return rebuild.raised, (reduced[0], reduced[1]), state


def _has_own_init(cls: type) -> bool:
    return any(isinstance(getattr(cls, name), FunctionType) for name in ("__init__", "__new__"))


def _has_own_reduce(cls: type) -> bool:
    return any(
        isinstance(getattr(cls, name, None), FunctionType)
        for name in ("__reduce__", "__reduce_ex__")
    )


_EXACT: Final[dict[type, Reducer]] = {
    FunctionType: _function,
    CellType: _cell,
    CodeType: _code,
    type: _class,
    types.BuiltinFunctionType: _builtin,
    MethodType: _method,
    ModuleType: _module,
    staticmethod: _wrapped_static,
    classmethod: _wrapped_static,
    property: _property,
    functools._lru_cache_wrapper: _cached,
    object: _marker,
    TypeVar: _type_variable,
    ParamSpec: _plain_type_variable,
    TypeVarTuple: _plain_type_variable,
    NewType: _new_type,
    contextvars.ContextVar: _context_variable,
    type(threading.Lock()): _lock,
    type(threading.RLock()): _recursive_lock,
    threading.Condition: _condition,
    threading.local: _thread_local,
    types.MappingProxyType: _proxy,
    weakref.WeakKeyDictionary: _weak_mapping,
    weakref.WeakValueDictionary: _weak_mapping,
    weakref.WeakSet: _weak_set,
    weakref.ref: _weak_reference,
    logging.Logger: _logger,
    logging.RootLogger: _logger,
    io.TextIOWrapper: _stream,
    **{type(marker): _dataclass_marker for marker in (dataclasses.MISSING, dataclasses.KW_ONLY)},
    **{
        type(value): _dataclass_marker
        for name, value in vars(dataclasses).items()
        if name in ("_FIELD", "_FIELD_CLASSVAR", "_FIELD_INITVAR", "_HAS_DEFAULT_FACTORY")
    },
}
if sys.version_info >= (3, 12):
    _EXACT[typing.TypeAliasType] = _type_alias
