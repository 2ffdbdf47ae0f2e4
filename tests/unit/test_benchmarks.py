"""The benchmark's own arithmetic: medians, order of turns, budgets, table, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import views
from benchmarks.__main__ import chosen_figures, parse
from benchmarks.budgets import BUDGETS, AtLeast, AtMost, Times
from benchmarks.figures import FIGURES, Figure, Row
from benchmarks.outcome import FAILED, MEASURED, MISSING, Outcome, Report
from benchmarks.peers import PEERS
from benchmarks.peers.ours import flat_pids
from benchmarks.runner import ROOT, child_environment, turns
from benchmarks.scale import Scale
from benchmarks.stats import Summary, median, quantile, scaled_count
from benchmarks.table import as_json, ratio, render, times, verdict

SPEED = Figure("throughput", "nowhere:none", (Row("throughput", "speed", "tasks/s"),))


def report_of(**rates: float) -> Report:
    """Return a report with one figure for each system."""
    report = Report(systems=dict.fromkeys(rates, "1.0"))
    for system, rate in rates.items():
        report.add("throughput", system, Outcome(MEASURED, {"throughput": rate}))
    return report


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def table_lines(report: Report) -> list[list[str]]:
    lines = render(report, [SPEED]).splitlines()
    return [cells(line) for line in lines if line.startswith("|")]


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [([3, 1, 2], 0.5, 2), ([1, 2, 3, 4], 0.5, 2.5), ([1, 2], 1, 2), ([1, 2], 0, 1), ([7], 0.99, 7)],
)
def test_a_quantile_lies_on_the_line_between_its_neighbours(
    samples: list[float], share: float, expected: float
) -> None:
    assert quantile(samples, share) == expected


@pytest.mark.parametrize(("samples", "share"), [([], 0.5), ([1.0], 1.1), ([1.0], -0.1)])
def test_a_quantile_of_nothing_or_outside_of_0_to_1_is_refused(
    samples: list[float], share: float
) -> None:
    with pytest.raises(ValueError, match=r"samples|share"):
        quantile(samples, share)


def test_a_summary_holds_median_extremes_and_count() -> None:
    assert Summary.of([5, 1, 3]) == Summary(median=3, low=1, high=5, runs=3)
    assert median([5, 1, 3]) == 3


def test_a_slow_system_gets_fewer_items_and_a_fast_one_no_more_than_asked_for() -> None:
    assert scaled_count(rate=1_000, seconds=2, least=200, most=20_000) == 2_000
    assert scaled_count(rate=1, seconds=2, least=200, most=20_000) == 200
    assert scaled_count(rate=1e6, seconds=2, least=200, most=20_000) == 20_000


def test_each_turn_visits_every_system_and_begins_with_another_one() -> None:
    order = turns(["a", "b", "c"], 2)

    assert order == [(0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "c"), (1, "a")]
    assert turns([], 2) == []


def test_a_ceiling_and_a_floor_judge_only_our_own_figure() -> None:
    assert AtMost(10).is_met({"nbcluster": 10, "dask": 99}) is True
    assert AtMost(10).is_met({"nbcluster": 10.1}) is False
    assert AtLeast(10).is_met({"nbcluster": 10}) is True
    assert AtLeast(10).is_met({"nbcluster": 9.9}) is False
    assert AtMost(10).is_met({"dask": 1}) is None
    assert AtLeast(10).is_met({"dask": 99}) is None


def test_a_multiple_is_judged_against_the_best_peer_that_was_measured() -> None:
    budget = Times(2, ("dask", "ray"))

    assert budget.is_met({"nbcluster": 20, "dask": 1, "ray": 10, "loky": 500}) is True
    assert budget.is_met({"nbcluster": 19, "dask": 1, "ray": 10}) is False
    assert budget.is_met({"nbcluster": 19, "dask": 1}) is True
    assert budget.is_met({"nbcluster": 19, "loky": 500}) is None
    assert budget.is_met({"dask": 1, "ray": 10}) is None


def test_every_budget_belongs_to_a_row_and_names_known_systems() -> None:
    rows = {row.key for figure in FIGURES for row in figure.rows}
    named = {
        peer
        for budgets in BUDGETS.values()
        for budget in budgets
        if isinstance(budget, Times)
        for peer in budget.peers
    }

    assert set(BUDGETS) <= rows
    assert named <= set(PEERS)


def test_row_keys_are_unique_and_every_system_goes_by_its_own_name() -> None:
    rows = [row.key for figure in FIGURES for row in figure.rows]

    assert len(rows) == len(set(rows))
    assert {name: make().name for name, make in PEERS.items()} == {name: name for name in PEERS}


def test_one_missed_budget_of_a_row_is_a_miss_and_one_not_judged_is_no_success() -> None:
    # Our throughput has to be five times that of the pool and 25 times that of Dask.
    assert verdict(report_of(nbcluster=50, process=10, dask=2), "throughput") == "met"
    assert verdict(report_of(nbcluster=50, process=10, dask=3), "throughput") == "missed"
    assert verdict(report_of(nbcluster=50, process=11), "throughput") == "missed"
    assert verdict(report_of(nbcluster=50, process=10), "throughput") == "not judged"
    assert verdict(report_of(nbcluster=50), "no such row") == ""


def test_a_ratio_is_the_peers_figure_divided_by_ours() -> None:
    report = report_of(nbcluster=50, process=10)

    assert ratio(report, "throughput", "process") == 0.2
    assert ratio(report, "throughput", "nbcluster") is None
    assert ratio(report_of(process=10), "throughput", "process") is None
    assert ratio(report_of(nbcluster=0, process=10), "throughput", "process") is None


def test_a_large_ratio_is_written_out() -> None:
    assert [times(share) for share in (0.0123, 1.26, 36.4, 1120)] == [
        "0.012×",
        "1.3×",
        "36×",
        "1,120×",
    ]


def test_a_cell_shows_the_median_of_the_repeats_and_the_ratio() -> None:
    report = report_of(nbcluster=50_000, process=9_000)
    report.add("throughput", "process", Outcome(MEASURED, {"throughput": 11_000}))

    head, _, line = table_lines(report)

    assert head == ["figure", "nbcluster", "process", "budget", "verdict"]
    assert line[1:3] == ["50,000", "10,000 (0.2×)"]
    assert line[-1] == "not judged"


def test_a_failed_a_missing_and_an_unasked_system_are_told_apart_in_the_table() -> None:
    report = Report(systems={"process": "1", "ray": "not installed", "dask": "1"})
    report.add("throughput", "process", Outcome(FAILED, reason="OSError: no | left\nat all, none"))
    report.add("throughput", "ray", Outcome(MISSING, reason="not installed"))

    _, _, line = table_lines(report)

    assert line[1:4] == ["failed: OSError: no / left at al…", "missing", "–"]
    assert "process failed in throughput: OSError: no | left at all, none" in render(report)


def test_the_first_failure_of_a_repeat_is_the_one_that_is_told() -> None:
    report = Report(systems={"process": "1"})
    report.add("throughput", "process", Outcome(FAILED, reason="first"))
    report.add("throughput", "process", Outcome(FAILED, reason="second"))

    assert report.failures["throughput"]["process"].reason == "first"


def test_all_lines_of_the_table_are_of_one_width() -> None:
    lines = render(report_of(nbcluster=50_000, process=1)).splitlines()

    assert len({len(line) for line in lines if line.startswith("|")}) == 1


def test_the_json_holds_medians_samples_ratios_failures_and_verdicts() -> None:
    report = report_of(nbcluster=50, process=10, dask=2)
    report.systems["ray"] = "1"
    report.add("throughput", "ray", Outcome(FAILED, reason="no result in 90 s"))
    report.machine["cores"] = "2 of 2"

    found = json.loads(json.dumps(as_json(report, [SPEED])))

    assert found["machine"] == {"cores": "2 of 2"}
    row = found["figures"]["throughput"]
    assert row["verdict"] == "met"
    assert row["values"]["process"] == {
        "median": 10, "low": 10, "high": 10, "runs": 1, "samples": [10], "ratio": 0.2,
    }  # fmt: skip
    assert row["values"]["ray"] == {"status": "failed", "reason": "no result in 90 s"}


def test_unknown_names_and_numbers_that_make_no_sense_end_with_status_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (["--peers", "celery"], ["--only", "fun"], ["--repeat", "0"]):
        with pytest.raises(SystemExit) as raised:
            parse(arguments)
        assert raised.value.code == 2
    assert "known are" in capsys.readouterr().err


def test_a_quick_look_is_taken_once_and_a_measurement_three_times() -> None:
    assert parse(["--quick"]).repeat == 1
    assert parse([]).repeat == 3
    assert parse(["--quick", "--repeat", "5"]).repeat == 5
    assert parse(["--peers", "process, loky"]).peers == ("process", "loky")


def test_long_figures_run_only_in_full_or_by_name() -> None:
    long = {figure.name for figure in FIGURES if figure.is_long}

    assert long
    assert not long & {figure.name for figure in chosen_figures((), full=False)}
    assert long <= {figure.name for figure in chosen_figures((), full=True)}
    assert {figure.name for figure in chosen_figures(tuple(long), full=False)} == long
    assert Scale.of(quick=True).tasks < Scale().tasks
    assert Scale.of(full=True).queued == 1_000_000


def test_a_figure_of_ours_alone_is_not_asked_of_peers() -> None:
    by_name = {figure.name: figure for figure in FIGURES}

    assert by_name["queued_memory"].is_for("nbcluster")
    assert not by_name["queued_memory"].is_for("dask")
    assert by_name["throughput"].is_for("dask")


def test_process_ids_come_out_of_a_column_of_numbers_lists_and_gaps() -> None:
    assert flat_pids([12, [13, 14], None, float("nan"), 15.0, ()]) == [12, 13, 14, 15]


def test_a_measured_system_keeps_its_files_in_its_own_directory(tmp_path: Path) -> None:
    given = {
        "NBCLUSTER_HOME": "mine",
        "NBCLUSTER_ENGINES": "9",
        "HOME": "h",
        "PYTHONPATH": "p",
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    child = child_environment(given, tmp_path, "cache")

    for name in ("TMPDIR", "NBCLUSTER_HOME", "IPYTHONDIR"):
        assert Path(child[name]).parent == tmp_path
        assert Path(child[name]).is_dir()
    assert child["HOME"] == "h"
    assert "NBCLUSTER_ENGINES" not in child
    assert child["PYTHONPATH"] == f"{ROOT}{os.pathsep}p"
    assert child["PYTHONPYCACHEPREFIX"] == "cache"
    assert "PYTHONDONTWRITEBYTECODE" not in child


def test_byte_code_goes_where_python_puts_it_unless_the_user_forbids_it(tmp_path: Path) -> None:
    assert "PYTHONPYCACHEPREFIX" not in child_environment({}, tmp_path, "cache")


def test_the_measured_process_has_imported_nothing_that_a_system_would_import() -> None:
    code = (
        "import sys, benchmarks.measure as m;"
        "print([n for n in ('zmq', 'numpy', 'psutil', 'msgspec', 'asyncio', 'subprocess',"
        " 'multiprocessing', 'importlib.metadata') if n in sys.modules])"
    )

    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert run.stdout.strip() == "[]"


# --------------------------------------------------------------------------- views


def test_a_refresh_of_the_live_view_tells_only_what_has_changed() -> None:
    refresh = views.live(1_000)

    assert max(refresh(1), refresh(2)) < 50 * 50 + 1_000


def test_the_table_of_views_says_what_is_missing_and_what_the_budget_is() -> None:
    told: dict[int, dict[str, float] | str] = {
        count: {"kernel_ms": 20.0, "bytes": 5.0} for count in views.SIZES
    }

    text = views.render({"nbcluster": told, "other": dict.fromkeys(views.SIZES, "not installed")})

    assert "| nbcluster | 20.0; 5 |" in text
    assert "not installed" in text
    assert "10.0% of a core in the kernel (budget 5%: missed)" in text
