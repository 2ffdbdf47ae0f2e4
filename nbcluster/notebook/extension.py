"""Loading and unloading."""

from __future__ import annotations

from typing import Any

from nbcluster.cluster.known import cluster_rows
from nbcluster.notebook import completion, faces, magics
from nbcluster.notebook.session import Session, say

#: What is known of each shell; it outlives ``%reload_ext``.
_sessions: dict[int, Session] = {}


def load(shell: Any) -> None:
    """Register magics, completion and displays, and say which clusters can be attached to."""
    session = _sessions.get(id(shell))
    if session is None or session.shell is not shell:
        session = _sessions[id(shell)] = Session(shell)
    magics.register(shell, session)
    completion.install(shell, session)
    faces.install(shell)
    if session.open_cluster() is not None:
        return
    running = [
        row["name"] for row in cluster_rows() if row["state"] == "running" and row["persist"]
    ]
    if running:
        say(f"running: {', '.join(running)}; %cluster attach NAME comes back to one of them")


def unload(shell: Any) -> None:
    """Take back what `load` registered, and say what runs on."""
    session = _sessions.get(id(shell))
    if session is None:
        return
    magics.unregister(shell)
    completion.uninstall(shell)
    faces.uninstall()
    cluster = session.open_cluster()
    if cluster is not None:
        say(f"cluster {cluster.name!r} runs on; cluster.stop() ends it")
