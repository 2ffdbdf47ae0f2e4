"""``%%remote`` and ``%remote`` in a real kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

import nbcluster
from tests.helpers import eventually, note_clusters
from tests.notebooks.kernels import VERSIONS, Kernel, kernel
from tests.notebooks.outputs import Outputs, execute, follow

_NUMBERS: Final = count(1)


@pytest.fixture(scope="module", params=VERSIONS)
def shared(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    open_clusters: list[nbcluster.Cluster],
) -> Iterator[Kernel]:
    """Return a kernel with a cluster of two engines; all tests of the module share it."""
    with kernel(tmp_path_factory.mktemp("kernel"), request.param) as found:
        name = f"cells-{os.getpid()}-{next(_NUMBERS)}"
        found.run("%load_ext nbcluster\nimport os, time\n%cluster config view=off")
        found.run(f"%cluster start -n 2 --name {name}")
        note_clusters()
        watcher = nbcluster.connect(name)
        open_clusters.append(watcher)
        yield found
        watcher.close()
        found.run("%cluster stop")
    open_clusters.clear()


@pytest.fixture
def watcher(shared: Kernel, open_clusters: list[nbcluster.Cluster]) -> nbcluster.Cluster:
    """Return a second handle of the kernel's cluster, to look at it while the kernel is busy."""
    return open_clusters[0]


@pytest.fixture
def ipython(shared: Kernel) -> Kernel:
    """Return the shared kernel, as if it had just been started."""
    shared.run("%cluster config on_interrupt=cancel\ncluster.cancel()")
    return shared


def remote(ipython: Kernel, body: str, line: str = "") -> Outputs:
    return execute(ipython, f"%%remote {line}\n{body}")


def submitted(ipython: Kernel) -> Any:
    return ipython.value("len(cluster.tasks())")


# --------------------------------------------------------------------------- values


def test_what_a_cell_reads_goes_along_and_what_is_named_comes_home(ipython: Kernel) -> None:
    ipython.run("x = 20\nimport math as m\ndef area(): return m.floor(side ** 2)\nside = 2.5")

    done = remote(ipython, "z = x + 1\nhidden = 1\nside = 3\nz * area()", "product -o z")

    assert (done.status, done.bundles) == ("ok", [])
    assert ipython.value("[product, z, side, 'hidden' in globals()]") == [189, 21, 2.5, False]


def test_without_a_name_the_value_is_only_shown(ipython: Kernel) -> None:
    done = remote(ipython, "import pandas as pd\npd.DataFrame({'column': [1, 2]})")

    assert "<th>column</th>" in done.bundles[0]["text/html"]
    assert "column" in done.bundles[0]["text/plain"]


def test_a_name_that_analysis_cannot_find_goes_along_with_i(ipython: Kernel) -> None:
    ipython.run("secret = 41")

    assert "NameError" in remote(ipython, "eval('secret')").error
    assert remote(ipython, "eval('secret') + 1", "-i secret").text == "42"


def test_submodules_that_the_cell_reaches_are_imported(ipython: Kernel) -> None:
    ipython.run("import xml.dom.minidom, concurrent.futures")

    done = remote(ipython, "xml.dom.minidom.parseString('<a/>').documentElement.tagName")

    assert done.text == "'a'"


def test_a_function_made_by_a_cell_comes_home_with_what_it_uses(ipython: Kernel) -> None:
    remote(ipython, "scale = 3\ndef scaled(x): return x * scale", "-o scaled")

    assert ipython.value("scaled(5)") == 15


def test_all_runs_on_every_engine_and_n_runs_copies(ipython: Kernel) -> None:
    done = remote(ipython, "import os\nprint('here')\nos.getpid()", "pids --all")
    assert ipython.value("sorted(pids) == sorted(cluster.engines().index)")
    assert ipython.value("len(set(pids.values()))") == 2
    assert sorted(line.partition("]")[2] for line in done.stdout.splitlines()) == [" here"] * 2
    assert done.stdout.startswith("[0, engine ") or done.stdout.startswith("[1, engine ")

    remote(ipython, "k = 2\nk * 3", "six -n 3 -o k")
    assert ipython.value("[six, k]") == [[6, 6, 6], [2, 2, 2]]


