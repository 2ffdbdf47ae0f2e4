"""What an orderly stop keeps, what it costs, and how it is found again."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import psutil
import pytest

import nbcluster
from nbcluster import Cluster
from nbcluster.cli import main
from nbcluster.cluster.owning import take_in_dead
from nbcluster.core.machine import Machine
from nbcluster.errors import (
    ClosedError,
    ClusterConnectionError,
    MasterLostError,
    TaskKeptError,
    TaskLostError,
)
from nbcluster.journal import Journal
from nbcluster.master.rebuild import Replay
from nbcluster.transport.rundir import cluster_dir
from nbcluster.wire import messages as m
from tests.conftest import Up
from tests.helpers import eventually, has_ended
from tests.integration import calls
from tests.integration.small_disk import run_on_a_small_disk
from tests.integration.test_failed_starts import interrupt_when
from tests.integration.test_faults import kill_master

END_S: Final = 20.0


def mark_and_wait(begun: str, gate: str) -> None:
    Path(begun).touch()
    calls.wait_for(gate)


def is_running(cluster: Cluster) -> bool:
    return bool(cluster.stats()["running"] == 1)


def stop_and_keep(cluster: Cluster) -> None:
    """Stop a cluster, and see its master end."""
    master = psutil.Process(int(cluster.stats()["master_pid"]))
    cluster.stop(keep=True)
    master.wait(END_S)


# --------------------------------------------------------------------------- interrupted


def is_in(*functions: str) -> bool:
    """Return whether the main thread is in a function of one of these names."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    names = set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return names.issuperset(functions)


@pytest.mark.parametrize("is_told_before", [False, True])
def test_a_shutdown_that_is_interrupted_stops_the_cluster_at_once(
    up: Up, gate: Path, caplog: pytest.LogCaptureFixture, is_told_before: bool
) -> None:
    cluster = up(1)
    futures = [cluster.submit(calls.wait_for, str(gate)) for _ in range(2)]
    master = psutil.Process(int(cluster.stats()["master_pid"]))
    if is_told_before:
        cluster.shutdown(wait=False)

    thread = interrupt_when(lambda: is_in("shutdown", "join" if is_told_before else "await_end"))
    with pytest.raises(KeyboardInterrupt):
        cluster.shutdown()
    thread.join()

    assert not master.is_running()
    assert "was interrupted: it stopped, 2 open tasks are dropped" in caplog.text
    assert [type(future.exception(0)) for future in futures] == [ClusterConnectionError] * 2
    if cluster._client.ending is not None:
        cluster._client.ending.join()  # its errors would fail the test


def test_the_second_interrupt_of_a_stand_alone_executor_stops_its_cluster(gate: Path) -> None:
    executor = nbcluster.ClusterExecutor(1)
    first, second = (executor.submit(calls.wait_for, str(gate)) for _ in range(2))
    master = psutil.Process(int(executor.stats()["master_pid"]))
    eventually(first.running)

    thread = interrupt_when(lambda: is_in("__exit__", "await_end"))
    with pytest.raises(KeyboardInterrupt), executor:
        raise KeyboardInterrupt
    thread.join()

    assert (first.state, second.state) == ("failed", "cancelled")
    assert not master.is_running()


def test_who_interrupts_the_shutdown_of_somebody_elses_cluster_leaves_it(
    cluster: Cluster, gate: Path
) -> None:
    other = nbcluster.connect(cluster.name)
    future = other.submit(calls.wait_for, str(gate), 5)

    thread = interrupt_when(lambda: is_in("shutdown", "await_end"))
    with pytest.raises(KeyboardInterrupt):
        other.shutdown()
    thread.join()

    gate.touch()
    assert future.result(END_S) == 5
    other.close()


# --------------------------------------------------------------------------- without waiting


