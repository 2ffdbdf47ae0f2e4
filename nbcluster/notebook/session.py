"""What the magics of one shell share: the shell, its clusters, and how it is set."""

from __future__ import annotations

from typing import Any, Final

from IPython.core.error import UsageError

from nbcluster.client.cluster import Cluster
from nbcluster.cluster.connecting import connect
from nbcluster.cluster.owning import open_clusters
from nbcluster.errors import NbclusterError

#: What a KeyboardInterrupt does to the tasks of the cell that waits.
ON_INTERRUPT: Final = ("cancel", "detach")
VIEWS: Final = ("auto", "live", "core", "html", "off")


def say(text: str) -> None:
    """Print a line under the cell that runs."""
    print(text)  # noqa: T201 - it is what the user asked for


class Session:
    """State of the magics in one shell."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.on_interrupt = ON_INTERRUPT[0]
        self.view: str | None = None
        self.told: set[str] = set()  #: names of which it was said that they are large
        self._cluster: Cluster | None = None

    @property
    def names(self) -> dict[str, Any]:
        """The notebook's namespace."""
        found: dict[str, Any] = self.shell.user_ns
        return found

    @property
    def is_kernel(self) -> bool:
        """Whether a front end shows what is displayed, and can replace it; no terminal does."""
        return getattr(self.shell, "kernel", None) is not None

    # ------------------------------------------------------------------ clusters

    def open_cluster(self) -> Cluster | None:
        """Return the cluster that is meant where none is named, or None.

        What the user calls ``cluster`` comes first: one can see it.
        """
        others = [c for c in open_clusters if not c._client.is_closed]
        for known in (self.names.get("cluster"), self._cluster):
            if isinstance(known, Cluster) and not known._client.is_closed:
                return known
        return others[0] if len(others) == 1 else None

    def cluster(self, name: str | None = None) -> Cluster:
        """Return the cluster of that name, or the one that is meant where none is named.

        Raises
        ------
        UsageError
            If there is none.
        """
        found = self.open_cluster()
        if name is None:
            if found is not None:
                return found
            raise UsageError(
                "there is no cluster yet: %cluster start begins one, %cluster attach comes back "
                "to one that runs"
            )
        known = [c for c in open_clusters if c.name == name and not c._client.is_closed]
        if found is not None and found.name == name:
            return found
        try:
            return known[0] if known else connect(name)
        except NbclusterError as error:
            raise UsageError(str(error)) from None

    def use(self, cluster: Cluster) -> None:
        """Have the magics use this cluster, and bind it to ``cluster`` unless that is taken."""
        former, self._cluster = self._cluster, cluster
        bound = self.names.get("cluster")
        if bound is None or bound is former or isinstance(bound, Cluster):
            self.shell.push({"cluster": cluster})
        else:
            say(
                f"the name cluster is a {type(bound).__name__} of yours and stays so; the magics "
                f"use cluster {cluster.name!r}, and nbcluster.connect({cluster.name!r}) returns it"
            )
