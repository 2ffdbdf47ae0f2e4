"""What is installed: version, names, command, types, and no undeclared dependency."""

from __future__ import annotations

import ast
import concurrent.futures
import importlib
import re
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

import nbcluster

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "nbcluster"
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

#: Where the name of a module is not that of its distribution.
DISTRIBUTIONS: Final = {"zmq": "pyzmq", "IPython": "ipywidgets", "traitlets": "ipywidgets"}

PUBLIC: Final = (
    *("start", "connect", "clusters", "Cluster", "ClusterExecutor", "Future", "Backoff"),
    *("current_task", "PermanentFailure", "NbclusterError"),
)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_and_listed(name: str) -> None:
    assert getattr(nbcluster, name) is not None
    assert name in nbcluster.__all__
    assert name in dir(nbcluster)


def test_completion_shows_what_is_public_and_nothing_else() -> None:
    errors = {name for name in dir(nbcluster) if name.endswith(("Error", "Warning", "Traceback"))}

    assert set(dir(nbcluster)) - errors == set(nbcluster.__all__) - errors
    assert {"OptionError", "TaskTimeoutError", "ClusterConnectionError"} <= errors
    assert "PicklingError" not in errors  # one of the standard library's
    assert all(issubclass(getattr(nbcluster, name), Exception) for name in errors)


CLUSTER: Final = (
    *("submit", "map", "options", "config", "remote", "run", "push", "pull", "shutdown", "close"),
    *("stop", "tasks", "attempts", "engines", "dead_letters", "stats", "events", "future"),
    *("cancel", "retry", "redrive", "scale", "set_slots", "wait_for_engines", "drain", "restart"),
    "directory",
)
FUTURE: Final = (
    *("state", "attempts", "retries", "crashes", "engine", "progress", "stdout", "stderr"),
    *("duration", "traceback", "why", "stack", "show"),
)


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def test_completion_of_a_cluster_shows_what_is_public_and_nothing_else() -> None:
    assert public(nbcluster.Cluster) == {*CLUSTER}


def test_completion_of_a_future_shows_what_is_public_and_nothing_else() -> None:
    assert public(nbcluster.Future) == {*FUTURE} | public(concurrent.futures.Future)


@pytest.mark.parametrize("cls", [nbcluster.Cluster, nbcluster.Future, nbcluster.ClusterExecutor])
def test_every_public_method_says_what_it_does(cls: type) -> None:
    own = [name for name in public(cls) if name not in dir(concurrent.futures.Future)]

    assert [name for name in own if not getattr(cls, name).__doc__] == []


def test_every_listed_name_can_be_reached() -> None:
    assert [name for name in nbcluster.__all__ if not hasattr(nbcluster, name)] == []


def test_every_listed_name_says_what_it_is() -> None:
    things = [(name, getattr(nbcluster, name)) for name in nbcluster.__all__]

    assert [name for name, thing in things if callable(thing) and not thing.__doc__] == []


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    name = "no_such_name"

    with pytest.raises(AttributeError, match=f"nbcluster.*{name}"):
        getattr(nbcluster, name)


def test_the_version_is_written_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?", nbcluster.__version__)
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "nbcluster/_version.py"


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_command_leads_to_a_function() -> None:
    module, _, function = PROJECT["project"]["scripts"]["nbcluster"].partition(":")

    assert callable(getattr(importlib.import_module(module), function))


def declared() -> set[str]:
    lists = [PROJECT["project"]["dependencies"]]
    lists += PROJECT["project"]["optional-dependencies"].values()
    return {
        re.split(r"[<>=!~;\[ ]", entry)[0].lower().replace("-", "_")
        for entries in lists
        for entry in entries
    }


def third_parties(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {n.partition(".")[0] for n in names} - set(sys.stdlib_module_names) - {"nbcluster"}


def test_whatever_the_package_imports_is_declared() -> None:
    known = declared()
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in PACKAGE.rglob("*.py")
        for name in third_parties(path)
        if DISTRIBUTIONS.get(name, name).lower() not in known
    }

    assert missing == set()
