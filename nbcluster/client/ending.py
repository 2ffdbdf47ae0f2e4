"""The end of a cluster that may have lost its master already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nbcluster.errors import ClosedError, ClusterConnectionError, MasterLostError, NbclusterError

if TYPE_CHECKING:
    from nbcluster.client.client import Client
    from nbcluster.client.future import Future

_LOST: Final = "the master has ended while its cluster was shut down, and with it what was open"

_UNSURE: Final = "the master has ended before it acknowledged the task; its journal may have it"


def end_with_master(client: Client) -> None:
    """From now on wait for no next master: if this one ends, what is open fails."""
    if client.on_master_lost is None:
        client.on_master_lost = lambda: client.on_end(MasterLostError(_LOST))
    if client.link.is_lost:
        client.on_master_lost()


def cancel_open(client: Client, futures: list[Future[Any]], *, owned: bool) -> None:
    """Cancel tasks; those of a cluster of our own end with it, if its master is gone.

    Raises
    ------
    ClusterConnectionError
        If the master of a cluster that goes on is gone; the client is closed.
    """
    try:
        client.cancel(future.id for future in futures)
    except (ClosedError, ClusterConnectionError) as error:
        if not owned:
            client.close()
            raise _not_now(client, error, "its open tasks cannot be cancelled") from None


def ask_to_stop(client: Client, mode: str, *, keep: bool, owned: bool) -> dict[str, Any]:
    """Ask the master to stop, and return its answer; a cluster of our own needs none for that.

    Raises
    ------
    ClusterConnectionError
        If the master of somebody else's cluster is gone.
    """
    try:
        if not (owned and client.link.is_lost):
            answer: dict[str, Any] = client.ask("stop", mode=mode, keep=keep)
            return answer
    except (ClosedError, ClusterConnectionError) as error:
        if not (owned and client.link.is_lost):
            raise _not_now(client, error, "it cannot be told to stop") from None
    if keep:
        client.on_end(MasterLostError(_UNSURE), f"nbcluster.start(name={_name(client)!r})")
    else:
        client.on_end(MasterLostError(_LOST))
    return {"stopped": True}


def _name(client: Client) -> str:
    return client.connection_file.parent.name


def _not_now(client: Client, error: NbclusterError, what: str) -> NbclusterError:
    """Return what to raise where there is no master to obey."""
    if not client.link.is_lost:
        return error
    name = _name(client)
    return ClusterConnectionError(
        f"the master of cluster {name!r} has ended: {what}. nbcluster.start(name={name!r}) goes "
        f"on with it; in a shell, nbcluster stop {name} --cancel drops it"
    )
