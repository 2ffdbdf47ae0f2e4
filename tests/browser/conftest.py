"""Fixtures of tests in a browser: one server and one Chromium for all, a page for each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.browser.lab import Lab, Notebook

    Open = Callable[..., Notebook]

#: Where pictures of the view are put; default: a temporary folder of pytest's.
SCREENSHOTS = "NB_TEST_SCREENSHOTS"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return a headless Chromium."""
    for module in ("playwright", "jupyterlab"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install '.[test]'")
    from tests.browser.lab import CHROMIUM, running_browser

    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt-get install chromium fonts-dejavu-core")
    with running_browser() as running:
        yield running


@pytest.fixture(scope="session")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Return a running JupyterLab, which serves Notebook 7 too."""
    from tests.browser.lab import running_lab

    with running_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@contextmanager
def _opener(browser: Browser, lab: Lab, title: str) -> Iterator[Open]:
    from tests.browser.lab import Notebook

    opened: list[Notebook] = []
    context = browser.new_context(viewport={"width": 1280, "height": 1000})

    def open_one(cells: Sequence[str], kind: str = "lab") -> Notebook:
        name = f"{title.split('[', maxsplit=1)[0]}_{len(opened)}_{kind}.ipynb"
        lab.write(name, cells)
        opened.append(Notebook(lab, context.new_page(), name, kind))
        return opened[-1]

    yield open_one
    for notebook in opened:
        notebook.end_kernel()
    context.close()
    assert [error for notebook in opened for error in notebook.errors] == []


@pytest.fixture
def open_notebook(browser: Browser, lab: Lab, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Return ``open(cells, kind="lab")``: opens a new notebook; no script of it may fail."""
    with _opener(browser, lab, request.node.name) as opener:
        yield opener


@pytest.fixture(scope="module")
def module_open_notebook(
    browser: Browser, lab: Lab, request: pytest.FixtureRequest
) -> Iterator[Open]:
    """Return ``open`` for notebooks that tests of the module share."""
    with _opener(browser, lab, Path(request.node.name).stem) as opener:
        yield opener


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of pictures."""
    named = os.environ.get(SCREENSHOTS)
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
