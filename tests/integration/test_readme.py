"""The examples of README.md run as they stand there."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import nbcluster
from tests.helpers import eventually, note_clusters
from tests.integration import calls

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text("utf-8")
DEADLINE_S: Final = 60


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def shell_lines() -> list[str]:
    """Return the commands of the part on the shell, one for each command."""
    block = re.search(r"^### From a shell\n+```\n(.*?)^```", README, re.M | re.S)
    assert block is not None
    lines = [line.partition("#")[0] for line in block[1].splitlines()]
    return [command.strip() for line in lines for command in line.split(";") if command.strip()]


@pytest.fixture
def ended(home: Path) -> Iterator[dict[str, Any]]:
    """Return a namespace for the examples; the cluster that they start is stopped."""
    names: dict[str, Any] = {"os": os}
    yield names
    names["cluster"].shutdown(wait=True, cancel_futures=True)


def run(block: str, names: dict[str, Any]) -> None:
    """Run a block statement by statement, as a notebook does: ``await`` may stand anywhere."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    async def all_of_it() -> None:
        for statement in ast.parse(block).body:
            module = ast.Module([statement], [])
            made = eval(compile(module, "README.md", "exec", flags), names)
            if inspect.isawaitable(made):
                await made
            if "slow.submit" in ast.unparse(statement):
                eventually(lambda: names["f"].state == "running", 20)

    asyncio.run(all_of_it())


def test_the_examples_in_python_run(ended: dict[str, Any]) -> None:
    first, what_one_does, pool = blocks("python")

    run(first, ended)
    note_clusters()
    cluster = ended["cluster"]
    assert ended["f"].result() == 1024

    failed = cluster.submit(calls.divide, 1, 0)
    ended |= {"train": time.sleep, "params": 60.0, "score": abs, "candidates": range(-50, 50)}
    ended |= {"futures": [failed], "work": os.getpid, "model": [1.0]}
    drained = cluster.engines().index[0]
    run(what_one_does.replace("e7k2m9", drained), ended)
    assert drained not in cluster.engines().index
    assert cluster.pull("model") == {name: [1.0] for name in cluster.engines().index}
    with pytest.raises(nbcluster.PermanentFailure):
        cluster.submit(ended["work"], 3).result(DEADLINE_S)

    run(pool, ended)


def test_the_commands_run(home: Path) -> None:
    lines = shell_lines()
    assert any("engine --join" in line for line in lines)
    for line in lines:
        words = line.split()
        assert words.pop(0) == "nbcluster"
        with subprocess.Popen(
            [sys.executable, "-m", "nbcluster", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            note_clusters()
            if words[0] == "engine":  # it stays until somebody tells it to leave
                eventually(lambda: len(nbcluster.connect().engines()) == 5, DEADLINE_S)
                process.terminate()
            out, err = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, "Traceback" in err) == (0, False), (line, out, err)
        if words[0] == "submit":
            assert out == "2432902008176640000\n"
    assert not (home / "default").exists()
