"""Which kind of view is shown where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbcluster.errors import OptionError
from nbcluster.notebook.view.choose import best_of, choose


@pytest.mark.parametrize("asked", [None, "live", "core", "html"])
def test_where_there_is_no_notebook_it_is_text(asked: str | None) -> None:
    assert choose(asked) == "text"


def test_off_is_off_everywhere_by_argument_or_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose("off") == "off"
    monkeypatch.setenv("NBCLUSTER_VIEW", "off")
    assert choose() == "off"
    assert choose("live") == "text"


def test_an_unknown_view_is_an_error_that_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NBCLUSTER_VIEW", "hmtl")

    with pytest.raises(OptionError, match=r"hmtl.*html"):
        choose()


@pytest.mark.parametrize(
    ("there", "best"),
    [
        ([], "html"),
        (["@jupyter-widgets/jupyterlab-manager"], "core"),
        (["anywidget"], "html"),
        (["@jupyter-widgets/jupyterlab-manager", "anywidget"], "live"),
    ],
)
def test_what_the_server_lacks_is_not_shown(tmp_path: Path, there: list[str], best: str) -> None:
    for name in there:
        folder = tmp_path / "labextensions" / name
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps({"version": "1.0"}))

    assert best_of([tmp_path / "empty", tmp_path]) == best
