"""What a decided step means for the sockets and for shared memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from nbcluster.core import events as e
from nbcluster.core.engines import is_vital
from nbcluster.core.machine import Machine
from nbcluster.core.model import Definition, Engine, Run
from nbcluster.core.state import ClusterState
from nbcluster.master.rebuild import blobs_of
from nbcluster.master.sender import Sender
from nbcluster.master.sessions import Sessions
from nbcluster.transport.page import Page, page_name
from nbcluster.wire import messages as m

#: Seconds between SIGINT and SIGKILL.
KILL_GRACE_S = 3.0


def forget_definitions(sessions: Sessions, executors: set[str]) -> None:
    """Take note that these executors must be sent definitions again."""
    for name in executors:
        session = sessions.by_name.get(name)
        if session is not None:
            session.known.clear()


def send_runs(sender: Sender, state: ClusterState, runs: dict[str, list[Run]]) -> None:
    """Send each executor its attempts, with the definitions it does not have."""
    known_definitions = state.definitions
    for name, list_of_runs in runs.items():
        session = sender.sessions.by_name.get(name)
        if session is None:
            continue  # its engine will tell its end, and the leases come back
        definitions: list[Definition] = []
        known = session.known
        for run in list_of_runs:
            for fn in (run.fn, run.retry_on) if run.retry_on else (run.fn,):
                if fn not in known:
                    known.add(fn)
                    definition = known_definitions.get(fn)
                    if definition is not None and definition.blob:
                        definitions.append(definition)
        session.told = session.acked
        sender.send(session, m.Runs(session.acked, definitions, list_of_runs))


def send_setups(sender: Sender, state: ClusterState, executors: set[str]) -> None:
    """Send the calls that executors have not made yet, all in one message."""
    for name in executors:
        executor, session = state.executors.get(name), sender.sessions.by_name.get(name)
        if executor is None or session is None:
            continue
        setups = [s for s in state.setups if s.version > executor.setup]
        if not setups:
            continue
        definitions = [state.definitions[s.fn] for s in setups]
        calls = [(s.version, s.fn, s.payload, s.blobs, is_vital(s)) for s in setups]
        sender.send(session, m.Setup(setups[-1].version, definitions, calls))


def engine_of(order: e.Order) -> str:
    """Return the engine that an order is for."""
    return order.engine


def message_of(order: e.Order) -> Any:
    """Return the message that carries an order."""
    match order:
        case e.KillOrder():
            return m.Kill(order.executor, order.token, order.reason, KILL_GRACE_S)
        case e.RevokeOrder():
            return m.Revoke(order.executor, order.watermark)
        case e.SlotsOrder():
            return m.SetSlots(order.slots)
        case e.RestartOrder():
            return m.Restart()
        case e.LeaveOrder():
            return m.Leave(order.reason)


def remove_blobs(directory: Path, names: list[str]) -> None:
    """Remove shared buffers that no task needs any more."""
    for name in names:
        if "/" not in name and not name.startswith("."):
            with contextlib.suppress(FileNotFoundError):
                (directory / name).unlink()


def remove_unsent(directory: Path, dead: list[str], machine: Machine) -> None:
    """Remove what dead executors wrote to shared memory and could not send any more.

    Parameters
    ----------
    directory
        Of the shared buffers, whose names begin with that of the executor.
    dead
        Ids of executors; of an engine with all of its executors, its id and a slash.
    machine
        Knows the results that came in time.
    """
    prefixes = tuple(x.replace("/", "_") + ("" if x.endswith("/") else "-") for x in dead)
    with contextlib.suppress(FileNotFoundError):
        found = [name for name in os.listdir(directory) if name.startswith(prefixes)]
        if found:
            needed = blobs_of(machine)
            remove_blobs(directory, [name for name in found if name not in needed])


def last_words(run_directory: Path, engine: Engine) -> dict[str, int]:
    """Return what the executors of a dead engine had begun and not ended, from their pages."""
    begun: dict[str, int] = {}
    for name in engine.executors:
        with contextlib.suppress(OSError, ValueError):  # no page: what was seen running counts
            begun[name], _ = Page.read_current(run_directory / page_name(name))
    return begun