def test_options_reach_the_task(ipython: Kernel) -> None:
    done = remote(ipython, "nbcluster = 1\n1 / 0", "--retries 1 --priority 3")
    assert "failed after 2 attempts; last error: ZeroDivisionError" in done.error

    done = remote(ipython, "import time\ntime.sleep(60)", "--timeout 0.3")
    assert done.ename == "TaskTimeoutError"

    assert "group 'nowhere'" in ipython.run(
        "f = %remote --group nowhere 1\nprint(f.why()); f.cancel()"
    )


def test_a_large_name_is_mentioned_once(ipython: Kernel) -> None:
    ipython.run("import numpy; large = numpy.zeros(2_000_000)")

    assert "large goes along: 16 MB" in remote(ipython, "large.sum()").stdout
    assert remote(ipython, "large.sum()").stdout == ""


def test_await_works_at_the_top_level(ipython: Kernel) -> None:
    done = remote(ipython, "import asyncio\nawait asyncio.sleep(0.01)\n'slept'")

    assert done.text == "'slept'"


# --------------------------------------------------------------------------- %remote


def test_an_expression_gives_a_future(ipython: Kernel) -> None:
    ipython.run("y = 3\ndef f(a, b=''): return a * y, b")
    ipython.run("fut = %remote --retries 2 f(2, 'a  b')")

    assert ipython.value("[fut.result(10), fut.name]") == [[6, "a  b"], "f(2, 'a  b')"]


@pytest.mark.parametrize("expression", ["", "x = 1", "import os"])
def test_what_is_no_expression_is_a_usage_error(ipython: Kernel, expression: str) -> None:
    assert "UsageError: %remote" in execute(ipython, f"%remote {expression}").stderr


# --------------------------------------------------------------------------- errors


def test_an_error_is_the_users_own_with_lines_of_the_cell_and_no_others(ipython: Kernel) -> None:
    ipython.run("class Odd(Exception): pass\nx = 0")

    done = remote(ipython, "\ndef f():\n    raise Odd(x)\n\nf()")

    assert (done.status, done.ename) == ("error", "Odd")
    assert "line 6, in <module>\n    f()" in done.error
    assert "line 4, in f\n    raise Odd(x)" in done.error
    assert 'File "<remote In[' in done.error
    assert "nbcluster" not in done.error
    assert "ipython" not in done.error.lower()


def test_carets_show_the_place_of_an_error(ipython: Kernel) -> None:
    ipython.run("x = 0")

    assert "    b = 1 + 2 / x\n            ~~^~~" in remote(ipython, "b = 1 + 2 / x").error


def test_a_syntax_error_is_shown_at_its_line_and_nothing_is_sent(ipython: Kernel) -> None:
    before = submitted(ipython)

    done = remote(ipython, "a = 1\nfor i in range(3)\n    pass")

    assert (done.status, done.ename) == ("error", "SyntaxError")
    assert "line 3\n    for i in range(3)\n                     ^" in done.error
    assert "File" not in done.error.replace('File "<remote In[', "")
    assert submitted(ipython) == before


def test_a_syntax_error_of_what_a_task_compiles_is_its_error(ipython: Kernel) -> None:
    done = remote(ipython, "exec('1 +')")

    assert done.ename == "SyntaxError"
    assert "line 2, in <module>\n    exec('1 +')" in done.error


