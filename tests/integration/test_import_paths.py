"""Directories that come to ``sys.path`` after the start are looked into by executors too."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import nbcluster
from nbcluster import Cluster
from tests.conftest import Up
from tests.helpers import eventually

END_S: Final = 20.0

Library = Callable[[str, str], Path]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """Return ``library(module, code)``: writes a module, each into a directory of its own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(module: str, code: str) -> Path:
        folder = tmp_path / f"of_{module}"
        folder.mkdir()
        (folder / f"{module}.py").write_text(code)
        importlib.invalidate_caches()
        return folder

    yield write
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", "") or "/").is_relative_to(tmp_path):
            del sys.modules[name]


def import_and_call(module: str) -> Any:
    return importlib.import_module(module).call()


def find_path() -> list[str]:
    return list(sys.path)


def paths_of(cluster: Cluster) -> list[list[str]]:
    return list(cluster.run(find_path).values())


def test_a_module_of_a_directory_that_was_added_after_the_start_is_found(
    up: Up, library: Library
) -> None:
    cluster = up(2)
    assert isinstance(
        cluster.submit(import_and_call, "late_front").exception(END_S), ModuleNotFoundError
    )
    front = library("late_front", "def call():\n    return 'front'\n")
    back = library("late_back", "class Late:\n    value = 3\n")
    sys.path.insert(0, os.path.relpath(front))

    # The function is the same as before: what it imports is not.
    assert cluster.submit(import_and_call, "late_front").result(END_S) == "front"
    sys.path.append(str(back))
    late = importlib.import_module("late_back").Late()
    assert cluster.submit(getattr, late, "value").result(END_S) == 3

    cluster.scale(3)
    cluster.restart()
    paths = paths_of(cluster)
    assert len(paths) == 3
    assert {(path[0], path[-1]) for path in paths} == {(str(front), str(back))}


def test_a_path_that_was_replaced_by_another_one_is_followed(
    one: Cluster, library: Library
) -> None:
    sys.path.append(str(library("late_first", "def call():\n    return 'first'\n")))
    assert one.submit(import_and_call, "late_first").result(END_S) == "first"

    sys.path[-1] = str(library("late_other", "def call():\n    return 'other'\n"))

    assert one.submit(import_and_call, "late_other").result(END_S) == "other"


def test_what_is_pushed_is_found_in_a_directory_that_was_added_after_the_start(
    one: Cluster, library: Library
) -> None:
    sys.path.append(str(library("late_pushed", "class Late:\n    value = 3\n")))

    one.push({"late": importlib.import_module("late_pushed").Late()}, END_S)

    assert [late.value for late in one.pull("late", END_S).values()] == [3]


def test_what_is_no_directory_is_not_sent(one: Cluster, library: Library, tmp_path: Path) -> None:
    sys.path.append(str(tmp_path / "nowhere"))

    assert str(tmp_path / "nowhere") not in paths_of(one)[0]


def test_a_path_that_changed_while_there_was_no_master_reaches_the_next_one(
    home: Path, library: Library, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"name": "gone", "journal": str(tmp_path / "j.db"), "persist": True}
    cluster = nbcluster.start(1, **options)
    try:
        os.kill(int(cluster.stats()["master_pid"]), 9)
        eventually(lambda: cluster._client.link.is_lost)
        sys.path.append(str(library("late_lost", "def call():\n    return 'lost'\n")))
        future = cluster.submit(len, "ab")
        again = nbcluster.start(1, **options)
        assert future.result(END_S) == 2
        assert cluster.submit(import_and_call, "late_lost").result(END_S) == "lost"
        again.stop()
    finally:
        cluster.close()
