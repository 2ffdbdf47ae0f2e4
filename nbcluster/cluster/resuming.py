"""What a start finds of the cluster's last master, and goes on with or waits for."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Final

from nbcluster.errors import ClusterError, JournalError
from nbcluster.options import StartOptions
from nbcluster.transport.journals import journal_elsewhere
from nbcluster.transport.rundir import ClusterDir

#: Seconds for a master whose directory was removed to notice, and to end.
_END_S: Final = 5.0


def with_last_journal(chosen: StartOptions, where: ClusterDir) -> StartOptions:
    """Return the options with the journal of the last master, if nobody has chosen one.

    Raises
    ------
    ClusterError
        If it is not there any more, or another one was chosen and it holds open tasks.
    """
    if chosen.journal:
        _refuse_another(chosen.journal, where)
    last = "" if chosen.journal else journal_elsewhere(where)
    if last and not os.path.exists(last):
        raise ClusterError(
            f"the journal of cluster {where.name!r} was {last}, which is not there. Bring it back, "
            "or choose one with journal=, or drop the cluster in a shell: "
            f"nbcluster stop {where.name} --cancel"
        )
    return replace(chosen, journal=last) if last else chosen


def _refuse_another(journal: str, where: ClusterDir) -> None:
    """Raise if the last master left open tasks, or kept dead letters, in another journal."""
    own = str(where.journal_file)
    last = journal_elsewhere(where) or own
    if os.path.realpath(last) == os.path.realpath(journal) or not os.path.exists(last):
        return
    from nbcluster.cluster import remains  # as below

    is_kept = remains.is_kept(where)
    if not (is_kept or remains.is_dead(where)):
        return
    try:
        # Its own journal goes with the directory, at the end of the cluster that is to begin.
        remains.refuse_open_tasks(where, dead_letters=is_kept and last == own)
    except (ClusterError, JournalError) as error:
        raise ClusterError(
            f"{journal} is not the journal of the last master. {str(error).rstrip('.')}. The "
            f"flags are those of: nbcluster stop {where.name}"
        ) from None


def await_swept(where: ClusterDir, timeout: float) -> None:
    """Wait for a master whose directory was removed: at its end it removes what is there by then.

    Raises
    ------
    ClusterError
        If it goes on.
    """
    if where.path.exists() or not where.blobs.exists():
        return
    from nbcluster.cluster import remains  # seldom needed, and brings the journal

    masters = remains.masters_of(where)
    remains.await_end(masters, min(timeout, _END_S))
    left = [str(process.pid) for process in remains.masters_of(where)]
    if left:
        raise ClusterError(
            f"the directory {where.path} was removed, and a master of cluster {where.name!r} goes "
            f"on without it. End it with: kill {' '.join(left)}"
        )
