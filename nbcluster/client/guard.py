"""Locks of futures that their holder will never let go.

`concurrent.futures.wait` takes the locks of all its futures; interrupted in the middle, or given
what is no future, it leaves them taken for ever. Nobody must wait for that, nor keep signals back.
"""

from __future__ import annotations

import concurrent.futures._base
import re
import sys
import threading
from types import FrameType
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
        if is_abandoned(condition):
            return False
        if condition.acquire(timeout=LOOK_S):
            break
    return True


def is_abandoned(lock: object) -> bool:
    """Return whether the thread that holds the lock is somewhere else by now."""
    # Only its text tells the owner of a lock; where it does not, nobody is taken for absent.
    found = _HOLDER.search(repr(lock))
    if found is None or found[1] == "0":
        return False
    return not may_hold(sys._current_frames().get(int(found[1])))


def may_hold(frame: FrameType | None) -> bool:
    """Return whether a thread that is in ``frame`` may hold such a lock on purpose."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _HOLDING or code.co_name in _NEWS:
            return True
        if code.co_name == "wait":
            return False  # of an event or a condition: who sleeps holds none
        frame = frame.f_back
    return False
