"""Completion of the magics' lines: verbs, flags, groups, names of clusters and of variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from nbcluster.cluster.known import cluster_rows
from nbcluster.errors import NbclusterError
from nbcluster.notebook import parsers
from nbcluster.notebook.session import ON_INTERRUPT, VIEWS, Session

_HOOK: Final = "complete_command"
_MAGICS: Final = ("%cluster", "%%remote", "%remote", "%debug_task")
#: Seconds for an answer of the master: somebody has pressed a key.
_ASK_S: Final = 0.5
_GROUP: Final = ("--group",)
_CLUSTER: Final = ("-c", "--cluster", "--name")
_NAMES: Final = ("-i", "--in", "-o", "--out")


def install(shell: Any, session: Session) -> None:
    """Have IPython complete our lines."""
    for magic in _MAGICS:
        shell.set_hook(_HOOK, _completer(session), str_key=magic)


def uninstall(shell: Any) -> None:
    """Undo `install`."""
    for magic in _MAGICS:
        shell.strdispatchers[_HOOK].strs.pop(magic, None)


def _completer(session: Session) -> Callable[[Any, Any], list[str]]:
    def complete(shell: Any, event: Any) -> list[str]:
        return completions(session, event.line)

    return complete


def completions(session: Session, line: str) -> list[str]:
    """Return what may stand at the end of ``line``, the text up to the cursor."""
    words = line.split()
    begun = "" if line[-1:].isspace() else words[-1]
    before = words if line[-1:].isspace() else words[:-1]
    found = _candidates(session, before, begun)
    return [word for word in found if word.startswith(begun)]


def _candidates(session: Session, before: list[str], begun: str) -> list[str]:
    magic = before[0]
    if magic == "%cluster":
        if len(before) == 1:
            return list(parsers.VERBS)
        parser = parsers.VERBS.get(before[1])
        if parser is None:
            return []
        if before[1] == "attach" and not begun.startswith("-"):
            return _cluster_names()
        if before[1] == "config":
            return [f"on_interrupt={x}" for x in ON_INTERRUPT] + [f"view={x}" for x in VIEWS]
        if before[1] == "logs" and not begun.startswith("-"):
            return _column(session, "id")
    else:
        parser = {
            "%%remote": parsers.REMOTE,
            "%remote": parsers.REMOTE_LINE,
            "%debug_task": parsers.DEBUG_TASK,
        }[magic]
    return _of_option(session, parser, before[-1], begun)


def _of_option(session: Session, parser: parsers.Parser, option: str, begun: str) -> list[str]:
    if option in _GROUP:
        return sorted(set(_column(session, "group")))
    if option in _CLUSTER:
        return _cluster_names()
    if option in _NAMES:
        head, comma, _ = begun.rpartition(",")
        return [head + comma + name for name in session.names if not name.startswith("_")]
    action = parser.by_option(option)
    if action is not None and action.choices:
        return [str(choice) for choice in action.choices]
    return [flag for flag in parser.flags if begun.startswith("-") or flag.startswith("--")]


def _cluster_names() -> list[str]:
    return [str(row["name"]) for row in cluster_rows() if row["state"] == "running"]


def _column(session: Session, column: str) -> list[str]:
    cluster = session.open_cluster()
    if cluster is None:
        return []
    try:
        return [str(value) for value in cluster._client.ask("engines", timeout=_ASK_S)[column]]
    except NbclusterError:
        return []
