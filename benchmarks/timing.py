"""Throughput, round trip, map and utilisation of a system that is up and warm."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks import tasks
from benchmarks.peers import Peer
from benchmarks.relay import Relay
from benchmarks.scale import WORKERS, Numbers, Scale, pilot_rate, submit_and_gather
from benchmarks.stats import median, quantile, scaled_count

BLOCK = 100  #: round trips between two looks at the relay: the machine drifts


def throughput(peer: Peer, scale: Scale) -> Numbers:
    """Submit no-ops as fast as it goes, then gather; the median of a few rounds."""
    count = scaled_count(pilot_rate(peer), scale.seconds, 200, scale.tasks)
    rates = [count / submit_and_gather(peer, count) for _ in range(scale.rounds)]
    return {"throughput": median(rates)}


def round_trip(peer: Peer, scale: Scale) -> Numbers:
    """Submit one no-op and wait for it, over and over, in turns with the bare relay."""

    def once() -> None:
        peer.result(peer.submit(tasks.nop))

    blocks = scaled_count(1 / _mean_s(once, 20), 2 * scale.seconds / BLOCK, 2, scale.blocks)
    own: list[float] = []
    bare: list[float] = []
    with Relay() as relay:
        for _ in range(blocks):
            bare += _timed_us(relay.round_trip)
            own += _timed_us(once)
    p50, relay_p50 = median(own), median(bare)
    return {
        "round_trip_p50": p50,
        "round_trip_p99": quantile(own, 0.99),
        "relay_p50": relay_p50,
        "relay_p99": quantile(bare, 0.99),
        "round_trip_ratio": p50 / relay_p50,
    }


def mapping(peer: Peer, scale: Scale) -> Numbers:
    """Map a function that does nothing over small integers with the system's own map."""
    pilot = _mean_s(lambda: peer.map(tasks.identity, range(200)), 1)
    count = scaled_count(200 / pilot, 2 * scale.seconds, 200, scale.items)
    rates: list[float] = []
    for _ in range(scale.rounds):
        begin = time.perf_counter()
        results = peer.map(tasks.identity, range(count))
        rates.append(count / (time.perf_counter() - begin))
        if results != list(range(count)):
            raise ValueError("map gave wrong results")
    return {"map": median(rates)}


def utilisation(peer: Peer, scale: Scale) -> Numbers:
    """Compare 200 tasks of 10 ms with the time they would take if nothing else cost any."""
    count, nap_s = 200, 0.01
    begin = time.perf_counter()
    peer.gather([peer.submit(tasks.nap, nap_s) for _ in range(count)])
    ideal = count * nap_s / WORKERS
    return {"utilisation": 100 * ideal / (time.perf_counter() - begin)}


def _mean_s(act: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - begin) / times


def _timed_us(act: Callable[[], object]) -> list[float]:
    """Return the time of each act of one block, after a few that bring the caches back."""
    for _ in range(3):
        act()
    times: list[float] = []
    for _ in range(BLOCK):
        begin = time.perf_counter_ns()
        act()
        times.append((time.perf_counter_ns() - begin) / 1000)
    return times
