from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbcluster.cli import main
from nbcluster.cli.demo import SHOWN, find, shown, title_of

v4: Any = nbformat.v4


def test_the_tour_is_found_from_anywhere_in_a_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find().name == "01_tour.ipynb"

    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_tour.ipynb").write_text("{}")

    assert find() == tmp_path / "notebooks" / "01_tour.ipynb"


def test_without_the_notebook_it_says_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nbcluster.__file__", str(tmp_path / "site" / "nbcluster" / "__init__.py"))

    assert main(["demo"]) == 1

    assert "clone" in capsys.readouterr().err


def test_without_the_packages_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert main(["demo"]) == 1

    assert "pip install 'nbcluster[examples]'" in capsys.readouterr().err


def test_headings_are_told_as_they_are_reached() -> None:
    assert title_of(v4.new_markdown_cell("## Parse\n\nText")) == "Parse"
    assert title_of(v4.new_markdown_cell("Text")) == ""
    assert title_of(v4.new_code_cell("# a comment")) == ""


def test_only_cells_with_the_tag_are_shown() -> None:
    outputs = [
        v4.new_output("stream", name="stdout", text="printed"),
        v4.new_output("execute_result", data={"text/plain": "a table", "text/html": "<table>"}),
    ]
    quiet = v4.new_code_cell("x", outputs=outputs)
    told = v4.new_code_cell("x", outputs=outputs, metadata={"tags": [SHOWN]})

    assert list(shown(v4.new_notebook(cells=[quiet, told]))) == ["printed", "a table"]
