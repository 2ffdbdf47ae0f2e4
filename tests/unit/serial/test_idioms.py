"""Every idiom of the catalogue, between two real processes."""

from __future__ import annotations

import pytest

from tests.notebooks.idioms import Idiom
from tests.notebooks.more_idioms import ALL_IDIOMS
from tests.unit.serial.notebook import Notebook


@pytest.mark.parametrize("idiom", ALL_IDIOMS, ids=lambda idiom: idiom.name)
def test_an_idiom_of_notebooks_works(notebook: Notebook, idiom: Idiom) -> None:
    notebook.run(idiom.setup)

    if idiom.refused:
        notebook.run(
            "from nbcluster.errors import UnpicklableError\n"
            f"try: path = 'it was taken: ' + repr({idiom.submit})\n"
            "except UnpicklableError as error: path = error.path"
        )
        assert idiom.check in notebook.eval("path")
    else:
        notebook.run(f"result = {idiom.submit}")
        assert notebook.eval(f"bool({idiom.check})"), notebook.eval("repr(result)")
