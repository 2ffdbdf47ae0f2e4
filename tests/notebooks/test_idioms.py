"""Every idiom of the catalogue, sent from one real kernel through a cluster and back."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.helpers import note_clusters
from tests.notebooks.idioms import Idiom
from tests.notebooks.kernels import kernel
from tests.notebooks.more_idioms import ALL_IDIOMS

RUNNER = """
import nbcluster
from nbcluster.errors import UnpicklableError
cluster = nbcluster.start(engines=1, name={name!r})

def submit(fn, *args, **kwargs):
    return cluster.submit(fn, *args, **kwargs).result(30)

def run_idiom(name, setup, call, check, refused):
    shell, names = get_ipython(), globals()
    shell.run_cell(setup, silent=True).raise_error()
    if refused:
        try:
            return "it was taken: " + repr(eval(call, names))
        except UnpicklableError as error:
            # What an object is made of differs between processes; the way to it does not.
            way = check.rpartition(" -> ")[0] or check
            return "" if way in error.path else error.path
    names["result"] = eval(call, names)
    return "" if eval(check, names) else "it came back as " + repr(names["result"])

def run_idioms(idioms):
    outcomes = dict()
    for name, *idiom in idioms:
        try:
            outcomes[name] = run_idiom(name, *idiom)
        except BaseException as error:
            outcomes[name] = repr(error)
    return outcomes
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what is wrong with each idiom, by its name; empty for those that work."""
    rows = [(i.name, i.setup, i.submit, i.check, i.refused) for i in ALL_IDIOMS]
    with kernel(tmp_path_factory.mktemp("notebook")) as ipython:
        ipython.run(RUNNER.format(name=f"idioms-{os.getpid()}"))
        note_clusters()
        printed = ipython.run(
            f"import json\noutcome = run_idioms({rows!r})\nprint('\\n' + json.dumps(outcome))", 120
        )
        ipython.run("cluster.shutdown()")
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def test_the_catalogue_is_large_and_names_each_idiom_once() -> None:
    assert len({idiom.name for idiom in ALL_IDIOMS}) == len(ALL_IDIOMS) >= 60


@pytest.mark.parametrize("idiom", ALL_IDIOMS, ids=lambda idiom: idiom.name)
def test_an_idiom_works_from_a_real_kernel(outcomes: dict[str, Any], idiom: Idiom) -> None:
    assert outcomes[idiom.name] == ""
