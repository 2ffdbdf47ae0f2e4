"""Futures and clusters in a real kernel: live while they change, static when they are done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import eventually, note_clusters
from tests.notebooks.kernels import Kernel, kernel

START = """
import os, time, threading, nbcluster
cluster = nbcluster.start(engines=1, name=f"faces-{os.getpid()}")
def wait_for(path):
    while not os.path.exists(path): time.sleep(0.01)
"""
INSTALL = "from nbcluster.notebook import faces; faces.install(get_ipython())"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """Return a kernel with a cluster of one engine."""
    with kernel(tmp_path_factory.mktemp("faces")) as ipython:
        ipython.run(START)
        note_clusters()
        yield ipython
        ipython.run("cluster.shutdown(cancel_futures=True)")


@pytest.fixture
def ipython(shared: Kernel) -> Iterator[Kernel]:
    """Return a kernel in which futures are live."""
    shared.run(INSTALL)
    yield shared
    shared.run("faces.uninstall()")


def text(shown: dict[str, Any]) -> str:
    words: str = shown["data"]["text/plain"]
    return words


def display_id(shown: dict[str, Any]) -> str:
    name: str = shown["transient"]["display_id"]
    return name


def last(ipython: Kernel, until: str) -> dict[str, Any]:
    """Return the first update that says so; it comes while no cell runs."""
    while True:  # next_update fails when no more come
        found = ipython.next_update()
        if until in text(found):
            return found


def test_without_the_extension_a_future_and_a_cluster_are_static_html(shared: Kernel) -> None:
    (future,) = shared.displays("f = cluster.submit(len, 'ab'); f.result(); f")
    (cluster,) = shared.displays("cluster")

    assert text(future).startswith("<Future len: succeeded")
    assert "nbcluster-future" in future["data"]["text/html"]
    assert text(cluster).startswith("<Cluster 'faces-")
    assert "nbcluster-cluster" in cluster["data"]["text/html"]
    assert not {"display_id"} & {*future.get("transient", {}), *cluster.get("transient", {})}


def test_a_future_changes_where_it_was_shown_while_no_cell_runs(
    ipython: Kernel, gate: Path
) -> None:
    cell = f"f = cluster.options(retries=3).submit(wait_for, {str(gate)!r}); f"
    (first,) = ipython.displays(cell)

    running = last(ipython, "running")
    gate.touch()
    done = last(ipython, "succeeded")

    assert display_id(first) == display_id(running) == display_id(done)
    assert text(running).endswith("attempt 1 of 4>")
    assert 'data-state="succeeded"' in done["data"]["text/html"]


def test_a_future_that_ends_in_a_later_cell_is_done_before_that_cell_is(ipython: Kernel) -> None:
    (first,) = ipython.displays("f = cluster.submit(time.sleep, 0.5); f")

    later = ipython.displays("f.result()")

    assert not first["update"]
    assert all(shown["update"] for shown in later)
    assert "succeeded" in text(later[-1])
    assert display_id(later[-1]) == display_id(first)


def test_updates_come_at_most_five_times_a_second(ipython: Kernel) -> None:
    shown = ipython.displays(
        "def tell():\n"
        "    end = time.monotonic() + 1.5\n"
        "    while time.monotonic() < end:\n"
        "        nbcluster.current_task().progress(end - time.monotonic(), 2); print('x')\n"
        "f = cluster.submit(tell); display(f); f.result()"
    )

    assert 3 <= len(shown) <= 1.5 * 5 + 4


def test_a_done_future_is_static_and_its_thread_ends(ipython: Kernel) -> None:
    ipython.run("f = cluster.submit(len, 'ab'); f.result()")

    (shown,) = ipython.displays("f")

    assert "succeeded" in text(shown)
    names = "[t.name for t in threading.enumerate()]"
    eventually(lambda: "nbcluster-displays" not in ipython.value(names))


def test_each_display_of_a_future_is_kept_up_to_date(ipython: Kernel, gate: Path) -> None:
    shown = ipython.displays(
        f"f = cluster.submit(wait_for, {str(gate)!r}); display(f); display(f)\n"
        f"open({str(gate)!r}, 'w').close(); f.result()"
    )

    ends = {display_id(s) for s in shown if "succeeded" in text(s)}
    assert ends == {display_id(s) for s in shown if not s["update"]}
    assert len(ends) == 2


def test_after_the_extension_was_unloaded_futures_are_static(ipython: Kernel, gate: Path) -> None:
    ipython.run("faces.uninstall()")

    (shown,) = ipython.displays(f"f = cluster.submit(wait_for, {str(gate)!r}); f")

    assert "display_id" not in shown.get("transient", {})
    ipython.run(f"open({str(gate)!r}, 'w').close(); f.result()")


def test_an_extension_that_is_loaded_twice_shows_a_future_once(ipython: Kernel) -> None:
    ipython.run(INSTALL)

    assert len(ipython.displays("f = cluster.submit(len, 'ab'); f.exception(); f")) == 1
