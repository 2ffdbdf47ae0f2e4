"""Reads what a task has ended with, in a process in which handlers of signals may raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbcluster.client.causes import add_remote
from nbcluster.client.explaining import unreadable
from nbcluster.core.model import Ended, State
from nbcluster.errors import UndecodableError, from_code
from nbcluster.serial.handlers import is_of_handler


def read(
    task: str, ended: Ended, load: Callable[[], Any]
) -> tuple[Any, BaseException | None, BaseException | None]:
    """Return value and error of a task that has ended, and what was raised when it was first read.

    What a handler raises while the value is unpickled, which runs code of the user's, says nothing
    about the value: unlike what is wrong with that, it does not come again.

    Parameters
    ----------
    task
        Its id.
    ended
        What is known of the end.
    load
        Unpickles the payload.
    """
    try:
        return *_read(task, ended, load), None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a user's object raises
        first = error
    if is_of_handler(first):
        raise first
    try:
        return *_read(task, ended, load), first
    except (Exception, SystemExit) as again:
        if is_of_handler(again):
            raise
        return None, unreadable(task, first), first


def _read(task: str, ended: Ended, load: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    if ended.state is State.SUCCEEDED:
        return load(), None
    own = not ended.payload
    error = from_code(ended.code, tuple(ended.args)) if own else load()
    if not isinstance(error, BaseException):
        return None, UndecodableError(task, f"ended with {type(error).__name__}, no exception")
    add_remote(error, ended.error.traceback if ended.error else "")
    return None, error
