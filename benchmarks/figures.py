"""What is measured, and the rows of the table that it fills.

A function gets a system that is up, warm and has two workers, unless its `Figure` says that it
starts the system itself, and returns plain numbers by the key of their row. It is named, not
imported: the start of a system is measured in a process that has imported next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from benchmarks.peers import OURS, Peer
from benchmarks.scale import Numbers, Scale

Measurement = Callable[[Peer, Scale], Numbers]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    key: str
    label: str
    unit: str
    digits: int = 0
    is_higher_better: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement and the rows that it fills."""

    name: str
    function: str  #: "module:name" in this package
    rows: tuple[Row, ...]
    systems: tuple[str, ...] = ()  #: none named: all of them
    is_started: bool = True  #: the function gets a system that is up
    is_long: bool = False  #: only with ``--full``
    deadline_s: float = 90

    def run(self, peer: Peer, scale: Scale) -> Numbers:
        """Measure; only now are the modules imported that this figure needs."""
        module, _, name = self.function.partition(":")
        function: Measurement = getattr(import_module(f"benchmarks.{module}"), name)
        return function(peer, scale)

    def is_for(self, system: str) -> bool:
        """Say whether the figure has a meaning for this system."""
        return not self.systems or system in self.systems


FIGURES: tuple[Figure, ...] = (
    Figure(
        "throughput",
        "timing:throughput",
        (Row("throughput", "no-op throughput", "tasks/s", is_higher_better=True),),
    ),
    Figure(
        "round_trip",
        "timing:round_trip",
        (
            Row("round_trip_p50", "round trip p50", "µs"),
            Row("round_trip_p99", "round trip p99", "µs"),
            Row("relay_p50", "bare relay beside it p50", "µs"),
            Row("relay_p99", "bare relay beside it p99", "µs"),
            Row("round_trip_ratio", "round trip / relay p50", "×", 2),
        ),
    ),
    Figure(
        "map",
        "timing:mapping",
        (Row("map", "map of small items", "items/s", is_higher_better=True),),
    ),
    Figure(
        "utilisation",
        "timing:utilisation",
        (Row("utilisation", "utilisation, 10 ms tasks", "%", 1, is_higher_better=True),),
    ),
    Figure(
        "echo",
        "bulk:echo",
        (Row("echo", "echo of a 100 MB array", "MB/s", is_higher_better=True),),
    ),
    Figure(
        "start",
        "starting:start",
        (Row("import", "import", "s", 3), Row("start", "start to first result", "s", 3)),
        is_started=False,
    ),
    Figure(
        "cpu",
        "resources:cpu_per_task",
        (
            Row("cpu_client", "CPU per no-op, client", "µs", 1),
            Row("cpu_master", "CPU per no-op, master", "µs", 1),
            Row("cpu_engines", "CPU per no-op, supervisors", "µs", 1),
            Row("cpu_executors", "CPU per no-op, executors", "µs", 1),
            Row("cpu_total", "CPU per no-op, all", "µs", 1),
        ),
    ),
    Figure(
        "idle",
        "resources:idle_cost",
        (
            Row("idle_cpu", "idle CPU without client", "% of a core", 2),
            Row("idle_client_cpu", "idle CPU of the client", "% of a core", 2),
            Row("idle_rss", "idle memory, sum of RSS", "MB"),
            Row("idle_pss", "idle memory, sum of PSS", "MB"),
            Row("idle_uss", "idle memory, sum of USS", "MB"),
        ),
    ),
    Figure(
        "queued_memory",
        "own:queued_memory",
        (
            Row("queued_memory", "master per queued task", "KiB", 2),
            Row("queued_client_memory", "client per queued task", "KiB", 2),
            Row("queued_submit", "submit into the queue", "tasks/s", is_higher_better=True),
        ),
        systems=(OURS,),
        is_started=False,
        deadline_s=300,
    ),
    Figure(
        "deep_queue",
        "own:deep_queue",
        (
            Row("shallow_queue", "10,000 queued", "tasks/s", is_higher_better=True),
            Row("deep_queue", "1,000,000 queued", "tasks/s", is_higher_better=True),
            Row("deep_queue_ratio", "1,000,000 / 10,000", "×", 2, is_higher_better=True),
        ),
        systems=(OURS,),
        is_long=True,
        deadline_s=600,
    ),
)
