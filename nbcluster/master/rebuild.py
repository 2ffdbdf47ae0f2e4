"""From the journal to the state at a start, and from the state to snapshots while it runs."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from nbcluster.core import records as r
from nbcluster.core.machine import Machine
from nbcluster.core.model import TERMINAL, Definition, Task, Template
from nbcluster.core.restoring import restore_task
from nbcluster.errors import InvariantError, JournalCorruptError
from nbcluster.journal import Header, Journal


class Known(msgspec.Struct, array_like=True):
    """What a checkpoint keeps that belongs to no task, but for the payloads of setups."""

    epoch: int
    submitted: int
    setups: list[r.SetupAdded]
    engines: list[r.EngineUp]
    groups: list[r.GroupWanted] = []


_decode = msgspec.msgpack.Decoder(Known).decode


class Replay:
    """Takes in what a journal holds."""

    def __init__(self, machine: Machine) -> None:
        self._state = machine.state
        self._state.replaying = True
        self.apply = machine.state.apply  #: one call less for each of the records

    def restore_definition(self, definition: Definition) -> None:
        """Take in a definition."""
        self._state.definitions[definition.hash] = definition

    def restore_template(self, number: int, template: Template) -> None:
        """Take in a template."""
        self._state.add_template(number, template)

    def restore_header(self, header: Header) -> None:
        """Take in what belongs to no task."""
        known = _decode(header.main)
        self._state.epoch = known.epoch
        self._state.submitted = known.submitted
        for setup in known.setups:
            if not setup.payload:  # in journals of the first format it is there
                if setup.version not in header.parts:
                    raise JournalCorruptError(f"the payload of setup {setup.version} is missing")
                setup.payload = header.parts[setup.version]
        self._state.setups = known.setups
        self._state.groups = {wanted.group: wanted for wanted in known.groups}
        for engine in known.engines:
            self._state.apply(engine, 0.0)

    def restore_task(self, task: Task) -> None:
        """Take in a task as it was at a checkpoint."""
        restore_task(self._state, task)


def replay(journal: Journal, machine: Machine) -> int:
    """Rebuild the state from the journal; return how many records were applied.

    Raises
    ------
    JournalCorruptError
        If a record does not fit the state that the earlier ones have made.
    """
    try:
        return journal.replay(Replay(machine))
    except (InvariantError, KeyError) as error:
        raise JournalCorruptError(
            f"the journal contradicts itself: {error}. Nothing in it was believed; "
            "move it away to start afresh."
        ) from error


def latest(journal: Journal, machine: Machine) -> float:
    """Return the latest time that a journal names: no master stamps anything earlier after it."""
    ends = (max(x.submitted_at, x.finished_at) for x in machine.state.tasks.values())
    return journal.last_at or max(ends, default=0.0)  # a log that was cleaned whole tells none


def header_of(machine: Machine) -> Header:
    """Return what a checkpoint keeps beside the tasks."""
    state = machine.state
    engines = [
        r.EngineUp(x.id, x.pid, x.host, x.groups, x.slots, x.python) for x in state.engines.values()
    ]
    groups = list(state.groups.values())
    setups = [replace(setup, payload=b"") for setup in state.setups]
    main = msgspec.msgpack.encode(Known(state.epoch, state.submitted, setups, engines, groups))
    return Header(main, {setup.version: setup.payload for setup in state.setups})


def blobs_of(machine: Machine, *, to_go_on: bool = False) -> set[str]:
    """Return the names of the shared buffers that tasks and setups of the journal need.

    With ``to_go_on`` without those of ended tasks: nothing has to run with them.
    """
    state = machine.state
    needed = {blob for setup in state.setups for blob in setup.blobs}
    for task in state.tasks.values():
        if not to_go_on or task.state not in TERMINAL:
            needed.update(task.blobs, task.result_blobs)
    return needed


def clean(journal: Journal, machine: Machine, portion: int) -> bool:
    """Move the oldest ``portion`` records of the log into snapshots; return whether more wait."""
    return journal.checkpoint(machine.state.tasks.get, lambda: header_of(machine), portion)
