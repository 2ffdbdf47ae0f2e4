"""Locks of futures that their holder will never let go.

`concurrent.futures.wait` takes the locks of all its futures; interrupted in the middle, it leaves
them taken for ever. Who takes in news for everybody must not wait for that.
"""

from __future__ import annotations

import concurrent.futures._base
import re
import sys
import threading
from typing import Final

#: Seconds between two looks at who holds a lock.
LOOK_S: Final = 0.05
_HOLDER: Final = re.compile(r"owner=(\d+)")
#: Whoever holds such a lock for a moment is in here, or takes in news.
_HOLDING: Final = concurrent.futures._base.__file__
_NEWS: Final = frozenset({"_on_ended", "_on_moved", "_on_refused"})


def acquire_unless_abandoned(condition: threading.Condition) -> bool:
    """Take the lock of a condition; return False if nobody will ever let it go."""
    while not condition.acquire(blocking=False):
        if _is_abandoned(condition):
            return False
        if condition.acquire(timeout=LOOK_S):
            break
    return True


def _is_abandoned(condition: threading.Condition) -> bool:
    """Return whether the thread that holds the lock is somewhere else by now."""
    # Only its text tells the owner of a lock; where it does not, nobody is taken for absent.
    found = _HOLDER.search(repr(condition))
    if found is None or found[1] == "0":
        return False
    frame = sys._current_frames().get(int(found[1]))
    code = None if frame is None else frame.f_code
    if code is not None and (code.co_filename, code.co_name) == (threading.__file__, "wait"):
        return True  # who sleeps holds none on purpose
    while frame is not None:
        if frame.f_code.co_filename == _HOLDING or frame.f_code.co_name in _NEWS:
            return False
        frame = frame.f_back
    return True
