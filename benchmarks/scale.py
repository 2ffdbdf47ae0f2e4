"""How much of each figure is run, and the parts that several figures share."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks import tasks
from benchmarks.peers import Peer

WORKERS = 2

Numbers = dict[str, float]  #: by the key of a row


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes for systems that are fast enough; slow ones get what fits into the seconds."""

    tasks: int = 20_000  #: no-ops of a throughput round
    seconds: float = 1.5  #: aim for one round
    rounds: int = 3
    blocks: int = 20  #: of 100 round trips
    items: int = 10_000  #: of a map
    echoes: int = 5
    cpu_tasks: int = 50_000
    idle_s: float = 10
    queued: int = 100_000

    @classmethod
    def of(cls, *, quick: bool = False, full: bool = False) -> Scale:
        """Return small sizes for a look, or the largest ones."""
        if quick:
            return cls(5_000, 0.5, 1, 5, 2_000, 1, 5_000, 2, 10_000)
        return cls(queued=1_000_000) if full else cls()


def submit_and_gather(peer: Peer, count: int) -> float:
    """Return the seconds from the first submit of a no-op to the last result."""
    begin = time.perf_counter()
    peer.gather([peer.submit(tasks.nop) for _ in range(count)])
    return time.perf_counter() - begin


def warm_up(peer: Peer) -> None:
    """Bring up every worker and let each see the functions once."""
    peer.gather([peer.submit(tasks.nap, 0.01) for _ in range(10 * WORKERS)])
    submit_and_gather(peer, 100)


def pilot_rate(peer: Peer) -> float:
    """Return about how many no-ops a second the system does."""
    return 200 / submit_and_gather(peer, 200)


def wait_until_idle(seconds: float) -> None:
    """Let a system settle, or be watched doing nothing: time is what is measured here."""
    time.sleep(seconds)
