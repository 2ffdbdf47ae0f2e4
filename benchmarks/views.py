"""``python -m benchmarks.views``: what one refresh of a table of tasks costs the kernel.

The live view of nbcluster beside other ways to show the same table anew. Each gets so many tasks,
of which a twentieth has changed, 5,000 at the most, and makes what is sent to the browser.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pandas as pd

from benchmarks import machine
from benchmarks.stats import median
from nbcluster.client.feed import STATES, Changes
from nbcluster.notebook.view.store import TaskStore

RESULT: Final = Path("benchmarks/results/views.json")
SIZES: Final = (1_000, 10_000, 100_000)
MOST_CHANGED: Final = 5_000
#: Refreshes a second that the budget of the live view is for, and its share of a core.
HERTZ: Final = 5
BUDGET: Final = 0.05
#: A way that has taken this long with one table is not asked for a larger one.
PATIENCE_S: Final = 20.0

#: Makes one refresh and returns how many bytes leave the kernel.
Refresh = Callable[[int], int]


def changes_of(first: int, count: int, turn: int) -> bytes:
    """Return, as it comes from the master, that so many tasks have changed."""
    ids = [f"c0ffee12-{number}" for number in range(first, first + count)]
    changes = Changes(
        reset=turn == 0,
        more=False,
        now=1e9 + turn,
        gone=[],
        counts=dict.fromkeys(STATES, count),
        workers=[(f"e{number}", "active", 1, 1, 50.0 + turn, 4_711) for number in range(4)],
        ids=ids,
        names=["train"] * count,
        groups=["default"] * count,
        engines=[f"e{number % 4}" for number in range(count)],
        errors=["" if number % 50 else "ValueError: no" for number in range(count)],
        states=bytes((number + turn) % len(STATES) for number in range(count)),
        attempts=array("I", [1] * count).tobytes(),
        retries=array("I", [turn % 3] * count).tobytes(),
        crashes=bytes(4 * count),
        priority=bytes(4 * count),
        progress=array("f", [0.5] * count).tobytes(),
        submitted=array("d", [1e9] * count).tobytes(),
        started=array("d", [1e9 + turn] * count).tobytes(),
        finished=array("d", [1e9 + turn + 1] * count).tobytes(),
    )
    return msgspec.msgpack.encode(changes)


def table_of(count: int, turn: int) -> pd.DataFrame:
    """Return the same tasks as a DataFrame."""
    return pd.DataFrame(
        {
            "name": "train",
            "state": [STATES[(number + turn) % len(STATES)] for number in range(count)],
            "retries": turn % 3,
            "engine": [f"e{number % 4}" for number in range(count)],
            "started_at": pd.Timestamp(1e9 + turn, unit="s"),
            "duration_s": 1.0,
            "error": "",
        },
        index=[f"c0ffee12-{number}" for number in range(count)],
    )


def live(count: int) -> Refresh:
    """Return refreshes of the live view: what has changed is decoded, taken in and told."""
    store, changed = TaskStore(), min(MOST_CHANGED, count // 20)
    for first in range(0, count, MOST_CHANGED):
        rows = min(MOST_CHANGED, count - first)
        told = msgspec.msgpack.decode(changes_of(first, rows, int(first > 0)), type=Changes)
        store.apply(told)
    store.messages()
    come = {turn: changes_of(0, changed, turn) for turn in range(1, 8)}

    def refresh(turn: int) -> int:
        store.apply(msgspec.msgpack.decode(come[turn], type=Changes))
        return sum(len(json.dumps(m.header)) + len(m.body) for m in store.messages())

    return refresh


def data_grid(count: int) -> Refresh:
    """Return refreshes of ipydatagrid."""
    from ipydatagrid import DataGrid

    grid = DataGrid(table_of(count, 0))
    tables = {turn: table_of(count, turn) for turn in range(1, 8)}

    def refresh(turn: int) -> int:
        grid.data = tables[turn]
        return len(json.dumps(grid.get_state("_data"), default=_plain))

    return refresh


def datatable(count: int) -> Refresh:
    """Return refreshes of itables, with all rows."""
    from itables import to_html_datatable

    tables = {turn: table_of(count, turn) for turn in range(1, 8)}
    return lambda turn: len(to_html_datatable(tables[turn], maxBytes=0, connected=True))


def html(count: int) -> Refresh:
    """Return refreshes by ``DataFrame.to_html``."""
    tables = {turn: table_of(count, turn) for turn in range(1, 8)}
    return lambda turn: len(tables[turn].to_html())


def _plain(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


WAYS: Final[dict[str, Callable[[int], Refresh]]] = {
    "nbcluster": live,
    "ipydatagrid": data_grid,
    "itables": datatable,
    "DataFrame.to_html": html,
}


def measure(name: str, count: int, repeat: int) -> dict[str, float] | str:
    """Return kernel milliseconds and bytes of a refresh, or why there are none."""
    try:
        refresh = WAYS[name](count)
    except ImportError as error:
        return f"not installed: {error.name}"
    times, sizes = [], []
    for turn in range(1, repeat + 1):
        begin = time.process_time()
        sizes.append(refresh(turn))
        times.append(time.process_time() - begin)
        if sum(times) > PATIENCE_S:
            break
    return {"kernel_ms": median(times) * 1000, "bytes": median(sizes)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views", description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, choices=range(1, 8), metavar="1..7")
    parser.add_argument("--json", type=Path, default=RESULT, metavar="FILE")
    options = parser.parse_args(arguments)
    found: dict[str, dict[int, dict[str, float] | str]] = {}
    for name in WAYS:
        found[name] = {}
        for count in SIZES:
            found[name][count] = measure(name, count, options.repeat)
            print(f"{name}, {count:,} tasks: {found[name][count]}", file=sys.stderr)
    print(render(found))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"machine": machine.describe(), "views": found}, indent=1))
    return 0


def render(found: dict[str, dict[int, dict[str, float] | str]]) -> str:
    """Return the table as Markdown."""
    sizes = " | ".join(f"{count:,} tasks" for count in SIZES)
    lines = [f"| one refresh: kernel ms; bytes | {sizes} |", "|---|" + "--:|" * len(SIZES)]
    for name, row in found.items():
        cells = [
            cell if isinstance(cell, str) else f"{cell['kernel_ms']:.1f}; {cell['bytes']:,.0f}"
            for cell in row.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    ours = found["nbcluster"][SIZES[-1]]
    if not isinstance(ours, str):
        share = ours["kernel_ms"] / 1000 * HERTZ
        verdict = "met" if share <= BUDGET else "missed"
        lines.append(
            f"\nThe live view at {SIZES[-1]:,} tasks and {HERTZ} refreshes a second takes "
            f"{share:.1%} of a core in the kernel (budget {BUDGET:.0%}: {verdict})."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
