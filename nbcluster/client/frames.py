"""Tables of the master as pandas DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcluster.client.interrupts import defer

if TYPE_CHECKING:
    import pandas as pd


def frame(columns: dict[str, list[Any]], index: str | None = "id") -> pd.DataFrame:
    """Return a DataFrame of ``columns``.

    Columns that end in ``_at``, and ``time``, hold seconds since the epoch and become UTC
    timestamps; ``NaT`` where there is none.
    """
    with defer():  # one that is interrupted is broken for as long as its process lives
        import pandas as pd

    table = pd.DataFrame(columns)
    for name in table.columns:
        if name.endswith("_at") or name == "time":
            seconds = pd.to_numeric(table[name], errors="coerce")
            table[name] = pd.to_datetime(seconds, unit="s", utc=True)
        elif name in ("duration_s", "progress"):
            table[name] = pd.to_numeric(table[name], errors="coerce")
    return table.set_index(index) if index else table


def columns_of(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """Return rows as columns of these names."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def joined(pages: list[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """Return pages of one table as one."""
    if len(pages) == 1:
        return pages[0]
    whole: dict[str, list[Any]] = {name: [] for name in pages[0]}
    for page in pages:
        for name, values in page.items():
            whole[name].extend(values)
    return whole
