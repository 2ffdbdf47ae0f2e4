"""How futures and clusters look in a notebook that has not loaded the extension: static HTML.

The colours are Jupyter's own CSS variables, so that dark themes work. Where a page does not know
them, as GitHub, the values behind the comma hold. A state is always told in words too.
"""

from __future__ import annotations

from html import escape
from typing import Any, Final

from nbcluster.client.explaining import explain_loss, progress_text
from nbcluster.client.facts import Facts

_BORDER: Final = "var(--jp-border-color2,#bdbdbd)"
_DIM: Final = "var(--jp-ui-font-color2,#616161)"
_TEXT: Final = "var(--jp-ui-font-color1,inherit)"
#: By state; those of a light theme behind the comma.
COLOURS: Final = {
    "pending": _DIM,
    "running": "var(--jp-info-color1,#0288d1)",
    "retrying": "var(--jp-warn-color1,#f57c00)",
    "succeeded": "var(--jp-success-color1,#388e3c)",
    "failed": "var(--jp-error-color1,#d32f2f)",
    "cancelled": "var(--jp-ui-font-color2,#616161)",
}
_CLUSTER_STATES: Final = ("pending", "running", "succeeded", "failed")
#: Characters of an error that are shown; all of it is in `Future.traceback`.
_ERROR_CHARS: Final = 300


def framed(body: str, state: str, kind: str, data: dict[str, object]) -> str:
    """Return HTML in a frame, with a stripe in the colour of a state.

    Parameters
    ----------
    body
        What is in it, as HTML.
    state
        Key of `COLOURS`.
    kind
        Its class is ``nbcluster-<kind>``.
    data
        For programs that read the page: becomes ``data-*`` attributes.
    """
    colour = COLOURS[state]
    marks = "".join(f' data-{key}="{escape(str(value))}"' for key, value in data.items())
    style = (
        f"display:inline-block;max-width:100%;padding:2px 10px;color:{_TEXT};"
        f"border:1px solid {_BORDER};border-left:4px solid {colour};border-radius:3px;"
        "font-family:var(--jp-ui-font-family,sans-serif);font-size:var(--jp-ui-font-size1,13px)"
    )
    return f'<div class="nbcluster-{kind}"{marks} style="{style}">{body}</div>'


def dimmed(text: str) -> str:
    """Return text as HTML that stands back."""
    return f'<span style="color:{_DIM}">{escape(text)}</span>'


def bar(share: float, state: str = "running", width: str = "12em") -> str:
    """Return a bar as HTML, filled by ``share`` from 0 to 1."""
    percent = f"{100 * min(1.0, max(0.0, share)):.1f}"
    return (
        f'<span role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}" '
        f'style="display:inline-block;vertical-align:middle;width:{width};max-width:100%;'
        f'height:0.7em;background:var(--jp-layout-color3,#e0e0e0);border-radius:2px">'
        f'<span style="display:block;width:{percent}%;height:100%;background:{COLOURS[state]};'
        'border-radius:2px"></span></span>'
    )


# --------------------------------------------------------------------------- futures


def attempt_text(future: Facts) -> str:
    """Return which attempt it is and how many there may be; empty for a first and only one."""
    attempts = future.attempts
    # Those that a crash ended are not counted against the retries.
    allowed = future._retries_allowed + 1 + future.crashes
    is_over = future._ended is not None
    if 1 < allowed < float("inf") and attempts and not is_over:
        return f", attempt {attempts} of {allowed:g}"
    return f", attempt {attempts}" if attempts > 1 else ""


def future_text(future: Facts) -> str:
    """Return state, duration, place and attempt of a task in a line, without its name."""
    state, duration = future.state, future.duration
    text = state
    if duration is not None:
        text += f" {duration:.1f} s"
    if future.engine:
        text += f" on engine {future.engine}"
    text += attempt_text(future)
    if future.crashes:
        text += f", crashes: {future.crashes}"
    if state == "running" and future._moved is not None:
        text += progress_text(future._moved.progress, ", ")
    return text


def future_html(future: Facts) -> str:
    """Return a task as HTML: a line, a bar if it tells how far it is, and its error."""
    state, share = future.state, future.progress
    words = future_text(future).removeprefix(state)
    body = f"<b>{escape(printable(future.name or future.id))}</b> "
    body += f'<span style="color:{COLOURS[state]}">{state}</span>{dimmed(words)}'
    if state == "running" and share is not None:
        body += f" {bar(share)}"
    error = _error_text(future) if state == "failed" else ""
    if error:
        body += (
            '<div style="font-family:var(--jp-code-font-family,monospace);white-space:pre-wrap;'
            f'overflow-wrap:anywhere;color:{COLOURS["failed"]}">{escape(error)}</div>'
        )
    known = {"task": future.id, "state": state, "retries": future.retries}
    return framed(body, state, "future", known)


def printable(name: str) -> str:
    """Return a name on one line."""
    return name if name.isprintable() else ascii(name)


def _error_text(future: Facts) -> str:
    """Return the error of a failed task, shortened. Its exception is not unpickled for that."""
    ended = future._ended
    if ended is None:
        text = explain_loss(future._exception)
    elif ended.error is not None:
        text = f"{ended.error.type}: {ended.error.message}".removesuffix(": ")
    else:
        text = f"{ended.code}: {ended.args[-1]}" if ended.args else ended.code
    return text if len(text) <= _ERROR_CHARS else text[: _ERROR_CHARS - 1] + "…"


# --------------------------------------------------------------------------- clusters


def cluster_text(stats: dict[str, Any]) -> str:
    """Return the counters of a cluster in a line, without its name."""
    counts = " ".join(f"{stats[state]} {state}" for state in _CLUSTER_STATES)
    return f"{_engines(stats)} | {counts}"


def cluster_html(what: str, stats: dict[str, Any] | str) -> str:
    """Return a cluster as HTML.

    Parameters
    ----------
    what
        Its class and name.
    stats
        Its counters, or why there are none.
    """
    if isinstance(stats, str):
        return framed(f"<b>{escape(what)}</b> {dimmed(stats)}", "pending", "cluster", {})
    counts = {state: int(stats[state]) for state in _CLUSTER_STATES}
    body = f"<b>{escape(what)}</b> {dimmed(_engines(stats))}"
    for state, number in counts.items():
        colour = COLOURS[state] if number else _DIM
        body += f' <span style="margin-left:1em;color:{colour}"><b>{number:,}</b> {state}</span>'
    state = "running" if counts["running"] else "pending"
    return framed(body, state, "cluster", {**counts, "engines": stats["engines"]})


def _engines(stats: dict[str, Any]) -> str:
    return f"{stats['engines']} engine{'' if stats['engines'] == 1 else 's'}"
