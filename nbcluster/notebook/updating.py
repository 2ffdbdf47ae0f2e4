"""What is shown and keeps itself up to date: one thread for all of it, at most five times a second.

An update names its display and not a cell: front ends find the display by its ``display_id``,
whatever cell runs meanwhile. Runners of notebooks such as nbclient see only what comes while a
cell runs, so all is updated once more when a cell ends.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

#: Seconds between two updates at the least.
PERIOD_S: Final = 0.2
#: Seconds after which all is updated without news: durations grow.
TICK_S: Final = 1.0
#: Of the time of one core, what all updates together may take.
SHARE: Final = 0.05
#: Seconds that the end of the process waits for the thread.
CLOSE_S: Final = 2.0


class Display(Protocol):
    """Something that is shown and changes."""

    period_s: float  #: it is looked at as often without news

    def refresh(self) -> bool:
        """Show it as it is now; return whether it may still change."""

    def leave(self) -> None:
        """Show it for the last time: the process ends."""


def notebook_shell() -> Any:
    """Return the shell of the kernel that this is, or None. IPython is not loaded for it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


def publish(shell: Any, data: dict[str, str], display_id: str, *, update: bool) -> None:
    """Show something in every form there is of it, or show it anew."""
    shell.display_pub.publish(
        data=data, metadata={}, transient={"display_id": display_id}, update=update
    )


class Updater:
    """Keeps displays up to date until they change no more. Thread safe.

    Its thread lives while something is shown that may change.
    """

    def __init__(self) -> None:
        self._open: list[Display] = []
        self._lock = threading.Lock()  #: of the list and the thread
        self._rendering = threading.Lock()
        self._news: SimpleQueue[bool] = SimpleQueue()  #: False: end
        self._thread: threading.Thread | None = None
        self._shell: Any = None  #: tells when a cell has ended

    def add(self, display: Display) -> None:
        """Keep a display up to date, which has been shown once."""
        with self._lock:
            self._open.append(display)
            if self._thread is None or not self._thread.is_alive():
                self._begin()

    def wake(self, _: Any = None) -> None:
        """There is news. Takes no lock: whoever receives calls it, in the middle of anything."""
        self._news.put(True)

    def flush(self, _: Any = None) -> None:
        """Update all at once, in this thread."""
        if self._open:
            self._refresh()

    def close(self) -> None:
        """Show all for the last time, and end the thread."""
        with self._lock:
            thread, displays, news = self._thread, self._open, self._news
            self._open, self._news = [], SimpleQueue()
            self._end()
        news.put(False)
        if thread is not None:
            thread.join(CLOSE_S)
        for display in displays:
            display.leave()

    def forget(self) -> None:
        """Begin anew: in a fork there is no thread, and the displays are the parent's."""
        self.__init__()  # type: ignore[misc]

    def _begin(self) -> None:
        self._shell = notebook_shell()
        if self._shell is not None:
            self._shell.events.register("post_run_cell", self.flush)
        atexit.register(self.close)
        self._thread = threading.Thread(
            target=self._run, args=(self._news,), name="nbcluster-displays", daemon=True
        )
        self._thread.start()

    def _end(self) -> None:
        if self._thread is not None and self._shell is not None:
            self._shell.events.unregister("post_run_cell", self.flush)
        atexit.unregister(self.close)
        self._thread = self._shell = None

    def _run(self, news: SimpleQueue[bool]) -> None:
        took_s = 0.0
        while not self._ends_if_idle(news):
            tick_s = min((display.period_s for display in self._now()), default=PERIOD_S)
            pause_s = max(PERIOD_S, took_s / SHARE)
            if not _await(news, max(tick_s, pause_s), pause_s):
                return
            began = time.thread_time()
            self._refresh()
            took_s = time.thread_time() - began

    def _now(self) -> list[Display]:
        with self._lock:
            return list(self._open)

    def _ends_if_idle(self, news: SimpleQueue[bool]) -> bool:
        with self._lock:
            if self._news is not news:
                return True
            if not self._open:
                self._end()
            return not self._open

    def _refresh(self) -> None:
        with self._rendering:  # what is older must not be shown later
            over = [display for display in self._now() if not display.refresh()]
            with self._lock:
                self._open = [display for display in self._open if display not in over]


def _await(news: SimpleQueue[bool], tick_s: float, pause_s: float) -> bool:
    """Wait for news, but for a pause at least; return whether to go on."""
    began = time.monotonic()
    with suppress(Empty):
        if not news.get(timeout=tick_s):
            return False
    left_s = began + pause_s - time.monotonic()
    while left_s > 0:  # what comes meanwhile is shown together
        with suppress(Empty):
            if not news.get(timeout=left_s):
                return False
        left_s = began + pause_s - time.monotonic()
    while not news.empty():
        if not news.get():
            return False
    return True


#: The displays of this process.
updater: Final = Updater()
os.register_at_fork(after_in_child=updater.forget)
