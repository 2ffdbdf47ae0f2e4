"""Every error is one of ours and one of Python's, travels whole, and says what to do."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from typing import Any

import pytest

from nbcluster import errors
from nbcluster.errors import BY_CODE, NbclusterError, from_code

#: A value for each field that an error of ours has.
FIELDS: dict[str, Any] = {
    "message": "did not come back",
    "what": "argument",
    "path": "train -> global 'db' -> sqlite3.Connection",
    "reason": "cannot pickle 'sqlite3.Connection' object",
    "kind": "task",
    "name": "t-abc",
    "hint": "Look at cluster.tasks().",
    "key": "nightly",
    "task": "t-abc",
    "limit": 100,
    "retry_after": 2.5,
    "group": "gpu",
    "crashes": 3,
    "signal": "SIGSEGV",
    "peak_bytes": 1 << 30,
    "stderr": "Segmentation fault",
    "start": "nbcluster.start(name='one')",
    "at_most_once": 0,
    "text": "Traceback (most recent call last): ...",
}


def all_errors() -> Iterator[type[NbclusterError]]:
    for _, cls in inspect.getmembers(errors, inspect.isclass):
        if issubclass(cls, NbclusterError):
            yield cls


def field_names(cls: type[NbclusterError]) -> list[str]:
    if cls.__init__ is Exception.__init__ or "__init__" not in {
        name for base in cls.__mro__ if issubclass(base, NbclusterError) for name in vars(base)
    }:
        return []
    return list(inspect.signature(cls.__init__).parameters)[1:]


def example(cls: type[NbclusterError]) -> NbclusterError:
    names = field_names(cls)
    return cls(*[FIELDS[name] for name in names]) if names else cls("what happened")


every_error = pytest.mark.parametrize("cls", list(all_errors()), ids=lambda cls: cls.__name__)


@every_error
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_with_message_and_fields(
    cls: type[NbclusterError], protocol: int
) -> None:
    error = example(cls)

    back = pickle.loads(pickle.dumps(error, protocol))

    assert type(back) is cls
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))


@every_error
def test_an_error_can_be_copied(cls: type[NbclusterError]) -> None:
    error = example(cls)

    assert str(copy.copy(error)) == str(error)


@every_error
def test_every_field_of_an_error_is_an_attribute(cls: type[NbclusterError]) -> None:
    error = example(cls)

    assert {name: getattr(error, name) for name in field_names(cls)} == {
        name: FIELDS[name] for name in field_names(cls)
    }


@every_error
def test_an_error_names_its_fields_that_a_person_needs(cls: type[NbclusterError]) -> None:
    shown = str(example(cls))

    for name in {"task", "group", "key", "name", "path", "limit", "signal", "message"} & set(
        field_names(cls)
    ):
        assert str(FIELDS[name]) in shown


@every_error
def test_the_name_of_an_error_ends_in_error(cls: type[NbclusterError]) -> None:
    # The two exceptions: one that user code raises, one that only carries a text.
    assert cls.__name__.endswith("Error") or cls.__name__ in {"PermanentFailure", "RemoteTraceback"}


@every_error
def test_an_error_has_a_docstring_of_its_own(cls: type[NbclusterError]) -> None:
    assert cls.__dict__.get("__doc__")


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("OptionError", ValueError),
        ("OptionTypeError", TypeError),
        ("UnpicklableError", TypeError),
        ("ClosedError", RuntimeError),
        ("UnknownIdError", LookupError),
        ("KeyReusedError", ValueError),
        ("BusyError", RuntimeError),
        ("NoEngineError", LookupError),
        ("TaskTimeoutError", TimeoutError),
        ("TaskExpiredError", TimeoutError),
        ("TaskLostError", ConnectionError),
        ("TaskKeptError", ConnectionError),
        ("UndecodableError", TypeError),
        ("MissingModuleError", ImportError),
        ("DependencyError", RuntimeError),
        ("TaskCrashedError", RuntimeError),
        ("InitializerError", BrokenExecutor),
        ("ClusterError", RuntimeError),
        ("ClusterConnectionError", ConnectionError),
        ("ClusterTimeoutError", TimeoutError),
        ("RefusedError", PermissionError),
        ("RuntimeDirError", PermissionError),
        ("JournalReadOnlyError", PermissionError),
        ("JournalLockedError", BlockingIOError),
        ("JournalFullError", OSError),
        ("MalformedError", ValueError),
        ("InvariantError", AssertionError),
    ],
)
def test_an_error_is_also_the_builtin_a_user_would_catch(name: str, builtin: type) -> None:
    assert issubclass(getattr(errors, name), builtin)


def test_a_crash_says_signal_memory_and_last_lines() -> None:
    text = str(errors.TaskCrashedError("t-1", 3, "SIGKILL", 3 << 29, "last words"))

    assert "3 times" in text
    assert "SIGKILL" in text
    assert "1536 MiB" in text
    assert text.endswith("last words")


def test_a_single_crash_is_told_in_the_singular() -> None:
    assert "executor once by" in str(errors.TaskCrashedError("t-1", 1, "SIGKILL", 0))


def test_a_crash_whose_memory_nobody_saw_tells_of_none() -> None:
    text = str(errors.TaskCrashedError("t-1", 1, "engine lost", 0))

    assert "by engine lost. It" in text
    assert "MiB" not in text


def test_an_error_without_its_optional_fields_reads_well() -> None:
    assert str(errors.UnknownIdError("task", "x")) == "no task 'x' is known."
    assert "()" not in str(errors.UnpicklableError("argument", "db"))
    assert "this now. Add" in str(errors.NoEngineError("gpu"))


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_an_error_that_travels_as_a_code_comes_back_as_itself(code: str) -> None:
    error = example(BY_CODE[code])

    back = from_code(code, error.args)

    assert type(back) is type(error)
    assert str(back) == str(error)


def test_an_unknown_code_becomes_a_plain_error_that_names_it() -> None:
    error = from_code("OfTheFutureError", ("t-1", 5))

    assert type(error) is NbclusterError
    assert "OfTheFutureError" in str(error)


def test_a_broken_initializer_is_told_in_one_sentence_and_its_traceback_once() -> None:
    message = "ZeroDivisionError: no\nTraceback:\n  in divide\nZeroDivisionError: no\n"

    first, *others = str(errors.InitializerError(message)).split("\n")

    assert first.endswith("ZeroDivisionError: no. Mend it and start the cluster again.")
    assert others == ["Traceback:", "  in divide"]
    assert str(errors.InitializerError("it died")).endswith(
        "it died. Mend it and start the cluster again."
    )
