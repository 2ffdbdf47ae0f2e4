"""The command line as a shell sees it: real processes, their output and their exit codes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import nbcluster
from nbcluster.transport.rundir import FileLock, cluster_dir
from tests.helpers import eventually, note_clusters
from tests.integration import calls

ROOT: Final = Path(__file__).parents[2]
COMMAND: Final = (sys.executable, "-m", "nbcluster")
DEADLINE_S: Final = 60


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    done = subprocess.run(
        [*COMMAND, *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    note_clusters()
    return done


def told(*words: str) -> Any:
    """Return what a command that must succeed prints as JSON."""
    done = run(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command in the background; it is killed at the end if it is still there."""
    with subprocess.Popen(
        [*COMMAND, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_with(stream: Any, text: str) -> str:
    """Return the next line that contains a text; the test's timeout bounds the wait."""
    for line in stream:
        if text in line:
            return str(line)
    raise AssertionError(f"ended without {text!r}")


@contextmanager
def connected(name: str) -> Iterator[nbcluster.Cluster]:
    cluster = nbcluster.connect(name)
    try:
        yield cluster
    finally:
        cluster.close()


@contextmanager
def started(name: str, *words: str) -> Iterator[str]:
    """Keep a persistent cluster for a while."""
    with ExitStack() as stack:
        stack.callback(run, "stop", name, "--cancel")
        done = run("start", "--name", name, "--persist", *words)
        assert done.returncode == 0, done.stderr
        yield name


@contextmanager
def foreground(name: str) -> Iterator[subprocess.Popen[str]]:
    """Keep a cluster of one engine that the command itself owns."""
    with running("start", "-n", "1", "--name", name) as process:
        line_with(process.stdout, "Ctrl-C")
        note_clusters()
        yield process


def wait_until_running(cluster: nbcluster.Cluster, count: int = 1) -> None:
    eventually(lambda: cluster.stats()["running"] == count, 20)


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """Return the name of a cluster of two engines that stays."""
    with started(f"cli-{os.getpid()}", "-n", "2") as known:
        yield known


# --------------------------------------------------------------------------- looking


def test_a_persistent_cluster_outlives_the_command_that_started_it(name: str) -> None:
    row = next(row for row in told("list") if row["name"] == name)

    assert (row["state"], row["persist"]) == ("running", True)


def test_status_tells_counts_and_engines(name: str) -> None:
    found = told("status", name)

    assert found["name"] == name
    assert [engine["state"] for engine in found["engines"]] == ["active", "active"]
    columns = "id state group slots running load done pid host executor_pid rss_mb last_seen_s"
    assert list(found["engines"][0]) == columns.split()
    assert {"pending", "running", "master_pid"} <= set(found["stats"])
    text = run("status", name).stdout
    assert f"cluster {name!r}" in text
    assert found["engines"][0]["id"] in text


def test_a_second_start_attaches_and_says_so(name: str) -> None:
    done = run("start", "--name", name)

    assert done.returncode == 0
    assert "running already" in done.stderr


def test_the_cluster_may_be_named_by_the_environment_and_by_its_connection_file(name: str) -> None:
    assert run("submit", "math:sqrt", "16", NBCLUSTER_NAME=name).stdout == "4.0\n"

    assert run("submit", "--name", name, "math:sqrt", "16").stdout == "4.0\n"

    file = str(cluster_dir(name).connection_file)
    assert run("submit", file, "math:sqrt", "16").stdout == "4.0\n"


@pytest.mark.parametrize("verb", ["status", "tasks", "stop"])
def test_a_cluster_that_is_not_there_is_one_line_that_names_the_next_step(verb: str) -> None:
    done = run(verb, "nowhere")

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "nbcluster start --name nowhere" in done.stderr


def test_doctor_asks_the_cluster_whether_it_answers(name: str) -> None:
    answers = [found for found in told("doctor", name) if found["check"] == "answer"]

    assert [found["grade"] for found in answers] == ["ok"]


def test_a_journal_that_was_removed_under_a_running_cluster_is_told(home: Path) -> None:
    with started("bare", "-n", "0"):  # without engines its master does not notice
        cluster_dir("bare").journal_file.unlink()

        done = run("doctor", "bare", "--json")

        (found,) = [f for f in json.loads(done.stdout) if f["check"] == "journals"]
        assert (done.returncode, found["grade"]) == (1, "fail")
        assert "was removed while it runs" in found["text"]
        assert "nbcluster stop bare --cancel" in found["remedy"]


# --------------------------------------------------------------------------- submit and tasks


def test_submit_prints_the_value_alone(name: str) -> None:
    done = run("submit", name, "builtins:dict", '[["a", 1]]')

    assert (done.returncode, done.stdout, done.stderr) == (0, "{'a': 1}\n", "")


def test_a_number_of_any_length_is_printed(name: str) -> None:
    for words in ((), ("--json",)):
        done = run("submit", *words, name, "math:factorial", "2000")
        assert done.returncode == 0
        assert re.search(r"(?<!\d)\d{5736}(?!\d)", done.stdout)


def test_what_a_task_prints_goes_to_standard_error(name: str) -> None:
    done = run("submit", name, "builtins:print", "hello")

    assert (done.stdout, done.stderr) == ("None\n", "hello\n")


def test_submit_tells_a_program_everything_as_json(name: str) -> None:
    done = told("submit", name, "builtins:sum", "[1, 2]")

    assert (done["state"], done["value"], done["error"]) == ("succeeded", 3, None)


def test_a_task_that_fails_ends_the_command_with_1_and_its_error(name: str) -> None:
    done = run("submit", name, "math:sqrt", "--", "-1")

    assert (done.returncode, done.stdout) == (1, "")
    assert "ValueError: math domain error" in done.stderr

    done = run("submit", name, "--json", "math:sqrt", "--", "-1")
    assert done.returncode == 1
    assert json.loads(done.stdout)["state"] == "failed"


def test_a_function_that_is_not_there_is_wrong_usage(name: str) -> None:
    done = run("submit", name, "math:no_such_function")

    assert done.returncode == 2
    assert "no_such_function" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_timeout_stops_the_task_and_not_only_the_command(name: str) -> None:
    done = run("submit", name, "--timeout", "0.5", "time:sleep", "60")

    assert done.returncode == 1
    assert "timeout of 0.5 s" in done.stderr
    assert told("status", name)["stats"]["running"] == 0


def test_ctrl_c_cancels_the_task(name: str) -> None:
    with connected(name) as cluster, running("submit", name, "time:sleep", "60") as process:
        wait_until_running(cluster)

        process.send_signal(signal.SIGINT)

        assert process.wait(DEADLINE_S) == 130
        assert cluster.tasks().state.tolist()[-1] == "cancelled"
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_tasks_are_chosen_by_state_and_number(name: str) -> None:
    run("submit", name, "math:sqrt", "4")
    run("submit", name, "math:sqrt", "--", "-4")

    assert {row["state"] for row in told("tasks", name, "--failed")} == {"failed"}
    assert {row["state"] for row in told("tasks", name, "--state", "succeeded")} == {"succeeded"}
    assert len(told("tasks", name, "--limit", "2")) == 2
    text = run("tasks", name, "--failed").stdout
    assert "ValueError: math domain error" in text


def test_a_closed_pipe_is_no_traceback(name: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*COMMAND, "tasks", name],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    finally:
        os.close(writer)

    assert (done.returncode, done.stderr) == (141, "")


# --------------------------------------------------------------------------- start and stop


def test_options_of_start_come_from_the_environment_too(home: Path) -> None:
    done = run("start", NBCLUSTER_ENGINES="1", NBCLUSTER_SLOTS="2", NBCLUSTER_PERSIST="1")
    assert done.returncode == 0, done.stderr

    try:
        assert [engine["slots"] for engine in told("status")["engines"]] == [2]
    finally:
        assert run("stop").returncode == 0


@pytest.mark.parametrize(
    "words",
    [("-l", "debug", "start"), ("--persist", "start"), ("start",)],
    ids=" ".join,
)
def test_the_log_level_is_that_of_the_processes_of_the_cluster_too(
    home: Path, words: tuple[str, ...]
) -> None:
    wanted = "DEBUG" if "-l" in words else "INFO"
    try:
        done = run(*words, "-n", "1", "--name", "loud", "--persist")
        assert done.returncode == 0, done.stderr
        with connected("loud") as cluster:
            engine = psutil.Process(int(cluster.engines().pid.iloc[0])).cmdline()

            assert engine[engine.index("--log-level") + 1] == wanted
            assert cluster._client.ask("info")["log_level"] == wanted
    finally:
        run("stop", "loud", "--cancel")


def test_executors_have_the_modules_and_variables_that_start_was_given(home: Path) -> None:
    flags = ("--env", "GREETING=hello=you", "--import", "colorsys", "--memory-limit", "1000000000")
    with started("dressed", "-n", "1", *flags), connected("dressed") as cluster:

        def look() -> tuple[str | None, bool, int]:
            limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
            return os.environ.get("GREETING"), "colorsys" in sys.modules, limit

        assert cluster.submit(look).result(20) == ("hello=you", True, 1_000_000_000)


def test_start_and_stop_tell_a_program_as_json(home: Path) -> None:
    made = told("start", "-n", "1", "--name", "told", "--persist")
    assert made["master_pid"] == told("status", "told")["stats"]["master_pid"]
    assert (made["name"], made["engines"], made["slots"]) == ("told", 1, 1)
    assert made["directory"] == str(cluster_dir("told").path)

    assert told("stop", "told", "--keep") == {"name": "told", "was": "running", "kept": True}
    assert told("stop", "told") == {"name": "told", "was": "kept", "kept": True}
    assert told("stop", "told", "--cancel") == {"name": "told", "was": "kept", "kept": False}


def test_a_start_that_stays_tells_a_program_nothing_but_json(home: Path) -> None:
    with running("start", "-n", "1", "--name", "fg-json", "--json") as process:
        assert process.stdout is not None
        line_with(process.stderr, "Ctrl-C")
        process.send_signal(signal.SIGINT)

        assert json.loads(process.stdout.read())["name"] == "fg-json"
        assert process.wait(20) == 0


def test_stop_refuses_with_both_counts_while_tasks_are_open(home: Path) -> None:
    with started("busy", "-n", "1"), connected("busy") as cluster:
        for _ in range(3):
            cluster.submit(sleep, 60)
        wait_until_running(cluster)

        done = run("stop", "busy")

        assert done.returncode == 1
        assert "2 pending and 1 running" in done.stderr
        assert "--cancel" in done.stderr
        assert cluster.stats()["running"] == 1

        done = run("stop", "busy", "--cancel")

        assert done.returncode == 0, done.stderr
        assert not cluster_dir("busy").path.exists()


def sleep(seconds: float) -> float:
    import time

    time.sleep(seconds)
    return seconds


def test_what_stop_keeps_goes_on_at_the_next_start(home: Path, gate: Path) -> None:
    with started("kept", "-n", "1"):
        with connected("kept") as cluster:
            for _ in range(2):
                cluster.submit(calls.wait_for, str(gate))
            wait_until_running(cluster)
            done = run("stop", "kept", "--keep")
        assert done.returncode == 0, done.stderr
        assert "kept: 2" in done.stdout
        assert told("journal", "info", str(cluster_dir("kept").journal_file))["open"] == 2

        gate.touch()
        run("start", "-n", "1", "--name", "kept", "--persist")

        with connected("kept") as cluster:
            eventually(lambda: cluster.stats()["succeeded"] == 2, 20)


def test_a_drained_cluster_of_which_nothing_is_open_leaves_nothing(home: Path) -> None:
    with started("drained", "-n", "1"), connected("drained") as cluster:
        future = cluster.submit(sleep, 1.0)
        wait_until_running(cluster)

        done = run("stop", "drained", "--drain")

        assert done.returncode == 0, done.stderr
        assert future.result(20) == 1.0
        assert not cluster_dir("drained").path.exists()


def test_choices_that_contradict_each_other_are_wrong_usage() -> None:
    assert run("stop", "--cancel", "--keep").returncode == 2


def test_ctrl_c_lets_running_tasks_finish(home: Path) -> None:
    with foreground("fg") as process, connected("fg") as cluster:
        future = cluster.submit(sleep, 1.0)
        wait_until_running(cluster)

        process.send_signal(signal.SIGINT)

        assert future.result(20) == 1.0
        assert process.wait(DEADLINE_S) == 0
        assert process.stdout is not None
        assert "has stopped" in process.stdout.read()
        assert not cluster_dir("fg").path.exists()


def test_a_second_signal_stops_at_once_and_loses_nothing(home: Path) -> None:
    with foreground("twice") as process:
        with connected("twice") as cluster:
            cluster.submit(sleep, 60.0)
            wait_until_running(cluster)
            process.send_signal(signal.SIGTERM)
            line_with(process.stdout, "draining")

            process.send_signal(signal.SIGTERM)

            assert process.wait(20) == 0
        assert told("journal", "info", str(cluster_dir("twice").journal_file))["open"] == 1


def test_stopping_it_from_elsewhere_ends_the_command_that_waits(home: Path) -> None:
    with foreground("other") as process:
        assert run("stop", "other").returncode == 0

        assert process.wait(20) == 0


def test_the_death_of_the_master_is_told(home: Path) -> None:
    with foreground("dead") as process:
        os.kill(told("status", "dead")["stats"]["master_pid"], signal.SIGKILL)

        assert process.wait(20) == 1
        assert process.stderr is not None
        assert "master.log" in process.stderr.read()


def test_a_dead_cluster_is_ended_and_gone_on_with_by_the_commands_that_are_advised(
    home: Path,
) -> None:
    assert run("start", "-n", "1", "--name", "dead", "--persist").returncode == 0
    with connected("dead") as cluster:
        cluster.submit(sleep, 60.0)
        wait_until_running(cluster)
    os.kill(told("status", "dead")["stats"]["master_pid"], signal.SIGKILL)
    eventually(lambda: not FileLock.is_held(cluster_dir("dead").lock_file))
    advised = re.findall(r"nbcluster (st\w+ [-\w ]+?)(?: goes| ends| drops|$)", run("list").stdout)
    assert advised == ["start --name dead --persist", "stop dead --keep", "stop dead --cancel"]

    assert run(*advised[1].split()).returncode == 0
    again = run(*advised[0].split())
    assert again.returncode == 0
    assert "engines: 1, as before; open tasks: 1" in again.stderr
    os.kill(told("status", "dead")["stats"]["master_pid"], signal.SIGKILL)
    eventually(lambda: not FileLock.is_held(cluster_dir("dead").lock_file))
    assert run(*advised[2].split()).returncode == 0
    assert not cluster_dir("dead").path.exists()


def test_the_death_of_the_command_ends_the_cluster_it_owns(home: Path) -> None:
    with foreground("owned") as process:
        lock = cluster_dir("owned").lock_file

        process.kill()

        eventually(lambda: not FileLock.is_held(lock))


# --------------------------------------------------------------------------- engine


def test_an_engine_waits_for_its_master_and_drains_at_a_signal(home: Path) -> None:
    with running("engine", "--join", "late") as engine:
        eventually(cluster_dir("late").path.exists)
        with started("late", "-n", "0"):
            eventually(lambda: len(told("status", "late")["engines"]) == 1, 20)
            assert run("submit", "late", "math:sqrt", "16").stdout == "4.0\n"

            engine.send_signal(signal.SIGTERM)

            assert engine.wait(20) == 0
            assert engine.stdout is not None
            assert engine.stdout.read() == "processed 1\n"
            assert told("status", "late")["engines"] == []


def test_an_engine_says_what_it_waits_for_and_that_it_has_joined(home: Path) -> None:
    with running("engine", "--join", "late") as engine:
        assert "nbcluster start --name late" in line_with(engine.stderr, "waiting for")
        with started("late", "-n", "0"):
            line_with(engine.stderr, "joined cluster 'late'")


def test_an_engine_that_joined_is_not_counted_among_those_that_the_next_master_wants(
    home: Path,
) -> None:
    start = ("start", "--name", "on", "--persist")
    assert run(*start, "-n", "1").returncode == 0
    with running("engine", "--join", "on") as engine:
        eventually(lambda: len(told("status", "on")["engines"]) == 2, 20)
        os.kill(told("status", "on")["stats"]["master_pid"], signal.SIGKILL)
        eventually(lambda: not FileLock.is_held(cluster_dir("on").lock_file))

        assert run(*start, "-n", "1").returncode == 0

        engines = eventually(lambda: told("status", "on")["engines"], 20)
        assert [known["state"] for known in engines] == ["active", "active"]
        assert engine.pid in {known["pid"] for known in engines}
        assert run("stop", "on").returncode == 0
        engine.wait(20)


def test_an_engine_that_never_joined_leaves_nothing_but_what_others_need(home: Path) -> None:
    where = cluster_dir("nope")
    with running("engine", "--join", "nope") as first, running("engine", "--join", "nope") as last:
        eventually(lambda: len(list(where.run.glob("*.page"))) == 2)
        for engine, others in ((first, True), (last, False)):
            line_with(engine.stderr, "waiting for")
            engine.send_signal(signal.SIGTERM)
            assert engine.wait(20) == 0
            assert (where.path.exists(), where.blobs.exists()) == (others, others)


def test_who_submits_where_nobody_runs_it_is_told_so(home: Path) -> None:
    with started("empty", "-n", "0"), running("submit", "empty", "math:sqrt", "16") as process:
        assert "pending" in line_with(process.stderr, "is pending")

        with running("engine", "--join", "empty", "--group", "default", "--slots", "1"):
            assert process.wait(20) == 0
            assert process.stdout is not None
            assert process.stdout.read() == "4.0\n"


@pytest.mark.parametrize("target", ["nowhere", "./nowhere/connection.json"])
def test_an_engine_that_must_not_wait_fails_and_names_the_next_step(target: str) -> None:
    done = run("engine", "--join", target, "--no-wait")

    assert done.returncode == 1
    assert "start" in done.stderr.lower()


# --------------------------------------------------------------------------- journal


def test_a_vacuum_keeps_the_latest_ended_tasks(home: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "tasks.db")
    with started("old", "-n", "1", "--journal", path), connected("old") as cluster:
        assert list(cluster.map(abs, range(30), chunksize=1)) == list(range(30))
        assert run("journal", "info", path).returncode == 1  # its master uses it
        assert run("stop", "old").returncode == 0
    assert told("journal", "info", path)["finished"] == 30

    assert told("journal", "vacuum", path, "--keep", "10")["finished"] == 10

    with started("old", "-n", "0", "--journal", path), connected("old") as cluster:
        assert cluster.stats()["succeeded"] == 10


def test_a_journal_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    done = run("journal", "vacuum", str(tmp_path / "none.db"))

    assert done.returncode == 1
    assert "none.db" in done.stderr
    assert list(tmp_path.iterdir()) == []
