"""Start options: argument beats environment beats default; each is checked once, here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from nbcluster.errors import OptionError, OptionTypeError
from nbcluster.ids import check_name
from nbcluster.options import StartOptions, number, unknown_option, whole

DURABILITIES: Final = ("process", "power")
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_TRUE: Final = {"1", "true", "yes", "on"}
_FALSE: Final = {"0", "false", "no", "off", ""}


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise OptionTypeError(f"{name}= must be true or false, not {value!r}")


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise OptionTypeError(f"{name}= must be a whole number, not {value!r}") from None
    return whole(name, value, least=least)


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise OptionError(f"{name}= must be one of {', '.join(choices)}, not {value!r}")
    return str(value)


def _seconds(name: str, value: Any) -> float:
    try:
        return float(number(name, float(value), least=0))
    except (TypeError, ValueError):
        raise OptionTypeError(f"{name}= must be a number of seconds, not {value!r}") from None


def _bytes(value: Any) -> int:
    count = number("memory_limit", float(value) if isinstance(value, str) else value, least=2**20)
    return int(min(count, 2**62))


def _no_standby(value: Any) -> bool:
    if _flag("standby", value):
        raise OptionError("standby=True: a standby master is not built yet; leave it out")
    return False


def _environment(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in value.items()
    ):
        raise OptionTypeError("env= must be a dict of strings")
    return dict(value)


#: public name -> (field of StartOptions, check)
_CHECKS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "engines": ("engines", lambda v: _whole("engines", v, 0)),
    "name": ("name", check_name),
    "group": ("group", lambda v: check_name(v, "group")),
    "slots": ("slots", lambda v: _whole("slots", v, 0)),
    "persist": ("persist", lambda v: _flag("persist", v)),
    "journal": ("journal", os.fspath),
    "durability": ("durability", lambda v: _choice("durability", v, DURABILITIES)),
    "max_pending": ("max_pending", lambda v: _whole("max_pending", v, 1)),
    "retention": ("retention_s", lambda v: _seconds("retention", v)),
    "retention_tasks": ("retention_tasks", lambda v: _whole("retention_tasks", v, 0)),
    "log_level": ("log_level", lambda v: _choice("log_level", str(v).upper(), LEVELS)),
    "memory_limit": ("memory_limit", _bytes),
    "standby": ("standby", _no_standby),
    "env": ("env", _environment),
    "backend": ("backend", lambda v: _choice("backend", v, ("local",))),
}


def start_options(**given: Any) -> StartOptions:
    """Return the options of a start from arguments (None: not given) and the environment.

    Raises
    ------
    OptionError
        If a name is unknown or a value impossible; it says whether the environment gave it.
    """
    for name in given:
        if name not in _CHECKS:
            raise unknown_option(name, _CHECKS, "start option")
    values: dict[str, Any] = {}
    for name, (field, check) in _CHECKS.items():
        variable = f"NBCLUSTER_{name.upper()}"
        if given.get(name) is not None:
            values[field] = check(given[name])
        elif os.environ.get(variable) and name != "env":
            try:
                values[field] = check(os.environ[variable])
            except OptionError as error:
                raise type(error)(f"{variable}: {error}") from None
    return StartOptions(**values)
