"""What a start that fails or is interrupted has to take back."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Thread

import psutil

from nbcluster.cluster.owning import masters, take_in_dead
from nbcluster.errors import ClusterError
from nbcluster.transport.journals import journal_elsewhere, note_journal
from nbcluster.transport.rundir import ClusterDir, FileLock

#: Seconds for a master to end in order.
_END_S = 5.0


class Undo:
    """Takes back what a start brings up after this was made.

    Parameters
    ----------
    where
        The cluster. What is there already is kept.

    Attributes
    ----------
    in_order
        Whether its master has time to close the journal, since that stays.
    """

    def __init__(self, where: ClusterDir) -> None:
        self._where = where
        self.in_order = False
        self._others = {process.pid for process in masters}
        self.master = 0  #: its process, once it is known; an interrupt may come before
        found = (where.journal_file, where.connection_file, *where.blobs.glob("*"))
        self._journal = journal_elsewhere(where)
        self._keep = any(path.exists() for path in found) or bool(self._journal)

    def all(self) -> None:
        """End what runs, and remove the files; a cluster that was kept is kept as it was."""
        # In a thread, so that another interrupt does not leave half of it.
        thread = Thread(target=self._all, name=f"nbcluster-undo-{self._where.name}")
        thread.start()
        thread.join()

    def _all(self) -> None:
        from nbcluster.cluster import remains  # seldom needed, and brings the journal

        ended = [self._end(process) for process in remains.masters_of(self._where, os.getpid())]
        take_in_dead()
        if not self._keep or any(ended):  # else the master has seen to it itself
            # Or somebody else starts the same cluster at this moment.
            with suppress(ClusterError, FileNotFoundError):
                remains.end(self._where, keep=self._keep)
        if self._journal and not FileLock.is_held(self._where.lock_file):
            self._where.create()  # a master that ends in order removes all but the journal
            note_journal(self._where, self._journal)

    def _end(self, process: psutil.Process) -> bool:
        """End a master, unless it was there before, or another thread has started it."""
        if process.pid in self._others or self.master not in (0, process.pid):
            return False
        with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
            if self.in_order:
                process.terminate()
                with suppress(psutil.TimeoutExpired):
                    process.wait(_END_S)
            process.kill()
            process.wait(_END_S)
        return True
