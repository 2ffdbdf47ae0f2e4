"""``doctor``: prints what `nbcluster.cluster.doctor` finds."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import asdict
from typing import Final

from nbcluster.cli.flags import Flags, Verb
from nbcluster.cli.output import print_json
from nbcluster.cluster.doctor import examine
from nbcluster.cluster.findings import Finding, Grade

_COLOURS: Final = {Grade.OK: "32", Grade.WARN: "33", Grade.FAIL: "31"}


def doctor_flags(flags: Flags) -> None:
    """Add the flags of ``doctor``."""
    flags.name("the cluster to look at more closely")
    flags.json()


def run_doctor(args: Namespace) -> int:
    """Print a line for each check, and what to do where something is wrong."""
    findings = examine(args.name)
    if args.json:
        print_json([asdict(finding) for finding in findings])
    else:
        for line in lines_of(findings, colour=sys.stdout.isatty()):
            print(line)
    return 1 if any(f.grade is Grade.FAIL for f in findings) else 0


def lines_of(findings: list[Finding], *, colour: bool = False) -> list[str]:
    """Return the findings as text; a remedy stands on a line of its own."""
    width = max((len(f.check) for f in findings), default=0)
    lines = []
    for finding in findings:
        grade = f"{finding.grade:<4}"
        if colour:
            grade = f"\x1b[{_COLOURS[finding.grade]}m{grade}\x1b[0m"
        lines.append(f"{grade}  {finding.check:<{width}}  {finding.text}")
        if finding.remedy:
            lines.append(f"{'':{width + 8}}-> {finding.remedy}")
    return lines


VERBS = {"doctor": Verb(doctor_flags, run_doctor)}
