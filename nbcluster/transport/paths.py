"""What is there under a path."""

from __future__ import annotations

import os
from pathlib import Path


def is_gone(path: str) -> bool:
    """Return whether nothing is there; any other answer than that is no sign of it."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def is_same_file(fd: int, path: Path) -> bool:
    """Return whether ``path`` is that of the open file ``fd`` still."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False
