"""What tasks show beside what they print arrives while they run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from nbcluster import Cluster
from nbcluster.client.feed import Feed
from nbcluster.displays import show
from nbcluster.engine.executor.showing import LIMIT_BYTES
from tests.conftest import Up
from tests.helpers import eventually
from tests.integration import calls
from tests.integration.test_faults import kill_master

END_S: Final = 20.0


def show_and_wait(gate: str) -> bool:
    """Print, show a figure of a few bytes, print again, and wait."""
    sys.stdout.write("before\n")
    was_sent = show({"text/plain": "figure", "image/png": b"\x89PNG"}, display_id="f")
    sys.stdout.write("after\n")
    calls.wait_for(gate)
    return was_sent


def show_much(size: int, times: int) -> list[bool]:
    """Show as many bytes so many times."""
    return [show({"application/octet-stream": bytes(size)}) for _ in range(times)]


def show_in_a_thread() -> bool:
    """Show from another thread."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(show, {"text/plain": "beside"}).result()


def test_it_comes_while_the_task_runs_with_its_place_in_what_is_printed(
    cluster: Cluster, gate: Path
) -> None:
    future = cluster.submit(show_and_wait, str(gate))

    eventually(lambda: cluster.stats() and future._shown)
    (shown,) = future._shown
    assert not future.done()
    assert shown.data == {"text/plain": "figure", "image/png": b"\x89PNG"}
    assert (shown.at, shown.display_id) == (len("before\n"), "f")
    gate.touch()
    assert future.result(END_S) is True
    assert future._shown == [shown]


def test_an_attempt_may_show_so_much_and_no_more(cluster: Cluster) -> None:
    future = cluster.submit(show_much, LIMIT_BYTES // 2 - 1000, 3)
    again = cluster.submit(show_much, 10, 1)

    assert future.result(END_S) == [True, True, False]
    assert again.result(END_S) == [True]
    assert len(future._shown) == 2


def test_threads_of_a_task_may_show(cluster: Cluster) -> None:
    future = cluster.submit(show_in_a_thread)

    assert future.result(END_S)
    assert [shown.data["text/plain"] for shown in future._shown] == ["beside"]


def test_outside_of_a_task_nothing_is_shown() -> None:
    assert show({"text/plain": "nobody"}) is False


def test_who_watches_is_told_until_he_ends_it(cluster: Cluster, gate: Path) -> None:
    states: list[str] = []
    unheard: list[str] = []
    future = cluster.submit(calls.wait_for, str(gate), 7)
    future._watch(lambda told: states.append(told.state))
    end = future._watch(lambda told: unheard.append(told.state))
    end()
    gate.touch()

    assert future.result(END_S) == 7
    assert states[-1] == "succeeded"
    assert unheard == []


def test_a_feed_begins_anew_with_the_next_master(up: Up) -> None:
    cluster = up(1)
    feed = Feed(cluster._client)
    task = cluster.submit(len, "ab")
    task.result(END_S)
    assert feed.read(END_S).ids == [task.id]
    assert feed.read(END_S).reset is False
    kill_master(cluster)
    again = up(1, name=cluster.name)

    told = Feed(again._client).read(END_S)
    eventually(lambda: not cluster._client.link.is_lost)
    same = feed.read(END_S)

    assert (told.ids, same.ids, same.reset) == ([task.id], [task.id], True)
