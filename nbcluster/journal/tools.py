"""Looks at, and shrinks, a journal that no master uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nbcluster.core.model import TERMINAL, Definition, State, Task, Template
from nbcluster.core.records import (
    Cancelled,
    Failed,
    Forgotten,
    Record,
    Redriven,
    Submitted,
    Succeeded,
)
from nbcluster.journal import store
from nbcluster.journal.cleaning import SnapshotOf
from nbcluster.journal.journal import Journal
from nbcluster.journal.replay import Sink
from nbcluster.journal.rows import Header


def info(path: str | Path) -> dict[str, int]:
    """Return what is in a journal: tasks ``finished`` and ``open``, ``size_bytes``, and more.

    ``dead_letters`` are those of the finished that failed and were not put back.
    ``turns`` counts all commits that were ever made, ``records`` those that are in the log,
    ``epoch`` the masters that have begun, ``format`` is the version of the file's form.

    Raises
    ------
    FileNotFoundError
        If there is none.
    JournalError
        If it is damaged, or a master uses it.
    """
    counter = _Counter()
    with Journal(path, create=False) as journal:
        journal.scan(counter)
        finished = sum(counter.ended.values())
        return {
            "finished": finished,
            "open": len(counter.ended) - finished,
            "dead_letters": len(counter.dead),
            "size_bytes": journal.size_bytes(),
            "turns": journal.head,
            "records": journal.log_records,
            "epoch": journal.epoch,
            "format": store.FORMAT,
        }


def vacuum(
    path: str | Path,
    sink: Sink,
    forget: Callable[[], list[Record]],
    snapshot_of: SnapshotOf,
    header: Callable[[], Header],
    now: float,
) -> None:
    """Shrink a journal: forget tasks, clean the whole log, give the space back.

    Parameters
    ----------
    path
        A journal that no master uses.
    sink
        A fresh state; it is rebuilt from the journal.
    forget
        Called after that: applies to the state that old tasks are forgotten, and returns those
        records.
    snapshot_of, header
        As for `Journal.checkpoint`, asked for the state after that.
    now
        The time of those records.
    """
    with Journal(path, create=False) as journal:
        journal.replay(sink)
        journal.commit(forget(), journal.epoch, now)
        journal.compact(snapshot_of, header)


class _Counter:
    """Counts tasks: enough of a state to tell those that have ended from the others."""

    def __init__(self) -> None:
        self.ended: dict[str, bool] = {}
        self.dead: set[str] = set()
        self._templates: dict[int, Template] = {}
        self._no_letters: set[str] = set()  #: tasks that are no dead letters when they fail

    def restore_definition(self, definition: Definition) -> None:
        pass

    def restore_template(self, number: int, template: Template) -> None:
        self._templates[number] = template

    def restore_header(self, header: Header) -> None:
        pass

    def restore_task(self, task: Task) -> None:
        self.ended[task.id] = task.state in TERMINAL
        self._note_template(task.id, task.template)
        if task.state is State.FAILED and not task.successor:
            self._bury(task.id)

    def _note_template(self, task: str, template: Template) -> None:
        if not template.options.dead_letter:
            self._no_letters.add(task)

    def _bury(self, task: str) -> None:
        if task not in self._no_letters:
            self.dead.add(task)

    def apply(self, record: Record, now: float) -> None:
        match record:
            case Submitted():
                self.ended[record.task.id] = False
                self._note_template(record.task.id, self._templates[record.task.template])
            case Redriven():
                self.ended[record.successor] = False
                self.dead.discard(record.task)
                if record.task in self._no_letters:
                    self._no_letters.add(record.successor)
            case Succeeded() | Failed() | Cancelled():
                self.ended[record.task] = True
                if isinstance(record, Failed):
                    self._bury(record.task)
            case Forgotten():
                for task in record.tasks:
                    self.ended.pop(task, None)
                    self.dead.discard(task)
            case _:
                pass
