"""Import and start. This module imports nothing that a system might bring along itself."""

from __future__ import annotations

import time

from benchmarks import tasks
from benchmarks.peers import Peer
from benchmarks.scale import WORKERS, Numbers, Scale


def start(peer: Peer, scale: Scale) -> Numbers:
    """Start in this fresh process, where nothing of the system is imported yet."""
    begin = time.perf_counter()
    peer.load()
    loaded = time.perf_counter()
    peer.start(WORKERS)
    peer.result(peer.submit(tasks.nop))
    return {"import": loaded - begin, "start": time.perf_counter() - loaded}
