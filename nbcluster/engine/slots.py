"""The slots of an engine: each has an executor, or is about to get one."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

from nbcluster import ids
from nbcluster.engine.children import Child, Death, Nursery
from nbcluster.transport.page import ENDED

log = logging.getLogger(__name__)

#: An executor that dies this soon and has run nothing would do so again: the next one waits.
_EARLY_S: Final = 1.0
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 5.0


@dataclass(slots=True)
class Slot:
    """Room for one executor, which is replaced whenever it dies."""

    number: int
    incarnation: int = 0  #: of the executor that is, or was last, there
    child: Child | None = None
    failures: int = 0  #: early deaths in a row
    due: float = 0.0  #: before this no new one is started


@dataclass(slots=True)
class Slots:
    """All slots of one engine.

    Parameters
    ----------
    engine
        Id of the engine.
    nursery
        Starts the executors.
    wanted
        How many slots there should be.
    """

    engine: str
    nursery: Nursery
    wanted: int
    processed: int = 0  #: attempts that ended in executors that are gone
    _slots: dict[int, Slot] = field(default_factory=dict)

    def children(self) -> list[Child]:
        """Return the live executors."""
        return [slot.child for slot in self._slots.values() if slot.child is not None]

    def find(self, executor: str) -> Child | None:
        """Return the live executor of that id."""
        return next((child for child in self.children() if child.id == executor), None)

    def fill(self, now: float) -> list[Child]:
        """Start executors where one is missing and due; return the new ones."""
        new = []
        for number in range(self.wanted):
            slot = self._slots.setdefault(number, Slot(number))
            if slot.child is None and now >= slot.due:
                child = self._start(slot, now)
                if child is not None:
                    new.append(child)
        return new

    def _start(self, slot: Slot, now: float) -> Child | None:
        slot.incarnation += 1
        name = ids.executor_id(self.engine, slot.number, slot.incarnation)
        try:
            slot.child = self.nursery.spawn(name, slot.number)
        except OSError as error:
            log.error("executor %s cannot be started: %s", name, error)
            self._wait_longer(slot, now)
        return slot.child

    def set_wanted(self, wanted: int) -> None:
        """Have so many slots; executors of the highest ones end after what they run."""
        self.wanted = max(wanted, 0)
        for number in range(self.wanted):
            self._slots.setdefault(number, Slot(number))  # so that `next_due` sees the new ones
        for child in self.children():
            if child.slot >= self.wanted and not child.is_ordered:
                child.retire()

    def kill_all(self) -> None:
        """Kill all executors, as ordered."""
        for child in self.children():
            child.is_ordered = True
            child.kill()

    def bury(self, child: Child, now: float) -> Death:
        """Take in an executor's end; its slot is free, at once or after a wait."""
        slot = self._slots[child.slot]
        is_early = now - child.born < _EARLY_S and child.ran_nothing() and not child.is_ordered
        self.processed += child.page.words[ENDED]
        death = child.bury()
        slot.child = None
        if is_early:
            self._wait_longer(slot, now)
        else:
            slot.failures, slot.due = 0, 0.0
        return death

    def next_due(self) -> float:
        """Return when `fill` has something to do, infinity if never."""
        waits = [
            slot.due
            for slot in self._slots.values()
            if slot.child is None and slot.number < self.wanted
        ]
        return min(waits, default=float("inf"))

    def _wait_longer(self, slot: Slot, now: float) -> None:
        wait = min(_FIRST_WAIT_S * 2.0**slot.failures, _LONGEST_WAIT_S)
        slot.failures += 1
        slot.due = now + wait
        log.warning("slot %d: the next executor is started in %g s", slot.number, wait)
