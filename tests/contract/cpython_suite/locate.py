"""Finds the tests of the running interpreter; nothing of them is copied into this project.

Up to Python 3.11 they are one module, ``test.test_concurrent_futures``, later a package of that
name. Some builds leave it out. Debian packages that of 3.11 alone; then the file is linked into a
directory of its own, because its neighbours must not become importable.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_NAME: Final = "test_concurrent_futures"
_DEBIAN: Final = Path("/usr/lib/python3.11/test") / f"{_NAME}.py"
#: Modules of the package of Python 3.12 and newer.
_PARTS: Final = (
    *("util", "executor", "test_init", "test_shutdown", "test_wait", "test_as_completed"),
    *("test_process_pool", "test_deadlock", "test_future"),
)
HOW_TO_GET: Final = (
    "CPython's own tests of executors are not here: this interpreter comes without the module "
    f"test.{_NAME}. On Debian 12: apt-get install libpython3.11-testsuite (for Python 3.11)."
)


@dataclass(frozen=True)
class Suite:
    """The modules of the tests, and what a child needs to import them by name."""

    name: str  #: module or package, as a child imports it
    modules: tuple[ModuleType, ...]
    folder: str  #: to be put on the path of children; empty: nothing is needed

    def get(self, name: str) -> Any:
        """Return what is called ``name`` in one of the modules."""
        for module in self.modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise LookupError(f"{self.name} has no {name}: CPython's tests have changed")

    def having(self, name: str) -> list[ModuleType]:
        """Return the modules in which ``name`` stands."""
        return [module for module in self.modules if hasattr(module, name)]


def find() -> Suite | None:
    """Return the tests of this interpreter, or None if they are not installed."""
    if not _exists("test.support"):
        return None
    if _exists(f"test.{_NAME}"):
        return _load(f"test.{_NAME}", "")
    if sys.version_info[:2] == (3, 11) and _DEBIAN.is_file():
        folder = tempfile.mkdtemp(prefix="nbsuite")
        atexit.register(_remove, folder, os.getpid())
        Path(folder, _DEBIAN.name).symlink_to(_DEBIAN)
        sys.path.append(folder)
        return _load(_NAME, folder)
    return None


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # a forked child of a test must not take it away
        shutil.rmtree(folder, ignore_errors=True)


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False


def _load(name: str, folder: str) -> Suite:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not our code
        first = importlib.import_module(name)
        if not hasattr(first, "__path__"):
            return Suite(name, (first,), folder)
        parts = tuple(importlib.import_module(f"{name}.{part}") for part in _PARTS)
    return Suite(name, parts, folder)
