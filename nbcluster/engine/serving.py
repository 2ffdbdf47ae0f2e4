"""From options to a running engine: the executors first, since they need the longest."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from nbcluster import ids
from nbcluster.engine.children import Nursery
from nbcluster.engine.options import EngineOptions
from nbcluster.engine.signals import StopSignals
from nbcluster.engine.slots import Slots


def serve(options: EngineOptions) -> int:
    """Run one engine until it is told to end, or its owner dies.

    Returns
    -------
    int
        0, or 3 if the master refused the engine.
    """
    _log_to(options)
    if options.owner_fd is not None:
        os.set_inheritable(options.owner_fd, False)  # before executors are started
    engine = options.engine or ids.random_id("e", 6)
    nursery = Nursery(
        options.connection, _run_directory(options), options.memory_limit, options.imports
    )
    signals = StopSignals()  # before there is anything to clean up
    slots = Slots(engine, nursery, options.slots)
    slots.fill(time.monotonic())

    # After the executors' start, so that these imports take place beside it.
    from nbcluster.engine.connecting import MasterLink
    from nbcluster.engine.supervisor import Supervisor

    supervisor = Supervisor(options, slots, MasterLink(options.connection), signals)
    code = supervisor.serve()
    print(f"processed {supervisor.processed}", flush=True)
    return code


def _run_directory(options: EngineOptions) -> Path:
    """Return where pages and output files lie: beside the connection file, which may not exist."""
    return options.connection.parent / "run"


def _log_to(options: EngineOptions) -> None:
    logging.basicConfig(  # without a file: to standard error
        filename=options.log,
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
