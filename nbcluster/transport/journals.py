"""Where a cluster's journal is, if it is not its own, and the words that go on with it."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress

from nbcluster.transport.rundir import ClusterDir


def note_journal(where: ClusterDir, journal: str) -> None:
    """Remember that the cluster's journal lies elsewhere; empty: in its directory."""
    if not journal:
        where.journal_link.unlink(missing_ok=True)
        return
    beside = where.journal_link.with_name(f"{where.journal_link.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        beside.unlink()
    beside.symlink_to(journal)
    beside.replace(where.journal_link)  # at no moment is there none


def journal_elsewhere(where: ClusterDir) -> str:
    """Return the journal of the last master, if it lies elsewhere; empty if it does not."""
    try:
        return os.readlink(where.journal_link)
    except OSError:
        return ""


def start_call(name: str, journal: str) -> str:
    """Return what somebody calls to go on with a cluster; ``journal``: one that lies elsewhere."""
    more = f", journal={journal!r}" if journal else ""
    return f"nbcluster.start(name={name!r}{more})"


def start_command(name: str, journal: str) -> str:
    """Return the same for a shell."""
    more = f" --journal {shlex.quote(journal)}" if journal else ""
    return f"nbcluster start --name {name}{more} --persist"
