"""``list``, ``status`` and ``tasks``: tables, without the second that pandas takes to load."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Final

from nbcluster.cli.flags import Flags, Verb, count
from nbcluster.cli.output import print_json, print_table, rows_of
from nbcluster.cli.reaching import dead_text, kept_text, reached
from nbcluster.client.cluster import Cluster
from nbcluster.client.tables import columns
from nbcluster.cluster.known import COLUMNS, cluster_rows
from nbcluster.core.model import State
from nbcluster.errors import OptionError
from nbcluster.transport.rundir import cluster_dir

_ENGINES: Final = (
    *("id", "state", "group", "slots", "running", "load", "done", "pid", "host", "rss_mb"),
    "last_seen_s",
)
_TASKS: Final = (
    *("id", "name", "state", "attempts", "retries", "crashes", "group", "engine", "progress"),
    *("submitted_at", "duration_s", "note"),
)
STATES: Final = (*(str(state) for state in State), "open", "done")


# --------------------------------------------------------------------------- list


def list_flags(flags: Flags) -> None:
    """Add the flags of ``list``."""
    flags.json()


def run_list(args: Namespace) -> int:
    """List the clusters of this user on this machine."""
    rows = cluster_rows()
    if args.json:
        print_json(rows)
    elif rows:
        print_table(rows, COLUMNS)
        for row in rows:
            if row["state"] == "dead":
                print(dead_text(cluster_dir(row["name"]), row["pid"]))
            elif row["state"] == "kept":
                print(kept_text(cluster_dir(row["name"])))
    else:
        print("no clusters; start one with: nbcluster start")
    return 0


# --------------------------------------------------------------------------- status


def status_flags(flags: Flags) -> None:
    """Add the flags of ``status``."""
    flags.name()
    flags.json()


def run_status(args: Namespace) -> int:
    """Show a cluster's tasks by state, and its engines."""
    with reached(args.name) as cluster:
        stats = cluster.stats()
        engines = rows_of(cluster._client.ask("engines"))
        name, directory = cluster.name, str(cluster.directory)
    if args.json:
        print_json({"name": name, "directory": directory, "stats": stats, "engines": engines})
        return 0
    counts = ", ".join(f"{stats[state]} {state}" for state in State)
    print(f"cluster {name!r}: master {stats['master_pid']}, epoch {stats['epoch']}, {directory}")
    print(f"tasks:   {counts}")
    print(f"engines: {stats['engines']}, slots: {stats['slots']}")
    if engines:
        print_table(engines, _ENGINES)
    return 0


# --------------------------------------------------------------------------- tasks


def tasks_flags(flags: Flags) -> None:
    """Add the flags of ``tasks``."""
    flags.name()
    flags.flag("--state", choices=STATES, metavar="STATE", help=f"only these: {', '.join(STATES)}")
    flags.flag("--failed", action="store_true", help="the same as --state failed")
    flags.flag("--limit", type=count, metavar="N", help="the first so many")
    flags.json()


def run_tasks(args: Namespace) -> int:
    """Show the table of tasks."""
    if args.failed and args.state not in (None, "failed"):
        raise OptionError(f"--failed and --state {args.state} contradict each other")
    state = "failed" if args.failed else args.state
    with reached(args.name) as cluster:
        rows = task_rows(cluster, state, args.limit)
    if args.json:
        print_json(rows)
        return 0
    for row in rows:
        row["note"] = row["reason"] or row["error"]
    print_table(rows, _TASKS)
    return 0


def task_rows(cluster: Cluster, state: str | None, limit: int | None) -> list[dict[str, Any]]:
    """Return the first rows of the table of tasks, all of them without a limit."""
    return rows_of(columns(cluster._client, "tasks", limit, state=state))


VERBS = {
    "list": Verb(list_flags, run_list),
    "status": Verb(status_flags, run_status),
    "tasks": Verb(tasks_flags, run_tasks),
}
