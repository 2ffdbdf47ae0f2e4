"""Running the project's notebooks from their first cell to their last, as nbclient does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import nbformat

from nbcluster.cli.demo import execute
from tests.helpers import LEAK_DEADLINE_S, Left, eventually

FOLDER: Final = Path(__file__).parents[2] / "notebooks"

v4: Final[Any] = nbformat.v4  # without type information


def stored(path: Path) -> Any:
    """Return a notebook with the outputs that lie in its file."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def run(path: Path, report: str = "") -> Any:
    """Return a notebook with the outputs of a run now; nothing of that is left.

    Parameters
    ----------
    path
        Its file, which is not changed.
    report
        Code of one more cell, at the end; its id is ``report``.
    """
    before = Left.now()
    notebook = stored(path)
    if report:
        notebook.cells.append(v4.new_code_cell(report, id="report"))
    execute(notebook, path.parent)
    eventually(lambda: not Left.now().new_processes(before), LEAK_DEADLINE_S, "processes left")
    return notebook


def outputs_of(notebook: Any) -> list[Any]:
    """Return all outputs, in order."""
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def text_of(output: Any) -> str:
    """Return an output as text; empty, if it cannot be read as such."""
    return str(output.get("text") or output.get("data", {}).get("text/plain", ""))


def last_text(notebook: Any) -> str:
    """Return what the notebook says at its end."""
    return text_of(outputs_of(notebook)[-1])
