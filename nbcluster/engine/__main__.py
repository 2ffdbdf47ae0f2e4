"""The process itself: ``python -m nbcluster.engine``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from nbcluster.engine.options import EngineOptions


def parser() -> argparse.ArgumentParser:
    """Return the parser of an engine's flags."""
    new = argparse.ArgumentParser(prog="python -m nbcluster.engine", description="Run one engine.")
    add = new.add_argument
    add("--connection", type=Path, required=True, help="the cluster's connection file")
    add("--engine", default="", metavar="ID", help="id of this engine; default: a random one")
    add("--group", default="default", metavar="G1,G2", help="groups whose tasks it takes")
    add("--slots", type=int, default=1, metavar="N", help="attempts at a time")
    add("--owner-fd", type=int, metavar="FD", help="end when the other end of this pipe closes")
    add("--owner-pid", type=int, metavar="PID", help="end when this process ends")
    add("--memory-limit", type=int, default=0, metavar="BYTES", help="data of one executor")
    add(
        "--import",
        dest="imports",
        nargs="*",
        action="extend",
        default=[],
        metavar="MODULE",
        help="modules that each executor imports at its start",
    )
    add("--log", type=Path, metavar="FILE", help="log file; default: standard error")
    add("--log-level", default="INFO", metavar="LEVEL")
    return new


def parse(argv: Sequence[str]) -> EngineOptions:
    """Return the options that the flags name."""
    found = vars(parser().parse_args(argv))
    groups = tuple(name for name in found.pop("group").split(",") if name)
    found["imports"] = tuple(found["imports"])
    return EngineOptions(groups=groups, **found)


def main(argv: Sequence[str]) -> int:
    """Run one engine with these flags; return its exit code."""
    options = parse(argv)
    from nbcluster.engine.serving import serve

    return serve(options)


if __name__ == "__main__":
    # As in the executor: a file of the user's own must not stand in front of what we import.
    if sys.path[0] == os.getcwd() != str(Path(__file__).resolve().parents[2]):
        del sys.path[0]
    sys.exit(main(sys.argv[1:]))
