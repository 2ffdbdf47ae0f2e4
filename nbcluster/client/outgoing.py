"""Submissions on their way: the outbox, and what the master has not acknowledged."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from nbcluster.core.model import Definition, NewTask, Template
from nbcluster.wire import codec
from nbcluster.wire import messages as m

#: Tasks in one message, and bytes of them: bounds what a turn of the master takes at once.
MESSAGE_TASKS: Final = 256
MESSAGE_BYTES: Final = 4 << 20
#: Bytes that are sent before the first of them are acknowledged: they lie in the master's memory.
WINDOW_BYTES: Final = 64 << 20
#: Seconds for which the master is trusted to know a definition that it was sent.
KNOWN_S: Final = 60.0


#: What calls of one function with one set of options share: template, function, retry classes.
Call = tuple[Template, Definition, Definition | None]


class Outgoing:
    """Tasks that wait to be sent, and messages that wait to be acknowledged.

    Not locked: the link's lock guards it, but for ``add``, which only appends.
    """

    def __init__(self) -> None:
        self._tasks: list[tuple[NewTask, Call]] = []
        self._number = 0
        #: By number: as it was sent, and what its templates were made of.
        self.unacknowledged: dict[int, tuple[bytes, list[Call]]] = {}
        self._to_send: deque[int] = deque()
        self._sent: dict[int, int] = {}  #: bytes of those that were sent and not acknowledged
        self._in_flight = 0  #: the sum of these
        self._known: dict[str, float] = {}  #: definitions the master was sent, and when
        self._oldest_at = 0.0

    @property
    def can_send(self) -> bool:
        """Whether something waits, and the master is not to acknowledge what it has before."""
        return bool(self._tasks or self._to_send) and self._in_flight < WINDOW_BYTES

    @property
    def is_settled(self) -> bool:
        """Whether the master has acknowledged all tasks."""
        return not (self._tasks or self._to_send or self.unacknowledged)

    def add(self, task: NewTask, call: Call) -> int:
        """Put a task into the outbox; return how many are in it now."""
        self._tasks.append((task, call))  # one append: threads that submit need no lock
        return len(self._tasks)

    def next(self) -> bytes | None:
        """Return the message to send now; it stays the next one until `sent` is called.

        The master takes an acknowledgement of one message as that of all before it, so none may
        be left out. One that is sent twice, since an interrupt came in between, does no harm.
        """
        if self._in_flight >= WINDOW_BYTES:
            return None
        while self._to_send and self._to_send[0] not in self.unacknowledged:
            self._to_send.popleft()  # acknowledged, or withdrawn, before it was sent again
        if self._tasks and not self._to_send:
            self._pack()
        return self.unacknowledged[self._to_send[0]][0] if self._to_send else None

    def sent(self) -> None:
        """The next message is on its way."""
        number = self._to_send.popleft()
        self._sent[number] = size = len(self.unacknowledged[number][0])
        self._in_flight += size

    def _pack(self) -> None:
        """Make one message of the first tasks; an interrupt anywhere here loses none of them."""
        tasks: list[NewTask] = []
        places: dict[int, int] = {}
        calls: list[Call] = []
        definitions: list[Definition] = []
        known, fresh, size = self._known, time.monotonic() - KNOWN_S, 0
        for task, call in self._tasks[:MESSAGE_TASKS]:
            place = places.get(id(call[0]))
            if place is None:
                place = places[id(call[0])] = len(calls)
                calls.append(call)
                for definition in call[1:]:
                    if definition is not None and known.get(definition.hash, 0.0) < fresh:
                        known[definition.hash] = time.monotonic()
                        definitions.append(definition)
                        size += len(definition.blob)
            task.template = place
            tasks.append(task)
            size += len(task.payload)
            if size >= MESSAGE_BYTES:
                break
        number = self._number = self._number + 1  # used up, also if an interrupt comes now
        templates = [template for template, *_ in calls]
        frame = codec.encode(m.Submit(number, definitions, templates, tasks))
        if not self.unacknowledged:
            self._oldest_at = time.monotonic()
        self.unacknowledged[number] = frame, calls
        self._to_send.append(number)
        del self._tasks[: len(tasks)]

    def acknowledged(self, number: int) -> None:
        """Drop the messages up to ``number``: they are durable."""
        unacknowledged = self.unacknowledged
        if not unacknowledged:
            return
        for known in list(unacknowledged):
            if known > number:
                break
            del unacknowledged[known]
            self._in_flight -= self._sent.pop(known, 0)
        self._oldest_at = time.monotonic()

    def withdraw(self, number: int) -> list[str]:
        """Drop one message that was not taken; return the tasks in it."""
        message = self.unacknowledged.pop(number, None)
        self._in_flight -= self._sent.pop(number, 0)
        self._known.clear()  # the definitions in it are not known there either
        return [] if message is None else [task.id for task in _tasks_of(message[0])]

    def again(self, names: list[str]) -> None:
        """Have tasks sent again together with their functions: the master has them no more."""
        self._known.clear()
        wanted = set(names)
        for frame, calls in self.unacknowledged.values():
            for task in _tasks_of(frame):
                if task.id in wanted:
                    self.add(task, calls[task.template])

    def unaccepted(self) -> set[str]:
        """Return the ids of all tasks that the master has not acknowledged."""
        names = {task.id for task, _ in self._tasks[:]}  # first: a task moves on, never back
        for frame, _ in list(self.unacknowledged.values()):
            names.update(task.id for task in _tasks_of(frame))
        return names

    def overdue(self, now: float, limit_s: float) -> bytes | None:
        """Return the first message if nothing was acknowledged for ``limit_s``: a master that
        has lost sight of us notices by it. All of them would only delay one that is busy.
        """
        if not self._sent or now - self._oldest_at <= limit_s:
            return None
        self._oldest_at = now
        first = self.unacknowledged.get(next(iter(self._sent)))
        return None if first is None else first[0]

    def repeat_all(self) -> None:
        """Have everything that was not acknowledged sent (again), in order."""
        self._known.clear()
        self._sent.clear()
        self._in_flight = 0
        self._to_send = deque(self.unacknowledged)


def _tasks_of(frame: bytes) -> list[NewTask]:
    message = codec.from_client(frame)
    assert isinstance(message, m.Submit)
    return message.tasks
