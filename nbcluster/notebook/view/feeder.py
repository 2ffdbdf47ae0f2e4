"""The thread of a view: asks the master what has changed, a few times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from nbcluster.client.client import Client
from nbcluster.client.feed import Feed
from nbcluster.errors import ClosedError, NbclusterError
from nbcluster.notebook.view.store import TaskStore

PERIOD_S: Final = 0.2
#: Seconds between questions once nothing has changed for `_CALM` of them.
_CALM_S: Final = 1.0
_CALM: Final = 25
#: Pages of 5,000 rows that are asked for at a time: the master has other things to do.
_PAGES: Final = 6


class Feeder:
    """Keeps a store up to date while a view is open.

    Parameters
    ----------
    client
        Of the cluster. Only borrowed: a view does not keep a cluster alive.
    store
        Written to with `lock` held.
    on_turn
        Called in the feeder's thread after each question; told whether anything has changed.
    on_end
        Called there once the cluster object is closed.
    """

    def __init__(
        self,
        client: Client,
        store: TaskStore,
        on_turn: Callable[[bool], None],
        on_end: Callable[[], None],
    ) -> None:
        self.lock = threading.RLock()  #: of the store
        self.is_lost = False  #: whether there is no master at the moment
        self._client = client
        self._store = store
        self._on_turn = on_turn
        self._on_end = on_end
        self._feed = Feed(client)
        self._reading = threading.Lock()
        self._wake = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="nbcluster-view", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def wake(self) -> None:
        """Have the next question asked now. Never waits."""
        self._wake.set()

    def stop(self) -> None:
        """Ask no more, and wait for the thread."""
        self._is_over = True
        self._wake.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    def catch_up(self, timeout: float) -> bool:
        """Read what has changed by now; return whether anything has.

        Leaves the store as it is if the master does not answer within ``timeout`` seconds.

        Raises
        ------
        ClosedError
            If the cluster object is closed.
        """
        deadline = time.monotonic() + timeout
        if not self._reading.acquire(timeout=timeout):
            return False
        try:
            return self._read(deadline)
        finally:
            self._reading.release()

    def _read(self, deadline: float) -> bool:
        changed = False
        for _ in range(_PAGES):
            if self._client.is_closed:
                raise ClosedError("the cluster object is closed")
            left = deadline - time.monotonic()
            # One that is gone is not waited for: its next one is seen at the next turn.
            if left <= 0 or self._client.link.is_lost:
                return self._note_loss(self._client.link.is_lost) or changed
            try:
                changes = self._feed.read(left)
            except ClosedError:
                raise
            except NbclusterError:
                return self._note_loss(self._client.link.is_lost) or changed
            with self.lock:
                changed |= self._store.apply(changes) | self._note_loss(False)
            if not changes.more:
                break
        return changed

    def _note_loss(self, is_lost: bool) -> bool:
        is_news = self.is_lost != is_lost
        self.is_lost = is_lost
        return is_news

    def _run(self) -> None:
        calm = 0
        while not self._is_over:
            began = time.monotonic()
            self._wake.clear()
            try:
                changed = self.catch_up(2.0)
            except ClosedError:
                self._on_end()
                return
            calm = 0 if changed else calm + 1
            if not self._is_over:
                self._on_turn(changed)
            period = PERIOD_S if calm < _CALM else _CALM_S
            # A slow turn is not made up for: a view costs at most half of one core's time.
            self._wake.wait(max(period - (time.monotonic() - began), PERIOD_S / 2))
