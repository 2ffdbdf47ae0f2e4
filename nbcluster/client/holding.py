"""What is still held here: handles of a client, and results that lie in shared buffers."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable


class Lease:
    """Held by each handle of a client."""


class Handles:
    """Knows whether anybody still holds a client: who drops the last handle leaves no thread.

    Parameters
    ----------
    on_gone
        Called when the last lease goes, in the middle of anything: it must take no lock.
    """

    def __init__(self, on_gone: Callable[[object], None]) -> None:
        self._on_gone = on_gone
        self._lease: weakref.ref[Lease] | None = None

    def lease(self) -> Lease:
        """Return what a handle must hold."""
        lease = None if self._lease is None else self._lease()
        if lease is None:
            lease = Lease()
            self._lease = weakref.ref(lease, self._on_gone)
        return lease

    @property
    def are_gone(self) -> bool:
        """Whether there were handles, and nobody holds one any more."""
        return self._lease is not None and self._lease() is None


class Held:
    """Counts the living futures of results whose buffers lie in shared files.

    The master removes those files once nobody holds them: a result may be asked for again as
    long as a future of it lives.

    Parameters
    ----------
    on_gone
        Called when the last future of a result goes, in the middle of anything: as in `Handles`.
    """

    def __init__(self, on_gone: Callable[[], object]) -> None:
        self._on_gone = on_gone
        self._counts: dict[str, int] = {}
        self._let_go: deque[str] = deque()

    def hold(self, future: object, task: str) -> None:
        """Keep the buffers of ``task`` for as long as ``future`` lives."""
        self._counts[task] = self._counts.get(task, 0) + 1
        weakref.finalize(future, self._drop, task).atexit = False

    def _drop(self, task: str) -> None:
        left = self._counts.get(task, 1) - 1
        self._counts[task] = left
        if not left:
            self._let_go.append(task)  # this may run in the middle of anything: told later
            self._on_gone()

    def forgo(self, task: str) -> None:
        """Let the buffers of ``task`` go, unless a future holds them: an interrupt dropped it."""
        if not self._counts.get(task):
            self._let_go.append(task)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self._counts

    def free(self) -> list[str]:
        """Return, once, the tasks whose results nobody holds any more."""
        gone = [self._let_go.popleft() for _ in range(len(self._let_go))]
        gone = [task for task in gone if not self._counts.get(task)]
        for task in gone:
            self._counts.pop(task, None)
        return gone
