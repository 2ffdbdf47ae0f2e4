"""What is there under a path, and its end."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

from nbcluster.errors import RuntimeDirError


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


def remove_all(path: Path) -> None:
    """Remove a file, a link, or a directory with all that is in it."""
    # Processes that end at the same time remove and write files of their own in there.
    for _ in range(100):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)  # works on descriptors: links are not followed
            else:
                path.unlink()
        except FileNotFoundError:
            if not os.path.lexists(path):
                return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            time.sleep(0.005)
        else:
            return
    raise RuntimeDirError(f"{path} cannot be removed: a process goes on writing into it")
