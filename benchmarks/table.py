"""The report as one table for people (Markdown, so that a README can hold it) and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.budgets import BUDGETS
from benchmarks.figures import FIGURES, Figure, Row
from benchmarks.outcome import MISSING, Report
from benchmarks.peers import OURS

NOTHING = "–"
WHY_CHARACTERS = 24
VERDICTS = {True: "met", False: "missed", None: "not judged"}


def render(report: Report, figures: Sequence[Figure] = FIGURES) -> str:
    """Return the machine, the table, and what went wrong."""
    systems = list(report.systems)
    head = ["figure", *systems, "budget", "verdict"]
    body = [
        [_label(row), *(_cell(report, figure, row, s) for s in systems), *_budget(report, row)]
        for figure in figures
        for row in figure.rows
    ]
    return "\n".join([*_preface(report), "", *_grid(head, body), "", *_remarks(report)])


def as_json(report: Report, figures: Sequence[Figure] = FIGURES) -> dict[str, Any]:
    """Return everything, samples included, for a program to read."""
    return {
        "machine": report.machine,
        "settings": report.settings,
        "systems": report.systems,
        "figures": {
            row.key: _row_as_json(report, figure, row) for figure in figures for row in figure.rows
        },
        "notes": report.notes,
    }


def ratio(report: Report, row: str, system: str) -> float | None:
    """Return a system's figure divided by that of nbcluster, where both are known."""
    values = report.medians(row)
    if system == OURS or system not in values or not values.get(OURS):
        return None
    return values[system] / values[OURS]


def times(share: float) -> str:
    """Return a ratio in two digits, or in all digits before the point."""
    return f"{share:,.0f}×" if share >= 10 else f"{share:.2g}×"


def verdict(report: Report, row: str) -> str:
    """Return whether nbcluster keeps the budgets of a row; one missed is enough for a miss."""
    judged = [budget.is_met(report.medians(row)) for budget in BUDGETS.get(row, ())]
    if not judged:
        return ""
    if False in judged:
        return VERDICTS[False]
    return VERDICTS[None if None in judged else True]


def _row_as_json(report: Report, figure: Figure, row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for system in report.systems:
        summary = report.summary(row.key, system)
        failure = report.failures.get(figure.name, {}).get(system)
        if summary is not None:
            values[system] = {**asdict(summary), "samples": report.samples[row.key][system]}
            values[system]["ratio"] = ratio(report, row.key, system)
        elif failure is not None:
            values[system] = {"status": failure.status, "reason": failure.reason}
    return {
        "label": row.label,
        "unit": row.unit,
        "is_higher_better": row.is_higher_better,
        "values": values,
        "budgets": [budget.text for budget in BUDGETS.get(row.key, ())],
        "verdict": verdict(report, row.key),
    }


def _preface(report: Report) -> list[str]:
    facts = "; ".join(f"{name} {value}" for name, value in report.machine.items())
    versions = "; ".join(f"{name} {version}" for name, version in report.systems.items())
    settings = "; ".join(f"{name} {value}" for name, value in report.settings.items())
    return [f"Machine: {facts}.", f"Systems: {versions}.", f"Settings: {settings}."]


def _label(row: Row) -> str:
    return f"{row.label}, {row.unit} {'↑' if row.is_higher_better else '↓'}"


def _cell(report: Report, figure: Figure, row: Row, system: str) -> str:
    summary = report.summary(row.key, system)
    if summary is not None:
        share = ratio(report, row.key, system)
        number = f"{summary.median:,.{row.digits}f}"
        return number if share is None else f"{number} ({times(share)})"
    failure = report.failures.get(figure.name, {}).get(system)
    if failure is None:
        return NOTHING
    if failure.status == MISSING:
        return MISSING
    why = " ".join(failure.reason.split()).replace("|", "/")
    dots = "…" if len(why) > WHY_CHARACTERS else ""
    return f"{failure.status}: {why[:WHY_CHARACTERS]}{dots}"


def _budget(report: Report, row: Row) -> tuple[str, str]:
    text = "; ".join(budget.text for budget in BUDGETS.get(row.key, ()))
    return text, verdict(report, row.key)


def _grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose columns are also aligned as plain text."""
    widths = [max(len(line[place]) for line in (head, *body)) for place in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join([first, *rest])} |"

    return [line(head), line(rule), *(line(cells) for cells in body)]


def _remarks(report: Report) -> list[str]:
    remarks = [
        f"(n×): the figure divided by that of {OURS}. ↑ higher is better, ↓ lower is better. "
        f"{NOTHING}: has no meaning there, or was not asked for."
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for figure, failures in report.failures.items():
        for system, failure in failures.items():
            if failure.status != MISSING:
                reason = " ".join(failure.reason.split())
                reasons.setdefault((system, reason), []).append(figure)
    remarks += [
        f"{system} failed in {', '.join(where)}: {reason}"
        for (system, reason), where in reasons.items()
    ]
    return remarks + report.notes
