"""``nbcluster.progress`` in a kernel, on a terminal, and in a script whose output is a file."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import note_clusters
from tests.notebooks.kernels import ROOT, Kernel, kernel

WORK = """
import os, sys, time, nbcluster
def work(i):
    for step in range(4):
        nbcluster.current_task().progress(step, 4, f"step {step}")
        time.sleep(0.1)
    return 1 // (i != 2)
"""
SCRIPT = (
    WORK
    + """
if __name__ == "__main__":
    with nbcluster.start(engines=2, name=f"bar-{os.getpid()}") as cluster:
        futures = [cluster.submit(work, i) for i in range(4)]
        nbcluster.progress(futures, wait=True)
        print("after", file=sys.stderr)
        assert all(f.done() for f in futures)
        assert "IPython" not in sys.modules
"""
)


@pytest.fixture(scope="module")
def ipython(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """Return a kernel with a cluster of two engines."""
    with kernel(tmp_path_factory.mktemp("progress")) as ipython:
        ipython.run(WORK + 'cluster = nbcluster.start(engines=2, name=f"bar-{os.getpid()}")')
        note_clusters()
        yield ipython
        ipython.run("cluster.shutdown(cancel_futures=True)")


def check_one_display(shown: list[dict[str, Any]]) -> list[str]:
    """Return the texts of what is shown once and then updated."""
    assert [s["update"] for s in shown] == [False] + [True] * (len(shown) - 1)
    assert len({s["transient"]["display_id"] for s in shown}) == 1
    return [s["data"]["text/plain"] for s in shown]


def test_a_bar_moves_while_the_cell_waits_and_shows_parts(ipython: Kernel) -> None:
    shown = ipython.displays(
        "futures = [cluster.submit(work, i) for i in range(4)]\n"
        "nbcluster.progress(futures); [f.exception() for f in futures]; None"
    )

    texts = check_one_display(shown)
    assert texts[0].startswith("0 of 4 items")
    assert re.match(r"4 items in .* s, 1 failed", texts[-1])
    assert any("step" in s["data"]["text/html"] for s in shown)
    assert 'data-done="4" data-failed="1" data-total="4"' in shown[-1]["data"]["text/html"]
    assert 'data-over="true"' in shown[-1]["data"]["text/html"]


def test_it_returns_at_once_and_goes_on_while_no_cell_runs(ipython: Kernel, gate: Path) -> None:
    ipython.run(
        "def wait_for(path):\n    while not os.path.exists(path): time.sleep(0.01)\n"
        f"f = cluster.submit(wait_for, {str(gate)!r})"
    )

    check_one_display(ipython.displays("nbcluster.progress(f)")[:1])

    gate.touch()
    text = ""
    while not text.startswith("1 item in"):
        text = ipython.next_update()["data"]["text/plain"]


def test_with_wait_it_returns_when_all_are_done(ipython: Kernel) -> None:
    ipython.displays("f = cluster.submit(time.sleep, 0.3); nbcluster.progress([f], wait=True)")

    assert ipython.value("f.done()")


def test_a_map_is_counted_in_items(ipython: Kernel) -> None:
    shown = ipython.displays(
        "values = cluster.map(lambda x: time.sleep(0.01), range(100))\n"
        "nbcluster.progress(values); _ = list(values)"
    )

    assert check_one_display(shown)[-1].startswith("100 items in")


def program(tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return [sys.executable, str(path)], os.environ | {"PYTHONPATH": str(ROOT)}


def test_in_a_script_it_is_one_line_at_the_end_on_stderr(tmp_path: Path) -> None:
    command, environment = program(tmp_path)

    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == ""
    assert re.fullmatch(r"4 items in [\d.]+ s, 1 failed, [\d.]+/s\nafter\n", done.stderr)


def test_a_script_that_ends_before_its_tasks_says_how_far_they_were_and_a_fork_says_nothing() -> (
    None
):
    code = (
        "import os, sys, nbcluster\n"
        "future = nbcluster.Future(None, 't', 'never')\n"
        "nbcluster.progress(future)\n"
        "pid = os.fork()\n"
        "if pid: assert os.waitpid(pid, 0)[1] == 0"
    )

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert re.fullmatch(r"0 of 1 items in [\d.]+ s\n", done.stderr)


def test_on_a_terminal_it_is_a_line_that_is_written_anew(tmp_path: Path) -> None:
    command, environment = program(tmp_path)
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(command, env=environment, stderr=theirs) as process:
            os.close(theirs)
            written = b"".join(iter(lambda: _read(ours), b"")).decode()
    finally:
        os.close(ours)

    assert process.returncode == 0
    bar, _, rest = written.partition("\r\n")
    assert rest == "after\r\n"
    lines = bar.split("\r")
    assert len(lines) > 3
    assert lines[1].startswith("[....................]   0% 0 of 4 items")
    assert any(re.search(r"\| work \d+% step \d", line) for line in lines)
    assert re.match(r"\[#{20}\] 100% 4 items in [\d.]+ s, 1 failed", lines[-1])


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the last one who writes has gone
        return b""
