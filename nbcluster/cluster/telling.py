"""What `start` says where a cluster is not new, or not empty."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Final

from nbcluster.client.cluster import Cluster
from nbcluster.cluster.settings import what_differs
from nbcluster.errors import ClusterTimeoutError
from nbcluster.options import StartOptions

#: Seconds for engines that have just been started.
_COMING_S: Final = 2.0


def tell_attached(cluster: Cluster, given: list[str], chosen: StartOptions) -> None:
    """Say that this cluster is no new one, and what of it is not as it was asked for."""
    running = cluster._client.ask("info")
    if "engines" in given and chosen.engines == running["engines"]:
        with suppress(ClusterTimeoutError):  # somebody else may have started it a moment ago
            cluster.wait_for_engines(chosen.engines, _COMING_S)
    differs = what_differs(given, chosen, running, int(cluster.stats()["engines"]))
    text = "; ".join([f"cluster {chosen.name!r} is running already: attached to it", *differs])
    print(text, file=sys.stderr)  # noqa: T201 - it is not what the caller may expect


def tell_resumed(cluster: Cluster, chosen: StartOptions) -> None:
    """Say that the journal of an earlier master goes on: there may be tasks already."""
    counts = cluster.stats()
    open_tasks = counts["pending"] + counts["running"] + counts["retrying"]
    ended = counts["succeeded"] + counts["failed"] + counts["cancelled"]
    is_unsaid = "engines" not in chosen.chosen
    journal = engines = ""
    if chosen.journal and "journal" not in chosen.chosen:
        journal = f"its journal: {chosen.journal}; "
    # In the first epoch somebody else was quick to submit.
    if counts["epoch"] > 1 and (open_tasks or ended or is_unsaid or journal):
        if is_unsaid:  # a journal of an older version does not tell how many there were
            is_default = "engines" in cluster._client.ask("info")["unsaid"]
            whence = "the default" if is_default else "as before"
            engines = f"engines: {counts['engines']}, {whence}; "
        print(  # noqa: T201 - who starts a cluster should know that it is not empty
            f"cluster {cluster.name!r} goes on where its last master ended: "
            f"{journal}{engines}open tasks: {open_tasks}, ended ones: {ended}",
            file=sys.stderr,
        )
