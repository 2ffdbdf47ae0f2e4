"""What a master is told when it is started."""

from __future__ import annotations

from typing import Final

import msgspec

from nbcluster.transport.journals import start_call

#: Exit code of a master that finds another one's lock; its starter attaches to that one.
EXIT_LOCKED: Final = 2


class MasterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Start options of a master. Travels as JSON on its command line; holds no secret."""

    name: str
    directory: str  #: the cluster's directory
    journal: str
    own_journal: bool  #: the journal lies in the cluster's directory and goes with it
    engines: int
    group: str = "default"
    slots: int = 1
    persist: bool = False
    durability: str = "process"
    max_pending: int = 0
    retention_s: float = 86_400.0
    retention_tasks: int = 100_000
    retention_bytes: int = 1 << 30
    memory_limit: int = 0
    log_level: str = "INFO"
    owner_fd: int = -1  #: reading end of a pipe that the owner holds open; -1: nobody owns it
    owner_pid: int = 0
    #: Of engines, group and slots what nobody has said: the default holds. At the start the journal
    #: may know better.
    unsaid: tuple[str, ...] = ()

    @property
    def start_call(self) -> str:
        """What somebody calls to go on with a journal that was kept."""
        return start_call(self.name, self.journal_elsewhere)

    @property
    def journal_elsewhere(self) -> str:
        """The journal, if it does not lie in the cluster's directory."""
        return "" if self.own_journal else self.journal
