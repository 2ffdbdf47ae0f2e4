"""Where things come from: importable by name in another process, or only here.

Importable is what stands under its own name in a module that a fresh process can import. All else
travels by value: everything of ``__main__``, lambdas, closures, modules made by hand.
"""

from __future__ import annotations

import os
import random
import sys
import sysconfig
import types
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

#: A version of a local module: its name, its file, modification time (ns) and size.
Stamp = tuple[str, str, int, int]

_MAINS: Final = frozenset({"__main__", "__mp_main__"})
#: Types that have no name in ``builtins``, as that of functions, by the name `types` gives them.
_NAMELESS: Final[dict[type, str]] = {
    value: name
    for name, value in vars(types).items()
    if isinstance(value, type) and value.__module__ == "builtins"
}
_STANDARD: Final = tuple(
    {os.path.realpath(sysconfig.get_path(kind)) + os.sep for kind in ("stdlib", "platstdlib")}
)
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_OURS: Final = os.path.dirname(os.path.dirname(os.path.realpath(__file__))) + os.sep


def is_importable(name: object) -> bool:
    """Return whether another process can import the module ``name`` that is loaded here."""
    if not isinstance(name, str) or name in _MAINS:
        return False
    module = sys.modules.get(name)
    return module is not None and _has_origin(module)


def _has_origin(module: ModuleType) -> bool:
    spec = getattr(module, "__spec__", None)
    if spec is None:
        return getattr(module, "__file__", None) is not None
    return spec.origin is not None or spec.submodule_search_locations is not None


def by_reference(obj: Any) -> str | None:
    """Return the module under whose name ``obj`` can be found elsewhere, or None."""
    module = getattr(obj, "__module__", None)
    if not is_importable(module):
        return None
    name = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None)
    if not isinstance(name, str) or "<" in name:
        return None
    found: Any = sys.modules[str(module)]
    for part in name.split("."):
        found = getattr(found, part, None)
    return str(module) if found is obj else None


def nameless_type(cls: type) -> str | None:
    """Return the name in `types` of a builtin type that ``builtins`` does not know."""
    return _NAMELESS.get(cls) if cls.__module__ == "builtins" else None


def global_generator(obj: Any) -> tuple[str, str] | None:
    """Return module and name if ``obj`` is a method of a module's own random generator.

    Its pickle would carry the state of the generator: every task would draw the same numbers.
    """
    owner = getattr(obj, "__self__", None)
    if owner is None:
        return None
    if owner is random._inst:
        return "random", obj.__name__
    legacy = sys.modules.get("numpy.random.mtrand")
    if legacy is not None and owner is legacy._rand:
        return "numpy.random", obj.__name__
    return None


@lru_cache(maxsize=4096)
def local_file(name: str) -> str | None:
    """Return the source file of a module that the user may edit, or None.

    Local is what lies below the working directory or an entry of ``sys.path``, and is neither
    installed nor of the standard library.
    """
    module = sys.modules.get(name)
    path = getattr(module, "__file__", None)
    if not isinstance(path, str) or not path.endswith(".py"):
        return None
    path = os.path.realpath(path)
    if path.startswith((*_STANDARD, _OURS)) or any(part in path for part in _INSTALLED):
        return None
    roots = [os.getcwd(), *(entry for entry in sys.path if entry)]
    return path if any(path.startswith(os.path.realpath(r) + os.sep) for r in roots) else None


def stamp(name: str, path: str) -> Stamp:
    """Return the version of a local module as it is on disk now."""
    try:
        status = os.stat(path)
    except OSError:
        return name, path, 0, 0
    return name, path, status.st_mtime_ns, status.st_size


def local_modules(names: set[str]) -> dict[str, str]:
    """Return the local modules among ``names`` and those they use, with their files."""
    found: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        path = local_file(name) if name not in found else None
        if path is not None:
            found[name] = path
            waiting.extend(_used_by(sys.modules[name]))
    return found


def _used_by(module: ModuleType) -> set[str]:
    used = set()
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else None
        if isinstance(value, (type, types.FunctionType)):
            name = value.__module__
        if isinstance(name, str) and name in sys.modules and name not in _MAINS:
            used.add(name)
    return used
