"""``start`` and ``stop``."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError, Namespace
from contextlib import nullcontext, redirect_stdout
from typing import Any

from nbcluster.calls import import_modules
from nbcluster.cli import ending
from nbcluster.cli.flags import Flags, Verb, count
from nbcluster.cli.joining import check_module
from nbcluster.cli.output import print_json
from nbcluster.cli.reaching import kept_text, reached
from nbcluster.client.cluster import Cluster
from nbcluster.cluster import remains
from nbcluster.cluster.remains import is_abandoned, is_dead, is_kept
from nbcluster.cluster.settings import DURABILITIES
from nbcluster.cluster.start import start
from nbcluster.errors import ClusterError, JournalFullError, OptionError
from nbcluster.transport.journals import journal_elsewhere, start_command
from nbcluster.transport.rundir import ClusterDir, cluster_dir

_OPTIONS = (
    *("engines", "name", "group", "slots", "persist", "journal", "durability"),
    *("max_pending", "retention", "retention_tasks", "retention_bytes", "memory_limit"),
    "log_level",
)


def start_flags(flags: Flags) -> None:
    """Add the flags of ``start``."""
    flags.epilog = "-l also says what the cluster's processes write to their logs; default: INFO"
    add = flags.flag
    add("-n", "--engines", type=count, metavar="N", help="engines; default: 4, or as it had")
    add("--name", help="name of the cluster; default: default")
    add("--group", help="group whose tasks the engines take; default: default")
    add("--slots", type=count, metavar="N", help="attempts each engine runs at a time; default: 1")
    # None and not False, so that the environment is asked where the flag is missing.
    add(
        "--persist",
        action="store_true",
        default=None,
        help="return when it is ready, and leave it running; otherwise it ends with this command",
    )
    add("--journal", metavar="PATH", help="the journal; default: in the cluster's directory")
    add("--durability", choices=DURABILITIES, help="which failures an accepted task survives")
    add("--max-pending", type=count, metavar="N", help="open tasks at the most")
    add("--retention", type=float, metavar="S", help="seconds that ended tasks are kept")
    add("--retention-tasks", type=count, metavar="N", help="ended tasks kept at the most")
    add(
        "--retention-bytes", type=count, metavar="B", help="bytes that ended tasks keep at the most"
    )
    add("--memory-limit", type=count, metavar="B", help="bytes that each executor may take")
    add(
        "--env",
        action="append",
        type=variable,
        default=[],
        metavar="NAME=VALUE",
        help="environment variable of the cluster's processes; may be repeated",
    )
    flags.imports()
    flags.json()


def variable(text: str) -> str:
    """Return ``NAME=VALUE`` if it is one."""
    if not text.partition("=")[0] or "=" not in text:
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return text


def run_start(args: Namespace) -> int:
    """Start a cluster; without ``--persist`` stay until a signal or somebody stops it."""
    for module in args.imports:
        check_module(module)
    cluster = start(
        **{name: getattr(args, name) for name in _OPTIONS},
        env=dict(word.split("=", 1) for word in args.env) or None,
        initializer=import_modules if args.imports else None,
        initargs=(args.imports,),
    )
    stats = cluster.stats()
    if args.json:
        found = {name: stats[name] for name in ("master_pid", "engines", "slots")}
        print_json({"name": cluster.name, "directory": str(cluster.directory), **found})
        sys.stdout.flush()
    with redirect_stdout(sys.stderr) if args.json else nullcontext():
        return _stay(cluster, stats)


def _stay(cluster: Cluster, stats: dict[str, Any]) -> int:
    name = cluster.name
    print(
        f"cluster {name!r} is ready: master {stats['master_pid']}, "
        f"engines: {stats['engines']}, slots: {stats['slots']}"
    )
    print(f'  connect: nbcluster.connect("{name}")')
    print(f"  look:    nbcluster status {name}")
    if not cluster._owned:  # --persist, or it was running before
        print(f"  stop:    nbcluster stop {name}", flush=True)
        cluster.close()
        return 0
    return ending.stay(cluster, int(stats["master_pid"]))


def stop_flags(flags: Flags) -> None:
    """Add the flags of ``stop``."""
    flags.name()
    flags.epilog = (
        "Without a choice it is stopped only if no task is open. Of a cluster whose master ended\n"
        "without notice it ends the engines that wait for the next one, and removes the rest."
    )
    flags.flag("--drain", action="store_true", help="let those finish that run; keep the others")
    flags.flag("--cancel", action="store_true", help="drop them")
    flags.flag("--keep", action="store_true", help="keep them for the next start of that name")
    flags.json()


def run_stop(args: Namespace) -> int:
    """Stop a cluster, unless tasks are open and nobody said what becomes of them."""
    if args.cancel and (args.keep or args.drain):
        raise OptionError("--cancel drops what --keep and --drain keep")
    with redirect_stdout(sys.stderr) if args.json else nullcontext():
        report = _ended(args)
    if args.json:
        print_json(report)
    return 0


def _ended(args: Namespace) -> dict[str, Any]:
    """End a cluster in whatever state it is; return what it was, and whether its tasks are kept."""
    if os.sep not in args.name and is_dead(cluster_dir(args.name)):
        return _stop_dead(args)
    if os.sep not in args.name and is_kept(cluster_dir(args.name)):
        return _stop_kept(args)
    if os.sep not in args.name and args.cancel and is_abandoned(cluster_dir(args.name)):
        return _stop_kept(args)
    with reached(args.name) as cluster:
        stats = cluster.stats()
        waiting, running = ending.open_tasks(stats)
        chosen = args.cancel or args.keep or args.drain
        if (waiting or running) and not chosen:
            raise _refusal(args.name, waiting, running)
        keep = bool(args.keep or (args.drain and (waiting or running)))
        mode = "drain" if args.drain else "now" if chosen else "ask"
        journal = cluster._client.ask("info")["journal"] if keep else ""
        if args.cancel and (waiting or running):  # in a journal of one's own they would stay
            try:
                cluster._client.ask("cancel")
            except JournalFullError:
                print("the disk is full: a journal of your own keeps the open tasks as they are")
        _stop(cluster, stats, mode, keep)
    print(f"cluster {cluster.name!r} has stopped")
    if journal:
        ending.settle(cluster.name, journal, forget=not args.keep)
    kept = bool(journal) and os.path.exists(journal)
    return {"name": cluster.name, "was": "running", "kept": kept}


def _stop_dead(args: Namespace) -> dict[str, Any]:
    """End what is left of a cluster without a master: nothing can be drained there."""
    where = cluster_dir(args.name)
    journal = journal_elsewhere(where)
    keep = True if args.keep or args.drain else False if args.cancel else None
    ended = remains.end(where, keep=keep)
    print(f"cluster {where.name!r} was dead: its master had ended without notice")
    print(f"engines that were ended: {', '.join(map(str, ended)) or 'none was left'}")
    print(
        f"kept: {where.path}; {start_command(where.name, journal)} goes on with it"
        if keep
        else _removed(where, journal)
    )
    return {"name": where.name, "was": "dead", "kept": bool(keep or journal)}


def _stop_kept(args: Namespace) -> dict[str, Any]:
    """Say what is there of a cluster that does not run, or remove it."""
    where = cluster_dir(args.name)
    journal = journal_elsewhere(where)
    if args.cancel:
        remains.end(where, keep=False)
        print(_removed(where, journal))
    else:
        print(kept_text(where))
    return {"name": where.name, "was": "kept", "kept": bool(journal) or not args.cancel}


def _removed(where: ClusterDir, journal: str) -> str:
    stays = f"; its tasks stay in {journal} until you remove that" if journal else ""
    return f"removed: {where.path}{stays}"


def _refusal(name: str, waiting: int, running: int) -> ClusterError:
    return ClusterError(
        f"cluster {name!r} has tasks: {waiting} pending and {running} running; it goes on. Choose: "
        "--drain (finish what runs, keep the others), --keep (all go on at the next start), "
        "--cancel (drop them)"
    )


def _stop(cluster: Cluster, stats: dict[str, Any], mode: str, keep: bool) -> None:
    with ending.end_of(int(stats["master_pid"])) as wait:
        answer = cluster.stop(mode=mode, keep=keep)
        if not answer["stopped"]:  # a task came since we looked
            raise _refusal(cluster.name, int(answer["pending"]), int(answer["running"]))
        wait(ending.STOP_S)


VERBS = {"start": Verb(start_flags, run_start), "stop": Verb(stop_flags, run_stop)}
