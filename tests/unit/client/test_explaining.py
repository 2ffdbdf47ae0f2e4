"""Why a task is where it is: answered from what its future knows."""

from __future__ import annotations

from typing import Final

import pytest

from nbcluster import Future
from nbcluster.client.explaining import explain, own_stack
from nbcluster.core.model import Ended, ErrorInfo, Moved, State
from nbcluster.errors import (
    BusyError,
    ClosedError,
    ClusterConnectionError,
    OptionError,
    TaskKeptError,
)


class NobodyAnswers:
    """A client whose cluster has gone: to ask it is the mistake."""


def future() -> Future[int]:
    return Future(NobodyAnswers(), "t-1", "work")  # type: ignore[arg-type]


def end(state: State, **changes: object) -> Ended:
    known = {"cause": "", "attempts": 1, "retries": 0, "crashes": 0, "engine": "e"} | changes
    times = {"submitted_at": 1.0, "started_at": 2.0, "finished_at": 3.0, "payload": b""}
    return Ended(task="t-1", state=state, **(times | known))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        (end(State.SUCCEEDED), "succeeded after 1 attempt"),
        (end(State.SUCCEEDED, attempts=2), "succeeded after 2 attempts"),
        (end(State.CANCELLED, attempts=0), "cancelled after 0 attempts"),
        (
            end(State.FAILED, cause="exception", error=ErrorInfo("OSError", "no")),
            "failed (exception) after 1 attempt, 0 crashes: OSError: no",
        ),
        (
            end(State.FAILED, cause="exception", error=ErrorInfo("KeyError", "")),
            "failed (exception) after 1 attempt, 0 crashes: KeyError",
        ),
        (
            end(State.FAILED, cause="lost", crashes=1, code="TaskLostError", args=("t-1", "gone")),
            "failed (lost) after 1 attempt, 1 crash: TaskLostError: gone",
        ),
    ],
    ids=str,
)
def test_an_ended_task_tells_how_it_ended_without_its_cluster(ended: Ended, text: str) -> None:
    ours = future()

    ours._on_ended(ended)

    assert ours.why() == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ClusterConnectionError("it has stopped"), "the cluster was shut down before the task"),
        (ClosedError("the cluster object was closed"), "the cluster object was closed. If its"),
        (BusyError(5, 1.0), "it was not accepted: the cluster already holds 5"),
    ],
    ids=str,
)
def test_a_task_that_is_not_heard_of_any_more_says_why(error: Exception, text: str) -> None:
    ours = future()

    ours._on_refused(error)

    assert ours.why().startswith(text)


def test_a_task_that_ran_at_the_shutdown_is_not_said_to_run_for_ever() -> None:
    ours = future()
    ours._on_moved(Moved("t-1", State.RUNNING, "", 1, 0, 0, "e"))
    assert ours.state == "running"

    ours._on_refused(ClusterConnectionError("it has stopped"))

    assert (ours.done(), ours.state) == (True, "failed")


def test_a_future_whose_task_is_kept_says_so_and_how_to_have_it() -> None:
    ours = future()
    ours._on_refused(TaskKeptError("t-1", "nbcluster.start(name='one')"))

    assert (ours.done(), ours.state) == (True, "pending")
    assert "at its next start" in ours.why()
    assert "nbcluster.start(name='one'); cluster.future('t-1')" in ours.why()


OURS: Final = """\
  File "/x/nbcluster/engine/executor/attempt.py", line 101 in attempt
  File "/x/nbcluster/engine/executor/loop.py", line 133 in _work"""
HEAD: Final = "Stack (most recent call first):"


@pytest.mark.parametrize(
    "own",
    [
        '  File "/u/nbcluster/study.py", line 2 in inner',
        '  File "/x/nbcluster/client/link.py", line 7 in lead\n  File "/u/a.py", line 2 in f',
    ],
)
@pytest.mark.parametrize("caller", ["serial/unpack.py", "calls.py"])
def test_a_stack_is_what_the_task_called_wherever_that_lies(own: str, caller: str) -> None:
    between = f'  File "/x/nbcluster/{caller}", line 138 in call'

    assert own_stack("\n".join([HEAD, own, between, OURS]), "work", 1.0) == f"{HEAD}\n{own}"


def test_a_stack_that_was_cut_off_is_shown_as_it_is() -> None:
    deep = HEAD + '\n  File "/a.py", line 2 in f' * 100 + "\n  ..."

    assert own_stack(deep, "work", 1.0) == deep


def test_a_task_without_a_python_frame_is_said_to_be_in_c_code_and_for_how_long() -> None:
    text = own_stack(f"{HEAD}\n{OURS}", "sum", 12.34)

    assert text.startswith("sum is inside C code")
    assert "for 12.3 s" in text


def test_what_has_ended_has_no_stack() -> None:
    ours = future()
    ours._on_ended(end(State.SUCCEEDED))

    with pytest.raises(OptionError, match="task t-1 is succeeded"):
        ours.stack()


def test_a_future_is_shown_on_one_line_whatever_its_name() -> None:
    ours: Future[int] = Future(NobodyAnswers(), "t-1", "a\n\x00b")  # type: ignore[arg-type]

    assert repr(ours) == r"<Future 'a\n\x00b': pending>"


def test_one_is_no_plural() -> None:
    known = {"state": "pending", "reason": "no slot", "attempts": 1, "crashes": 1}

    assert explain(known) == "pending, after 1 crash: no slot"
