"""Where the remote traceback goes in an exception that has causes of its own."""

from __future__ import annotations

from nbcluster.client.causes import add_remote
from nbcluster.errors import BusyError, RemoteTraceback


def test_the_remote_traceback_is_the_cause_of_an_exception_that_has_none() -> None:
    error = ValueError("no")

    add_remote(error, "line 1")

    assert str(error.__cause__) == "\nline 1"


def test_the_remote_traceback_is_at_the_end_of_the_causes() -> None:
    error, cause = KeyError("nope"), KeyError("inner")
    error.__cause__ = cause

    add_remote(error, "line 1")

    assert error.__cause__ is cause
    assert isinstance(cause.__cause__, RemoteTraceback)


def test_causes_in_a_circle_are_shown_with_the_remote_traceback() -> None:
    error, cause = KeyError("nope"), KeyError("inner")
    error.__cause__, cause.__cause__ = cause, error

    add_remote(error, "line 1")

    assert error.__cause__ is cause
    assert isinstance(cause.__cause__, RemoteTraceback)


def test_the_same_traceback_is_added_once_to_an_exception_that_is_one_object() -> None:
    error = ValueError("no")

    add_remote(error, "line 1")
    add_remote(error, "line 1")

    assert isinstance(error.__cause__, RemoteTraceback)
    assert error.__cause__.__cause__ is None


def test_an_error_of_our_own_gets_no_remote_traceback() -> None:
    error = BusyError(5, 1.0)

    add_remote(error, "line 1")

    assert error.__cause__ is None
