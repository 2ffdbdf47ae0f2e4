"""The doctor finds the half of a widget that runs in the browser, and says where it is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from nbcluster.cluster.findings import Finding, Grade
from nbcluster.cluster.frontend import (
    data_paths,
    front_end_version,
    notebook_packages,
    running_servers,
    widget_halves,
)
from tests.helpers import eventually

MANAGER = "@jupyter-widgets/jupyterlab-manager"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have only the folders of this test looked at: this may run inside of a Jupyter server."""
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return an environment of Python without any extension."""
    prefix = tmp_path / "elsewhere"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(sys.executable)
    return prefix


@pytest.fixture
def server(environment: Path, tmp_path: Path) -> Iterator[int]:
    """Return a process that looks like a Jupyter server of that environment."""
    command = [str(environment / "bin" / "python"), "-c", "input()", "jupyter-lab"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        line = Path(f"/proc/{process.pid}/cmdline")
        eventually(lambda: b"jupyter-lab" in line.read_bytes())
        (tmp_path / "runtime" / f"jpserver-{process.pid}.json").touch()
        yield process.pid
        process.communicate(b"\n")


def install(prefix: Path, folder: str, number: str) -> None:
    path = prefix / "share" / "jupyter" / "labextensions" / folder
    path.mkdir(parents=True)
    (path / "package.json").write_text(json.dumps({"version": number}))


def found(grade: Grade) -> list[Finding]:
    return [finding for finding in widget_halves() if finding.grade is grade]


def test_a_server_without_the_front_ends_is_told_with_its_own_pip(
    server: int, environment: Path
) -> None:
    missing = found(Grade.WARN)

    assert [f.text.split(" is missing")[0] for f in missing] == [
        "the front end of ipywidgets",
        "the front end of anywidget",
    ]
    for finding in missing:
        assert f"server {server} ({environment})" in finding.text
        assert finding.remedy.startswith(f"'{environment}/bin/python' -m pip install -U")


def test_front_ends_that_fit_are_all_right(server: int, environment: Path) -> None:
    install(environment, MANAGER, "5.0.1")
    install(environment, "anywidget", version("anywidget"))

    assert found(Grade.WARN) == []
    assert len(found(Grade.OK)) == 2


def test_front_ends_that_do_not_fit_the_kernels_half_are_told(
    server: int, environment: Path
) -> None:
    install(environment, MANAGER, "3.1.0")
    install(environment, "anywidget", "0.1.2")

    assert [" is 3.1.0 in " in f.text or " is 0.1.2 in " in f.text for f in found(Grade.WARN)] == [
        True,
        True,
    ]


def test_the_server_of_this_kernel_comes_first(
    server: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runtime" / f"jpserver-{server}.json").unlink()
    assert running_servers() == []
    monkeypatch.setenv("JPY_PARENT_PID", str(server))

    assert [known.pid for known in running_servers()] == [server]


def test_what_a_server_left_behind_is_no_server(tmp_path: Path) -> None:
    for pid in (2**22 + 1, os.getpid()):
        (tmp_path / "runtime" / f"jpserver-{pid}.json").touch()
    (tmp_path / "runtime" / "jpserver-x.json").touch()

    assert running_servers() == []


def test_the_users_own_folder_counts_before_the_environments(
    environment: Path, tmp_path: Path
) -> None:
    install(environment, "anywidget", "1")
    folder = tmp_path / "data" / "labextensions" / "anywidget"
    folder.mkdir(parents=True)

    assert front_end_version("anywidget", data_paths(environment)) == "1"
    (folder / "package.json").write_text("no JSON")
    assert front_end_version("anywidget", data_paths(environment)) == "1"
    (folder / "package.json").write_text('{"version": "2"}')
    assert front_end_version("anywidget", data_paths(environment)) == "2"


def test_the_versions_of_what_a_notebook_needs_are_told() -> None:
    (told,) = notebook_packages()

    assert told.grade is Grade.OK
    for package in ("ipykernel", "ipywidgets", "anywidget"):
        assert f"{package} {version(package)}" in told.text
