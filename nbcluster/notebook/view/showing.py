"""Shows a cluster where its user looks, and leaves a record of how it ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from nbcluster.client.client import Client
from nbcluster.client.cluster import Cluster
from nbcluster.client.farewell import before_end
from nbcluster.errors import ClosedError
from nbcluster.notebook.view.choose import choose, is_unattended, shell
from nbcluster.notebook.view.feeder import Feeder
from nbcluster.notebook.view.outputs import Output
from nbcluster.notebook.view.static import static_html
from nbcluster.notebook.view.store import TaskStore
from nbcluster.notebook.view.text import TextView, line

#: Seconds without work and news after which the record is left.
FINISH_S: Final = 2.0
_HTML_S: Final = 1.0  #: between two drawings of a view that is nothing but HTML
#: The view of each client that is open: a new one takes the place of the last.
_OPEN: WeakKeyDictionary[Client, View]


class Renderer(Protocol):
    """One kind of view."""

    def begin(self) -> None:
        """Show it for the first time."""

    def refresh(self, changed: bool, lost: bool) -> None:
        """Show what has changed, if anything; ``lost``: there is no master at the moment."""

    def publish(self) -> None:
        """Leave what lasts in a saved notebook."""

    def close(self) -> None:
        """Let go of what it holds."""


class View:
    """What `show_view` shows; up to date until it is closed, or the cluster object is."""

    def __init__(self, cluster: Cluster, mode: str | None = None) -> None:
        self.mode = choose(mode)
        self._client = cluster._client
        self._store = TaskStore()
        self._feeder = Feeder(self._client, self._store, self._on_turn, self._on_end)
        self._renderer = _renderer(self.mode, self._client, cluster.name, self._store, self._feeder)
        self._changed_at = time.monotonic()
        self._is_published = False
        self._is_over = False
        self._is_in_cell = True  #: this is a script, or a cell runs
        self._ending = threading.Lock()
        self._shell: Any = None
        self._take_back: Callable[[], None] = before_end(self._client, self._on_farewell)

    def _begin(self) -> None:
        self._feeder.catch_up(2.0)
        self._renderer.begin()
        if self.mode == "off":
            return
        self._feeder.start()
        self._shell = shell()
        if self._shell is not None:
            self._shell.events.register("pre_run_cell", self._on_cell)
            self._shell.events.register("post_run_cell", self._on_cell_end)

    def __repr__(self) -> str:
        return f"<View {self.mode}>"

    # ------------------------------------------------------------------ its end

    def finish(self) -> None:
        """Bring it up to date, and leave in the notebook what lasts. It goes on."""
        try:
            self._feeder.catch_up(2.0)
        except ClosedError:
            self.close()
            return
        if not self._is_over:
            self._publish()

    def close(self) -> None:
        """Leave what lasts in the notebook and end it. The cluster goes on."""
        with self._ending:
            if self._is_over:
                return
            self._is_over = True
        self._feeder.stop()
        with suppress(ClosedError):
            self._feeder.catch_up(1.0)
        self._take_back()
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self._on_cell)
            self._shell.events.unregister("post_run_cell", self._on_cell_end)
        self._publish()
        self._renderer.close()
        if _OPEN.get(self._client) is self:
            del _OPEN[self._client]

    def _publish(self) -> None:
        self._is_published = True
        self._renderer.publish()

    # ------------------------------------------------------------------ news

    def _on_turn(self, changed: bool) -> None:
        """In the feeder's thread: show what has changed; leave a record if all is done."""
        now = time.monotonic()
        if changed:
            self._changed_at, self._is_published = now, False
        if self.mode == "text" and not self._is_in_cell:
            return  # somebody is typing there
        self._renderer.refresh(changed, self._feeder.is_lost)
        is_done = self._store.done == self._store.total
        if is_done and not self._is_published and now - self._changed_at >= FINISH_S:
            self._publish()

    def _on_farewell(self) -> None:
        """Before the cluster object is closed: see how all has ended."""
        with suppress(ClosedError):
            self._feeder.catch_up(1.0)

    def _on_end(self) -> None:
        """In the feeder's thread: the cluster object was closed."""
        self.close()

    def _on_cell(self, info: object) -> None:
        """At the beginning of a cell."""
        self._is_in_cell = True

    def _on_cell_end(self, result: object) -> None:
        """At the end of a cell, which is the last that a program that runs notebooks waits for."""
        self._is_in_cell = False
        is_moving = isinstance(self._renderer, TextView) and self._renderer.is_moving
        if self._is_over or not (is_moving or is_unattended()):
            return
        try:
            if self._feeder.catch_up(1.0):
                self._is_published = False
        except ClosedError:
            self.close()
            return
        if is_moving or not self._is_published:
            self._publish()


_OPEN = WeakKeyDictionary()


class HtmlView:
    """Shows a store as a static table that is replaced once a second."""

    def __init__(self, name: str, store: TaskStore, feeder: Feeder) -> None:
        self._name = name
        self._store = store
        self._feeder = feeder
        self._output = Output()
        self._drawn_at = 0.0
        self._is_behind = False

    def begin(self) -> None:
        """Show it."""
        self.publish()

    def refresh(self, changed: bool, lost: bool) -> None:
        """Draw it again."""
        self._is_behind |= changed
        if self._is_behind and time.monotonic() - self._drawn_at >= _HTML_S:
            self.publish()

    def publish(self) -> None:
        """Draw it as it is."""
        self._drawn_at, self._is_behind = time.monotonic(), False
        with self._feeder.lock:
            text, html = line(self._name, self._store), static_html(self._name, self._store)
        self._output.put(text, html)

    def close(self) -> None:
        """Nothing is held."""


class NoView:
    """Shows nothing."""

    def begin(self) -> None:
        """Show nothing."""

    def refresh(self, changed: bool, lost: bool) -> None:
        """Show nothing."""

    def publish(self) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Nothing is held."""


def _renderer(mode: str, client: Client, name: str, store: TaskStore, feeder: Feeder) -> Renderer:
    if mode == "live":
        from nbcluster.notebook.view.live import LiveView

        return LiveView(client, name, store, feeder)
    if mode == "core":
        from nbcluster.notebook.view.plain import PlainView

        return PlainView(client, name, store, feeder)
    if mode == "html":
        return HtmlView(name, store, feeder)
    return TextView(name, store) if mode == "text" else NoView()


def show_view(cluster: Cluster, mode: str | None = None) -> View:
    """Show the tasks and engines of a cluster, and keep what is shown up to date.

    Parameters
    ----------
    cluster
        What to show. A view does not keep it alive.
    mode
        ``live``, ``core`` (ipywidgets alone), ``html`` or ``off``; default: what the environment
        variable ``NBCLUSTER_VIEW`` says, else what works here: outside of notebooks a line of text.

    Returns
    -------
    View
        An earlier one of the same cluster object is closed: it stays as a static table.

    Raises
    ------
    OptionError
        If there is no such mode.
    ClosedError
        If the cluster object is closed.
    """
    view = View(cluster, mode)
    last = _OPEN.get(view._client)
    if last is not None:
        last.close()
    _OPEN[view._client] = view
    view._begin()
    return view
