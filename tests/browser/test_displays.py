"""Futures and progress bars in a real page: they change where they are, whatever runs meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.browser.conftest import Open
    from tests.browser.lab import Lab

START = """
import os, time, nbcluster
from nbcluster.notebook import faces
faces.install(get_ipython())
cluster = nbcluster.start(engines=1, name=f"f{os.getpid()}")

def wait_for(gate):
    nbcluster.current_task().progress(1, 4, "waiting")
    while not os.path.exists(gate):
        time.sleep(0.01)
"""
SHOW = """
futures = [cluster.options(retries=2).submit(wait_for, {gate!r}), cluster.submit(divmod, 1, 0)]
nbcluster.progress(futures)
display(cluster, *futures)
"""


@pytest.mark.parametrize("kind", ["lab", "notebook"])
def test_they_change_while_no_cell_runs(
    open_notebook: Open, lab: Lab, screenshots: Path, kind: str
) -> None:
    gate = lab.folder / f"gate-{kind}"
    notebook = open_notebook([START, SHOW.format(gate=str(gate))], kind)
    page = notebook.page

    notebook.run_all()

    page.wait_for_selector(".nbcluster-future[data-state=running] [aria-valuenow='25.0']")
    page.wait_for_selector(".nbcluster-progress[data-over=false] .nbcluster-part")
    notebook.await_kernel()
    assert not notebook.is_busy
    (screenshots / f"displays-{kind}-running.png").write_bytes(page.screenshot())
    gate.touch()
    page.wait_for_selector(".nbcluster-future[data-state=succeeded]")
    page.wait_for_selector(".nbcluster-future[data-state=failed]")
    page.wait_for_selector(".nbcluster-progress[data-over=true][data-done='2'][data-failed='1']")
    assert page.locator(".nbcluster-future").count() == 2
    assert page.locator(".nbcluster-progress").count() == 1
    (screenshots / f"displays-{kind}-done.png").write_bytes(page.screenshot())


def test_a_future_of_an_earlier_cell_changes_while_a_later_cell_blocks(
    open_notebook: Open, lab: Lab
) -> None:
    gate = lab.folder / "gate-later"
    block = "while not os.path.exists('never'):\n    time.sleep(0.01)"
    notebook = open_notebook([START, SHOW.format(gate=str(gate)), block])
    notebook.run_all()
    notebook.page.wait_for_selector(".nbcluster-future[data-state=running]")

    gate.touch()

    notebook.page.wait_for_selector(".nbcluster-future[data-state=succeeded]")
    notebook.page.wait_for_selector(".nbcluster-progress[data-over=true]")
    assert notebook.is_busy
