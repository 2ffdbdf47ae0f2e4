"""``engine``: an engine in this process."""

from __future__ import annotations

import importlib.util
import os
import sys
from argparse import Namespace
from pathlib import Path

from nbcluster.cli.flags import Flags, Verb, count
from nbcluster.cli.reaching import require_running
from nbcluster.engine.options import EngineOptions
from nbcluster.errors import ClusterConnectionError, OptionError
from nbcluster.ids import check_name
from nbcluster.options import processes
from nbcluster.transport.rundir import FileLock, cluster_dir


def engine_flags(flags: Flags) -> None:
    """Add the flags of ``engine``."""
    add = flags.flag
    add(
        "--join",
        default=os.environ.get("NBCLUSTER_NAME") or "default",
        metavar="NAME",
        help="cluster to join, by its name or its connection file; default: default",
    )
    add("--group", default="default", metavar="G1,G2", help="groups whose tasks it takes")
    add("--slots", type=count, default=1, metavar="N", help="attempts at a time; default: 1")
    flags.imports()
    add("--no-wait", action="store_true", help="fail if no master is there yet")


def run_engine(args: Namespace) -> int:
    """Run an engine until its master tells it to leave, or a signal drains it."""
    for module in args.imports:
        check_module(module)
    connection = _connection(args.join, wait=not args.no_wait)
    if not FileLock.is_held(connection.with_name("lock")):
        _tell_waiting(args.join)
    options = EngineOptions(
        connection=connection,
        groups=tuple(check_name(name, "group") for name in args.group.split(",") if name),
        slots=processes("slots", args.slots),
        imports=tuple(args.imports),
        log_level=args.log_level or "INFO",
        tells=True,
    )
    from nbcluster.engine.serving import serve

    try:
        return 1 if serve(options) else 0
    finally:
        if os.sep not in args.join:
            cluster_dir(args.join).remove_unused()


def _tell_waiting(target: str) -> None:
    if os.sep in target:
        text = f"waiting for the cluster of {target}, which is not running; start it"
    else:
        text = (
            f"waiting for cluster {target!r}, which is not running; "
            f"start it with: nbcluster start --name {target}"
        )
    print(text, file=sys.stderr, flush=True)


def check_module(name: str) -> None:
    """Raise if executors would die at once, because there is no such module.

    Raises
    ------
    OptionError
        If it is nowhere; it is not imported here.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    top = name.partition(".")[0]
    if not top.isidentifier() or importlib.util.find_spec(top) is None:
        raise OptionError(f"--import {name}: there is no module {top!r}")


def _connection(target: str, *, wait: bool) -> Path:
    if os.sep in target:
        path = Path(target).absolute()
        if not path.parent.is_dir():
            raise ClusterConnectionError(f"there is no directory {path.parent}. Start its cluster")
        if not wait and not path.exists():
            raise ClusterConnectionError(
                f"there is no connection file {path}. Start its cluster, or leave out --no-wait"
            )
        return path
    where = cluster_dir(target)
    if not wait:
        require_running(target)
    where.create()  # an engine may be there before the master, and keeps its pages here
    return where.connection_file


VERBS = {"engine": Verb(engine_flags, run_engine)}
