"""CPU and memory of a system's processes, by role."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.peers import Peer
from benchmarks.peers.base import Roles
from benchmarks.scale import Numbers, Scale, pilot_rate, submit_and_gather, wait_until_idle
from benchmarks.stats import scaled_count

CLIENT = "client"
SETTLE_S = 2.0


def cpu_seconds(roles: Roles, *, is_fine: bool = False) -> dict[str, float]:
    """Return the CPU time that the processes of each role have used so far.

    The usual counter includes threads that have ended and moves in steps of 10 ms, which hides
    most of what an idle process uses. The fine one counts nanoseconds, of living threads.
    """
    measure = _fine_cpu_of if is_fine else _cpu_of
    return {role: sum_over(pids, measure) for role, pids in roles.items() if pids}


def sum_over(pids: Iterable[int], measure: Callable[[psutil.Process], float]) -> float:
    """Add a measure up over processes; one that is gone counts nothing."""
    total = 0.0
    for pid in pids:
        try:
            total += measure(psutil.Process(pid))
        except psutil.Error:
            continue
    return total


def _cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _fine_cpu_of(process: psutil.Process) -> float:
    files = list(Path(f"/proc/{process.pid}/task").glob("*/schedstat"))
    if not files:
        return _cpu_of(process)
    nanoseconds = 0
    for file in files:
        with suppress(OSError):  # the thread has ended since
            nanoseconds += int(file.read_text(encoding="ascii").split()[0])
    return nanoseconds / 1e9


def cpu_per_task(peer: Peer, scale: Scale) -> Numbers:
    """Return the CPU time of a no-op in each role, in microseconds."""
    count = scaled_count(pilot_rate(peer), 4 * scale.seconds, 200, scale.cpu_tasks)
    roles = peer.pids()
    before = cpu_seconds(roles)
    submit_and_gather(peer, count)
    after = cpu_seconds(roles)
    spent = {role: 1e6 * (after[role] - before[role]) / count for role in before}
    numbers = {f"cpu_{role}": value for role, value in spent.items()}
    return {**numbers, "cpu_total": sum(spent.values())}


def idle_cost(peer: Peer, scale: Scale) -> Numbers:
    """Return what the system costs while it has nothing to do.

    The client's process is left out of the sums, for it also holds the benchmark; its CPU is a
    number of its own, because a pool or a scheduler may have its threads there.
    """
    wait_until_idle(SETTLE_S)
    roles = peer.pids()
    before = cpu_seconds(roles, is_fine=True)
    wait_until_idle(scale.idle_s)
    after = cpu_seconds(roles, is_fine=True)
    percent = {role: 100 * (after[role] - before[role]) / scale.idle_s for role in before}
    pids = [pid for role, members in roles.items() if role != CLIENT for pid in members]
    return {
        "idle_client_cpu": percent.pop(CLIENT),
        "idle_cpu": sum(percent.values()),
        "idle_rss": sum_over(pids, lambda process: process.memory_info().rss) / 1e6,
        "idle_pss": sum_over(pids, lambda process: process.memory_full_info().pss) / 1e6,
        "idle_uss": sum_over(pids, lambda process: process.memory_full_info().uss) / 1e6,
    }
