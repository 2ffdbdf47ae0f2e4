"""Submissions on their way: the outbox, and what the master has not acknowledged."""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from nbcluster.core.model import Definition, NewTask, Template
from nbcluster.wire import codec
from nbcluster.wire import messages as m

#: Tasks in one message at the most: bounds what a turn of the master takes at once.
MESSAGE_TASKS: Final = 256
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
        self._to_send: deque[bytes] = deque()
        self._known: dict[str, float] = {}  #: definitions the master was sent, and when
        self._oldest_at = 0.0

    @property
    def waiting(self) -> int:
        """Tasks and messages that were not sent yet."""
        return len(self._tasks) + len(self._to_send)

    def add(self, task: NewTask, call: Call) -> int:
        """Put a task into the outbox; return how many are in it now."""
        self._tasks.append((task, call))  # one append: threads that submit need no lock
        return len(self._tasks)

    def next(self) -> bytes | None:
        """Return the message to send now; it stays the next one until `sent` is called.

        The master takes an acknowledgement of one message as that of all before it, so none may
        be left out. One that is sent twice, since an interrupt came in between, does no harm.
        """
        if self._tasks and not self._to_send:
            self._pack()
        return self._to_send[0] if self._to_send else None

    def sent(self) -> None:
        """The next message is on its way."""
        self._to_send.popleft()

    def _pack(self) -> None:
        """Make one message of the first tasks; an interrupt anywhere here loses none of them."""
        count = min(len(self._tasks), MESSAGE_TASKS)
        batch = self._tasks[:count]
        places: dict[int, int] = {}
        calls: list[Call] = []
        definitions: list[Definition] = []
        known, fresh = self._known, time.monotonic() - KNOWN_S
        for task, call in batch:
            place = places.get(id(call[0]))
            if place is None:
                place = places[id(call[0])] = len(calls)
                calls.append(call)
                for definition in call[1:]:
                    if definition is not None and known.get(definition.hash, 0.0) < fresh:
                        known[definition.hash] = time.monotonic()
                        definitions.append(definition)
            task.template = place
        number = self._number = self._number + 1  # used up, also if an interrupt comes now
        tasks = [task for task, _ in batch]
        templates = [template for template, *_ in calls]
        frame = codec.encode(m.Submit(number, definitions, templates, tasks))
        if not self.unacknowledged:
            self._oldest_at = time.monotonic()
        self.unacknowledged[number] = frame, calls
        self._to_send.append(frame)
        del self._tasks[:count]

    def acknowledged(self, number: int) -> None:
        """Drop the messages up to ``number``: they are durable."""
        unacknowledged = self.unacknowledged
        if not unacknowledged:
            return
        for known in list(unacknowledged):
            if known > number:
                break
            del unacknowledged[known]
        self._oldest_at = time.monotonic()

    def withdraw(self, number: int) -> list[str]:
        """Drop one message that was not taken; return the tasks in it."""
        message = self.unacknowledged.pop(number, None)
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

    def unsent(self) -> set[str]:
        """Return the ids of the tasks in the outbox."""
        return {task.id for task, _ in self._tasks[:]}

    def unaccepted(self) -> set[str]:
        """Return the ids of all tasks that the master has not acknowledged."""
        frames = [frame for frame, _ in list(self.unacknowledged.values())]
        return self.unsent() | {task.id for frame in frames for task in _tasks_of(frame)}

    def is_overdue(self, now: float, limit_s: float) -> bool:
        """Return whether nothing was acknowledged for ``limit_s`` though something waits for it."""
        if self.unacknowledged and now - self._oldest_at > limit_s:
            self._oldest_at = now
            return True
        return False

    def repeat_all(self) -> None:
        """Have everything that was not acknowledged sent (again), in order."""
        self._known.clear()
        self._to_send = deque(frame for frame, _ in self.unacknowledged.values())


def _tasks_of(frame: bytes) -> list[NewTask]:
    message = codec.from_client(frame)
    assert isinstance(message, m.Submit)
    return message.tasks
