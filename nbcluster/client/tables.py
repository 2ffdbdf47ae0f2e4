"""What one can look at and change of a running cluster, beside submitting to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcluster.client import frames
from nbcluster.client.client import Client
from nbcluster.client.future import Future
from nbcluster.errors import ClusterTimeoutError, OptionError
from nbcluster.ids import check_name
from nbcluster.options import whole

if TYPE_CHECKING:
    import pandas as pd

_PAGE = 5_000
_STATES = ("pending", "running", "retrying", "succeeded", "failed", "cancelled", "open", "done")


def task_id(task: Future[Any] | str) -> str:
    """Return the id of a task given by its future or its id.

    Raises
    ------
    OptionError
        If it is neither.
    """
    name = getattr(task, "id", task)
    if not isinstance(name, str):
        raise OptionError(f"a task is named by its future or its id, not by {task!r}")
    return name


class Tables:
    """Tables, counters and the number of engines; part of `Cluster`."""

    _client: Client

    # ------------------------------------------------------------------ tables

    def tasks(self, state: str | None = None, limit: int | None = None) -> pd.DataFrame:
        """Return the table of tasks, one row each, the oldest first.

        Parameters
        ----------
        state
            One of the six states, ``"open"``, ``"done"``; None for all.
        limit
            The first so many rows.
        """
        if state is not None and state not in _STATES:
            raise OptionError(f"state= must be one of {', '.join(_STATES)}, not {state!r}")
        left = whole("limit", limit, least=0) if limit is not None else None
        pages: list[dict[str, list[Any]]] = []
        first = 0
        while True:
            count = _PAGE if left is None else min(_PAGE, left - first)
            page = self._client.ask("tasks", state=state, first=first, limit=count)
            pages.append(page)
            got = len(page["id"])
            first += got
            if got < _PAGE or (left is not None and first >= left):
                return frames.frame(frames.joined(pages))

    def attempts(self, task: Future[Any] | str | None = None) -> pd.DataFrame:
        """Return the attempts of a task, or of all, with error and traceback of each."""
        names = None if task is None else [task_id(task)]
        return frames.frame(self._client.ask("attempts", tasks=names), index=None)

    def engines(self) -> pd.DataFrame:
        """Return the table of engines."""
        return frames.frame(self._client.ask("engines"))

    def dead_letters(self) -> pd.DataFrame:
        """Return the tasks that failed for good and were not put back."""
        return frames.frame(self._client.ask("dead_letters"))

    def stats(self) -> dict[str, Any]:
        """Return counters: tasks by state, engines, slots, turns, epoch, the master's pid.

        ``age_s`` is 0; if the master does not answer (it is stopped, or very busy), the counters
        are the last known ones, ``age_s`` seconds old.
        """
        return self._client.stats()

    def events(self, since: int | None = None) -> pd.DataFrame:
        """Return what happened, in order; ``since`` an offset, what happened after it.

        The journal keeps at least the latest 20,000 records of it.
        """
        pages: list[dict[str, list[Any]]] = []
        args: dict[str, Any] = {"since": whole("since", since or 0, least=0)}
        while True:
            page = self._client.ask("events", **args)
            pages.append(page["columns"])
            if page["seq"] is None:
                break
            args = {"seq": page["seq"], "leases": page["leases"], "tries": page["tries"]}
        table = frames.frame(frames.joined(pages), index=None)
        return table if since is None else table[table.offset > since].reset_index(drop=True)

    # ------------------------------------------------------------------ engines

    def scale(self, n: int, group: str = "default", *, slots: int | None = None) -> None:
        """Have ``n`` engines in ``group``, and wait for those that start.

        Engines too many finish what they run, then leave.
        """
        count = whole("n", n, least=0)
        check_name(group, "group")
        self._client.ask("scale", count=count, group=group, slots=slots)
        self.wait_for_engines(count, 60.0, group=group)

    def wait_for_engines(
        self, n: int, timeout: float | None = None, *, group: str | None = None
    ) -> int:
        """Wait until ``n`` engines are ready; return how many are.

        Raises
        ------
        ClusterTimeoutError
            If there are not as many within ``timeout`` seconds.
        """
        count = whole("n", n, least=0)
        try:
            return int(self._client.ask("wait_engines", timeout, count=count, group=group))
        except ClusterTimeoutError:
            ready = len(self.engines().query("state == 'active'"))
            raise ClusterTimeoutError(
                f"{ready} of {count} engines were ready after {timeout:g} s. "
                f"Their logs: {self._client.connection_file.parent / 'logs'}"
            ) from None

    def drain(self, engine: str, timeout: float | None = 60.0) -> None:
        """Let an engine finish what it runs, and leave. What has not begun goes elsewhere."""
        self._client.ask("drain", timeout, engine=engine)

    def set_slots(self, n: int, group: str = "default", engine: str | None = None) -> None:
        """Have each engine of ``group``, or one, run ``n`` attempts at a time; 0 pauses it."""
        self._client.ask("slots", slots=whole("n", n, least=0), group=group, engine=engine)

    def restart(self, timeout: float | None = 60.0) -> None:
        """Replace all executors by fresh ones. What runs starts again, uncounted."""
        self._client.ask("restart", timeout)
