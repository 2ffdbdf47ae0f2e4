"""What the verbs print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

#: Shortest width to which a column is cut so that a row fits the terminal.
_LEAST: Final = 8
_GAP: Final = "  "

Row = Mapping[str, Any]


def rows_of(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return a table that came as columns as rows."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def print_json(value: Any) -> None:
    """Print a value as JSON; instants become ISO 8601 in UTC, unknown types their ``repr``."""
    print(json.dumps(_plain(value), indent=2, default=lambda x: shown(x, repr), allow_nan=False))


def shown(value: Any, text: Callable[[Any], str] = str) -> str:
    """Return a value as text, also where its own ``text`` fails."""
    try:
        return text(value)
    except Exception as error:  # noqa: BLE001 - it is the user's code
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}: {error}>"


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if name.endswith("_at"):
            return datetime.fromtimestamp(value, UTC).isoformat()
        if not math.isfinite(value):  # JSON knows no such numbers
            return None if math.isnan(value) else str(value)
    return value


def print_table(rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Print some columns of a table, cut to the width of a terminal if there is one."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in lines_of(rows, columns, width):
        print(line)


def lines_of(rows: Iterable[Row], columns: Sequence[str], width: int = 0) -> list[str]:
    """Return a table as lines, the first of them the names of its columns.

    Parameters
    ----------
    rows, columns
        The table, and what is shown of it, in this order.
    width
        Characters of a line at the most; the widest columns are cut. 0: as wide as it is.
    """
    cells = [[_cell(name, row.get(name)) for name in columns] for row in rows]
    table = [[name.removesuffix("_at") for name in columns], *cells]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if width:
        _narrow(widths, width - len(_GAP) * (len(widths) - 1))
    return [
        _GAP.join(_cut(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _narrow(widths: list[int], room: int) -> None:
    """Take from the widest column until all fit, or none is wide."""
    while sum(widths) > room and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1


def _cut(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else text[: size - 1] + "…"


def _cell(name: str, value: Any) -> str:
    """Return a value as it is shown in a table: one line."""
    if value is None:
        return ""
    if name.endswith("_at") and isinstance(value, (int, float)):
        return datetime.fromtimestamp(value).strftime("%H:%M:%S")
    if name == "progress" and isinstance(value, (int, float)):
        return f"{value:.0%}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return " ".join(str(value).split())
