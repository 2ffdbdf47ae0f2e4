"""The live view: all rows are in the browser, and the kernel tells what has changed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import anywidget
import traitlets

from nbcluster.client.client import Client
from nbcluster.notebook.view.actions import Actions
from nbcluster.notebook.view.choose import has_subshells, is_unattended
from nbcluster.notebook.view.feeder import Feeder
from nbcluster.notebook.view.outputs import Output, hear_while_busy
from nbcluster.notebook.view.static import static_html
from nbcluster.notebook.view.store import TaskStore
from nbcluster.notebook.view.text import line

_STATIC: Final = Path(__file__).parent / "static"
#: Seconds between snapshots as long as no front end has said that it listens.
_UNHEARD_S: Final = 2.0
#: How often what has not changed is told then.
_REPEATS: Final = 3
#: Seconds between snapshots where a page that is loaded anew cannot ask for one in time.
_AGAIN_S: Final = 10.0


class LiveWidget(anywidget.AnyWidget):
    """The widget: it holds nothing but the cluster's name; rows travel as messages."""

    _esm = _STATIC / "view.js"
    _css = _STATIC / "view.css"
    cluster = traitlets.Unicode().tag(sync=True)
    view = traitlets.Unicode().tag(sync=True)


class LiveView:
    """Shows a store in browsers."""

    def __init__(self, client: Client, name: str, store: TaskStore, feeder: Feeder) -> None:
        self._name = name
        self._store = store
        self._feeder = feeder
        self._output = Output()
        self._actions = Actions(client, self._tell)
        self._heard = False  #: a front end has said hello, ever
        self._mounts = False  #: it can bring the static table back to life
        self._asked = False  #: one has said hello since the last snapshot
        self._is_static = False  #: the static table is shown
        self._is_behind = True
        self._repeats = 0
        self._told_all_at = 0.0
        self._has_subshells = has_subshells()
        self._is_unattended = is_unattended()
        self._widget = LiveWidget(cluster=name, view=self._output.id)
        self._widget.on_msg(self._on_message)
        hear_while_busy(self._widget)

    # ------------------------------------------------------------------ the view

    def begin(self) -> None:
        """Show it."""
        self._put(self._widget.model_id)

    def refresh(self, changed: bool, lost: bool) -> None:
        """Tell the front ends what has changed; called a few times a second."""
        self._is_behind |= changed
        now = time.monotonic()
        if self._is_static and not self._store_is_done():
            self._put("" if self._is_unattended else self._widget.model_id)
            self._is_static = False
        if not self._is_due(now):
            return
        with self._feeder.lock:
            if self._is_snapshot_due(now):
                self._asked = False
                self._told_all_at = now
                self._store.tell_all()
            messages = self._store.messages()
        self._is_behind = False
        for message in messages:
            header = message.header | {"lost": lost, "final": self._is_static}
            self._widget.send(header, [message.body])

    def publish(self) -> None:
        """Leave a static table; where a page can, it makes it live again."""
        keep_widget = self._heard and not self._mounts
        self._put(self._widget.model_id if keep_widget else "")
        self._is_static = not keep_widget
        self._tell({"type": "final"})

    def close(self) -> None:
        """Take leave of the front ends: buttons work no more, the table stays."""
        self._tell({"type": "end"})
        self._widget.close()

    # ------------------------------------------------------------------ parts

    def _store_is_done(self) -> bool:
        return self._store.done == self._store.total

    def _put(self, widget: str) -> None:
        with self._feeder.lock:
            text = line(self._name, self._store)
            html = static_html(self._name, self._store, self._output.id)
        self._output.put(text, html, widget)

    def _is_due(self, now: float) -> bool:
        if self._asked:
            return True
        if self._heard:
            return self._is_behind
        # Whether anybody listens is not known: what is new, and a few times what is not.
        if self._is_unattended or now - self._told_all_at < _UNHEARD_S:
            return False
        self._repeats = 0 if self._is_behind else self._repeats + 1
        return self._repeats <= _REPEATS

    def _is_snapshot_due(self, now: float) -> bool:
        if self._asked or not self._heard:
            return True
        return not self._has_subshells and now - self._told_all_at > _AGAIN_S

    def _tell(self, message: dict[str, Any]) -> None:
        self._widget.send(message)

    def _on_message(self, widget: Any, message: Any, buffers: Any) -> None:
        """Take in what a front end says; in whatever thread, also while a cell runs."""
        if not isinstance(message, dict):
            return
        if message.get("type") == "hello":
            self._heard = self._asked = True
            self._mounts = bool(message.get("mounts"))
        else:
            self._actions.begin(message)
        self._feeder.wake()
