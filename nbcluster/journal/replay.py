"""Which records of the log still have to be applied, given the snapshots beside it.

The oldest turns of the log are cleaned: the tasks they touch get a snapshot of their state *now*,
at the head of the log, and the turns are deleted. So what is left of the log holds records that a
snapshot has already taken in, and records of tasks that are gone:

1. A record of a task with a snapshot as new as its turn, or newer, is in the snapshot: skipped.
2. A record of a task that nobody has heard of belongs to a task whose submission was cleaned and
   that was forgotten by then, so it had no state left to write: skipped. Its end must still come
   in the log, or something is missing.
3. A record on engines, groups, masters or setups up to the header's position is in the header:
   skipped.
4. ``Redriven`` touches two tasks. `Journal.checkpoint` writes the snapshot of the new one
   whenever it writes that of the old one, so that one rule decides for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from nbcluster.core import records as r
from nbcluster.core.model import Definition, Task, Template
from nbcluster.journal.rows import DamagedRowError, Entry, Header, Ref

Load = Callable[[r.Record, Ref], None]

_CLUSTER: Final = frozenset(
    {r.MasterStarted, r.SetupAdded, r.GroupWanted, r.EngineUp, r.EngineChanged, r.EngineGone}
)
_TABLES: Final = frozenset({r.Defined, r.TemplateKnown, r.Dropped})
#: Records whose ``task`` is the id of the only one they touch.
OF_ONE_TASK: Final = frozenset(
    {r.Leased, r.Started, r.Released, r.Succeeded, r.Retrying, r.Woken, r.Crashed, r.Failed}
    | {r.Cancelled, r.DependencyMet, r.Progressed}
)


class Sink(Protocol):
    """Who is rebuilt from the journal; called in the order of these methods."""

    def restore_definition(self, definition: Definition) -> None:
        """Take a definition that a retained task may name."""

    def restore_template(self, number: int, template: Template) -> None:
        """Take a template that a retained task may name."""

    def restore_header(self, header: Header) -> None:
        """Take the state that is no task's, as it was written; not called if there is none."""

    def restore_task(self, task: Task) -> None:
        """Take a task as it was at some position of the log; called in order of submission."""

    def apply(self, record: r.Record, now: float) -> None:
        """Apply one record that was committed at ``now``."""


def touched(record: r.Record) -> tuple[str, ...]:
    """Return the tasks whose state the record changes."""
    kind: Any = type(record)
    if kind in _CLUSTER or kind in _TABLES:
        return ()
    if isinstance(record, r.Submitted):
        return (record.task.id,)
    if isinstance(record, r.Redriven):
        return (record.task, record.successor)
    if isinstance(record, r.Forgotten):
        return record.tasks
    return (record.task,)  # type: ignore[union-attr]  # `OF_ONE_TASK`


class Replay:
    """Applies the log to a sink, leaving out what snapshots and header hold.

    Parameters
    ----------
    sink
        Who takes the records.
    snapshots
        Position of the snapshot of each task that has one.
    header
        Position of the header.
    definitions
        Position at which each definition last arrived.
    """

    def __init__(
        self, sink: Sink, snapshots: dict[str, int], header: int, definitions: dict[str, int]
    ) -> None:
        self.applied = 0
        self._sink = sink
        self._known = snapshots
        self._header = header
        self._definitions = definitions
        self._unknown: dict[str, None] = {}
        self._rules: dict[type, Callable[[Any, int, float], None]] = {
            r.Submitted: self._submitted,
            r.Redriven: self._redriven,
            r.Forgotten: self._forgotten,
            r.Dropped: self._dropped,
            **dict.fromkeys(_CLUSTER, self._cluster),
        }

    def turn(self, seq: int, entry: Entry, load: Load) -> None:
        """Apply those records of a turn that are not in a snapshot.

        ``load`` is called with a record whose payload lies in a file, before it is applied.
        """
        if not entry.files:
            self._apply_all(entry.records, seq, entry.at)
            return
        files = dict(entry.files)
        for index, record in enumerate(entry.records):
            ref = files.get(index)
            if ref is not None and self._is_needed(record, seq):
                load(record, ref)
            self._apply_all([record], seq, entry.at)

    def _is_needed(self, record: r.Record, seq: int) -> bool:
        position = self._known.get(touched(record)[0])
        return type(record) is r.Submitted if position is None else position < seq

    def _apply_all(self, records: list[r.Record], seq: int, at: float) -> None:
        known, rules, apply = self._known, self._rules, self._sink.apply
        for record in records:
            rule = rules.get(type(record))
            if rule is not None:
                rule(record, seq, at)
                continue
            task: str = record.task  # type: ignore[union-attr, assignment]
            position = known.get(task)
            if position is None:
                self._unknown[task] = None
            elif position < seq:
                self.applied += 1
                apply(record, at)

    def finish(self) -> None:
        """Check that every task that was skipped as forgotten was.

        Raises
        ------
        DamagedRowError
            If one was not: its submission is missing.
        """
        for task in self._unknown:
            raise DamagedRowError(f"the log speaks of task {task}, which was never submitted")

    def _apply(self, record: r.Record, at: float) -> None:
        self.applied += 1
        self._sink.apply(record, at)

    def _submitted(self, record: r.Submitted, seq: int, at: float) -> None:
        task = record.task.id
        if self._known.get(task, -1) < seq:
            self._known[task] = 0
            self._apply(record, at)

    def _redriven(self, record: r.Redriven, seq: int, at: float) -> None:
        position = self._known.get(record.task)
        if position is None:
            self._unknown[record.task] = None
        elif position < seq:
            self._known[record.successor] = 0
            self._apply(record, at)

    def _forgotten(self, record: r.Forgotten, seq: int, at: float) -> None:
        left = []
        for task in record.tasks:
            position = self._known.get(task)
            if position is None:
                self._unknown.pop(task, None)
            elif position < seq:
                del self._known[task]
                left.append(task)
        if left:
            self._apply(r.Forgotten(tuple(left)), at)

    def _dropped(self, record: r.Dropped, seq: int, at: float) -> None:
        # A definition may have arrived again since then; a template's number never comes back.
        gone = tuple(h for h in record.definitions if self._definitions.get(h, -1) < seq)
        self._apply(r.Dropped(gone, record.templates), at)

    def _cluster(self, record: r.Record, seq: int, at: float) -> None:
        if seq > self._header:
            self._apply(record, at)
