"""Functions of ours that run on engines. They travel by reference."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

#: What the setup of an initializer binds: another initializer replaces it. No name of a user's.
INITIALIZER: Final = ("initializer()",)
#: What a setup that adds to ``sys.path`` binds, beside the directories.
PATH: Final = ("sys.path()",)


def run_chunk(fn: Callable[..., Any], chunk: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Call ``fn`` for each tuple of arguments and return the values in order."""
    return [fn(*args) for args in chunk]


def initialize(fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Call an initializer; what it returns is dropped, so that it need not be picklable."""
    fn(*args)


def import_modules(names: Sequence[str]) -> None:
    """Import modules by their names."""
    for name in names:
        importlib.import_module(name)


def push_names(names: dict[str, Any]) -> None:
    """Bind names in the namespace that functions of the notebook see on engines."""
    vars(sys.modules["__main__"]).update(names)


def add_paths(front: list[str], back: list[str]) -> None:
    """Have imports look into more directories: before all others, and after them."""
    sys.path[:0] = [path for path in front if path not in sys.path]
    sys.path += [path for path in back if path not in sys.path]
    importlib.invalidate_caches()


def pull_name(name: str) -> Any:
    """Return the value of a name that was pushed to, or made on, this engine.

    Raises
    ------
    NameError
        If it is not bound here.
    """
    try:
        return vars(sys.modules["__main__"])[name]
    except KeyError:
        raise NameError(
            f"name {name!r} is not defined on this engine; push() binds names on all of them"
        ) from None
