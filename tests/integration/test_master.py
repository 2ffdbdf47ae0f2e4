"""What a master keeps, tells in pages, and does about peers and files that are gone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import nbcluster
from nbcluster import Cluster
from nbcluster.errors import ClusterConnectionError, ClusterTimeoutError, InitializerError
from nbcluster.master.keeper import AT_ONCE
from nbcluster.master.sessions import MALFORMED_LIMIT
from nbcluster.transport.connection import read_connection
from nbcluster.transport.rundir import cluster_dir
from nbcluster.transport.sockets import Dealer
from nbcluster.wire import codec
from nbcluster.wire import messages as m
from tests.conftest import Up
from tests.helpers import eventually
from tests.integration import calls
from tests.integration.test_faults import kill, kill_master

END_S: Final = 20.0
NOTICED_S: Final = 15.0  #: engines beat every 3 s


# --------------------------------------------------------------------------- what is kept


def test_engines_of_a_group_that_was_scaled_are_started_again_by_the_next_master(
    up: Up, tmp_path: Path
) -> None:
    first = up(1, journal=tmp_path / "journal.db")
    first.scale(2, group="gpu")
    first.drain(first.engines().query("group == 'gpu'").index[0])  # one less is wanted
    gpu = first.engines().query("group == 'gpu'")
    kill_master(first)
    kill(int(gpu.pid.iloc[0]))

    again = up(1, name=first.name, journal=tmp_path / "journal.db")

    assert again.wait_for_engines(1, END_S, group="gpu") == 1
    assert again.engines().group.tolist().count("gpu") == 1
    assert again.options(group="gpu").submit(len, "ab").result(END_S) == 2


def test_more_engines_than_are_started_in_one_go_come_one_turn_after_the_other(up: Up) -> None:
    cluster = up(0)

    cluster.scale(AT_ONCE + 1)

    assert cluster.stats()["engines"] == AT_ONCE + 1


def test_a_drain_that_takes_too_long_says_what_still_runs_and_goes_on(up: Up, gate: Path) -> None:
    cluster = up(1)
    future = cluster.submit(calls.wait_for, str(gate))
    eventually(future.running)
    (engine,) = cluster.engines().index

    with pytest.raises(ClusterTimeoutError, match=rf"{engine} has not left after 0.3 s: .*: 1\."):
        cluster.drain(engine, timeout=0.3)

    assert cluster.engines().state.tolist() == ["draining"]
    gate.touch()
    future.result(END_S)
    eventually(lambda: len(cluster.engines()) == 0)


def test_an_engine_in_the_place_of_another_has_the_slots_that_were_set(up: Up) -> None:
    cluster = up(1)
    (dead,) = cluster.engines().index
    cluster.set_slots(2)

    kill(int(cluster.engines().pid.iloc[0]))

    eventually(lambda: cluster.engines().index.tolist() not in ([], [dead]))
    assert cluster.engines().slots.tolist() == [2]


def test_results_that_are_kept_may_be_bounded_in_bytes(up: Up) -> None:
    cluster = up(1, retention_bytes=400_000)

    futures = [cluster.submit(bytes, 100_000) for _ in range(10)]

    assert [len(future.result(END_S)) for future in futures] == [100_000] * 10
    kept = list(cluster.tasks().index)
    assert kept == [future.id for future in futures[-len(kept) :]]
    assert 1 <= len(kept) <= 4


def test_an_initializer_that_was_mended_takes_the_place_of_the_broken_one(tmp_path: Path) -> None:
    name, journal = f"mended-{os.getpid()}", tmp_path / "journal.db"
    with pytest.raises(InitializerError, match="ZeroDivisionError") as caught:
        nbcluster.start(1, name=name, journal=journal, initializer=calls.divide, initargs=(1, 0))
    assert "in divide" in str(caught.value)

    with nbcluster.start(
        1, name=name, journal=journal, initializer=calls.divide, initargs=(1, 1)
    ) as cluster:
        assert cluster.submit(len, "ab").result(END_S) == 2


def test_an_attempt_that_a_restart_of_executors_cut_short_is_listed_and_not_charged(
    one: Cluster, gate: Path, tmp_path: Path
) -> None:
    future = one.options(retries=0, max_crashes=1).submit(calls.wait_for, str(gate), 7)
    eventually(future.running)

    one.restart()
    gate.touch()

    assert future.result(END_S) == 7
    assert one.attempts(future).outcome.tolist() == ["given_back", "succeeded"]
    assert one.attempts(future).attempt.tolist() == [1, 2]
    assert (future.attempts, future.retries, future.crashes) == (2, 0, 0)


# --------------------------------------------------------------------------- pages


def test_tables_of_many_pages_have_each_task_once(one: Cluster) -> None:
    futures = [one.submit(len, "ab") for _ in range(5_300)]
    assert [future.result(END_S) for future in futures] == [2] * 5_300
    mine = [future.id for future in futures]

    tasks, attempts, events = one.tasks(), one.attempts(), one.events()

    assert tasks.index.is_unique
    assert [name for name in tasks.index if name in set(mine)] == mine
    assert attempts[attempts.task.isin(mine)].task.tolist() == mine
    assert len(one.tasks(limit=5_100)) == 5_100
    last = events[events.task == mine[-1]]
    assert last.kind.tolist() == ["accepted", "scheduled", "started", "succeeded"]
    assert last.attempt.tolist() == [0, 0, 1, 1]
    assert events.offset.is_monotonic_increasing


def test_a_page_goes_on_where_the_last_one_ended_whatever_went_meanwhile(one: Cluster) -> None:
    for _ in range(6):
        one.submit(len, "ab").result(END_S)
    ask = one._client.ask
    first = ask("tasks", limit=3)

    name, place = first["after"]
    second = ask("tasks", limit=3, after=(name, 0))
    if_forgotten = ask("tasks", limit=3, after=("nobody", place))

    both = first["columns"]["id"] + second["columns"]["id"]
    assert both == one.tasks(limit=6).index.tolist()
    assert if_forgotten["columns"]["id"] == second["columns"]["id"]


# --------------------------------------------------------------------------- peers


class Peer:
    """A client that says what it likes, of a process of its own."""

    def __init__(self, cluster: Cluster) -> None:
        where = read_connection(cluster_dir(cluster.name).connection_file)
        self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self._dealer = Dealer(where.address)
        pid, host = self.process.pid, socket.gethostname()
        self.say(m.ClientHello(where.key, "peer", "", m.PROTOCOL, where.python, pid, host))
        assert isinstance(self.hear(), m.Welcome)

    def say(self, message: Any) -> None:
        self._dealer.send(message if isinstance(message, bytes) else codec.encode(message))

    def hear(self) -> Any:
        return codec.to_client(eventually(self._dealer.receive) or b"")

    def is_silent(self) -> bool:
        return self._dealer.receive() is None

    def close(self) -> None:
        self._dealer.close()
        self.process.communicate()


@pytest.fixture
def peer(one: Cluster) -> Iterator[Peer]:
    """Return a client that has been taken in."""
    made = Peer(one)
    yield made
    made.close()


def test_a_client_that_sends_garbage_is_told_that_it_is_refused_and_not_listened_to(
    one: Cluster, peer: Peer
) -> None:
    before = one.stats()["malformed_messages"]
    for _ in range(MALFORMED_LIMIT - 1):
        peer.say(b"garbage")
    peer.say(m.Ask(1, "stats", {}))
    assert isinstance(peer.hear(), m.Reply)

    peer.say(b"garbage")
    answer = peer.hear()
    for _ in range(5):
        peer.say(m.Ask(2, "stop", {"mode": "now"}))
        peer.say(b"garbage")

    assert isinstance(answer, m.Refusal)
    assert "malformed" in answer.reason
    assert one.submit(len, "ab").result(END_S) == 2  # after all that was read
    assert peer.is_silent()
    assert one.stats()["malformed_messages"] == before + MALFORMED_LIMIT


def test_a_client_that_was_killed_is_not_kept(one: Cluster) -> None:
    eventually(lambda: one.stats()["clients"] == 1)  # those of other tests are gone
    code = f"import nbcluster; c = nbcluster.connect({one.name!r}); print(c.name); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert one.stats()["clients"] == 2

    process.kill()
    process.communicate()

    eventually(lambda: one.stats()["clients"] == 1)


def test_a_client_that_only_seems_to_have_ended_is_asked_to_greet_again(
    one: Cluster, peer: Peer
) -> None:
    peer.process.kill()

    assert isinstance(peer.hear(), m.GreetAgain)


# --------------------------------------------------------------------------- files


@pytest.mark.parametrize("what", ["directory", "journal"])
def test_a_cluster_whose_files_are_removed_ends_and_says_so(
    up: Up, gate: Path, tmp_path: Path, what: str
) -> None:
    cluster = up(1, journal=tmp_path / "journal.db")
    future = cluster.submit(calls.wait_for, str(gate))
    eventually(future.running)
    master = int(cluster.stats()["master_pid"])

    if what == "directory":
        shutil.rmtree(cluster_dir(cluster.name).path)
    else:
        (tmp_path / "journal.db").unlink()  # what is written into it from now on is lost

    with pytest.raises(ClusterConnectionError, match=f"its {what} .* was removed"):
        future.result(NOTICED_S)
    eventually(lambda: os.waitpid(master, os.WNOHANG)[0] == master)


def test_who_submits_to_a_cluster_without_a_directory_does_not_wait_in_silence(up: Up) -> None:
    cluster = up(1)
    master = int(cluster.stats()["master_pid"])
    shutil.rmtree(cluster_dir(cluster.name).path)

    began = time.monotonic()
    futures = [cluster.submit(bytes, 100_000) for _ in range(3)]

    errors = [str(future.exception(NOTICED_S)) for future in futures]

    assert "was removed" in errors[-1]
    assert time.monotonic() - began < NOTICED_S
    eventually(lambda: os.waitpid(master, os.WNOHANG)[0] == master)
