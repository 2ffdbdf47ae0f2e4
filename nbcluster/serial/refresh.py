"""Notices in an executor that a local module was edited since it was imported."""

from __future__ import annotations

import importlib
import os
import sys
import time
from contextlib import suppress
from typing import Final

from nbcluster.serial.origin import Stamp

#: module -> modification time (ns) and size of its file when it was imported here
_SEEN: Final[dict[str, tuple[int, int]]] = {}
_STARTED_NS: Final = time.time_ns()


def refresh(stamps: list[Stamp]) -> None:
    """Forget the modules of ``stamps`` if the file of one of them is not what was imported.

    All of them go, as they use each other; each is imported again when it is next needed.
    """
    stale = [name for name, path, mtime, size in stamps if _is_stale(name, path, (mtime, size))]
    for name, *_ in stamps if stale else ():
        module = sys.modules.pop(name, None)
        _SEEN.pop(name, None)
        # Bytecode is matched by whole seconds and size: a quick edit would go unnoticed.
        cached = getattr(getattr(module, "__spec__", None), "cached", None)
        if cached is not None:
            with suppress(OSError):
                os.unlink(cached)
    if stale:
        importlib.invalidate_caches()
    for name, _, mtime, size in stamps:
        _SEEN[name] = mtime, size


def _is_stale(name: str, path: str, version: tuple[int, int]) -> bool:
    if name not in sys.modules:
        return False
    seen = _SEEN.get(name)
    if seen is None:
        # Imported by something else, at some time after the start of this process.
        return version[0] > _STARTED_NS
    return seen != version
