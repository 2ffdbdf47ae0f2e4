"""Which results in shared buffers are still held by a future here."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

from nbcluster.client.future import Future


class Held:
    """Counts the living futures of results whose buffers lie in shared files.

    The master removes those files once nobody holds them: a result may be asked for again as
    long as a future of it lives.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._let_go: deque[str] = deque()

    def hold(self, future: Future[Any], task: str) -> None:
        """Keep the buffers of ``task`` for as long as ``future`` lives."""
        self._counts[task] = self._counts.get(task, 0) + 1
        weakref.finalize(future, self._drop, task).atexit = False

    def _drop(self, task: str) -> None:
        left = self._counts.get(task, 1) - 1
        self._counts[task] = left
        if not left:
            self._let_go.append(task)  # this may run in the middle of anything: told later

    def free(self) -> list[str]:
        """Return, once, the tasks whose results nobody holds any more."""
        gone = [self._let_go.popleft() for _ in range(len(self._let_go))]
        gone = [task for task in gone if not self._counts.get(task)]
        for task in gone:
            self._counts.pop(task, None)
        return gone
