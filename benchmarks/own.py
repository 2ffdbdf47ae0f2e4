"""Figures that only nbcluster has: they need its queue and its master."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import tasks
from benchmarks.peers import Peer
from benchmarks.peers.ours import Nbcluster
from benchmarks.scale import WORKERS, Numbers, Scale
from benchmarks.stats import median

PATIENCE_S = 240.0
SHALLOW, DEEP = 10_000, 1_000_000


def queued_memory(peer: Peer, scale: Scale) -> Numbers:
    """Queue no-ops on a cluster without engines and see what master and client grow by."""
    ours = _ours(peer)
    ours.load()
    ours.start(workers=0)
    master, client = psutil.Process(ours.master_pid()), psutil.Process(os.getpid())
    before = master.memory_info().rss, client.memory_info().rss
    begin = time.perf_counter()
    futures = _fill_queue(ours, scale.queued)
    took = time.perf_counter() - begin
    grown = master.memory_info().rss - before[0], client.memory_info().rss - before[1]
    return {
        "queued_memory": grown[0] / 1024 / len(futures),
        "queued_client_memory": grown[1] / 1024 / len(futures),
        "queued_submit": len(futures) / took,
    }


def deep_queue(peer: Peer, scale: Scale) -> Numbers:
    """Drain a short queue and a very long one."""
    ours = _ours(peer)
    shallow = median([_drain_rate(ours, SHALLOW) for _ in range(5)])
    deep = _drain_rate(ours, DEEP)
    return {"shallow_queue": shallow, "deep_queue": deep, "deep_queue_ratio": deep / shallow}


def _ours(peer: Peer) -> Nbcluster:
    if not isinstance(peer, Nbcluster):
        raise TypeError(f"a figure of nbcluster alone was asked of {peer.name}")
    return peer


def _drain_rate(ours: Nbcluster, count: int) -> float:
    """Queue tasks behind blocked executors, let go, and return tasks per second."""
    with tempfile.TemporaryDirectory() as directory:
        gate = Path(directory) / "open"
        blockers = [ours.submit(tasks.wait_for_file, str(gate)) for _ in range(WORKERS)]
        futures = _fill_queue(ours, count, ended_before=_ended(ours))
        gate.touch()
        begin = time.perf_counter()
        ours.gather(futures)
        rate = count / (time.perf_counter() - begin)
        ours.gather(blockers)
        return rate


def _ended(ours: Nbcluster) -> int:
    return int(ours.cluster.stats()["succeeded"])


def _fill_queue(ours: Nbcluster, count: int, ended_before: int = 0) -> list[Any]:
    """Submit no-ops and wait until the master has them all and none has run."""
    futures = [ours.submit(tasks.nop) for _ in range(count)]
    deadline = time.monotonic() + PATIENCE_S
    while int(ours.cluster.stats()["pending"]) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the master has not queued {count} tasks in {PATIENCE_S:.0f} s")
        time.sleep(0.05)
    if _ended(ours) != ended_before:
        raise RuntimeError("tasks ran that should have been queued behind others")
    return futures
