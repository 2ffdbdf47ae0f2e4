"""A view that stays as it is: what a saved notebook, GitHub and nbconvert show."""

from __future__ import annotations

import time
from html import escape
from typing import Final

from nbcluster.client.feed import STATES
from nbcluster.notebook.view.store import Row, TaskStore
from nbcluster.notebook.view.text import count, duration

ROWS: Final = 20
#: Beside its name: so that nobody needs to tell colours apart.
SIGNS: Final = dict(zip(STATES, "○▶↻✓✗⊘", strict=True))
_LINE: Final = "var(--jp-border-color2, #bbb)"
_CELL: Final = f"padding:2px 8px;text-align:left;border-bottom:1px solid {_LINE}"
_HEADS: Final = ("task", "name", "state", "retries", "engine", "started", "duration", "error")


def static_html(name: str, store: TaskStore, view: str = "", *, state: str | None = None) -> str:
    """Return a table of the rows worth telling, with the counts, as HTML without scripts.

    Parameters
    ----------
    name
        Of the cluster.
    store
        What it shows.
    view
        Id of the live view in whose place it stands; a page may bring it back to life there.
    state
        Only rows in this state; default: all.
    """
    rows = store.worth_telling(ROWS, state)
    left_out = (store.counts[state] if state else len(store)) - len(rows)
    more = f"<div>and {left_out:,} more tasks</div>" if left_out > 0 else ""
    heads = "".join(f'<th scope="col" style="{_CELL}">{head}</th>' for head in _HEADS)
    table = (
        '<div style="overflow-x:auto">'
        '<table style="border-collapse:collapse;font-size:var(--jp-code-font-size, 13px)">'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(map(_row, rows))}</tbody></table></div>"
    )
    return (
        f'<div class="nbcluster-static" {_data(store)} data-view="{escape(view)}" '
        'style="color:var(--jp-ui-font-color1, inherit);'
        'font-family:var(--jp-ui-font-family, sans-serif)">'
        f"{_head(name, store)}{table if rows else ''}{more}</div>"
    )


def data_counts(store: TaskStore) -> dict[str, int]:
    """Return the counts that the page's contract names, by attribute."""
    facts = {"total": store.total, "done": store.done, **store.counts}
    return {
        f"data-{name}": number for name, number in (facts | {"retries": store.retries}).items()
    } | {"data-engines": len(store.workers)}


def _data(store: TaskStore) -> str:
    return " ".join(f'{name}="{number}"' for name, number in data_counts(store).items())


def _head(name: str, store: TaskStore) -> str:
    states = " &nbsp; ".join(
        f"{SIGNS[s]} {store.counts[s]:,} {s}" for s in STATES if store.counts[s]
    )
    slots = sum(worker[2] for worker in store.workers)
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(store.now)) if store.now else ""
    facts = [
        f"{store.done:,} of {count(store.total, 'task')} done",
        states,
        count(store.retries, "retry", "retries"),
        f"{count(len(store.workers), 'engine')}, {count(slots, 'slot')}" if store.workers else "",
        at,
    ]
    told = " &nbsp;|&nbsp; ".join(fact for fact in facts if fact)
    return f"<div><b>Cluster {escape(name)}</b> &nbsp;|&nbsp; {told}</div>"


def _row(row: Row) -> str:
    started = time.strftime("%H:%M:%S", time.localtime(row.started)) if row.started else ""
    cells = (
        *(row.task, row.name, f"{SIGNS[row.state]} {row.state}", row.retries or ""),
        *(row.engine, started, duration(row.duration), row.error),
    )
    shown = "".join(f'<td style="{_CELL}">{escape(str(cell))}</td>' for cell in cells)
    return f"<tr>{shown}</tr>"
