"""``%load_ext nbcluster``, ``%cluster`` and ``%debug_task`` in a real kernel and on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import pexpect  # type: ignore[import-untyped, unused-ignore]
import pytest

import nbcluster
from nbcluster.transport.rundir import cluster_dir
from tests.helpers import eventually, note_clusters
from tests.notebooks.kernels import ROOT, VERSIONS, Kernel, kernel
from tests.notebooks.outputs import Outputs, execute

_NUMBERS: Final = count(1)


@pytest.fixture(scope="module", params=VERSIONS)
def shared(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    open_clusters: list[nbcluster.Cluster],
) -> Iterator[Kernel]:
    """Return a kernel with the extension; each test starts what clusters it needs."""
    with kernel(tmp_path_factory.mktemp("kernel"), request.param) as found:
        found.run("%load_ext nbcluster")
        yield found


@pytest.fixture
def ipython(shared: Kernel) -> Iterator[Kernel]:
    """Return the shared kernel without a cluster, before the test and after it."""
    shared.run("cluster = None")
    shared.run("%cluster config view=off")
    yield shared
    shared.run(
        "from nbcluster.cluster.owning import open_clusters\n"
        "for c in list(open_clusters):\n"
        "    if not c._client.is_closed: c.stop()"
    )


@pytest.fixture
def name() -> str:
    """Return the name of a cluster that does not exist."""
    return f"magic-{os.getpid()}-{next(_NUMBERS)}"


def cluster_line(ipython: Kernel, line: str) -> Outputs:
    done = execute(ipython, f"%cluster {line}")
    note_clusters()
    return done


# --------------------------------------------------------------------------- start and stop


def test_a_cluster_is_started_looked_at_changed_and_stopped(ipython: Kernel, name: str) -> None:
    assert cluster_line(ipython, f"start -n 1 --name {name}").status == "ok"
    assert f"<Cluster '{name}' 1 engine " in cluster_line(ipython, "status").stdout
    assert "2 engines" in cluster_line(ipython, "scale 2").stdout
    assert ipython.value("len(cluster.engines())") == 2
    assert len(cluster_line(ipython, "engines").result["text/plain"].splitlines()) >= 3
    assert "2 engines" in cluster_line(ipython, "restart").stdout
    assert name in cluster_line(ipython, "list").result["text/plain"]
    assert "--- master" in cluster_line(ipython, "logs").stdout
    engine = ipython.value("cluster.engines().index[0]")
    assert f"{engine}" in cluster_line(ipython, f"logs {engine}").stdout
    assert "python" in cluster_line(ipython, "doctor").stdout
    assert cluster_line(ipython, "stop").stdout == f"cluster '{name}' has stopped\n"
    assert not cluster_dir(name).path.exists()


def test_a_cell_that_starts_a_cluster_can_be_run_again(ipython: Kernel, name: str) -> None:
    cluster_line(ipython, f"start -n 1 --name {name}")
    ipython.run("first = cluster")

    done = cluster_line(ipython, f"start -n 1 --name {name}")

    assert "is running already" in done.stderr
    assert ipython.value("[cluster is first, first._owned]") == [True, True]
    assert cluster_line(ipython, f"attach {name}").status == "ok"
    assert ipython.value("cluster is first")


def test_tasks_are_listed_retried_and_cancelled(ipython: Kernel, name: str) -> None:
    cluster_line(ipython, f"start -n 1 --name {name}")
    ipython.run("import time\nbad = cluster.submit(divmod, 1, 0); bad.exception()")

    assert bad_id(ipython) in cluster_line(ipython, "tasks --failed").result["text/plain"]
    assert "1 put back" in cluster_line(ipython, f"retry {bad_id(ipython)}").stdout
    eventually(lambda: ipython.value("len(cluster.tasks(state='open'))") == 0)
    ipython.run("slow = [cluster.submit(time.sleep, 60) for _ in range(3)]")
    assert cluster_line(ipython, "cancel").stdout == "cancelled: 3\n"
    assert ipython.value("[f.state for f in slow]") == ["cancelled"] * 3


def bad_id(ipython: Kernel) -> Any:
    return ipython.value("bad.id")


def test_options_are_set_for_what_is_submitted_from_now_on(ipython: Kernel, name: str) -> None:
    cluster_line(ipython, f"start -n 1 --name {name}")

    assert "retries=2" in cluster_line(ipython, "config retries=2 backoff=0.01").stdout
    done = execute(ipython, "%%remote\n1 / 0")

    assert "failed after 3 attempts; last error: ZeroDivisionError" in done.error


def test_options_of_the_object_called_cluster_count(ipython: Kernel, name: str) -> None:
    cluster_line(ipython, f"start -n 1 --name {name}")
    ipython.run("cluster = cluster.options(retries=1, backoff=0.01)")

    done = execute(ipython, "%%remote\n1 / 0")

    assert "failed after 2 attempts" in done.error


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("%%remote\n1", "UsageError: there is no cluster yet: %cluster start begins one"),
        ("%remote 1", "UsageError: there is no cluster yet: %cluster start begins one"),
        ("%cluster status", "UsageError: there is no cluster yet: %cluster start begins one"),
        ("%cluster stopp", "UsageError: %cluster: there is no verb 'stopp'; did you mean 'stop'?"),
        ("%cluster start -n x", "UsageError: %cluster start: argument -n/--engines"),
        ("%cluster start -n 4000", "UsageError: %cluster start: "),
        ("%cluster attach nowhere", "UsageError: %cluster attach: no cluster 'nowhere'"),
        ("%cluster config view=loud", "UsageError: %cluster config: view is one of"),
        ("%debug_task", "UsageError: %debug_task: the following arguments are required"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(ipython: Kernel, code: str, told: str) -> None:
    done = execute(ipython, code)

    assert done.status == "error"
    assert done.stderr.startswith(told)
    assert len(done.stderr.strip().splitlines()) == 1


def test_questions_are_answered_with_help(ipython: Kernel) -> None:
    def asked(code: str) -> str:
        reply = ipython._client.execute(code, reply=True, timeout=30)
        payload: str = reply["content"]["payload"][0]["data"]["text/plain"]
        return payload

    assert "scale" in asked("%cluster?")
    assert "--retries" in asked("%%remote?")
    assert "%remote slow(3)" in asked("%remote?")
    assert "debugger" in asked("%debug_task?")
    assert "--engines" in cluster_line(ipython, "start --help").stdout


def matches(ipython: Kernel, line: str) -> list[str]:
    reply = ipython._client.complete(line, reply=True, timeout=30)
    found: list[str] = reply["content"]["matches"]
    return found


def test_verbs_flags_groups_and_clusters_are_completed(ipython: Kernel, name: str) -> None:
    cluster_line(ipython, f"start -n 1 --name {name} --group fast")

    assert "status" in matches(ipython, "%cluster sta")
    assert "--retries" in matches(ipython, "%%remote --ret")
    assert "fast" in matches(ipython, "%%remote --group ")
    assert name in matches(ipython, "%cluster attach ")


# --------------------------------------------------------------------------- names and clusters


def test_a_name_of_the_users_is_left_alone_and_that_is_said(ipython: Kernel, name: str) -> None:
    ipython.run("cluster = [1, 2]")

    done = cluster_line(ipython, f"start -n 1 --name {name}")

    assert "the name cluster is a list of yours and stays so" in done.stdout
    assert ipython.value("cluster") == [1, 2]
    assert execute(ipython, "%%remote\n1 + 1").text == "2"


def test_two_clusters_can_be_used_at_once(ipython: Kernel, name: str) -> None:
    cluster_line(ipython, f"start -n 1 --name {name}-a")
    cluster_line(ipython, f"start -n 1 --name {name}-b")

    ipython.run(f"a = %remote -c {name}-a 1\nb = %remote 2\na.result(10), b.result(10)")

    assert ipython.value("cluster.name") == f"{name}-b"
    assert ipython.value("cluster.stats()['succeeded']") == 1
    assert cluster_line(ipython, f"attach {name}-a").status == "ok"
    assert ipython.value("cluster.name") == f"{name}-a"
    assert ipython.value("cluster.stats()['succeeded']") == 1


def test_loading_again_keeps_the_cluster_and_unloading_says_that_it_runs_on(
    ipython: Kernel, name: str
) -> None:
    cluster_line(ipython, f"start -n 1 --name {name}")

    assert execute(ipython, "%load_ext nbcluster").status == "ok"
    assert execute(ipython, "%reload_ext nbcluster").status == "ok"
    assert execute(ipython, "%%remote\n1 + 1").text == "2"
    assert f"cluster '{name}' runs on" in execute(ipython, "%unload_ext nbcluster").stdout
    assert "not found" in execute(ipython, "%cluster status").stderr
    execute(ipython, "%load_ext nbcluster")
    assert execute(ipython, "%%remote\n1 + 1").text == "2"


def test_after_a_restart_of_the_kernel_a_persistent_cluster_is_attached_to(
    tmp_path: Path, name: str
) -> None:
    gate = tmp_path / "gate"
    with kernel(tmp_path) as ipython:
        ipython.run("%load_ext nbcluster\n%cluster config view=off")
        execute(ipython, f"%cluster start -n 1 --name {name} --persist")
        note_clusters()
        ipython.run(f"gate = {str(gate)!r}")
        wait = "import os, time\nwhile not os.path.exists(gate): time.sleep(0.01)\n'late'"
        execute(ipython, f"%%remote --bg kept\n{wait}")
        task = ipython.value("kept.id")
        eventually(lambda: ipython.value("kept.state") == "running")

        ipython.restart()

        said = execute(ipython, "%load_ext nbcluster").stdout
        assert name in said
        execute(ipython, "%cluster config view=off")
        assert execute(ipython, f"%cluster attach {name}").status == "ok"
        assert ipython.value("list(cluster.tasks().index)") == [task]
        gate.touch()
        assert ipython.value(f"cluster.future({task!r}).result(10)") == "late"
        execute(ipython, "%cluster stop")


# --------------------------------------------------------------------------- %debug_task


def debugged(ipython: Kernel, task: str, commands: list[str]) -> str:
    """Debug a task, answer the debugger's prompts, and return what it prints."""
    outputs = Outputs()

    def answer(message: Any) -> None:
        ipython._client.input(commands.pop(0) if commands else "quit")

    ipython._client.execute_interactive(
        f"%debug_task {task}",
        output_hook=outputs.take,
        stdin_hook=answer,
        allow_stdin=True,
        timeout=30,
    )
    return outputs.stdout