def test_a_shutdown_without_waiting_stops_the_cluster_after_the_open_tasks(
    up: Up, gate: Path
) -> None:
    cluster = up(1)
    futures = [cluster.submit(calls.wait_for, str(gate), n) for n in range(3)]
    master = psutil.Process(int(cluster.stats()["master_pid"]))

    cluster.shutdown(wait=False)
    cluster.options(priority=1).shutdown(wait=False)

    with pytest.raises(ClosedError, match="after shutdown"):
        cluster.options(priority=1).submit(abs, 1)
    assert not any(future.done() for future in futures)
    gate.touch()
    assert [future.result(END_S) for future in futures] == [0, 1, 2]
    cluster.shutdown()
    assert not master.is_running()


def test_a_shutdown_without_waiting_can_cancel_what_is_open(up: Up, gate: Path) -> None:
    cluster = up(1)
    futures = [cluster.submit(calls.wait_for, str(gate), n) for n in range(3)]
    master = psutil.Process(int(cluster.stats()["master_pid"]))

    cluster.shutdown(wait=False, cancel_futures=True)

    eventually(lambda: all(future.cancelled() for future in futures))
    master.wait(END_S)


def test_a_program_ends_after_what_its_shutdown_did_not_wait_for(
    home: Path, tmp_path: Path
) -> None:
    began, gate = tmp_path / "began", tmp_path / "gate"
    program = f"""
import nbcluster
from tests.integration.test_stopping import mark_and_wait
cluster = nbcluster.start(1)
future = cluster.submit(mark_and_wait, {str(began)!r}, {str(gate)!r})
future.add_done_callback(lambda future: print("ended", future.exception()))
cluster.shutdown(wait=False)
"""
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        eventually(began.exists)
        gate.touch()
        assert running.communicate(timeout=END_S)[0] == "ended None\n"
    finally:
        gate.touch()
        running.kill()
        running.wait()


def test_a_start_waits_for_a_cluster_of_that_name_that_was_told_to_end(up: Up) -> None:
    ending = up(1)
    last = ending.submit(time.sleep, 0.3)
    ending.shutdown(wait=False)

    again = up(1, name=ending.name)

    assert last.done()
    assert again.submit(pow, 2, 3).result(END_S) == 8


def test_a_connection_that_is_shut_down_without_waiting_leaves_the_cluster(up: Up) -> None:
    cluster = up(1)

    nbcluster.connect(cluster.name).shutdown(wait=False)

    assert cluster.submit(abs, -1).result(END_S) == 1


# --------------------------------------------------------------------------- without a master


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize(
    "end",
    [
        lambda cluster: cluster.shutdown(),
        lambda cluster: cluster.shutdown(wait=False),
        lambda cluster: cluster.shutdown(cancel_futures=True),
        lambda cluster: cluster.shutdown(wait=False, cancel_futures=True),
        lambda cluster: cluster.stop(),
        lambda cluster: cluster.stop(mode="drain"),
    ],
    ids=["shutdown", "unwaited", "cancelling", "unwaited-cancelling", "stop", "drain"],
)
def test_a_cluster_of_our_own_ends_without_its_master(
    up: Up, gate: Path, is_known: bool, end: Callable[[Cluster], object]
) -> None:
    cluster = up(1)
    future = cluster.submit(calls.wait_for, str(gate))
    engine = psutil.Process(int(cluster.engines().pid.iloc[0]))
    kill_master(cluster)
    if is_known:
        eventually(lambda: cluster._client.link.is_lost)

    end(cluster)
    cluster.shutdown()

    assert isinstance(future.exception(0), MasterLostError)
    assert has_ended(engine)
    where = cluster_dir(cluster.name)
    assert not where.path.exists()
    assert not where.blobs.exists()


def test_a_cluster_of_our_own_is_kept_without_its_master_if_that_is_asked_for(
    up: Up, home: Path, gate: Path
) -> None:
    cluster = up(1, name="kept")
    future = cluster.submit(calls.wait_for, str(gate), 7)
    engine = psutil.Process(int(cluster.engines().pid.iloc[0]))
    eventually(future.running)
    kill_master(cluster)

    cluster.stop(keep=True)

    assert future.state == "pending"
    assert has_ended(engine)
    assert nbcluster.clusters().state.to_dict() == {"kept": "kept"}
    gate.touch()
    assert up(1, name="kept").future(future.id).result(END_S) == 7


