"""One output of a notebook that is shown once and replaced later, from any thread."""

from __future__ import annotations

from typing import Any, Final

from nbcluster.ids import random_id

WIDGET: Final = "application/vnd.jupyter.widget-view+json"


class Output:
    """A display with an id of its own."""

    def __init__(self) -> None:
        self.id = random_id("nbcluster-", 12)
        self._is_shown = False

    def put(self, text: str, html: str, widget: str = "") -> None:
        """Show this, or show it in place of what was shown.

        Parameters
        ----------
        text, html
            The same for those that show no widgets, and no HTML.
        widget
            Id of a widget's model; front ends that can prefer it to the others.
        """
        from IPython.display import display

        bundle: dict[str, Any] = {"text/plain": text, "text/html": html}
        if widget:
            bundle[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": widget}
        display(  # type: ignore[no-untyped-call]
            bundle, raw=True, display_id=self.id, update=self._is_shown
        )
        self._is_shown = True


def hear_while_busy(widget: Any) -> None:
    """Have what a front end sends to a widget taken in while a cell runs.

    ipykernel 7.4 sends it to the loop that sent last, which is the busy one; before, and without
    subshells, there is nothing to set.
    """
    comm = widget.comm
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default
