"""Everything the master knows, and ``apply``, which alone changes what is on record.

Rule 1. ``decide`` functions read the state and yield records; ``apply`` writes them. The journal
holds what ``apply`` takes, so a restart is ``apply`` again.
Rule 2. A dispatch is a lease, named by its token. A result counts while its token is that of the
task's lease. So user code may run twice (at least once), but one result is recorded.
Rule 3. An attempt that raised is charged to ``retries``, one that died to ``crashes``, one that
was given back only uses its number, and what never began was no attempt.

Not on record: queues (an index of the pending tasks), who is connected and how fast functions
are. Queues are filled again after a replay; the rest is told again by those who know it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from nbcluster.core import records as r
from nbcluster.core.automaton import (
    CANCELLED,
    FAILED,
    LEGAL,
    PENDING,
    RETRYING,
    RUNNING,
    SUCCEEDED,
)
from nbcluster.core.model import (
    NOTHING,
    TERMINAL,
    Attempt,
    Definition,
    Engine,
    EngineState,
    ErrorInfo,
    Executor,
    State,
    Task,
    Template,
    kept_bytes,
)
from nbcluster.core.queues import TaskQueue
from nbcluster.errors import InvariantError
from nbcluster.ids import engine_of

#: Attempts kept with their errors for each task; of more, the first and the latest stay.
HISTORY_LIMIT: Final = 50


class ClusterState:
    """The tables of the master.

    Attributes
    ----------
    tasks
        All retained tasks by id, in the order of their submission.
    queues, pins
        Pending tasks without a lease, by group, and by the engine or executor they are bound to.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.dispatched = 0
        self.submitted = 0
        self.tasks: dict[str, Task] = {}
        self.counts: dict[State, int] = dict.fromkeys(State, 0)
        self.queues: dict[str, TaskQueue] = {}
        self.pins: dict[str, TaskQueue] = {}
        self.keys: dict[str, str] = {}
        self.dependents: dict[str, list[str]] = {}
        self.dead_letters: dict[str, None] = {}
        self.ended: deque[str] = deque()  #: in the order of their end, for retention
        self.ended_bytes = 0  #: that these keep, by `kept_bytes`
        self.definitions: dict[str, Definition] = {}
        self.templates: dict[int, Template] = {}
        self.template_count = 0  #: numbers given out so far
        self.template_numbers: dict[Template, int] = {}
        self.setups: list[r.SetupAdded] = []
        self.groups: dict[str, r.GroupWanted] = {}  #: whose number of engines was changed
        self.engines: dict[str, Engine] = {}
        self.executors: dict[str, Executor] = {}
        self.replaying = False
        self._appliers: dict[type, Callable[[Any, float], None]] = {
            r.MasterStarted: self._master_started,
            r.Defined: self._defined,
            r.TemplateKnown: self._template_known,
            r.Dropped: self._dropped,
            r.SetupAdded: self._setup_added,
            r.GroupWanted: self._group_wanted,
            r.Submitted: self._submitted,
            r.Forgotten: self._forgotten,
            r.EngineUp: self._engine_up,
            r.EngineChanged: self._engine_changed,
            r.EngineGone: self._engine_gone,
        }
        self._task_appliers: dict[type, Callable[[Task, Any, float], None]] = {
            r.Leased: self.lease,
            r.Started: self._started,
            r.Released: self._released,
            r.Succeeded: self._succeeded,
            r.Retrying: self._retrying,
            r.Woken: self._woken,
            r.Crashed: self._crashed,
            r.Failed: self._failed,
            r.Cancelled: self._cancelled,
            r.DependencyMet: self._dependency_met,
            r.Progressed: self._progressed,
            r.Redriven: self._redriven,
        }

    # ------------------------------------------------------------------ reading

    @property
    def open_tasks(self) -> int:
        """Tasks that have not ended."""
        counts = self.counts
        return counts[PENDING] + counts[RUNNING] + counts[RETRYING]

    def queue_of(self, task: Task) -> TaskQueue:
        """Return the queue that ``task`` waits in."""
        options = task.template.options
        table, name = (self.pins, options.pin) if options.pin else (self.queues, options.group)
        queue = table.get(name)
        if queue is None:
            queue = table[name] = TaskQueue()
        return queue

    def defines(self, fn: str) -> bool:
        """Return whether the definition is there, and not its name alone."""
        definition = self.definitions.get(fn)
        return definition is not None and bool(definition.blob)

    def executor(self, name: str) -> Executor:
        """Return the executor of that id; one nobody has heard of is made."""
        executor = self.executors.get(name)
        if executor is None:
            engine = engine_of(name)
            executor = self.executors[name] = Executor(name, engine)
            if engine in self.engines:
                self.engines[engine].executors[name] = executor
        return executor

    # ------------------------------------------------------------------ writing

    def apply(self, record: r.Record, now: float) -> None:
        """Write one record. What it is told has happened: it checks, and never decides.

        Raises
        ------
        InvariantError
            If the record does not fit the state: the journal or the core is wrong.
        """
        kind = type(record)
        task_applier = self._task_appliers.get(kind)
        if task_applier is None:
            self._appliers[kind](record, now)
            return
        task = self.tasks.get(record.task)  # type: ignore[union-attr, arg-type]
        if task is None or task.state not in LEGAL[kind]:
            was = "unknown" if task is None else task.state
            raise InvariantError(f"a task that is {was} cannot take {record}")
        task_applier(task, record, now)

    def _move(self, task: Task, state: State) -> None:
        counts = self.counts
        counts[task.state] -= 1
        counts[state] += 1
        task.state = state

    def unlease(self, task: Task) -> None:
        """Take the task's lease off its executor, if it is still there."""
        executor = self.executors.get(task.executor)
        if executor is not None and executor.leases.pop(task.token, None) is not None:
            engine = self.engines.get(executor.engine)
            if engine is not None:
                engine.load -= task.template.options.load

    # ------------------------------------------------------------------ cluster

    def _master_started(self, record: r.MasterStarted, now: float) -> None:
        self.epoch = record.epoch
        self.dispatched = 0
        for engine in self.engines.values():
            engine.seen_at = now

    def _defined(self, record: r.Defined, now: float) -> None:
        self.definitions[record.definition.hash] = record.definition

    def _template_known(self, record: r.TemplateKnown, now: float) -> None:
        self.add_template(record.number, record.template)

    def add_template(self, number: int, template: Template) -> None:
        """Let ``number`` stand for ``template``."""
        self.templates[number] = template
        self.template_numbers[template] = number
        self.template_count = max(self.template_count, number)

    def _dropped(self, record: r.Dropped, now: float) -> None:
        for fn in record.definitions:
            self.definitions.pop(fn, None)
        for number in record.templates:
            template = self.templates.pop(number, None)
            if template is not None:
                self.template_numbers.pop(template, None)

    def _setup_added(self, record: r.SetupAdded, now: float) -> None:
        self.setups = [*(s for s in self.setups if s.version not in record.replaces), record]

    def _group_wanted(self, record: r.GroupWanted, now: float) -> None:
        self.groups[record.group] = record

    # ------------------------------------------------------------------ tasks

    def _submitted(self, record: r.Submitted, now: float) -> None:
        new = record.task
        task = Task(
            new.id,
            self.templates[new.template],
            new.payload,
            new.blobs,
            record.client,
            new.name,
            new.key,
            set(new.after) if new.after else NOTHING,
            now,
        )
        task.digest = new.digest
        self._add(task)

    def _add(self, task: Task) -> None:
        self.submitted += 1
        task.seq = self.submitted
        task.queued_at = task.submitted_at
        self.insert(task)
        if not self.replaying and not task.after:
            self.queue_of(task).push(task)

    def insert(self, task: Task) -> None:
        """Put a task into the tables (not into its queue)."""
        self.tasks[task.id] = task
        self.counts[task.state] += 1
        if task.key:
            self.keys[task.key] = task.id
        for dependency in task.after:
            self.dependents.setdefault(dependency, []).append(task.id)

    def lease(self, task: Task, record: r.Leased, now: float) -> None:
        executor = self.executors.get(record.executor) or self.executor(record.executor)
        task.token = record.token
        task.executor = record.executor
        executor.leases[record.token] = task
        engine = self.engines.get(executor.engine)
        if engine is not None:
            engine.load += task.template.options.load

    def _started(self, task: Task, record: r.Started, now: float) -> None:
        self._move(task, RUNNING)
        task.attempts += 1
        task.started_at = record.at
        task.reason = ""

    def _released(self, task: Task, record: r.Released, now: float) -> None:
        self.unlease(task)
        if record.started_at:  # its number is used, and that is all it costs
            task.attempts += not record.begun
            task.started_at = record.started_at
            self._note_attempt(task, "given_back", record.started_at, None, now)
        elif task.state is RUNNING:
            task.attempts -= 1  # taken to have begun when it was sent; it did not
        if task.state is RUNNING:
            self._move(task, PENDING)
        self._requeue(task)

    def _requeue(self, task: Task) -> None:
        task.token = 0
        task.progress = None
        if not self.replaying:
            self.queue_of(task).push_front(task)

    def _end_attempt(self, task: Task, started_at: float) -> None:
        self.unlease(task)
        if task.state is PENDING:  # nobody had told that it began
            task.attempts += 1
        task.started_at = started_at

    def _end(self, task: Task, state: State, now: float) -> None:
        self._move(task, state)
        task.reason = ""
        task.finished_at = now
        task.progress = None
        self.ended.append(task.id)
        self.ended_bytes += kept_bytes(task)
        if task.token:
            engine = self.engines.get(engine_of(task.executor))
            if engine is not None:
                engine.done += 1

    def _succeeded(self, task: Task, record: r.Succeeded, now: float) -> None:
        self._end_attempt(task, record.started_at)
        task.result = record.payload
        task.result_blobs = record.blobs
        task.stdout = record.stdout
        task.stderr = record.stderr
        if not task.key:  # a task that succeeded is never run again; a key is compared with it
            task.payload = b""
        task.blobs = ()
        self._end(task, SUCCEEDED, now)

    def _note_attempt(
        self, task: Task, outcome: str, started_at: float, error: ErrorInfo | None, now: float
    ) -> None:
        engine = engine_of(task.executor)
        attempt = Attempt(task.attempts, engine, task.executor, started_at, now, outcome, error)
        history = task.history
        if len(history) >= HISTORY_LIMIT:
            history = history[:1] + history[2:]
        task.history = (*history, attempt)

    def _remember(self, task: Task, outcome: str, record: Any, now: float) -> None:
        self._note_attempt(task, outcome, record.started_at, record.error, now)
        task.error = record.error
        task.stdout = record.stdout
        task.stderr = record.stderr

    def _retrying(self, task: Task, record: r.Retrying, now: float) -> None:
        self._end_attempt(task, record.started_at)
        self._remember(task, record.outcome, record, now)
        self._move(task, RETRYING)
        task.retries += 1
        task.token = 0
        task.due = record.due
        task.progress = None

    def _woken(self, task: Task, record: r.Woken, now: float) -> None:
        self._move(task, PENDING)
        task.queued_at = now
        if not self.replaying:
            self.queue_of(task).push(task)

    def _crashed(self, task: Task, record: r.Crashed, now: float) -> None:
        self._end_attempt(task, record.started_at)
        self._remember(task, "crash", record, now)
        task.crashes += 1
        if task.state is RUNNING:
            self._move(task, PENDING)
        self._requeue(task)

    def _failed(self, task: Task, record: r.Failed, now: float) -> None:
        if record.token:
            self._end_attempt(task, record.started_at)
            if record.cause in ("crash", "lost"):
                task.crashes += 1
            self._remember(task, record.cause, record, now)
        else:
            self._unqueue(task)
            task.error = record.error
        task.cause = record.cause
        task.result = record.payload
        task.result_blobs = record.blobs
        task.code = record.code
        task.args = record.args
        self._end(task, FAILED, now)
        if task.template.options.dead_letter:
            self.dead_letters[task.id] = None

    def _unqueue(self, task: Task) -> None:
        """A task that ends without an attempt leaves its queue, if it was in it."""
        waits = task.state is PENDING and not task.token and not task.after
        if waits and not self.replaying:
            self.queue_of(task).discard()

    def _cancelled(self, task: Task, record: r.Cancelled, now: float) -> None:
        # The lease stays with its executor until that tells what became of it: it is not free.
        self._unqueue(task)
        self._end(task, CANCELLED, now)

    def _dependency_met(self, task: Task, record: r.DependencyMet, now: float) -> None:
        if isinstance(task.after, set):
            task.after.discard(record.dependency)
        if not task.after:
            task.after = NOTHING
            task.queued_at = now
            if not self.replaying:
                self.queue_of(task).push(task)

    def _progressed(self, task: Task, record: r.Progressed, now: float) -> None:
        task.progress = record.progress

    def _redriven(self, task: Task, record: r.Redriven, now: float) -> None:
        task.successor = record.successor
        self.dead_letters.pop(task.id, None)
        if self.keys.get(task.key) == task.id:
            del self.keys[task.key]
        new = Task(
            record.successor,
            task.template,
            task.payload,
            task.blobs,
            record.client,
            task.name,
            task.key,
            set(record.after) if record.after else NOTHING,
            now,
        )
        new.digest = task.digest
        task.blobs = ()  # they belong to the new task now
        self._add(new)

    def _forgotten(self, record: r.Forgotten, now: float) -> None:
        for name in record.tasks:
            task = self.tasks.pop(name, None)
            if task is None or task.state not in TERMINAL:
                raise InvariantError(f"cannot forget {name}: it has not ended")
            self.counts[task.state] -= 1
            self.ended_bytes -= kept_bytes(task)
            self.dead_letters.pop(name, None)
            self.dependents.pop(name, None)
            if task.key and self.keys.get(task.key) == name:
                del self.keys[task.key]

    # ------------------------------------------------------------------ engines

    def _engine_up(self, record: r.EngineUp, now: float) -> None:
        old = self.engines.get(record.engine)
        engine = Engine(
            record.engine, record.pid, record.host, record.groups, record.slots, record.python
        )
        if old is not None:
            engine.done, engine.used, engine.started_at = old.done, old.used, old.started_at
            if old.pid == engine.pid and old.state is EngineState.DRAINING:
                engine.state = old.state
        engine.executors = {x.id: x for x in self.executors.values() if x.engine == engine.id}
        engine.load = sum(
            t.template.options.load for x in engine.executors.values() for t in x.leases.values()
        )
        engine.started_at = engine.started_at or now
        engine.seen_at = now
        self.engines[engine.id] = engine

    def _engine_changed(self, record: r.EngineChanged, now: float) -> None:
        engine = self.engines[record.engine]
        engine.state = record.state
        engine.slots = record.slots

    def _engine_gone(self, record: r.EngineGone, now: float) -> None:
        engine = self.engines.pop(record.engine, None)
        for name in engine.executors if engine is not None else ():
            self.executors.pop(name, None)
