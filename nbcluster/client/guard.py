"""The lock of a future, which shows when its holder will never let it go.

`concurrent.futures.wait` takes the locks of all its futures; interrupted in the middle, it leaves
them taken for ever. Who takes in news for everybody must not wait for that.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

#: Seconds after which a lock counts as abandoned that is held for microseconds as a rule.
ABANDONED_S: Final = 0.5


class Guard:
    """A reentrant lock that knows since when it is held; for use in a `threading.Condition`."""

    __slots__ = ("_acquire_restore", "_is_owned", "_lock", "_release_save", "_since", "release")

    def __init__(self) -> None:
        lock: Any = threading.RLock()
        self._lock = lock
        self._since = 0.0
        self.release = lock.release
        self._is_owned = lock._is_owned
        self._release_save = lock._release_save
        self._acquire_restore = lock._acquire_restore

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, as `threading.Lock.acquire`."""
        taken: bool = self._lock.acquire(blocking, timeout)
        if taken:
            self._since = time.monotonic()
        return taken

    def acquire_unless_abandoned(self) -> bool:
        """Take the lock; return False if nobody will ever let it go."""
        if self.acquire(blocking=False):
            return True
        if time.monotonic() - self._since > ABANDONED_S:
            return False
        return self.acquire(timeout=ABANDONED_S)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
