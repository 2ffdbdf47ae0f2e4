"""What may be used of the master's loop by those that it calls."""

from __future__ import annotations

from typing import Any, Protocol

from nbcluster.clock import Clock
from nbcluster.core import events as e
from nbcluster.core.machine import Machine
from nbcluster.core.model import Task
from nbcluster.journal import Journal
from nbcluster.master.config import MasterConfig
from nbcluster.master.feeds import Feeds
from nbcluster.master.keeper import Keeper
from nbcluster.master.sender import Sender
from nbcluster.master.sessions import Session, Sessions
from nbcluster.transport.connection import Connection
from nbcluster.wire import messages as m


class Shell(Protocol):
    """The loop, as those see it that read messages and answer questions."""

    config: MasterConfig
    connection: Connection
    machine: Machine
    journal: Journal
    keeper: Keeper
    clock: Clock
    now: float
    sessions: Sessions
    sender: Sender
    dead_executors: list[str]
    feeds: Feeds
    stacks: dict[int, str | None]

    @property
    def disk_is_full(self) -> bool:
        """Whether records wait for room on the disk; then no new tasks are taken."""

    def is_owed(self, task: Task) -> bool:
        """Return whether it is on no record yet that this task was submitted."""

    def ask(self, session: Session, ask: m.Ask, batch: e.Batch) -> None:
        """Have a question answered once this turn is durable."""

    def counters(self) -> dict[str, Any]:
        """Return what only the loop knows of the cluster's numbers."""

    def stop_when_drained(self, mode: str, *, keep: bool, why: str = "it was told to stop") -> None:
        """Stop after this turn, or with ``drain`` when the engines have left."""
