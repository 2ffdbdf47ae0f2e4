"""The view from ipywidgets alone: a page of rows as HTML, made in the kernel."""

from __future__ import annotations

import time
from html import escape
from typing import Any, Final

import ipywidgets

from nbcluster.client.client import Client
from nbcluster.client.feed import STATES
from nbcluster.notebook.view.actions import Actions
from nbcluster.notebook.view.choose import is_unattended
from nbcluster.notebook.view.feeder import Feeder
from nbcluster.notebook.view.outputs import Output, hear_while_busy
from nbcluster.notebook.view.static import static_html
from nbcluster.notebook.view.store import TaskStore
from nbcluster.notebook.view.text import line

_PERIOD_S: Final = 0.5


class PlainView:
    """Shows a store with widgets that every notebook server has."""

    def __init__(self, client: Client, name: str, store: TaskStore, feeder: Feeder) -> None:
        self._name = name
        self._store = store
        self._feeder = feeder
        self._output = Output()
        self._actions = Actions(client, self._on_answer)
        self._is_static = False
        self._drawn_at = 0.0
        self._is_behind = False
        self._table = ipywidgets.HTML()
        self._notice = ipywidgets.HTML()
        self._state = ipywidgets.Dropdown(options=["all", *STATES], description="state")
        self._state.observe(self._on_state, "value")
        cancel = ipywidgets.Button(description="Cancel all open", icon="stop")
        cancel.on_click(lambda _: self._actions.begin({"type": "cancel"}))
        retry = ipywidgets.Button(description="Retry failed", icon="refresh")
        retry.on_click(lambda _: self._actions.begin({"type": "retry"}))
        buttons = ipywidgets.HBox([self._state, cancel, retry, self._notice])
        self._box = ipywidgets.VBox([self._table, buttons])
        for widget in (self._state, cancel, retry):
            hear_while_busy(widget)

    def begin(self) -> None:
        """Show it."""
        self._draw()
        self._put(self._box.model_id)

    def refresh(self, changed: bool, lost: bool) -> None:
        """Draw the page again, twice a second at the most."""
        self._is_behind |= changed
        if self._is_static and self._store.done != self._store.total and not is_unattended():
            self._put(self._box.model_id)
            self._is_static = False
        if self._is_behind and time.monotonic() - self._drawn_at >= _PERIOD_S:
            self._draw()
            self._tell("the master has ended: rows are as they were" if lost else "")

    def publish(self) -> None:
        """Leave a static table, and no widget, which a saved notebook could not show."""
        self._draw()
        self._put("")
        self._is_static = True

    def close(self) -> None:
        """Close the widgets."""
        for widget in (*self._box.children[1].children, *self._box.children, self._box):
            widget.close()

    def _put(self, widget: str) -> None:
        with self._feeder.lock:
            text = line(self._name, self._store)
            html = static_html(self._name, self._store)
        self._output.put(text, html, widget)

    def _draw(self) -> None:
        wanted = str(self._state.value)
        with self._feeder.lock:
            html = static_html(self._name, self._store, state=None if wanted == "all" else wanted)
        self._drawn_at, self._is_behind = time.monotonic(), False
        self._table.value = html

    def _tell(self, text: str) -> None:
        if self._notice.value != escape(text):
            self._notice.value = escape(text)

    def _on_answer(self, answer: dict[str, Any]) -> None:
        self._tell(str(answer.get("text", "")))
        self._feeder.wake()

    def _on_state(self, change: Any) -> None:
        self._is_behind = True
        self._feeder.wake()
