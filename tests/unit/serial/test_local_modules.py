"""Local modules: edited ones are noticed, installed ones are left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcluster.serial.origin import is_importable, local_file
from tests.unit.serial.notebook import Notebook


@pytest.fixture
def at(tmp_path: Path) -> Iterator[tuple[Path, Notebook]]:
    (tmp_path / "helpers.py").write_text("STEP = 1\n")
    (tmp_path / "tools.py").write_text("import helpers\ndef work(x): return x + helpers.STEP\n")
    with Notebook(cwd=str(tmp_path)) as notebook:
        notebook.run("import tools\nfrom tools import work\ndef mine(x): return tools.work(x)")
        yield tmp_path, notebook


def edit(path: Path, text: str) -> None:
    """Write with the time of the old file but for one nanosecond, as a quick edit would."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def test_an_edited_module_is_loaded_anew(at: tuple[Path, Notebook]) -> None:
    path, notebook = at
    assert notebook.eval("(submit(work, 1), submit(mine, 1))") == (2, 2)

    edit(path / "tools.py", "import helpers\ndef work(x): return x - helpers.STEP\n")

    assert notebook.eval("(submit(work, 1), submit(mine, 1))") == (0, 0)


def test_an_edited_module_below_the_one_that_is_used_is_loaded_anew(
    at: tuple[Path, Notebook],
) -> None:
    path, notebook = at
    assert notebook.eval("submit(mine, 1)") == 2

    edit(path / "helpers.py", "STEP = 5\n")

    assert notebook.eval("submit(mine, 1)") == 6


def test_a_module_that_was_not_edited_keeps_its_state(at: tuple[Path, Notebook]) -> None:
    _, notebook = at
    notebook.run(
        "def count():\n"
        "    tools.calls = getattr(tools, 'calls', 0) + 1\n"
        "    return tools.calls\n"
        "def other(): return tools.calls"
    )

    assert notebook.eval("(submit(count), submit(count), submit(other))") == (1, 2, 2)


def test_a_definition_is_kept_while_its_modules_are_unchanged(at: tuple[Path, Notebook]) -> None:
    path, notebook = at
    notebook.run("first = [packer.define(f) for f in (work, mine)]")
    assert notebook.eval("[packer.define(f) is d for f, d in zip((work, mine), first)]") == [
        True,
        True,
    ]

    edit(path / "helpers.py", "STEP = 7\n")

    assert notebook.eval(
        "[packer.define(f).hash == d.hash for f, d in zip((work, mine), first)]"
    ) == [
        False,
        False,
    ]


def test_only_what_the_user_may_edit_is_local() -> None:
    import numpy  # noqa: F401 - must be loaded to be asked about

    assert local_file(__name__) == os.path.realpath(__file__)
    assert [local_file(name) for name in ("json", "numpy", "sys", "nbcluster.errors", "none")] == [
        None,
        None,
        None,
        None,
        None,
    ]


def test_what_a_fresh_process_can_import_is_importable() -> None:
    assert [is_importable(n) for n in ("json", "sys", "collections.abc", "nbcluster")] == [True] * 4
    assert [is_importable(n) for n in ("__main__", "__mp_main__", "none", None)] == [False] * 4
