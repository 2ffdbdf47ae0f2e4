"""Messages keep their meaning over the wire, and nothing else gets through."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbcluster.core.model import Definition, NewTask, Outcome, Run, Template
from nbcluster.core.records import Record
from nbcluster.errors import MalformedError
from nbcluster.options import TaskOptions
from nbcluster.wire import codec, messages

DIRECTIONS: dict[str, tuple[Any, Any]] = {
    "hello": (messages.Hello, codec.hello),
    "from_client": (messages.FromClient, codec.from_client),
    "from_engine": (messages.FromEngine, codec.from_engine),
    "from_executor": (messages.FromExecutor, codec.from_executor),
    "to_client": (messages.ToClient, codec.to_client),
    "to_engine": (messages.ToEngine, codec.to_engine),
    "to_executor": (messages.ToExecutor, codec.to_executor),
}


def test_a_submission_arrives_as_it_was_sent() -> None:
    options = TaskOptions(retries=float("inf"), timeout=1.5, pin="e")
    sent = messages.Submit(
        3,
        [Definition("h", "f", b"\x00")],
        [Template("h", options)],
        [NewTask("t", 0, b"args", ("b",), "name", "key", ("a",))],
    )

    assert codec.from_client(codec.encode(sent)) == sent


def test_results_and_runs_arrive_as_they_were_sent() -> None:
    finished = messages.Finished(1, [Outcome("t", 1 << 62, 0, 1.0, 2.0, b"v", ("b",))])
    runs = messages.Runs(1, [], [Run("t", 1 << 62, 1, "h", b"args", timeout=2.0)])

    assert codec.from_executor(codec.encode(finished)) == finished
    assert codec.to_executor(memoryview(codec.encode(runs))) == runs


@pytest.mark.parametrize("name", DIRECTIONS)
def test_no_two_messages_of_a_direction_have_one_tag(name: str) -> None:
    kinds = typing.get_args(DIRECTIONS[name][0])
    tags = [kind.__struct_config__.tag for kind in kinds]

    assert len(set(tags)) == len(kinds)


def test_no_two_records_have_one_tag() -> None:
    kinds = typing.get_args(Record)

    assert len({kind.__struct_config__.tag for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("name", DIRECTIONS)
@settings(max_examples=50, deadline=None)
@given(frame=st.binary(max_size=60))
def test_noise_is_refused_and_raises_nothing_else(name: str, frame: bytes) -> None:
    try:
        message = DIRECTIONS[name][1](frame)
    except MalformedError:
        return
    assert codec.encode(message)  # by chance it was a message


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        msgspec.msgpack.encode([99]),
        msgspec.msgpack.encode([60, "one", []]),
        msgspec.msgpack.encode([60, 1, [["t", 1, 0]]]),
        b"\x91" * 5_000,
        codec.encode(messages.Kill("e/0.1", 1, "cancel", 3.0)),
    ],
)
def test_what_no_executor_may_say_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedError, match=f"{len(frame)} bytes"):
        codec.from_executor(frame)


def test_greetings_cannot_be_changed_after_they_were_read() -> None:
    frozen = [k for k in typing.get_args(messages.Hello) if k.__struct_config__.frozen]

    assert frozen == list(typing.get_args(messages.Hello))
    assert not dataclasses.is_dataclass(frozen[0])