def test_a_failed_call_is_debugged_here_with_its_own_arguments(ipython: Kernel, name: str) -> None:
    cluster_line(ipython, f"start -n 1 --name {name}")
    ipython.run("k = 5\ndef f(a, b): return a / (b - k)\nbad = cluster.submit(f, 7, 5)")
    ipython.run("bad.exception()\nk = 6")

    told = debugged(ipython, bad_id(ipython), ["p (a, b)", "p k", "quit"])

    assert "ZeroDivisionError" in told
    assert "(7, 5)" in told
    assert ipython.value("k") == 6


def test_a_failed_cell_is_debugged_here(ipython: Kernel, name: str) -> None:
    cluster_line(ipython, f"start -n 1 --name {name}")
    ipython.run("x = 0")
    execute(ipython, "%%remote\nhidden = 31\n1 / x")
    task = ipython.value("cluster.dead_letters().index[0]")

    told = debugged(ipython, task, ["p hidden", "quit"])

    assert "31" in told
    assert ipython.value("['hidden' in globals(), x]") == [False, 0]
    assert execute(ipython, "display(1)").text == "1"


# --------------------------------------------------------------------------- on a terminal


def test_everything_works_in_plain_ipython_on_a_terminal(tmp_path: Path, name: str) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "IPython", "--simple-prompt", "--colors=NoColor", "--no-banner"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(tmp_path), "TERM": "dumb"},
        cwd=str(tmp_path),
        encoding="utf-8",
        timeout=60,
    )

    def enter(line: str, number: int) -> str:
        child.sendline(line)
        child.expect_exact(f"In [{number + 1}]: ")
        return str(child.before)

    try:
        child.expect_exact("In [1]: ")
        enter("%load_ext nbcluster", 1)
        started = enter(f"%cluster start -n 1 --name {name}", 2)
        assert name in started.replace(f"--name {name}", "")
        note_clusters()
        enter("fut = %remote print('far away') or 40 + 2", 3)
        assert "42" in enter("fut.result()", 4)
        assert "UsageError" in enter("%cluster nonsense", 5)
        cell = "get_ipython().run_cell_magic('remote', 'r', 'print(\"here\")\\n6 * 7')"
        assert "here" in enter(cell, 6)
        assert "42" in enter("r", 7)
        child.sendline("get_ipython().run_cell_magic('remote', '', 'import time; time.sleep(60)')")
        watcher = nbcluster.connect(name)
        eventually(lambda: watcher.stats()["running"] == 1)
        watcher.close()
        child.sendintr()
        child.expect_exact("cancelled 1, kept 0 results")
        child.expect_exact("In [9]: ")
        assert "has stopped" in enter("%cluster stop", 9)
    finally:
        child.sendline("exit()")
        child.expect(pexpect.EOF)
        child.close()