@pytest.mark.parametrize("is_known", [False, True])
def test_a_cluster_that_goes_on_and_has_no_master_cannot_be_told_anything(
    up: Up, home: Path, gate: Path, is_known: bool
) -> None:
    cluster = up(1, name="on", persist=True)
    handles = [nbcluster.connect("on") for _ in range(4)]
    futures = [handle.submit(calls.wait_for, str(gate), 7) for handle in handles]
    eventually(partial(is_running, cluster))
    kill_master(cluster)
    if is_known:
        eventually(lambda: all(handle._client.link.is_lost for handle in handles))

    with pytest.raises(ClusterConnectionError, match="nbcluster stop on --cancel"):
        handles[0].stop()
    for handle, wait in zip(handles[1:], (True, False), strict=False):
        with pytest.raises(ClusterConnectionError, match="its open tasks cannot be cancelled"):
            handle.shutdown(wait=wait, cancel_futures=True)
        assert handle._client.is_closed
    with pytest.raises(ZeroDivisionError), handles[3]:
        calls.divide(1, 0)

    again = up(name="on", persist=True)
    gate.touch()
    assert again.future(futures[1].id).result(END_S) == 7
    handles[0].close()
    again.stop()


@pytest.mark.parametrize("is_known", [False, True])
def test_a_map_is_begun_without_a_master_and_goes_on_with_the_next(
    up: Up, home: Path, is_known: bool
) -> None:
    cluster = up(1, name="on", persist=True)
    connected = nbcluster.connect("on")  # has never asked how many slots there are
    kill_master(cluster)
    if is_known:
        eventually(lambda: cluster._client.link.is_lost and connected._client.link.is_lost)
    began = time.monotonic()

    values = [handle.map(abs, range(-20, 0)) for handle in (cluster, connected)]

    assert time.monotonic() - began < 1.0
    again = up(name="on", persist=True)
    for value in values:
        assert list(value) == list(range(20, 0, -1))
    connected.close()
    again.stop()


def test_nothing_is_left_of_clusters_of_which_everything_was_killed_and_removed(
    up: Up, home: Path
) -> None:
    numpy = pytest.importorskip("numpy")
    cluster = up(1, name="on", persist=True)
    large = cluster.submit(calls.size, numpy.zeros(1 << 21, "u1"))
    large.result(END_S)
    everything = [psutil.Process(int(pid)) for pid in cluster.engines().pid]
    kill_master(cluster)
    for process in everything:
        process.kill()
        eventually(partial(has_ended, process))
    cluster.close()
    where = cluster_dir("on")
    assert where.blobs.exists()
    shutil.rmtree(where.path)

    with nbcluster.start(1, name="other"):
        assert not where.blobs.exists()

    assert not list(where.blobs.parent.glob(where.blobs.name + "*"))


# --------------------------------------------------------------------------- what runs


@pytest.mark.parametrize("elsewhere", [False, True])
def test_stops_that_keep_the_journal_are_no_crashes(
    up: Up, home: Path, gate: Path, tmp_path: Path, elsewhere: bool
) -> None:
    journal = tmp_path / "journal.db" if elsewhere else None
    cluster = up(1, name="kept", journal=journal)
    task = cluster.options(max_crashes=1).submit(calls.wait_for, str(gate), 7).id
    for _ in range(3):
        eventually(partial(is_running, cluster))
        stop_and_keep(cluster)
        cluster = up(1, name="kept", journal=journal)
    gate.touch()

    future = cluster.future(task)
    assert future.result(END_S) == 7
    assert future.crashes == 0
    rows = cluster.attempts(task)
    assert rows.attempt.tolist() == [1, 2, 3, 4]
    assert rows.outcome.tolist() == ["given_back"] * 3 + ["succeeded"]


