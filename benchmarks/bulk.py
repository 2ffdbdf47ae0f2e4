"""Large arrays there and back."""

from __future__ import annotations

import time

import numpy as np

from benchmarks import tasks
from benchmarks.peers import Peer
from benchmarks.scale import Numbers, Scale
from benchmarks.stats import median

ECHO_MB = 100


def echo(peer: Peer, scale: Scale) -> Numbers:
    """Send a large array there and back; its bytes are counted once."""
    rates: list[float] = []
    for turn in range(scale.echoes + 1):
        array = np.full(ECHO_MB * 1_000_000 // 8, float(turn))
        begin = time.perf_counter()
        back = peer.result(peer.submit(tasks.identity, array))
        rates.append(ECHO_MB / (time.perf_counter() - begin))
        if not np.array_equal(np.asarray(back), array):
            raise ValueError("echo gave another array")
    return {"echo": median(rates[1:])}  # the first makes room for the others
