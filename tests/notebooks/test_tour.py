"""The tour runs from its first cell to its last in a real kernel, and leaves nothing behind."""

from __future__ import annotations

import ast
import json
import sysconfig
from pathlib import Path
from typing import Any, Final

import nbformat
import pytest

from nbcluster.cli.demo import SHOWN, execute, shown
from tests.helpers import LEAK_DEADLINE_S, Left, eventually

TOUR: Final = Path(__file__).parents[2] / "notebooks" / "01_tour.ipynb"

v4: Final[Any] = nbformat.v4  # without type information

#: What the notebook knows at its end, for a program to read.
REPORT: Final = """
import json
from collections import Counter

known = {
    "files": len(parsed),
    "failures": {file: type(error).__name__ for file, error in failures.items()},
    "functions": len(functions),
    "grid": [float(value) for value in grid.accuracy],
    "attempts": [page.attempts for page in pages],
    "poison": type(poison).__name__,
    "states": dict(Counter(table.state)),
    "causes": dict(Counter(table.cause)),
    "summary": json.loads(summary.reset_index().to_json(orient="records")),
}
print(json.dumps(known))
"""


def output_of(notebook: Any, cell: str) -> str:
    """Return the text that a cell has put out."""
    outputs = next(c for c in notebook.cells if c.id == cell).get("outputs", ())
    return "".join(o.get("text") or o["data"]["text/plain"] for o in outputs)


@pytest.fixture(scope="module")
def tour() -> Any:
    """Return the tour with outputs, and with a report as its last cell; nothing of it is left."""
    before = Left.now()
    notebook = nbformat.read(TOUR, as_version=4)  # type: ignore[no-untyped-call]
    notebook.cells.append(v4.new_code_cell(REPORT, id="report"))
    execute(notebook, TOUR.parent)
    eventually(lambda: not Left.now().new_processes(before), LEAK_DEADLINE_S, "processes left")
    return notebook


@pytest.fixture(scope="module")
def report(tour: Any) -> dict[str, Any]:
    """Return what the notebook knew at its end."""
    known: dict[str, Any] = json.loads(output_of(tour, "report"))
    return known


@pytest.mark.timeout(300)
def test_the_whole_library_is_parsed_and_what_does_not_parse_has_failed(
    report: dict[str, Any],
) -> None:
    library = Path(sysconfig.get_path("stdlib"))

    assert report["files"] > 500
    assert report["functions"] > 10_000
    for file, error in report["failures"].items():
        with pytest.raises((SyntaxError, ValueError, RecursionError)) as found:
            ast.parse((library / file).read_bytes())
        assert found.type.__name__ == error


def test_the_grid_is_complete_and_its_best_is_good(report: dict[str, Any]) -> None:
    assert len(report["grid"]) == 80
    assert max(report["grid"]) > 0.98


def test_what_fails_now_and_then_succeeds_after_retries(report: dict[str, Any]) -> None:
    assert len(report["attempts"]) == 60
    assert max(report["attempts"]) > 2


def test_one_task_crashes_for_good_and_the_rest_is_unharmed(report: dict[str, Any]) -> None:
    assert report["poison"] == "TaskCrashedError"
    assert report["causes"].get("crash") == 1
    assert set(report["states"]) == {"succeeded", "failed"}
    assert report["states"]["failed"] == len(report["failures"]) + 1


def test_the_summary_counts_each_task_once_by_state_and_retries(report: dict[str, Any]) -> None:
    summary = report["summary"]

    assert sum(row["tasks"] for row in summary) == sum(report["states"].values())
    assert sum(row["crashes"] for row in summary) == 2
    retries = sum(row["tasks"] * row["retries"] for row in summary)
    assert retries == sum(report["attempts"]) - len(report["attempts"])


def test_the_command_demo_shows_the_table_and_the_summary(tour: Any) -> None:
    table, summary = shown(tour)

    assert "TaskCrashed" in table or "SIGSEGV" in table
    assert "retries" in summary
    assert "succeeded" in summary


def test_the_stored_notebook_holds_the_outputs_of_a_run_without_errors() -> None:
    stored = nbformat.read(TOUR, as_version=4)  # type: ignore[no-untyped-call]

    outputs = [o for cell in stored.cells for o in cell.get("outputs", ())]
    assert [o for o in outputs if o.output_type == "error"] == []
    assert [c.id for c in stored.cells if SHOWN in c.metadata.get("tags", ())] == [
        "tasks",
        "summary",
    ]
    assert len(list(shown(stored))) == 2