def test_what_began_a_moment_before_the_stop_uses_its_number(
    up: Up, home: Path, gate: Path
) -> None:
    cluster = up(1, name="kept")
    begun = gate.with_name("begun")
    psutil.Process(int(cluster.engines().pid.iloc[0])).suspend()  # it cannot tell what runs
    task = cluster.submit(mark_and_wait, str(begun), str(gate)).id
    eventually(begun.exists)
    stop_and_keep(cluster)

    cluster = up(1, name="kept")
    gate.touch()

    cluster.future(task).result(END_S)
    assert cluster.attempts(task).attempt.tolist() == [1, 2]


def test_what_may_run_once_only_is_lost_with_a_stop_that_keeps(
    up: Up, home: Path, gate: Path
) -> None:
    cluster = up(1, name="kept")
    future = cluster.options(delivery="at_most_once").submit(calls.wait_for, str(gate), 7)
    eventually(future.running)
    stop_and_keep(cluster)

    cluster = up(1, name="kept")

    with pytest.raises(TaskLostError):
        cluster.future(future.id).result(END_S)


# --------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("elsewhere", [False, True])
def test_futures_of_a_cluster_that_keeps_their_tasks_say_how_to_have_them(
    up: Up, home: Path, gate: Path, tmp_path: Path, elsewhere: bool
) -> None:
    journal = tmp_path / "journal.db" if elsewhere else None
    cluster = up(1, name="kept", journal=journal)
    futures = [cluster.submit(calls.wait_for, str(gate), n) for n in range(2)]
    eventually(futures[0].running)

    nbcluster.connect("kept").stop(keep=True)

    for future in futures:
        with pytest.raises(TaskKeptError, match=f"keeps task {future.id}") as caught:
            future.result(END_S)
        assert (future.done(), future.state) == (True, "pending")
        assert "at its next start" in future.why()
        assert (caught.value.task, caught.value.start) == (
            future.id,
            f"nbcluster.start(name='kept'{f', journal={str(journal)!r}' if journal else ''})",
        )
    gate.touch()
    cluster.shutdown()
    again = up(1, name="kept", journal=journal)
    assert [again.future(future.id).result(END_S) for future in futures] == [0, 1]


def test_what_was_submitted_a_moment_before_a_stop_that_keeps_is_kept(up: Up, home: Path) -> None:
    cluster = up(0, name="kept")
    for _ in range(3):  # an acknowledgement waits for news, which may not come before the end
        future = cluster.submit(abs, 1)
        cluster.stop(keep=True)
        assert future.state == "pending"
        cluster = up(0, name="kept")


def test_a_task_that_was_not_accepted_before_the_stop_is_not_said_to_be_kept(
    up: Up, home: Path
) -> None:
    cluster = nbcluster.start(1, name="kept")
    master = psutil.Process(int(cluster.stats()["master_pid"]))
    master.suspend()
    future = cluster.submit(abs, 1)

    cluster._client.on_message(m.Closing("stopped", "nbcluster.start(name='kept')"))

    master.resume()
    assert future.state == "failed"
    assert not isinstance(future.exception(), TaskKeptError)
    nbcluster.connect("kept").stop()
    cluster.close()
    eventually(lambda: has_ended(master))
    take_in_dead()


@pytest.mark.parametrize("wanted", [None, 1])
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_start_that_goes_on_has_as_many_engines_as_there_were_or_were_asked_for(
    home: Path, capfd: pytest.CaptureFixture[str], is_killed: bool, wanted: int | None
) -> None:
    cluster = nbcluster.start(2, name="kept", slots=2, persist=True)
    if is_killed:
        kill_master(cluster)
    else:
        stop_and_keep(cluster)
    cluster.close()
    capfd.readouterr()

    with nbcluster.start(wanted, name="kept") as again:
        eventually(lambda: again.engines().slots.tolist() == [2] * (wanted or 2))
        assert ("engines: 2, as before" in capfd.readouterr().err) == (wanted is None)
        stop_and_keep(again)
    with nbcluster.start(name="kept") as third:
        assert len(third.engines()) == (wanted or 2)


