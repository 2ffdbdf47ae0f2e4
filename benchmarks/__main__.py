"""``python -m benchmarks``: measure, print one table, write it as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.figures import FIGURES, Figure
from benchmarks.outcome import Report
from benchmarks.peers import PEERS
from benchmarks.runner import Plan, run
from benchmarks.scale import WORKERS, Scale
from benchmarks.table import as_json, render

RESULT = Path("benchmarks/results/latest.json")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; an unknown name ends the program with status 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--peers", type=_Names(PEERS), default=tuple(PEERS), metavar="NAME,...")
    names = [figure.name for figure in FIGURES]
    add("--only", type=_Names(names), default=(), metavar="FIGURE,...", help=", ".join(names))
    add("--repeat", type=int, help="measurements of each figure (default 3, with --quick 1)")
    add("--quick", action="store_true", help="small sizes: a look, not a measurement")
    add("--full", action="store_true", help="also with 1,000,000 queued tasks")
    add("--json", type=Path, default=RESULT, metavar="FILE", help="default: %(default)s")
    add("--deadline-factor", type=float, default=1.0, help="for a machine that is very slow")
    options = parser.parse_args(arguments)
    if options.repeat is None:
        options.repeat = 1 if options.quick else 3
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    if options.quick and options.full:
        parser.error("--quick and --full exclude each other")
    return options


class _Names:
    """A comma-separated choice of known names."""

    def __init__(self, known: Iterable[str]) -> None:
        self.known = tuple(known)

    def __call__(self, text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        for name in names:
            if name not in self.known:
                raise argparse.ArgumentTypeError(
                    f"{name!r} is not known; known are {', '.join(self.known)}"
                )
        return names


def chosen_figures(only: Sequence[str], *, full: bool) -> tuple[Figure, ...]:
    """Return the figures named, or all that are not long unless asked for in full."""
    if only:
        return tuple(figure for figure in FIGURES if figure.name in only)
    return tuple(figure for figure in FIGURES if full or not figure.is_long)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark. A missed budget is a fact to print, not a failure of the program."""
    options = parse(arguments)
    figures = chosen_figures(options.only, full=options.full)
    scale = Scale.of(quick=options.quick, full=options.full)
    plan = Plan(options.peers, figures, options.repeat, scale, options.deadline_factor)
    report = Report(systems={name: PEERS[name]().version() for name in options.peers})
    report.machine = machine.describe()
    size = "quick" if options.quick else "full" if options.full else "default"
    report.settings = {
        "workers": WORKERS,
        "median of": options.repeat,
        "sizes": size,
        "journal": "on",
    }
    run(plan, report, lambda line: print(line, file=sys.stderr, flush=True))
    report.machine["load after"] = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    print(render(report, figures))
    text = json.dumps(as_json(report, figures), indent=2, ensure_ascii=False)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
