"""Tells what a handler of a signal has raised from what the code raised that it came upon."""

from __future__ import annotations

import functools
import signal

# The functions that `signal` wraps, without its enumerations: ten times as fast.
from _signal import getsignal as _getsignal  # type: ignore[import-not-found]
from typing import Any, Final

_NUMBERS: Final = tuple(sorted(int(number) for number in signal.valid_signals()))


def is_of_handler(error: BaseException) -> bool:
    """Return whether a handler of a signal has raised it, and no code that it came upon."""
    codes = {_code_of(handler) for handler in map(_getsignal, _NUMBERS) if callable(handler)}
    found = error.__traceback__
    while found is not None:
        if found.tb_frame.f_code in codes:
            return True
        found = found.tb_next
    return False


def _code_of(handler: Any) -> Any:
    while isinstance(handler, functools.partial):
        handler = handler.func
    # A function and a method have it themselves; of another object, its class's ``__call__``.
    return getattr(handler, "__code__", getattr(type(handler).__call__, "__code__", None))
