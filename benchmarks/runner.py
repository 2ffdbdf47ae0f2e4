"""Goes round figures, repeats and systems; each measurement is a process with a deadline.

A system may hang, crash, or leave processes behind. The runner makes itself the reaper of its
orphans, so that after each measurement it can find and end all that is left, by process id.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import psutil

from benchmarks.figures import FIGURES, Figure
from benchmarks.outcome import FAILED, MISSING, Outcome, Report
from benchmarks.scale import Scale

ROOT = Path(__file__).resolve().parent.parent
PR_SET_CHILD_SUBREAPER = 36
STOP_S = 20.0  #: beyond the deadline, for a system that has been measured and shuts down
LINGER_S = 3.0  #: processes may end this long after their client without a note
REASON_CHARACTERS = 300
SETTINGS = "NBCLUSTER_"  #: what their environment variables begin with


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured."""

    systems: tuple[str, ...]
    figures: tuple[Figure, ...] = FIGURES
    repeat: int = 3
    scale: Scale = field(default_factory=Scale)
    deadline_factor: float = 1.0
    bytecode: str = ""  #: where byte code may be cached; empty: where Python does it by itself


def turns(systems: Sequence[str], repeat: int) -> list[tuple[int, str]]:
    """Return the order of one figure's measurements: round and round, another first each time."""
    order: list[tuple[int, str]] = []
    for turn in range(repeat):
        shift = turn % len(systems) if systems else 0
        order += [(turn, system) for system in (*systems[shift:], *systems[:shift])]
    return order


def run(plan: Plan, report: Report, say: Callable[[str], None]) -> None:
    """Measure everything in the plan into the report; failures are part of it."""
    _adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="b-", ignore_cleanup_errors=True) as bytecode:
        _run_all(replace(plan, bytecode=bytecode), report, say)


def _run_all(plan: Plan, report: Report, say: Callable[[str], None]) -> None:
    absent: set[str] = set()
    for figure in plan.figures:
        systems = [system for system in plan.systems if figure.is_for(system)]
        if not figure.is_started:
            _fill_caches(figure, [system for system in systems if system not in absent], plan)
        for turn, system in turns(systems, plan.repeat):
            if system in absent or system in report.failures[figure.name]:
                continue
            outcome, notes = measure_apart(figure, system, plan)
            report.add(figure.name, system, outcome)
            report.notes += [note for note in notes if note not in report.notes]
            if outcome.status == MISSING:
                absent.add(system)
            say(f"{figure.name} {turn + 1}/{plan.repeat} {system}: {_brief(outcome)}")
    for figure in plan.figures:
        for system in absent:
            report.add(figure.name, system, Outcome(MISSING, reason="not installed"))


def measure_apart(figure: Figure, system: str, plan: Plan) -> tuple[Outcome, list[str]]:
    """Measure in a process of its own; return the outcome and what is to be noted."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    # Not TemporaryDirectory: what is deleted under a dying process may vanish under the deletion.
    directory = tempfile.mkdtemp(prefix="b-")  # short: ipc paths have 107 characters
    try:
        outcome, notes = _run_child(figure, system, plan, Path(directory))
    finally:
        left = _end_what_is_left(before)
        shutil.rmtree(directory, ignore_errors=True)
    if left and outcome.numbers:  # whose client was killed at the deadline has an excuse
        notes.append(f"{system} left processes behind in {figure.name}: {', '.join(left)}")
    return outcome, notes


def _run_child(
    figure: Figure, system: str, plan: Plan, directory: Path
) -> tuple[Outcome, list[str]]:
    path, errors = directory / "outcome.json", directory / "stderr"
    scale = json.dumps(asdict(plan.scale))
    command = [sys.executable, "-m", "benchmarks.measure", system, figure.name, scale, str(path)]
    deadline_s = figure.deadline_s * plan.deadline_factor
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=child_environment(os.environ, directory, plan.bytecode),
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            start_new_session=True,
        )
        is_late = _is_late(process, deadline_s, path)
    notes = [f"{system} did not stop in {STOP_S:.0f} s"] if is_late and path.exists() else []
    if path.exists():
        return Outcome(**json.loads(path.read_text(encoding="utf-8"))), notes
    if is_late:
        return Outcome(FAILED, reason=f"no result in {deadline_s:.0f} s"), notes
    last = errors.read_text(encoding="utf-8", errors="replace").strip()[-REASON_CHARACTERS:]
    return Outcome(FAILED, reason=f"exit status {process.returncode}: {last}"), notes


def _is_late(process: subprocess.Popen[bytes], deadline_s: float, path: Path) -> bool:
    """Wait for the end; kill what is late, with a little more time for a stop."""
    for seconds in (deadline_s, STOP_S):
        try:
            process.wait(seconds)
            return False
        except subprocess.TimeoutExpired:
            if not path.exists():
                break
    process.kill()
    process.wait()
    return True


def child_environment(
    environment: Mapping[str, str], directory: Path, bytecode: str
) -> dict[str, str]:
    """Return an environment in which every system keeps its files under ``directory``.

    An installed package has its byte code cached, so the measured ones may cache theirs too: in
    ``bytecode``, where the user does not want it beside the sources.
    """
    # The defaults are measured, not what the user has set for clusters of their own.
    child = {name: text for name, text in environment.items() if not name.startswith(SETTINGS)}
    paths = [str(ROOT), child.get("PYTHONPATH", "")]
    child["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    for name in ("TMPDIR", "NBCLUSTER_HOME", "IPYTHONDIR"):
        place = directory / name[0].lower()
        place.mkdir(mode=0o700)
        child[name] = str(place)
    if child.pop("PYTHONDONTWRITEBYTECODE", ""):
        child.setdefault("PYTHONPYCACHEPREFIX", bytecode)
    return child


def _fill_caches(figure: Figure, systems: Sequence[str], plan: Plan) -> None:
    """Run once unrecorded: files and byte code are to be in the caches for every repeat."""
    for system in systems:
        measure_apart(figure, system, plan)


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_what_is_left(before: set[int]) -> list[str]:
    """End the processes that have come below this one; return those that did not end alone."""
    names: list[str] = []
    while fresh := _children_besides(before):
        _, alive = psutil.wait_procs(fresh, timeout=LINGER_S)
        for process in alive:
            try:
                names.append(process.name())
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(alive, timeout=LINGER_S)
    return sorted(set(names))


def _children_besides(before: set[int]) -> list[psutil.Process]:
    return [c for c in psutil.Process().children(recursive=True) if c.pid not in before]


def _brief(outcome: Outcome) -> str:
    if outcome.numbers:
        return ", ".join(f"{row} {number:,.4g}" for row, number in outcome.numbers.items())
    return f"{outcome.status}: {outcome.reason}"
