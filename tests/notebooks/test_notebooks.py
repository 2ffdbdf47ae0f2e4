"""Every notebook of the project runs, and its file shows on a static page what it promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.notebooks.running import FOLDER, last_text, outputs_of, run, stored, text_of

NOTEBOOKS: Final = sorted(FOLDER.glob("*.ipynb"))
#: Runs in a test of its own, which looks at more than its end.
TOUR: Final = "01_tour.ipynb"
#: What is drawn by a front end only.
LIVE: Final = "application/vnd.jupyter.widget-view+json"


def name(path: Path) -> str:
    return path.name


@pytest.fixture(params=[path for path in NOTEBOOKS if path.name != TOUR], ids=name, scope="module")
def path(request: pytest.FixtureRequest) -> Path:
    """Return the path of a notebook."""
    found: Path = request.param
    return found


@pytest.fixture(scope="module")
def fresh(path: Path) -> Any:
    """Return a notebook with the outputs of a run now, which ended without an error."""
    return run(path)


def test_the_notebooks_are_found() -> None:
    assert TOUR in map(name, NOTEBOOKS)
    assert len(NOTEBOOKS) > 2


@pytest.mark.timeout(300)
def test_a_run_ends_with_the_text_that_is_stored(path: Path, fresh: Any) -> None:
    assert len(last_text(fresh)) > 20
    assert last_text(fresh) == last_text(stored(path))


def test_a_run_shows_the_same_kinds_of_things_that_are_stored(path: Path, fresh: Any) -> None:
    def kinds(notebook: Any) -> list[set[str]]:
        # Streams may come in several pieces.
        return [{*o.data} for o in outputs_of(notebook) if "data" in o]

    assert kinds(fresh) == kinds(stored(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_the_file_holds_a_whole_run_in_order_without_an_error(path: Path) -> None:
    cells = [cell for cell in stored(path).cells if cell.cell_type == "code"]

    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [o for o in outputs_of(stored(path)) if o.output_type == "error"] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_the_file_can_be_read_on_a_page_that_runs_nothing(path: Path) -> None:
    shown = outputs_of(stored(path))

    assert [o for o in shown if not text_of(o)] == []
    assert [o for o in shown if LIVE in o.get("data", {}) and "text/html" not in o.data] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_no_bar_and_no_future_is_stored_before_its_end(path: Path) -> None:
    html = "\n".join(o.get("data", {}).get("text/html", "") for o in outputs_of(stored(path)))

    assert 'data-over="false"' not in html
    assert not re.search(r'nbcluster-future"[^>]*data-state="(running|pending|retrying)"', html)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_starts_two_engines_so_that_it_runs_where_there_is_little(path: Path) -> None:
    source = "\n".join(cell.source for cell in stored(path).cells if cell.cell_type == "code")

    starts = re.findall(r"nbcluster\.start\(.*?engines=(\d+)|%cluster start .*?-n (\d+)", source)
    assert [{*start} - {""} for start in starts] == [{"2"}]


def test_figures_that_engines_drew_are_stored_as_images() -> None:
    (path,) = (path for path in NOTEBOOKS if "plots" in path.name)

    images = [o for o in outputs_of(stored(path)) if "image/png" in o.get("data", {})]
    assert len(images) >= 4
