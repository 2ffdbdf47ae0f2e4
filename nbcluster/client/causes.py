"""Where the remote traceback goes in the exception of a task: at the end of its causes."""

from __future__ import annotations

from nbcluster.errors import NbclusterError, RemoteTraceback


def add_remote(error: BaseException, text: str) -> None:
    """Have ``error`` shown with the traceback that it had in the other process."""
    if not text or isinstance(error, NbclusterError):
        return
    seen = {id(error)}
    last = error
    while (cause := last.__cause__) is not None:
        if isinstance(cause, RemoteTraceback) and cause.text == text:
            return  # an exception that is one object for all, as one that pickles by its name
        if id(cause) in seen:
            break  # a circle: opened here, since only what has an end can be shown whole
        seen.add(id(cause))
        last = cause
    last.__cause__ = RemoteTraceback(text)
