"""What the verbs of ``%cluster`` do."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from IPython.core.error import UsageError

from nbcluster.client.cluster import Cluster
from nbcluster.cluster.connecting import connect
from nbcluster.cluster.known import cluster_rows, clusters
from nbcluster.cluster.owning import open_clusters
from nbcluster.cluster.start import start
from nbcluster.notebook.session import ON_INTERRUPT, VIEWS, Session, say

# --------------------------------------------------------------------------- beginning and ending


def start_cluster(session: Session, args: Namespace) -> None:
    """``%cluster start``."""
    cluster = start(
        args.engines,
        name=args.name,
        group=args.group,
        slots=args.slots,
        persist=args.persist,
    )
    cluster = _own_handle(cluster)
    session.use(cluster)
    show(session, cluster)


def _own_handle(cluster: Cluster) -> Cluster:
    """Return the handle with which this process started the cluster, if it did so before.

    A cell that starts a cluster is run again and again.
    """
    for known in list(open_clusters):
        if known.name == cluster.name and known._owned and not known._client.is_closed:
            if known is not cluster:
                cluster.close()
            return known
    return cluster


def attach(session: Session, args: Namespace) -> None:
    """``%cluster attach``: to the one that is named, or the only one that runs."""
    name = args.name
    if name is None:
        running = [row["name"] for row in cluster_rows() if row["state"] == "running"]
        if len(running) > 1 and "default" not in running:
            raise UsageError(f"%cluster attach NAME: several run: {', '.join(running)}")
        name = running[0] if len(running) == 1 else None
    known = session.open_cluster()
    is_known = known is not None and known.name == (name or "default")
    cluster = known if known is not None and is_known else _own_handle(connect(name))
    session.use(cluster)
    show(session, cluster)


def show(session: Session, cluster: Cluster, mode: str | None = None) -> None:
    """Show the live view; on a terminal a line."""
    from nbcluster.notebook.view import show_view

    show_view(cluster, mode or session.view)


def stop(session: Session, args: Namespace) -> None:
    """``%cluster stop``."""
    cluster = session.cluster()
    cluster.stop(mode="drain" if args.drain else "now", keep=args.keep)
    say(f"cluster {cluster.name!r} has stopped")


def scale(session: Session, args: Namespace) -> None:
    """``%cluster scale N``."""
    session.cluster().scale(args.n, args.group, slots=args.slots)
    say(repr(session.cluster()))


def restart(session: Session, args: Namespace) -> None:
    """``%cluster restart``."""
    session.cluster().restart()
    say(repr(session.cluster()))


# --------------------------------------------------------------------------- looking


def status(session: Session, args: Namespace) -> None:
    """``%cluster status``."""
    cluster = session.cluster()
    say(repr(cluster))
    table = cluster._client.ask("engines")
    shown = ("id", "state", "group", "slots", "running", "done")
    for row in zip(*(table[column] for column in shown), strict=True):
        pairs = zip(shown[2:], row[2:], strict=True)
        say(f"  engine {row[0]}: {row[1]}, " + ", ".join(f"{key} {value}" for key, value in pairs))


def tasks(session: Session, args: Namespace) -> Any:
    """``%cluster tasks``."""
    if args.failed and args.state not in (None, "failed"):
        raise UsageError(f"%cluster tasks: --failed and --state {args.state} contradict each other")
    return session.cluster().tasks("failed" if args.failed else args.state, args.limit)


def engines(session: Session, args: Namespace) -> Any:
    """``%cluster engines``."""
    return session.cluster().engines()


def logs(session: Session, args: Namespace) -> None:
    """``%cluster logs``: the last lines of one process, or of the master."""
    folder = session.cluster().directory / "logs"
    wanted = "master" if args.engine is None else f"engine-{args.engine}"
    files = sorted(folder.glob(f"{wanted}.*"))
    if not files:
        there = ", ".join(sorted({file.stem.removeprefix("engine-") for file in folder.iterdir()}))
        raise UsageError(f"%cluster logs: no log of {args.engine!r}; there are: {there}")
    for file in files:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines:
            say("\n".join([f"--- {file.name}", *lines[-args.lines :]]))


def list_clusters(session: Session, args: Namespace) -> Any:
    """``%cluster list``."""
    return clusters()


def view(session: Session, args: Namespace) -> None:
    """``%cluster view``."""
    show(session, session.cluster(), args.mode)


def doctor(session: Session, args: Namespace) -> None:
    """``%cluster doctor``."""
    from nbcluster.cluster.doctor import examine

    cluster = session.open_cluster()
    for found in examine(cluster.name if cluster is not None else "default"):
        remedy = f"\n        -> {found.remedy}" if found.remedy else ""
        say(f"{found.grade:<4}  {found.check}: {found.text}{remedy}")


# --------------------------------------------------------------------------- changing


def retry(session: Session, args: Namespace) -> Any:
    """``%cluster retry``."""
    futures = session.cluster().retry(*args.tasks)
    say(f"{len(futures)} put back")
    return list(islice(futures, 20)) if futures else None


def cancel(session: Session, args: Namespace) -> None:
    """``%cluster cancel``."""
    say(f"cancelled: {session.cluster().cancel(*args.tasks)}")


def config(session: Session, args: Namespace) -> None:
    """``%cluster config``."""
    options: dict[str, Any] = {}
    for key, value in args.settings:
        if key == "on_interrupt":
            session.on_interrupt = _one_of(key, value, ON_INTERRUPT)
        elif key == "view":
            chosen = _one_of(key, value, VIEWS)
            session.view = None if chosen == "auto" else chosen
        else:
            options[key] = _plain(value)
    if options:
        session.cluster().config(**options)
    say(f"on_interrupt={session.on_interrupt} view={session.view or 'auto'}")
    cluster = session.open_cluster()
    if cluster is not None:
        known = cluster.config()
        task = known.task
        say(
            f"group={task.group} retries={task.retries} timeout={task.timeout} "
            f"priority={task.priority}"
        )


def _one_of(key: str, value: str, words: tuple[str, ...]) -> str:
    if value not in words:
        raise UsageError(f"%cluster config: {key} is one of {', '.join(words)}, not {value!r}")
    return value


def _plain(value: str) -> Any:
    import ast

    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


#: Verb -> what does it.
VERBS: Final[dict[str, Callable[[Session, Namespace], Any]]] = {
    "start": start_cluster,
    "attach": attach,
    "list": list_clusters,
    **{
        verb.__name__: verb
        for verb in (
            *(stop, scale, restart, status, tasks, engines, logs, view, doctor, retry, cancel),
            config,
        )
    },
}