def test_a_start_on_a_journal_that_knows_no_number_of_engines_says_that_it_is_the_default(
    home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, machine = tmp_path / "journal.db", Machine()
    with Journal(str(path)) as journal:  # as an older version left it
        journal.replay(Replay(machine))
        epoch = journal.begin_epoch()
        journal.commit(machine.begin(epoch, time.time()), epoch, time.time())

    for whence in ("the default", "as before"):
        with nbcluster.start(name="kept", journal=path):
            assert f"engines: 4, {whence};" in capfd.readouterr().err


def test_a_start_that_goes_on_has_the_engines_that_were_scaled_and_no_group_of_its_own(
    home: Path,
) -> None:
    with nbcluster.start(1, name="kept", group="gpu") as cluster:
        cluster.scale(2, group="gpu")
        cluster.scale(1, group="cpu")
        stop_and_keep(cluster)

    with nbcluster.start(name="kept") as again:
        again.wait_for_engines(3, END_S)
        assert sorted(again.engines().group) == ["cpu", "gpu", "gpu"]


def test_an_explicit_keep_keeps_what_has_ended(up: Up, home: Path) -> None:
    cluster = up(1, name="kept")
    assert cluster.submit(len, "ab").result(END_S) == 2
    stop_and_keep(cluster)

    assert up(1, name="kept").stats()["succeeded"] == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_signal_keeps_dead_letters_and_not_what_has_ended_well(
    up: Up, home: Path, fails: bool
) -> None:
    cluster = up(1, name="kept")
    cluster.submit(calls.divide, 1, 0 if fails else 1).exception(END_S)
    master = psutil.Process(int(cluster.stats()["master_pid"]))

    master.send_signal(signal.SIGTERM)
    master.wait(END_S)

    assert cluster_dir("kept").path.exists() == fails
    again = up(1, name="kept")
    assert len(again.dead_letters()) == fails


def test_a_kept_cluster_is_listed_and_can_be_removed(
    up: Up, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = up(0, name="kept")
    cluster.submit(len, "ab")
    stop_and_keep(cluster)
    assert nbcluster.clusters().state.to_dict() == {"kept": "kept"}
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "kept"
    assert main(["list"]) == 0
    assert "nbcluster start --name kept" in capsys.readouterr().out

    assert main(["stop", "kept"]) == 0
    said = capsys.readouterr().out
    assert "stopped already" in said
    assert "nbcluster stop kept --cancel" in said
    assert main(["status", "kept"]) == 1
    assert "stopped already" in capsys.readouterr().err

    assert main(["stop", "kept", "--cancel"]) == 0
    assert not cluster_dir("kept").path.exists()
    assert nbcluster.clusters().empty


def test_stop_keep_says_what_is_kept_where_nothing_is_open(
    up: Up, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = up(1, name="kept")
    cluster.submit(calls.divide, 1, 0).exception(END_S)
    master = psutil.Process(int(cluster.stats()["master_pid"]))

    assert main(["stop", "kept", "--keep"]) == 0
    master.wait(END_S)

    assert "dead letters: 1" in capsys.readouterr().out
    assert cluster_dir("kept").journal_file.exists()


# --------------------------------------------------------------------------- a full disk

ON_A_FULL_DISK: Final = """
import contextlib, os, signal, sys, time, nbcluster, psutil
from nbcluster.cli import main
from nbcluster.errors import JournalFullError
from tests.helpers import eventually, has_ended
from tests.integration import calls
disk, name = sys.argv[1:]
cluster = nbcluster.start(1, name=name, journal=os.path.join(disk, "journal.db"), persist=True)
ballast = open(os.path.join(disk, "ballast"), "wb", buffering=0)
for size in (1 << 16, 1 << 12, 1):
    with contextlib.suppress(OSError):
        while True: ballast.write(bytes(size))
first = cluster.options(group="later").submit(calls.size, os.urandom(60_000))
eventually(lambda: cluster.stats()["disk_full"], 20)
print("why first:", first.why())
second = cluster.submit(len, "ab")
second.exception(20)
print("why second:", second.why())
print("why at once:", cluster.submit(len, "ab").why())
began = time.monotonic()
print("tables:", cluster.tasks().state.tolist(), len(cluster.engines()), len(cluster.events()) > 0)
for name, order in (("cancel", lambda: first.cancel()), ("scale", lambda: cluster.scale(3)),
                    ("run", lambda: cluster.run(len, "ab"))):
    try: print(f"{name}:", order())
    except JournalFullError as error: print(f"{name}:", error)
    except Exception as error: print(f"{name}: not as expected:", repr(error))
master = psutil.Process(cluster.stats()["master_pid"])
print("age:", cluster.stats()["age_s"])
with contextlib.redirect_stdout(sys.stderr):
    code = main(["stop", cluster.name, "HOW"])
eventually(lambda: has_ended(master), 20)
print("exit code:", code)
print("at once:", time.monotonic() - began < 8)
"""


@pytest.mark.parametrize("how", ["--drain", "--cancel"])
def test_on_a_full_disk_questions_are_answered_orders_refused_and_stop_works(
    home: Path, tmp_path: Path, how: str
) -> None:
    program = ON_A_FULL_DISK.replace("HOW", how)
    said, everything = run_on_a_small_disk(program, tmp_path, "full")

    for what in ("why first", "why second", "why at once"):
        assert "disk" in said.get(what, ""), everything
    for what in ("cancel", "scale"):
        assert "disk under the journal is full" in said.get(what, ""), everything
        assert "was not taken" in said.get(what, ""), everything
    assert "disk" in said.get("run", ""), everything
    assert "not as expected" not in everything, everything
    assert said.get("tables") == "['pending'] 1 True", everything
    assert (said.get("age"), said.get("at once")) == ("0.0", "True"), everything
    assert said.get("exit code") == "0", everything


OUR_OWN_ON_A_FULL_DISK: Final = """
import contextlib, logging, os, sys, threading, nbcluster
from nbcluster.client import silence
from tests.helpers import eventually
from tests.integration import calls
disk, name = sys.argv[1:]
silence.STUCK_S = 0.2
heard = []
silence.log.addFilter(lambda record: heard.append(record.getMessage()))
cluster = nbcluster.start(1, name=name, journal=os.path.join(disk, "journal.db"))
gate = os.path.join(os.environ["NBCLUSTER_HOME"], "gate")
running = cluster.submit(calls.wait_for, gate)
eventually(running.running)
ballast = open(os.path.join(disk, "ballast"), "wb", buffering=0)
for size in (1 << 16, 1 << 12, 1):
    with contextlib.suppress(OSError):
        while True: ballast.write(bytes(size))
cluster.options(group="later").submit(calls.size, os.urandom(60_000))
eventually(lambda: cluster.stats()["disk_full"], 20)
waiting = threading.Thread(target=cluster.shutdown)
waiting.start()
eventually(lambda: heard, 20)
print("heard:", heard[0])
cluster.shutdown(cancel_futures=True)
waiting.join(20)
print("ended:", not waiting.is_alive(), os.path.exists(cluster.directory), len(heard))
"""


def test_a_cluster_of_our_own_ends_on_a_full_disk_and_who_waits_for_its_tasks_is_told_why(
    home: Path, tmp_path: Path
) -> None:
    said, everything = run_on_a_small_disk(OUR_OWN_ON_A_FULL_DISK, tmp_path, "full")

    assert "the disk under the journal is full" in said.get("heard", ""), everything
    assert said.get("ended") == "True False 1", everything
