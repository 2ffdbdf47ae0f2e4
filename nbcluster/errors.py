"""All errors of nbcluster, in one hierarchy under :class:`NbclusterError`.

Each also inherits the builtin a Python user would catch, carries what is known in attributes,
and says what to do next. All fields go to ``super().__init__``, or the error could not be
unpickled on the other side.

Sorted by who can act: the caller, the author of the task, the operator, and last ourselves.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from pickle import PicklingError
from typing import Final

# --------------------------------------------------------------------------- base


class NbclusterError(Exception):
    """Base of all errors raised by nbcluster."""


class NbclusterWarning(UserWarning):
    """Something works, and probably not as it was meant: a large capture, for instance."""


# --------------------------------------------------------------------------- the caller can act


class OptionError(NbclusterError, ValueError):
    """An option has an impossible value, or there is no option of that name."""


class OptionTypeError(OptionError, TypeError):
    """An option has a value of the wrong type."""


class UnpicklableError(NbclusterError, TypeError, PicklingError):
    """Something that should travel cannot be pickled.

    Parameters
    ----------
    what
        What was to be sent: ``"argument"``, ``"function"``, ``"result"``, ``"exception"``.
    path
        Way to the culprit, as ``train -> global 'db' -> sqlite3.Connection``.
    reason
        What the pickler said.
    """

    def __init__(self, what: str, path: str, reason: str = "") -> None:
        super().__init__(what, path, reason)
        self.what, self.path, self.reason = what, path, reason

    def __str__(self) -> str:
        because = f" ({self.reason})" if self.reason else ""
        return (
            f"the {self.what} cannot be pickled: {self.path}{because}. "
            "Make the object inside the task, or send what it is made from."
        )


class ClosedError(NbclusterError, RuntimeError):
    """The cluster object was closed or shut down, so it takes no more work."""


class UnknownIdError(NbclusterError, LookupError):
    """No task, engine or cluster of that id or name is known."""

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        super().__init__(kind, name, hint)
        self.kind, self.name, self.hint = kind, name, hint

    def __str__(self) -> str:
        hint = f" {self.hint}" if self.hint else ""
        return f"no {self.kind} {self.name!r} is known.{hint}"


class KeyReusedError(NbclusterError, ValueError):
    """The idempotency key belongs to a task with another function or other arguments."""

    def __init__(self, key: str, task: str) -> None:
        super().__init__(key, task)
        self.key, self.task = key, task

    def __str__(self) -> str:
        return (
            f"key {self.key!r} belongs to task {self.task}, which calls something else. "
            "A key names one call: use another key."
        )


class BusyError(NbclusterError, RuntimeError):
    """The cluster holds as many open tasks as it was allowed (``max_pending``)."""

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(limit, retry_after)
        self.limit, self.retry_after = limit, retry_after

    def __str__(self) -> str:
        return (
            f"the cluster already holds {self.limit} open tasks (max_pending). "
            f"Submit again in {self.retry_after:g} s, or start it with a higher max_pending."
        )


class NoEngineError(NbclusterError, LookupError):
    """Nobody can run the task now, and it was not to wait (``wait=False``)."""

    def __init__(self, group: str, reason: str = "") -> None:
        super().__init__(group, reason)
        self.group, self.reason = group, reason

    def __str__(self) -> str:
        return (
            f"no engine of group {self.group!r} can run this now"
            f"{': ' + self.reason if self.reason else ''}. "
            f"Add one with cluster.scale(n, group={self.group!r}), or leave out wait=False."
        )


# --------------------------------------------------------------------------- the task's author


class PermanentFailure(NbclusterError):
    """Raised by user code: this task fails now, whatever retries are left."""


class TaskError(NbclusterError, RuntimeError):
    """Base of the ways a task ends that are not an exception of the user's own."""

    def __init__(self, task: str, message: str) -> None:
        super().__init__(task, message)
        self.task, self.message = task, message

    def __str__(self) -> str:
        return f"task {self.task} {self.message}"


class TaskTimeoutError(TaskError, TimeoutError):
    """The last attempt ran longer than ``timeout=`` and was stopped."""


class TaskExpiredError(TaskError, TimeoutError):
    """The task was not started within ``expires=`` seconds."""


class TaskLostError(TaskError, ConnectionError):
    """An at-most-once task went down with its engine; it may or may not have run to its end."""


class UndecodableError(TaskError, TypeError, PicklingError):
    """The result or the exception of the task could not be pickled or unpickled."""


class MissingModuleError(UndecodableError, ImportError):
    """The call, or its result, needs a module that cannot be imported where it is unpickled."""


class DependencyError(TaskError):
    """A task named in ``after=`` did not succeed, so this one was not run."""

    @classmethod
    def of(cls, task: str, dependency: str) -> DependencyError:
        """Return the error of ``task``, which waited for ``dependency``."""
        return cls(task, f"was not run: task {dependency}, named in after=, did not succeed.")


def crash_text(signal: str, peak_bytes: int) -> str:
    """Return how an executor ended, and the memory it had at most, if that is known."""
    return signal + (f" at a peak of {peak_bytes / 2**20:.0f} MiB" if peak_bytes else "")


