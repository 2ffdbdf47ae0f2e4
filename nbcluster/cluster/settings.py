"""Start options: argument beats environment beats default; each is checked once, here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from nbcluster.errors import OptionError, OptionTypeError
from nbcluster.ids import check_name
from nbcluster.options import StartOptions, flag, number, processes, text, unknown_option, whole

DURABILITIES: Final = ("process", "power")
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_TRUE: Final = {"1", "true", "yes", "on"}
_FALSE: Final = {"0", "false", "no", "off", ""}


def _truth(word: str) -> bool:
    if word.lower() in _TRUE | _FALSE:
        return word.lower() in _TRUE
    raise ValueError("it must be 1 or 0")


#: What is no text in the environment, and how it is read.
_READERS: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("engines", "slots", "max_pending", "memory_limit"), int),
    **dict.fromkeys(("retention_tasks", "retention_bytes"), int),
    **dict.fromkeys(("persist", "standby"), _truth),
    "retention": float,
}


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if text(name, value) not in choices:
        raise OptionError(f"{name}= must be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def _bytes(value: Any) -> int:
    return int(min(number("memory_limit", value, least=2**20), 2**62))


def _path(value: Any) -> str:
    try:
        path = os.fsdecode(value)
    except TypeError:
        raise OptionTypeError(f"journal= must be a path, not {value!r}") from None
    try:
        path.encode()
    except UnicodeEncodeError:
        raise OptionError(f"journal= must be a path in UTF-8, not {value!r}") from None
    if not path:
        raise OptionError("journal= must be a path, not empty; None: in the cluster's directory")
    if "\0" in path:
        raise OptionError(f"journal= has a null character in it: {value!r}")
    return path


def _level(value: Any) -> str:
    return _choice("log_level", text("log_level", value).upper(), LEVELS)


def _no_standby(value: Any) -> bool:
    if flag("standby", value):
        raise OptionError("standby=True: a standby master is not built yet; leave it out")
    return False


def _environment(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in value.items()
    ):
        raise OptionTypeError("env= must be a dict of strings")
    for variable, setting in value.items():
        if not variable or "=" in variable or "\0" in variable + setting:
            raise OptionError(f"env= cannot set {variable!r} to {setting!r}")
        try:
            os.fsencode(variable + setting)
        except UnicodeEncodeError:
            raise OptionError(f"env= has half a character in {variable!r}: {setting!r}") from None
    return dict(value)


#: public name -> (field of StartOptions, check)
_CHECKS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "engines": ("engines", lambda v: processes("engines", v)),
    "name": ("name", check_name),
    "group": ("group", lambda v: check_name(v, "group")),
    "slots": ("slots", lambda v: processes("slots", v)),
    "persist": ("persist", lambda v: flag("persist", v)),
    "journal": ("journal", _path),
    "durability": ("durability", lambda v: _choice("durability", v, DURABILITIES)),
    "max_pending": ("max_pending", lambda v: whole("max_pending", v, least=1)),
    "retention": ("retention_s", lambda v: min(float(number("retention", v, least=0)), 1e12)),
    "retention_tasks": ("retention_tasks", lambda v: whole("retention_tasks", v, least=0)),
    "retention_bytes": ("retention_bytes", lambda v: whole("retention_bytes", v, least=0)),
    "log_level": ("log_level", _level),
    "memory_limit": ("memory_limit", _bytes),
    "standby": ("standby", _no_standby),
    "env": ("env", _environment),
    "backend": ("backend", lambda v: _choice("backend", v, ("local",))),
}


#: Options of `start` that are no settings of the master.
_OF_START: Final = ("timeout", "initializer", "initargs")


def start_options(**given: Any) -> StartOptions:
    """Return the options of a start from arguments (None: not given) and the environment.

    Raises
    ------
    OptionError
        If a name is unknown or a value impossible; it says whether the environment gave it.
    """
    for name in given:
        if name not in _CHECKS:
            raise unknown_option(name, [*_CHECKS, *_OF_START], "start option")
    values: dict[str, Any] = {}
    for name, (field, check) in _CHECKS.items():
        variable = f"NBCLUSTER_{name.upper()}"
        if given.get(name) is not None:
            values[field] = check(given[name])
        elif os.environ.get(variable) and name != "env":
            try:
                values[field] = check(_READERS.get(name, str)(os.environ[variable]))
            except OptionError as error:
                raise type(error)(f"{variable}: {error}") from None
            except ValueError as error:
                raise OptionTypeError(f"{variable}={os.environ[variable]}: {error}") from None
    chosen = frozenset(name for name, (field, _) in _CHECKS.items() if field in values)
    return StartOptions(**values, chosen=chosen)


def what_differs(
    given: Iterable[str], chosen: StartOptions, running: Mapping[str, Any], engines: int
) -> list[str]:
    """Return, in words, where a running cluster is not what a start asked for.

    Parameters
    ----------
    given
        Names of the options that the caller gave.
    chosen
        Their values.
    running
        What the master was started with.
    engines
        Engines it has now.
    """
    said = []
    for name in given:
        field = _CHECKS[name][0] if name in _CHECKS else name
        wanted = getattr(chosen, field, None)
        if name == "engines":
            if engines != wanted:
                group = "" if chosen.group == "default" else f", group={chosen.group!r}"
                has = f"{engines} engine{'' if engines == 1 else 's'}"
                hint = f"cluster.scale({wanted}{group})"
                said.append(f"it has {has}, {wanted} were asked for: {hint}")
        elif name in _OF_START or name == "env":
            said.append(f"{name}= was not applied")
        elif name == "journal":
            if os.path.abspath(chosen.journal) != running["journal"]:
                said.append(f"its journal is {running['journal']}")
        elif field in running and running[field] != wanted:
            said.append(f"{name}={running[field]!r} stays, not {wanted!r}")
    return said
