"""Fixtures and rules of all tests: markers by folder, homes, clusters, and the leak check."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import nbcluster
from tests.helpers import LEAK_DEADLINE_S, RUN_ID, RUN_VARIABLE, Left, eventually, note_clusters

#: Folders in the order in which they run: what fails fast comes first.
FOLDERS: Final = ("unit", "simulation", "contract", "integration", "notebooks", "browser")
#: Folders whose tests start processes.
HEAVY: Final = frozenset({"contract", "integration", "notebooks", "browser"})
_HERE: Final = Path(__file__).parent
_NUMBERS: Final = count(1)

Up = Callable[..., "nbcluster.Cluster"]


def pytest_configure() -> None:
    """Mark all child processes, and keep them out of the user's own NBCLUSTER_HOME."""
    os.environ[RUN_VARIABLE] = RUN_ID
    os.environ["NBCLUSTER_HOME"] = _new_home()
    for name in [n for n in os.environ if n.startswith("NBCLUSTER_")]:
        if name not in (RUN_VARIABLE, "NBCLUSTER_HOME"):
            del os.environ[name]  # a developer's own settings must not change what is tested


def pytest_unconfigure() -> None:
    """Remove the session's home."""
    shutil.rmtree(os.environ["NBCLUSTER_HOME"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the marker of its folder, and sort the folders."""
    for item in items:
        item.add_marker(_folder(item.path))
    items.sort(key=lambda item: FOLDERS.index(_folder(item.path)))  # stable inside a folder


def _folder(path: Path) -> str:
    return path.relative_to(_HERE).parts[0]


def _new_home() -> str:
    # Not below tmp_path: the path of an ipc socket may have 107 characters at the most.
    return tempfile.mkdtemp(prefix="nb", dir="/tmp")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a fresh ``NBCLUSTER_HOME`` of this test alone."""
    path = _new_home()
    monkeypatch.setenv("NBCLUSTER_HOME", path)
    yield Path(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def open_clusters() -> list[nbcluster.Cluster]:
    """Return the clusters that live longer than one test of this module."""
    return []


def _starter(stack: ExitStack, opened: list[nbcluster.Cluster] | None) -> Up:
    def up(n: int = 2, **options: Any) -> nbcluster.Cluster:
        options.setdefault("name", f"t{os.getpid()}-{next(_NUMBERS)}")
        cluster = nbcluster.start(engines=n, **options)
        stack.callback(cluster.shutdown, wait=True, cancel_futures=True)
        note_clusters()
        if opened is not None:
            opened.append(cluster)
        return cluster

    return up


@pytest.fixture
def up() -> Iterator[Up]:
    """Return ``up(n=2, **options)``: starts a cluster that is shut down after the test."""
    with ExitStack() as stack:
        yield _starter(stack, None)


@pytest.fixture(scope="module")
def module_up(open_clusters: list[nbcluster.Cluster]) -> Iterator[Up]:
    """Return ``up`` for clusters that all tests of the module share."""
    with ExitStack() as stack:
        yield _starter(stack, open_clusters)
    open_clusters.clear()


@pytest.fixture(scope="module")
def cluster(module_up: Up) -> nbcluster.Cluster:
    """Return a cluster of two engines that all tests of the module share."""
    return module_up(2)


@pytest.fixture(scope="module")
def one(module_up: Up) -> nbcluster.Cluster:
    """Return a cluster of one engine that all tests of the module share.

    It has one slot: what it runs, it runs in order and in one executor.
    """
    return module_up(1)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Return a file that does not exist; tasks wait for it. It exists after the test."""
    path = tmp_path / "gate"
    yield path
    path.touch()


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, a thread or a payload file behind."""
    if _folder(request.path) not in HEAVY:
        yield
        return
    opened = request.getfixturevalue("open_clusters")
    before = Left.now()
    yield

    def left() -> list[str]:
        return Left.now().since(before, clusters_open=bool(opened))

    def told() -> str:
        return "left behind:\n  " + "\n  ".join(left())

    try:
        eventually(lambda: not left(), LEAK_DEADLINE_S, told)
    finally:  # what was left must not spoil the tests that follow
        for process in Left.now().new_processes(before):
            with suppress(psutil.Error):
                process.kill()
