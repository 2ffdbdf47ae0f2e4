"""What mybinder.org is given works there, as far as that can be known without Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT: Final = Path(__file__).parents[2]
BINDER: Final = ROOT / "binder"
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def lines() -> list[str]:
    return (BINDER / "requirements.txt").read_text("utf-8").splitlines()


def requirements() -> list[str]:
    return [line for line in lines() if line and not line.startswith("#")]


def test_nothing_else_has_to_run_there() -> None:
    assert {path.name for path in BINDER.iterdir()} == {"requirements.txt", "runtime.txt"}


def test_the_package_is_a_local_path_with_extras_that_exist() -> None:
    (local,) = [line for line in requirements() if line.startswith(".")]

    found = re.fullmatch(r"\./\[([a-z,]+)\]", local)
    assert found is not None
    assert {*found[1].split(",")} <= {*PROJECT["optional-dependencies"]}


def test_the_first_line_is_a_comment_and_it_is_not_the_only_one() -> None:
    assert lines()[0].startswith("#")
    assert len(requirements()) > 1


def test_jupyterlab_is_not_newer_than_what_binder_serves() -> None:
    (lab,) = [Requirement(line) for line in requirements() if line.startswith("jupyterlab")]

    assert lab.specifier.contains("4.4.9")
    assert not lab.specifier.contains("4.5.0")
    ours = next(Requirement(r) for r in PROJECT["optional-dependencies"]["lab"])
    assert ours.specifier.contains("4.4.9")


def test_the_python_is_one_that_the_package_takes() -> None:
    runtime = (BINDER / "runtime.txt").read_text("utf-8").strip()

    found = re.fullmatch(r"python-(\d+\.\d+)", runtime)
    assert found is not None
    assert SpecifierSet(PROJECT["requires-python"]).contains(found[1])


def test_the_image_copies_the_source_before_it_installs_it() -> None:
    # The environment of the tests need not be on the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = shutil.which("jupyter-repo2docker", path=path)
    if command is None:
        pytest.skip("jupyter-repo2docker is not installed")

    done = subprocess.run(
        [command, "--no-build", "--debug", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    dockerfile = done.stdout + done.stderr
    assert done.returncode == 0, dockerfile
    source = dockerfile.index("src/ ${REPO_DIR}/\n")
    install = dockerfile.index('pip install --no-cache-dir -r "binder/requirements.txt"')
    assert source < install
