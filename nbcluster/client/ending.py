"""The end of a cluster that may have lost its master already."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from nbcluster.client.interrupts import defer
from nbcluster.errors import (
    ClosedError,
    ClusterConnectionError,
    JournalFullError,
    MasterLostError,
    NbclusterError,
    NbclusterWarning,
)

if TYPE_CHECKING:
    from nbcluster.client.client import Client
    from nbcluster.client.future import Future

log = logging.getLogger(__name__)

_LOST: Final = "the master has ended while its cluster was shut down, and with it what was open"

_UNSURE: Final = "the master has ended before it acknowledged the task; its journal may have it"


def end_with_master(client: Client) -> None:
    """From now on wait for no next master: if this one ends, what is open fails."""
    if client.on_master_lost is None:
        client.on_master_lost = lambda: client.on_end(MasterLostError(_LOST))
    if client.link.is_lost:
        client.on_master_lost()


@contextmanager
def stop_on_interrupt(
    client: Client, name: str, stop: Callable[[], object] | None
) -> Iterator[None]:
    """Stop the cluster of that name, and say so, if a handler of a signal ends a wait in here."""
    try:
        yield
    except NbclusterError:
        raise
    except BaseException:
        if stop is not None:
            count = len(client.open_futures())
            # It must not be begun in vain: another signal would leave the cluster running.
            with defer(), suppress(NbclusterError):  # what was raised is worth more
                stop()
            log.warning(
                "the shutdown of cluster %r was interrupted: it stopped, %d open task%s dropped",
                name,
                count,
                " is" if count == 1 else "s are",
            )
        raise


def cancel_open(client: Client, futures: list[Future[Any]], *, owned: bool) -> list[Future[Any]]:
    """Cancel tasks, and return those that are to be waited for.

    Those of a cluster of our own end with it, if its master is gone or its disk full.

    Raises
    ------
    ClusterConnectionError
        If the master of a cluster that goes on is gone; the client is closed.
    JournalFullError
        If the disk of a cluster that goes on is full.
    """
    on_silence = partial(_end_halted, client) if owned else None
    try:
        client.cancel((future.id for future in futures), on_silence)
    except (ClosedError, ClusterConnectionError) as error:
        if not owned:
            client.close()
            raise _not_now(client, error, "its open tasks cannot be cancelled") from None
    except JournalFullError:
        if not owned:
            raise
        return []  # no end of theirs can be put on record
    return futures


def ask_to_stop(
    client: Client, mode: str, timeout: float, *, keep: bool, owned: bool
) -> dict[str, Any]:
    """Ask the master to stop, and return its answer; a cluster of our own needs none for that.

    Raises
    ------
    ClusterConnectionError
        If the master of somebody else's cluster is gone.
    """
    # With the other modes what runs counts for more than the end.
    on_silence = partial(_end_halted, client) if owned and mode == "now" else None
    try:
        if not (owned and client.link.is_lost):
            answer: dict[str, Any] = client.ask("stop", timeout, on_silence, mode=mode, keep=keep)
            return answer
    except (ClosedError, ClusterConnectionError) as error:
        if not (owned and client.link.is_lost):
            raise _not_now(client, error, "it cannot be told to stop") from None
    if keep:
        client.on_end(MasterLostError(_UNSURE), client.asks.start_call)
    else:
        client.on_end(MasterLostError(_LOST))
    return {"stopped": True}


def _end_halted(client: Client) -> bool:
    """Kill the master of our own cluster if it was halted: it will never answer. Say whether."""
    connection, process = client.link.connection, client.link.process
    if connection is None or not process.is_halted:
        return False
    process.kill()
    warnings.warn(
        f"the master of cluster {connection.name!r} (pid {connection.pid}) was halted, as by "
        "SIGSTOP, and could not end the cluster: it was killed, and its engines with it",
        NbclusterWarning,
        stacklevel=_levels_to_caller(),
    )
    return True


def _levels_to_caller() -> int:
    """Return how many calls of ours lie between `_end_halted` and whoever ends the cluster."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None:
        if not str(frame.f_globals.get("__name__")).startswith("nbcluster."):
            break
        level, frame = level + 1, frame.f_back
    return level


def _not_now(client: Client, error: NbclusterError, what: str) -> NbclusterError:
    """Return what to raise where there is no master to obey."""
    if not client.link.is_lost:
        return error
    name = client.link.connection_file.parent.name
    return ClusterConnectionError(
        f"the master of cluster {name!r} has ended: {what}. {client.asks.start_call} goes "
        f"on with it; in a shell, nbcluster stop {name} --cancel drops it"
    )
