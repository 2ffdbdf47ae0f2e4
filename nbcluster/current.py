"""The task that runs now, as user code sees it: its id, its attempt, and how far it is."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[int, float, float, str], None]


class CurrentTask:
    """The attempt in which this code runs.

    Notes
    -----
    May be handed to other threads of the task. Once the attempt has ended, `progress` does
    nothing.
    """

    __slots__ = ("_report", "attempt", "id", "name", "token")

    def __init__(self, id: str, name: str, attempt: int, token: int, report: Report) -> None:
        self.id = id  #: of the task
        self.name = name
        self.attempt = attempt  #: from 1
        self.token = token  #: rises with every attempt of every task: usable for fencing
        self._report = report

    def progress(self, i: float, n: float | None = None, message: str = "") -> None:
        """Tell how far the task is; the live table shows it at most five times a second.

        Parameters
        ----------
        i
            How much is done.
        n
            How much there is to do; left out, if that is not known.
        message
            A few words; 200 bytes of them are kept.
        """
        self._report(self.token, float(i), 0.0 if n is None else float(n), message)

    def __repr__(self) -> str:
        return f"<CurrentTask {self.name or self.id} attempt {self.attempt}>"


def _no_task() -> CurrentTask | None:
    return None


_provider: Callable[[], CurrentTask | None] = _no_task


def current_task() -> CurrentTask | None:
    """Return the attempt in which this code runs, or None outside of a task."""
    return _provider()


def provide_current(provider: Callable[[], CurrentTask | None]) -> None:
    """Have `current_task` ask ``provider``. Called once, by whatever runs tasks in this process.

    A function and not a value: most tasks never ask, so nothing is made until one does.
    """
    global _provider  # noqa: PLW0603 - the one place of this process where it is kept
    _provider = provider