class TaskCrashedError(NbclusterError, BrokenExecutor):
    """A task used up its crash budget, or was to run at most once: its executor died under it."""

    def __init__(
        self,
        task: str,
        crashes: int,
        signal: str,
        peak_bytes: int,
        stderr: str = "",
        at_most_once: int = 0,
    ) -> None:
        super().__init__(task, crashes, signal, peak_bytes, stderr, at_most_once)
        self.task, self.crashes, self.signal = task, crashes, signal
        self.peak_bytes, self.stderr = peak_bytes, stderr
        self.at_most_once = at_most_once

    def __str__(self) -> str:
        times = "once" if self.crashes == 1 else f"{self.crashes} times"
        tail = f"\nLast lines of its stderr:\n{self.stderr}" if self.stderr else ""
        last = "" if self.crashes == 1 else ", the last time"
        advice = "It is not tried again. Allow more with options(max_crashes=)."
        if self.at_most_once:
            advice = (
                "It was to run at most once, so it is not run again, whatever max_crashes= says; "
                "submit it anew if it may run twice."
            )
        return (
            f"task {self.task} ended its executor {times}{last} by "
            f"{crash_text(self.signal, self.peak_bytes)}. "
            f"{advice} Other tasks are unharmed.{tail}"
        )


class InitializerError(NbclusterError, BrokenExecutor):
    """The initializer given to ``start`` failed on every new executor, so nothing can run."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        what, *lines = self.message.rstrip().split("\n")
        if lines and lines[-1] == what:  # a traceback ends with what is said first
            del lines[-1]
        text = f"the initializer failed in the executors: {what}. Mend it and start the cluster "
        return "\n".join([text + "again.", *lines])


class PushError(NbclusterError, RuntimeError):
    """What was pushed cannot be loaded by the executors; its names are not bound there."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return f"what was pushed cannot be loaded on the engines: {self.message}"


class RemoteTraceback(NbclusterError):
    """Carries the traceback of the other process as the cause of a task's exception."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return "\n" + self.text


# --------------------------------------------------------------------------- the operator


class ClusterError(NbclusterError, RuntimeError):
    """The cluster could not be started, stopped or changed."""


class ClusterConnectionError(ClusterError, ConnectionError):
    """The master cannot be reached."""


class ClusterTimeoutError(ClusterError, TimeoutError):
    """The master, or as many engines as were asked for, did not answer in time."""


class TaskKeptError(ClusterConnectionError):
    """The cluster has stopped and keeps its journal: the task goes on at its next start.

    Parameters
    ----------
    task
        Id of the task.
    start
        The call that starts the cluster again.
    """

    def __init__(self, task: str, start: str) -> None:
        super().__init__(task, start)
        self.task, self.start = task, start

    def __str__(self) -> str:
        return (
            f"the cluster has stopped and keeps task {self.task}, which goes on at its next start. "
            f"To have it: cluster = {self.start}; cluster.future({self.task!r})"
        )


class MasterLostError(ClusterConnectionError, BrokenExecutor):
    """The master has ended, and what was open with it: nobody is to start the next one."""


class RefusedError(ClusterConnectionError, PermissionError):
    """The master refused this peer: wrong key, other version, other Python."""


class RuntimeDirError(ClusterError, PermissionError):
    """The cluster's directory belongs to somebody else, or others may enter it."""


class JournalError(ClusterError):
    """The journal cannot be used."""


class JournalCorruptError(JournalError):
    """The journal is damaged, or is no journal; nothing in it was believed."""


class JournalVersionError(JournalError):
    """The journal was written by a newer nbcluster."""


class JournalReadOnlyError(JournalError, PermissionError):
    """The journal cannot be written where it lies."""


class JournalLockedError(JournalError, BlockingIOError):
    """Another master uses this journal."""


class JournalFullError(JournalError, OSError):
    """The disk under the journal is full."""


class FencedError(ClusterError):
    """A newer master has taken over; this one may write and send nothing any more."""


# --------------------------------------------------------------------------- ourselves


class MalformedError(NbclusterError, ValueError):
    """A message does not have the form the protocol gives it; it was dropped."""


class InvariantError(NbclusterError, AssertionError):
    """A state that cannot be. Never caught and survived: the journal is the way back."""


#: Errors that travel as a code and fields, since the master never pickles anything.
BY_CODE: Final[dict[str, type[NbclusterError]]] = {
    cls.__name__: cls
    for cls in (
        OptionError,
        UnknownIdError,
        KeyReusedError,
        BusyError,
        NoEngineError,
        TaskTimeoutError,
        TaskExpiredError,
        TaskLostError,
        UndecodableError,
        MissingModuleError,
        DependencyError,
        TaskCrashedError,
        InitializerError,
        ClusterError,
        ClusterTimeoutError,
        RefusedError,
        JournalFullError,
    )
}


def from_code(code: str, args: tuple[object, ...]) -> NbclusterError:
    """Build the error that was sent as ``code`` and ``args``.

    An unknown code (of a newer peer) becomes a plain :class:`NbclusterError`.
    """
    cls = BY_CODE.get(code)
    if cls is None:
        return NbclusterError(code, *args)
    return cls(*args)
