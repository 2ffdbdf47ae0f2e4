"""The outbox: what is sent, in which order, and again."""

from __future__ import annotations

import time

from nbcluster.client.outgoing import (
    MESSAGE_BYTES,
    MESSAGE_TASKS,
    WINDOW_BYTES,
    Call,
    Outgoing,
)
from nbcluster.core.model import Definition, NewTask, Template
from nbcluster.options import TaskOptions
from nbcluster.wire import codec
from nbcluster.wire import messages as m


def a_call() -> Call:
    return Template("f", TaskOptions()), Definition("f", "f", b"code"), None


def with_tasks(count: int) -> Outgoing:
    outgoing = Outgoing()
    call = a_call()
    for number in range(count):
        outgoing.add(NewTask(str(number), 0, b"", (), "", "", ()), call)
    return outgoing


def sent(outgoing: Outgoing) -> list[m.Submit]:
    """Return the messages that are sent now."""
    messages: list[m.Submit] = []
    while (frame := outgoing.next()) is not None:
        outgoing.sent()
        message = codec.from_client(frame)
        assert isinstance(message, m.Submit)
        messages.append(message)
    return messages


def test_tasks_leave_once_in_their_order_in_messages_that_are_numbered() -> None:
    outgoing = with_tasks(MESSAGE_TASKS + 1)

    messages = sent(outgoing)

    assert [(message.number, len(message.tasks)) for message in messages] == [
        (1, MESSAGE_TASKS),
        (2, 1),
    ]
    assert [task.id for x in messages for task in x.tasks] == [str(n) for n in range(257)]
    assert not outgoing.can_send


def test_a_message_is_the_next_one_until_it_is_sent() -> None:
    outgoing = with_tasks(1)

    first = outgoing.next()

    assert outgoing.next() is first  # what came between was an interrupt
    assert outgoing.can_send


def test_a_task_whose_function_the_master_has_not_is_sent_again_with_it() -> None:
    outgoing = with_tasks(2)
    assert len(sent(outgoing)[0].definitions) == 1
    outgoing.add(NewTask("2", 0, b"", (), "", "", ()), a_call())
    assert sent(outgoing)[0].definitions == []  # it has just been sent

    outgoing.again(["1", "2"])
    outgoing.acknowledged(2)

    (message,) = sent(outgoing)
    assert message.number == 3
    assert [task.id for task in message.tasks] == ["1", "2"]
    assert [definition.hash for definition in message.definitions] == ["f"]


def test_what_is_not_acknowledged_is_sent_again_before_what_is_new() -> None:
    outgoing = with_tasks(MESSAGE_TASKS + 1)
    sent(outgoing)
    outgoing.acknowledged(1)
    outgoing.add(NewTask("new", 0, b"", (), "", "", ()), a_call())

    outgoing.repeat_all()

    assert [[task.id for task in x.tasks] for x in sent(outgoing)] == [["256"], ["new"]]


def test_what_was_not_sent_or_not_acknowledged_is_not_accepted() -> None:
    outgoing = with_tasks(1)
    sent(outgoing)
    outgoing.add(NewTask("1", 0, b"", (), "", "", ()), a_call())
    sent(outgoing)
    outgoing.add(NewTask("2", 0, b"", (), "", "", ()), a_call())

    outgoing.acknowledged(1)

    assert outgoing.unaccepted() == {"1", "2"}


def test_a_message_holds_a_bounded_number_of_bytes() -> None:
    outgoing = Outgoing()
    for number in range(3):
        outgoing.add(NewTask(str(number), 0, bytes(MESSAGE_BYTES), (), "", "", ()), a_call())

    assert [[task.id for task in x.tasks] for x in sent(outgoing)] == [["0"], ["1"], ["2"]]


def test_no_more_bytes_are_in_flight_than_the_window_until_they_are_acknowledged() -> None:
    outgoing = Outgoing()
    count = WINDOW_BYTES // MESSAGE_BYTES + 2
    for number in range(count):
        outgoing.add(NewTask(str(number), 0, bytes(MESSAGE_BYTES), (), "", "", ()), a_call())

    first = sent(outgoing)

    assert len(first) == WINDOW_BYTES // MESSAGE_BYTES
    assert not outgoing.can_send
    outgoing.acknowledged(first[1].number)
    assert outgoing.can_send
    assert len(sent(outgoing)) == 2
    outgoing.acknowledged(count)
    assert outgoing._in_flight == 0


def test_only_the_first_message_is_sent_again_where_nothing_is_acknowledged() -> None:
    outgoing = with_tasks(3 * MESSAGE_TASKS)
    sent(outgoing)
    now = time.monotonic()

    assert outgoing.overdue(now, 5.0) is None
    frame = outgoing.overdue(now + 6.0, 5.0)

    assert frame is not None
    message = codec.from_client(frame)
    assert isinstance(message, m.Submit)
    assert message.number == 1
    assert outgoing.overdue(now + 7.0, 5.0) is None  # not at once once more


def test_what_was_in_flight_is_not_after_another_session_began() -> None:
    outgoing = with_tasks(1)
    sent(outgoing)
    outgoing.repeat_all()
    assert outgoing._in_flight == 0

    (message,) = sent(outgoing)
    outgoing.acknowledged(message.number)

    assert outgoing._in_flight == 0
    assert outgoing.next() is None
