"""What has changed in the table of tasks, for a view that is kept up to date."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from nbcluster.client.client import Client
from nbcluster.errors import NbclusterError
from nbcluster.ids import random_id

#: What the numbers of `Changes.states` mean.
STATES: Final = ("pending", "running", "retrying", "succeeded", "failed", "cancelled")


class Changes(msgspec.Struct):
    """Rows of tasks that are new or have changed. Lists and buffers are of the same length.

    Numeric columns are buffers of the type that is named, in the byte order of this machine.
    """

    reset: bool  #: forget all that was told before
    more: bool  #: read again at once
    now: float  #: by the master's clock, seconds since the epoch, as all times
    gone: list[str]  #: ids of tasks that are not kept any more
    counts: dict[str, int]  #: all tasks of the cluster, by state
    workers: list[tuple[str, str, int, int, float, int]]  #: id, state, slots, running, MiB, pid
    ids: list[str]
    names: list[str]
    groups: list[str]
    engines: list[str]  #: of the last attempt
    errors: list[str]  #: the last one, in a line
    states: bytes  #: u1, places in `STATES`
    attempts: bytes  #: u4
    retries: bytes  #: u4
    crashes: bytes  #: u4
    priority: bytes  #: i4
    progress: bytes  #: f4, 0 to 1; NaN: unknown
    submitted: bytes  #: f8
    started: bytes  #: f8, of the last attempt; 0: there was none
    finished: bytes  #: f8; 0: not yet


class Feed:
    """One view's way to the master. Not for several threads at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._name = random_id("v", 6)
        self._is_fresh = True

    def read(self, timeout: float | None = 2.0) -> Changes:
        """Return what has changed since the last time, at most 5,000 rows; at first, all.

        Raises
        ------
        ClusterConnectionError
            If the master is gone. Once the next one is there, it begins with all again.
        ClusterTimeoutError
            If it does not answer in time.
        """
        try:
            answer: dict[str, Any] = self._client.ask(
                "changes", timeout, view=self._name, fresh=self._is_fresh
            )
        except NbclusterError:
            self._is_fresh = True  # an answer may be lost
            raise
        self._is_fresh = False
        return msgspec.convert(answer, Changes)
