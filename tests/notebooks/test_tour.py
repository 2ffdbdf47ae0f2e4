"""The tour runs from its first cell to its last in a real kernel, and leaves nothing behind."""

from __future__ import annotations

import ast
import json
import sysconfig
from pathlib import Path
from typing import Any, Final

import pytest

from nbcluster.cli.demo import SHOWN, shown
from tests.notebooks.running import FOLDER, run, stored, text_of

TOUR: Final = FOLDER / "01_tour.ipynb"

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
    return "".join(map(text_of, outputs))


@pytest.fixture(scope="module")
def tour() -> Any:
    """Return the tour with outputs, and with a report as its last cell; nothing of it is left."""
    return run(TOUR, REPORT)


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


def test_the_stored_tour_ends_with_what_the_command_demo_shows() -> None:
    notebook = stored(TOUR)

    marked = [c.id for c in notebook.cells if SHOWN in c.metadata.get("tags", ())]
    assert marked == ["tasks", "summary"]
    assert len(list(shown(notebook))) == 2