@pytest.mark.parametrize(
    ("line", "body", "told"),
    [
        ("-o never", "a = 1", "-o never: the cell never assigns it; nothing was sent"),
        ("-i unknown", "a = 1", "-i unknown: there is no such name"),
        ("", "# nothing", "the cell is empty; nothing was sent"),
        ("", " ", "the cell is empty; nothing was sent"),
        ("", "%%remote\n1", "%%remote inside of %%remote"),
        ("--nonsense", "1", "there is no flag --nonsense"),
        ("value", "a = 1", "the cell's last line is no expression"),
        ("--all -n 2", "a = 1", "--all and -n contradict each other"),
        ("-c nowhere-at-all", "a = 1", "no cluster 'nowhere-at-all' is running"),
        ("--timeout -1", "a = 1", "timeout"),
    ],
)
def test_bad_input_is_a_usage_error_of_one_line(
    ipython: Kernel, line: str, body: str, told: str
) -> None:
    before = submitted(ipython)

    done = remote(ipython, body, line)

    assert done.status == "error"
    assert told in done.stderr
    assert done.stderr.startswith("UsageError: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert submitted(ipython) == before


def test_a_magic_inside_of_a_cell_is_a_syntax_error_that_says_so(ipython: Kernel) -> None:
    done = remote(ipython, "a = 1\n%time a")

    assert "magics and shell commands do not run on engines" in done.error


def test_input_fails_at_once_and_says_why(ipython: Kernel) -> None:
    done = remote(ipython, "input('name? ')")

    assert (done.ename, "cannot be answered on an engine" in done.error) == ("EOFError", True)


def test_what_cannot_travel_is_named(ipython: Kernel) -> None:
    ipython.run("going = (i for i in [1])")

    done = remote(ipython, "next(going)")

    assert done.ename == "UnpicklableError"
    assert "the name that the cell reads cannot be pickled: 'going'" in done.error
    assert "Traceback" not in done.error


def test_an_engine_that_dies_under_a_cell_is_told_of(ipython: Kernel) -> None:
    done = remote(ipython, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")

    assert done.ename == "TaskCrashedError"
    assert "SIGKILL" in done.error


# --------------------------------------------------------------------------- output


def test_prints_logs_and_warnings_appear_below_the_cell(ipython: Kernel) -> None:
    done = remote(
        ipython,
        "import logging, sys, warnings\nprint('one')\nlogging.warning('two')\n"
        "warnings.warn('three')\nprint('four', file=sys.stderr)",
    )

    assert done.stdout == "one\n"
    assert all(word in done.stderr for word in ("two", "UserWarning: three", "four"))


def test_output_comes_while_the_cell_runs(ipython: Kernel, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    ipython.run(f"gate = {str(gate)!r}")
    cell = ipython.begin(
        "%%remote\nimport os, time\nprint('begun')\n"
        "while not os.path.exists(gate): time.sleep(0.01)\nprint('ended')"
    )
    seen = Outputs()

    follow(ipython, seen, lambda: seen.stdout == "begun\n")
    gate.touch()
    follow(ipython, seen, lambda: seen.stdout == "begun\nended\n")

    assert ipython.outcome(cell)["status"] == "ok"


def test_shown_things_stand_between_what_is_printed(ipython: Kernel) -> None:
    done = remote(
        ipython,
        "import matplotlib.pyplot as plt\nprint('before')\nplt.plot([1, 2])\nplt.show()\n"
        "from IPython.display import HTML, display as show\n"
        "show(HTML('<script>1</script>'))\nplt.plot([2, 1]);",
    )

    kinds = [next(iter(data)) for data in done.bundles]
    assert kinds == ["image/png", "text/html", "image/png"]
    assert done.bundles[1]["text/html"] == "<script>1</script>"
    assert done.bundles[0]["image/png"].startswith("iVBOR")
    assert (done.stdout, done.stderr) == ("before\n", "")


def test_tasks_draw_without_a_window_whatever_the_notebook_draws_with(ipython: Kernel) -> None:
    ipython.run("cluster.restart()")  # a cell may have run in the executors before

    backend = ipython.value("cluster.submit(os.getenv, 'MPLBACKEND').result(20)")

    assert backend == "agg"


def test_a_figure_of_too_many_pixels_is_drawn_smaller_and_that_is_said(ipython: Kernel) -> None:
    done = remote(
        ipython, "import matplotlib.pyplot as plt\nplt.figure(figsize=(100, 100), dpi=100);"
    )

    assert "a figure of 10000 x 10000 pixels is shown with 2000 x 2000" in done.stdout
    assert len(done.bundles[0]["image/png"]) < 1_000_000


def test_an_endless_loop_of_prints_is_capped_and_can_be_stopped(
    ipython: Kernel, watcher: nbcluster.Cluster
) -> None:
    seen = Outputs()
    cell = ipython.begin("%%remote\nwhile True: print('again and again')")
    follow(ipython, seen, lambda: len(seen.stdout) > 20_000)

    ipython.interrupt()

    assert ipython.outcome(cell)["ename"] == "KeyboardInterrupt"
    assert remote(ipython, "1 + 1").text == "2"
    assert len(seen.stdout) <= 1_000_000


def test_of_much_output_the_middle_is_left_out_and_that_is_said(ipython: Kernel) -> None:
    done = remote(ipython, "for i in range(2_000_000): print('a line of 20 bytes.')\nprint('END')")

    assert len(done.stdout) <= 1_000_000
    assert "bytes left out" in done.stdout
    assert done.stdout.endswith("END\n")
    assert remote(ipython, "1 + 1").text == "2"


# --------------------------------------------------------------------------- in the background


def test_a_background_cell_binds_its_future_and_later_its_outputs(
    ipython: Kernel, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    ipython.run(f"gate = {str(gate)!r}")
    done = remote(
        ipython,
        "import os, time\nprint('begun')\n"
        "while not os.path.exists(gate): time.sleep(0.01)\n"
        "print('ended')\nscore = 7\nscore * 2",
        "--bg fit -o score",
    )

    assert done.status == "ok"
    follow(ipython, done, lambda: "begun" in done.text)
    assert ipython.value("'score' in globals()") is False
    gate.touch()
    follow(ipython, done, lambda: "ended" in done.text and "succeeded" in done.text)
    assert ipython.value("fit.result(10)") == 14
    eventually(lambda: ipython.value("globals().get('score')") == 7)


def test_output_of_a_background_cell_goes_below_it_while_another_one_runs(
    ipython: Kernel, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    ipython.run(f"gate = {str(gate)!r}")
    first = remote(
        ipython,
        "import os, time\nwhile not os.path.exists(gate): time.sleep(0.01)\nprint('late')",
        "--bg",
    )
    cell = ipython.begin("open(gate, 'w').close(); time.sleep(1.5)")

    follow(ipython, first, lambda: "late" in first.text)

    assert first.stdout == ""
    assert ipython.outcome(cell)["status"] == "ok"


# --------------------------------------------------------------------------- the Stop button


def begin_sleeping(
    ipython: Kernel, watcher: nbcluster.Cluster, line: str = "", copies: int = 1
) -> str:
    cell = ipython.begin(f"%%remote {line}\nimport time\ntime.sleep(60)")
    eventually(lambda: watcher.stats()["running"] == copies)
    return cell


def test_stop_cancels_the_cells_tasks_and_no_others(
    ipython: Kernel, watcher: nbcluster.Cluster
) -> None:
    ipython.run("other = cluster.submit(time.sleep, 60)")
    eventually(lambda: watcher.stats()["running"] == 1)
    pids = sorted(watcher.engines().executor_pid)
    cell = begin_sleeping(ipython, watcher, "-n 3", copies=2)

    ipython.interrupt()
    stopped_at = time.monotonic()
    outcome = ipython.outcome(cell)

    assert outcome["ename"] == "KeyboardInterrupt"
    assert outcome["traceback"][:2] == [
        "KeyboardInterrupt: the cell was stopped",
        "cancelled 3, kept 0 results",
    ]
    assert len(outcome["traceback"]) == 3
    assert remote(ipython, "1 + 1").text == "2"
    assert time.monotonic() - stopped_at < 3
    assert ipython.value("other.state") == "running"
    assert sorted(watcher.engines().executor_pid) == pids


def test_results_that_there_are_when_a_cell_is_stopped_are_kept(
    ipython: Kernel, watcher: nbcluster.Cluster, tmp_path: Path
) -> None:
    ipython.run(f"first = {str(tmp_path / 'first')!r}")
    before = watcher.stats()["succeeded"]
    cell = ipython.begin(
        "%%remote value --all\nimport os, time\n"
        "try: os.mkdir(first)\nexcept FileExistsError: time.sleep(60)\n'kept'"
    )
    eventually(lambda: watcher.stats()["succeeded"] == before + 1)

    ipython.interrupt()

    assert ipython.outcome(cell)["traceback"][1] == "cancelled 1, kept 1 result in _partial"
    assert ipython.value("[_partial, 'value' in globals()]") == [["kept"], False]


def test_stop_lets_tasks_go_on_if_it_is_to_detach(
    ipython: Kernel, watcher: nbcluster.Cluster
) -> None:
    ipython.run("%cluster config on_interrupt=detach")
    cell = begin_sleeping(ipython, watcher)

    ipython.interrupt()

    outcome = ipython.outcome(cell)
    assert outcome["ename"] == "KeyboardInterrupt"
    assert outcome["traceback"][0] == "KeyboardInterrupt: the cell waits no more"
    assert watcher.stats()["running"] == 1


def test_a_cell_that_cannot_run_says_why_instead_of_nothing(ipython: Kernel) -> None:
    seen = Outputs()
    cell = ipython.begin("%%remote --group nowhere\n1")

    follow(ipython, seen, lambda: "no engine" in seen.text)
    ipython.interrupt()

    assert ipython.outcome(cell)["ename"] == "KeyboardInterrupt"
