"""What a caller may say about a task, checked once, here, at the edge.

``TaskOptions`` is the part that travels and that the core obeys; ``CallOptions`` adds what is
meant for one call (name, key, dependencies) or must be pickled first (``retry_on``).
"""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypedDict, TypeVar

import msgspec

from nbcluster.errors import OptionError, OptionTypeError
from nbcluster.ids import check_name

DELIVERIES: Final = ("at_least_once", "at_most_once")
MAX_PRIORITY: Final = 1_000_000
MAX_WHOLE: Final = 2**31 - 1
#: Engines of a group, and slots of an engine: more is a slip, which would fill the machine.
MAX_PROCESSES: Final = 1024


class Backoff(msgspec.Struct, frozen=True, array_like=True):
    """How long a failed attempt waits before the next: ``min(cap, base * factor**(n-1)) * U``.

    ``n`` counts the failures from 1, ``U`` is spread evenly over one half to one.

    Parameters
    ----------
    base
        Wait after the first failure, in seconds; 0 means no wait at all.
    factor
        Growth from one failure to the next, at least 1.
    cap
        Longest wait, in seconds.

    Raises
    ------
    OptionError
        If a number is negative, not finite, or ``factor`` is less than 1.
    """

    base: float = 1.0
    factor: float = 2.0
    cap: float = 100.0

    def __post_init__(self) -> None:
        for name in ("base", "factor", "cap"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise OptionTypeError(f"Backoff({name}=) must be a number, not {value!r}")
            if not math.isfinite(value) or value < 0:
                raise OptionError(f"Backoff({name}=) must be a finite number >= 0, not {value!r}")
        if self.factor < 1:
            raise OptionError(f"Backoff(factor=) must be at least 1, not {self.factor!r}")


class TaskOptions(msgspec.Struct, frozen=True, array_like=True):
    """The part of the options that travels with a task and that the master obeys."""

    group: str = "default"
    retries: float = 0  #: attempts after the first that may follow an exception or a timeout
    retry_on: str = ""  #: hash of the pickled exception classes; empty: every ``Exception``
    backoff: Backoff = Backoff()
    timeout: float | None = None  #: seconds an attempt may run
    priority: int = 0  #: higher goes first
    at_most_once: bool = False
    max_crashes: int = 3
    expires: float | None = None  #: seconds a task may wait for its first start
    wait: bool = True  #: False: fail at once where no engine can run it
    load: int = 1  #: what it adds to its engine's score while it runs
    pin: str = ""  #: engine or executor that alone may run it
    dead_letter: bool = True  #: it is one when it has failed for good


@dataclass(frozen=True, slots=True)
class CallOptions:
    """All options of one call, as ``cluster.options(...)`` takes them."""

    task: TaskOptions = TaskOptions()
    name: str = ""
    key: str = ""
    after: tuple[Any, ...] = ()
    retry_on: tuple[type[BaseException], ...] = ()


@dataclass(frozen=True, slots=True)
class StartOptions:
    """What ``nbcluster.start`` takes, after the environment was consulted."""

    engines: int = 4
    name: str = "default"
    group: str = "default"
    slots: int = 1
    persist: bool = False
    journal: str = ""  #: path of the journal; empty: in the cluster's directory
    standby: bool = False
    backend: str = "local"
    durability: str = "process"
    max_pending: int = 0  #: open tasks at the most; 0: no limit but memory
    retention_s: float = 86_400.0
    retention_tasks: int = 100_000
    retention_bytes: int = 1 << 30
    memory_limit: int = 0  #: bytes each executor may take; 0: no limit
    log_level: str = "INFO"
    env: dict[str, str] = field(default_factory=dict)
    chosen: frozenset[str] = frozenset()  #: the options that somebody gave, by their public names


class Options(TypedDict, total=False):
    """The options of one call by name, for completion and for type checkers."""

    retries: float
    retry_on: type[BaseException] | Collection[type[BaseException]]
    backoff: Backoff | float
    timeout: float | None
    priority: int
    group: str
    name: str
    key: str
    delivery: str
    max_crashes: int
    expires: float | None
    after: Any  #: a future or an id, or some of them
    wait: bool
    load: int
    engine: str


F = TypeVar("F", bound=Callable[..., Any])


def shows_options(function: F) -> F:
    """Name the options in the signature of a function that takes them as ``**options``.

    None has a meaning for some of them, so what stands as default says only: as it is.
    """
    own = inspect.signature(function).parameters.values()
    shown = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
    only, unchanged = inspect.Parameter.KEYWORD_ONLY, ...
    shown += [inspect.Parameter(x, only, default=unchanged) for x in Options.__annotations__]
    function.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return function


# --------------------------------------------------------------------------- checks


def number(name: str, value: Any, *, least: float, above: bool = False) -> float:
    """Return ``value`` if it is a number of at least (or above) ``least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise OptionTypeError(f"{name}= must be a number, not {value!r}")
    try:
        result = int(value) if isinstance(value, numbers.Integral) else float(value)
        float(result)
    except OverflowError:
        raise OptionError(f"{name}= is too large") from None
    if math.isnan(result) or result < least or (above and result == least):
        bound = f"{'above' if above else 'at least'} {least:.12g}"
        raise OptionError(f"{name}= must be {bound}, not {value!r}")
    return result


def whole(name: str, value: Any, *, least: int) -> int:
    """Return ``value`` if it is a whole number of at least ``least``, and fits a message."""
    result = number(name, value, least=least)
    if not math.isfinite(result) or result != int(result):
        raise OptionError(f"{name}= must be a whole number, not {value!r}")
    if result > MAX_WHOLE:
        raise OptionError(f"{name}= must be at most {MAX_WHOLE:,}, not {value!r}")
    return int(result)


def processes(name: str, value: Any) -> int:
    """Return ``value`` if it is a number of processes that a machine might hold."""
    count = whole(name, value, least=0)
    if count > MAX_PROCESSES:
        raise OptionError(
            f"{name}= must be at most {MAX_PROCESSES:,}, not {value!r}: each is a process, or two"
        )
    return count


def seconds(name: str, value: Any, *, above: bool = False) -> float | None:
    """Return ``value`` if it is a time in seconds; None if it is None or infinite: no limit."""
    if value is None or (isinstance(value, float) and value == math.inf):
        return None
    return float(number(name, value, least=0, above=above))


def check_callable(fn: Any, taker: str) -> None:
    """Raise unless ``fn``, given to ``taker``, can be called."""
    if not callable(fn):
        raise OptionTypeError(f"{taker} takes a function or another callable, not {fn!r}")


def check_no_key(options: CallOptions, taker: str) -> None:
    """Raise if options for several tasks have a key."""
    if options.key:
        raise OptionError(
            f"{taker} makes several tasks, and key={options.key!r} names one: submit each with a "
            "key of its own, as cluster.options(key=...).submit(...)"
        )


def text(name: str, value: Any) -> str:
    """Return ``value`` if it is a string that can be stored and sent."""
    if not isinstance(value, str):
        raise OptionTypeError(f"{name}= must be a string, not {value!r}")
    if len(value) > 500:
        raise OptionError(f"{name}= has {len(value)} characters; 500 are allowed")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise OptionError(f"{name}= has half a character in it: {value!r}") from None
    return value


def flag(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False."""
    if not isinstance(value, bool):
        raise OptionTypeError(f"{name}= must be True or False, not {value!r}")
    return value


def _retries(value: Any) -> float:
    if isinstance(value, float) and value == math.inf:
        return math.inf
    return whole("retries", value, least=0)


def _priority(value: Any) -> int:
    result = whole("priority", value, least=-MAX_PRIORITY)
    if result > MAX_PRIORITY:
        raise OptionError(f"priority= must be at most {MAX_PRIORITY:,}, not {value!r}")
    return result


def _backoff(value: Any) -> Backoff:
    if isinstance(value, Backoff):
        return value
    return Backoff(number("backoff", value, least=0))


def _delivery(value: Any) -> bool:
    if not isinstance(value, str) or value not in DELIVERIES:
        raise OptionError(f"delivery= must be one of {', '.join(DELIVERIES)}, not {value!r}")
    return bool(value == "at_most_once")


def task_id(task: Any, taker: str) -> str:
    """Return the id of a task given to ``taker`` by its future or its id."""
    name = getattr(task, "id", task)
    if not isinstance(name, str):
        raise OptionTypeError(f"{taker} takes a future or the id of a task, not {task!r}")
    return name


def _classes(value: Any) -> tuple[type[BaseException], ...]:
    classes = value if isinstance(value, (tuple, list, set, frozenset)) else (value,)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise OptionTypeError(f"retry_on= takes exception classes, not {cls!r}")
    return tuple(classes)


def _after(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    wanted = value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    for task in wanted:
        task_id(task, "after=")
    return tuple(wanted)


#: name of the option -> (field of TaskOptions, check)
_TASK_FIELDS: Final[dict[str, tuple[str, Any]]] = {
    "group": ("group", lambda v: check_name(v, "group")),
    "retries": ("retries", _retries),
    "backoff": ("backoff", _backoff),
    "timeout": ("timeout", lambda v: seconds("timeout", v, above=True)),
    "priority": ("priority", _priority),
    "delivery": ("at_most_once", _delivery),
    "max_crashes": ("max_crashes", lambda v: whole("max_crashes", v, least=1)),
    "expires": ("expires", lambda v: seconds("expires", v, above=True)),
    "wait": ("wait", lambda v: flag("wait", v)),
    "load": ("load", lambda v: whole("load", v, least=0)),
    "engine": ("pin", lambda v: text("engine", v)),
}
_CALL_FIELDS: Final[dict[str, Any]] = {
    "name": lambda v: text("name", v),
    "key": lambda v: text("key", v),
    "after": _after,
    "retry_on": _classes,
}


def unknown_option(name: str, known: Any, what: str = "option") -> OptionError:
    """Return the error for an unknown name, with the nearest known one."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return OptionError(f"there is no {what} {name!r}{hint} Known: {', '.join(sorted(known))}")


def call_options(base: CallOptions, changes: Mapping[str, Any]) -> CallOptions:
    """Return ``base`` with ``changes`` checked and put in.

    Raises
    ------
    OptionError
        If a name is unknown (the nearest known one is named) or a value impossible.
    """
    task: dict[str, Any] = {}
    call: dict[str, Any] = {}
    for name, value in changes.items():
        if name in _TASK_FIELDS:
            field_name, check = _TASK_FIELDS[name]
            task[field_name] = check(value)
        elif name in _CALL_FIELDS:
            call[name] = _CALL_FIELDS[name](value)
        else:
            raise unknown_option(name, [*_TASK_FIELDS, *_CALL_FIELDS])
    if task:
        call["task"] = msgspec.structs.replace(base.task, **task)
    return replace(base, **call) if call else base
