"""An executor as its supervisor holds it: when it is killed, and when it is let be."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcluster.engine.children import Child
from nbcluster.transport.page import CURRENT, STOP, Page


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that waits, and leads a session as executors do."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture
def child(process: subprocess.Popen[bytes], tmp_path: Path) -> Iterator[Child]:
    """Return a child of that process with a page, and without descriptors."""
    path = tmp_path / "e_0.1.page"
    page = Page(path, create=True)
    yield Child("e/0.1", 0, process.pid, -1, page, path, (), -1, -1)  # type: ignore[arg-type]
    page.close()


def test_who_closed_its_descriptors_may_end_what_it_runs_and_then_has_three_seconds(
    process: subprocess.Popen[bytes], child: Child
) -> None:
    child.page.words[CURRENT] = 7
    child.leave_by_itself(100.0)

    child.enforce(200.0)
    child.page.words[CURRENT] = 0
    child.enforce(202.9)
    assert (child.page.words[STOP], child.killed, process.poll()) == (1, False, None)

    child.enforce(203.1)
    assert process.wait(10) == -signal.SIGKILL
    assert not child.is_ordered  # so what it did not send can be charged
