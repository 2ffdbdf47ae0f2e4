"""What one can look at and change of a running cluster, beside submitting to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nbcluster.client import frames
from nbcluster.client.client import STATS_S, Client
from nbcluster.client.future import Future
from nbcluster.core.history import EVENT_COLUMNS, OFFSET_SHIFT, Follower
from nbcluster.errors import ClusterTimeoutError, OptionError, OptionTypeError
from nbcluster.ids import check_name
from nbcluster.options import processes, seconds, task_id, text, unknown_option, whole

if TYPE_CHECKING:
    import pandas as pd

_PAGE = 5_000
STATES = ("pending", "running", "retrying", "succeeded", "failed", "cancelled", "open", "done")


def columns(
    client: Client, table: str, limit: int | None = None, **args: Any
) -> dict[str, list[Any]]:
    """Return the first rows, or all, of a table that the master tells in pages."""
    pages: list[dict[str, list[Any]]] = []
    got, after = 0, None
    while True:
        count = _PAGE if limit is None else min(_PAGE, limit - got)
        page = client.ask(table, after=after, limit=count, **args)
        pages.append(page["columns"])
        got += len(next(iter(page["columns"].values())))
        after = page["after"]
        if after is None or got == limit:
            return frames.joined(pages)


class Tables:
    """Tables, counters and the number of engines; part of `Cluster`."""

    _client: Client

    # ------------------------------------------------------------------ tables

    def tasks(self, state: str | None = None, limit: int | None = None) -> pd.DataFrame:
        """Return the table of tasks, one row each, the oldest first.

        Parameters
        ----------
        state : str
            One of the six states, ``"open"`` or ``"done"``; default: all.
        limit : int
            The first so many rows; default: all.

        Returns
        -------
        DataFrame
            By id. Times are UTC, ``duration_s`` is in seconds, ``progress`` from 0 to 1.

        Raises
        ------
        OptionError
            If there is no such state (the nearest one is named), or ``limit`` is below 0.
        """
        if state is not None and text("state", state) not in STATES:
            raise unknown_option(state, STATES, "state")
        left = whole("limit", limit, least=0) if limit is not None else None
        return frames.frame(columns(self._client, "tasks", left, state=state))

    def attempts(self, task: Future[Any] | str | None = None) -> pd.DataFrame:
        """Return the attempts of a task, or of all, with error and traceback of each.

        Raises
        ------
        UnknownIdError
            If there is no task of that id.
        """
        wanted = None if task is None else task_id(task, "attempts()")
        return frames.frame(columns(self._client, "attempts", task=wanted), index=None)

    def engines(self) -> pd.DataFrame:
        """Return the table of engines, by id. ``rss_mb`` is in MiB, ``last_seen_s`` in seconds."""
        return frames.frame(self._client.ask("engines"))

    def dead_letters(self) -> pd.DataFrame:
        """Return the tasks that failed for good and were not put back, by id.

        Not those of `run` and `pull`: their errors were raised where they were called.
        """
        return frames.frame(self._client.ask("dead_letters"))

    def stats(self) -> dict[str, Any]:
        """Return counters: tasks by state, engines, slots, turns, epoch, the master's pid.

        Beside them ``clients``, ``journal_bytes``, ``disk_full``, and ``malformed_messages``, which
        were dropped.

        ``age_s`` is 0; if the master does not answer (it is stopped, or very busy), the counters
        are the last known ones, ``age_s`` seconds old.

        Raises
        ------
        ClusterConnectionError
            If the master is gone, or never answered.
        """
        return self._client.stats()

    def events(self, since: int | None = None) -> pd.DataFrame:
        """Return what happened, in order, with an ``offset`` for each event.

        Parameters
        ----------
        since : int
            Offset: only what happened after it; ``attempt`` counts from there too. Default: all
            that the journal keeps, which is at least its latest 20,000 records, fewer where
            they take more than a KiB each.

        Raises
        ------
        OptionError
            If ``since`` is below 0.
        """
        start = whole("since", since or 0, least=0)
        seq: int | None = max((start >> OFFSET_SHIFT) - 1, 0)
        rows: list[tuple[Any, ...]] = []
        follower = Follower()
        while seq is not None:
            page = self._client.ask("events", seq=seq)
            rows += follower.rows(zip(*page["columns"].values(), strict=True))
            seq = page["seq"]
        told = [row for row in rows if row[0] > start]
        return frames.frame(frames.columns_of(EVENT_COLUMNS, told), index=None)

    # ------------------------------------------------------------------ engines

    def scale(self, n: int, group: str = "default", *, slots: int | None = None) -> None:
        """Have ``n`` engines in ``group``, and wait for those that start.

        Engines too many finish what they run, then leave. The number is in the journal: the next
        master starts as many; of the group that it is started with, what that start says.

        Parameters
        ----------
        n : int
            Engines of that group from now on; 0 is allowed.
        group : str
            Default: ``"default"``.
        slots : int
            Attempts each new engine runs at a time; default: as the group's last ones,
            at first as at the start of the cluster.

        Raises
        ------
        OptionError
            If a number is below 0 or above 1,024.
        ClusterTimeoutError
            If they are not ready after a minute.
        """
        count = processes("n", n)
        check_name(group, "group")
        if slots is not None:
            processes("slots", slots)
        self._client.ask("scale", count=count, group=group, slots=slots)
        self.wait_for_engines(count, 60.0, group=group)

    def wait_for_engines(
        self, n: int, timeout: float | None = None, *, group: str | None = None
    ) -> int:
        """Wait until ``n`` engines are ready; return how many are.

        Parameters
        ----------
        n : int
            How many are waited for.
        timeout : float
            Seconds; default: for ever.
        group : str
            Count only the engines of that group.

        Raises
        ------
        ClusterTimeoutError
            If there are not as many within ``timeout`` seconds.
        """
        count, limit = whole("n", n, least=0), seconds("timeout", timeout)
        if group is not None:
            check_name(group, "group")
        try:
            return int(self._client.ask("wait_engines", limit, count=count, group=group))
        except ClusterTimeoutError:
            ready = self._client.ask("engines")["state"].count("active")
            raise ClusterTimeoutError(
                f"engines ready after {limit or 0:g} s: {ready} of {count}. "
                f"Their logs: {self._client.link.connection_file.parent / 'logs'}"
            ) from None

    def drain(self, engine: str, timeout: float | None = 60.0) -> None:
        """Let an engine finish what it runs, and leave. What has not begun goes elsewhere.

        Parameters
        ----------
        engine : str
            Its id, of the table `engines`.
        timeout : float
            Seconds to wait until it has left; None: for ever.

        Raises
        ------
        UnknownIdError
            If there is no such engine.
        ClusterTimeoutError
            If it has not left in time. It still leaves after what it runs; what takes longer
            than 25 s is given back and begins anew elsewhere, unless it is to run at most once.
        """
        limit = seconds("timeout", timeout)
        try:
            self._client.ask("drain", limit, engine=text("engine", engine))
        except ClusterTimeoutError:
            table = self._client.ask("engines", timeout=STATS_S)
            running = dict(zip(table["id"], table["running"], strict=True)).get(engine, 0)
            raise ClusterTimeoutError(
                f"engine {engine} has not left after {limit or 0:g} s: tasks that still run on it: "
                f"{running}. It goes on draining, which cannot be undone, but scale() starts "
                "another engine. Look with cluster.engines()"
            ) from None

    def set_slots(self, n: int, group: str = "default", engine: str | None = None) -> None:
        """Have each engine of ``group``, or one, run ``n`` attempts at a time; 0 pauses it.

        Raises
        ------
        UnknownIdError
            If there is no such engine.
        """
        if engine is not None:
            text("engine", engine)
        count = processes("n", n)
        self._client.ask("slots", slots=count, group=check_name(group, "group"), engine=engine)

    def restart(self, timeout: float | None = 60.0) -> None:
        """Replace all executors by fresh ones. What runs starts again, uncounted.

        Parameters
        ----------
        timeout : float
            Seconds to wait until the new ones are ready; None: for ever.

        Raises
        ------
        ClusterTimeoutError
            If they are not ready in time.
        """
        self._client.ask("restart", seconds("timeout", timeout))

    # ------------------------------------------------------------------ single tasks

    @staticmethod
    def _ids(tasks: tuple[Any, ...], taker: str) -> list[str]:
        """Return the ids of tasks named by futures, ids, lists of them, or tables."""
        names: list[str] = []
        for some in tasks:
            index = getattr(some, "index", None)
            if isinstance(some, (str, Future)):
                names.append(task_id(some, taker))
            elif index is not None and not callable(index):  # a DataFrame such as tasks() returns
                names += map(str, index)
            elif isinstance(some, Iterable):
                names += [task_id(task, taker) for task in some]
            else:
                raise OptionTypeError(
                    f"{taker} takes futures, ids of tasks, lists of them or a table, not {some!r}"
                )
        return names

    def future(self, task: str) -> Future[Any]:
        """Return the future of a task by its id, or of the latest of that name.

        Each call makes a new object for the same task, as does a submission with a repeated
        ``key=``: compare their ``id``.

        Raises
        ------
        UnknownIdError
            If there is none.
        """
        self._client.settle()
        known = self._client.ask("find", task=task_id(task, "future()"))
        future = self._client.adopt(known["id"], known["name"])
        self._client.ask("find", task=future.id)  # its answer comes after the news of the task
        return future

    def cancel(self, *tasks: Any) -> int:
        """Cancel tasks: futures, ids, lists or a table of them; nothing named: all that are open.

        One that has ended is no error: it is left as it is, and not counted.

        Returns
        -------
        int
            How many were still open.

        Raises
        ------
        UnknownIdError
            If no task has an id that was given; the others are cancelled.
        """
        if not tasks:
            self._client.link.flush()
            return len(self._client.ask("cancel", tasks=None))
        names = self._ids(tasks, "cancel()")
        cancelled = self._client.cancel(names)
        if len(cancelled) < len(names):
            # Futures and tables may be older than what the master still knows.
            texts = [some for some in tasks if isinstance(some, str)]
            texts += [
                t for some in tasks if isinstance(some, list) for t in some if isinstance(t, str)
            ]
            self._client.ask("cancel", tasks=[], known=sorted({*texts} - {*cancelled}))
        return len(cancelled)

    def redrive(self, *tasks: Any) -> list[Future[Any]]:
        """Put dead letters back as new tasks; nothing named: all. Return their futures.

        Raises
        ------
        UnknownIdError
            If no task has an id that was given.
        OptionError
            If one did not fail and was not cancelled, or was put back before.
        DependencyError
            If a task named in its ``after=`` did not succeed, and was put back neither before
            nor now. The others were put back.
        """
        names = self._ids(tasks, "redrive()") if tasks else None
        successors = self._client.ask("redrive", tasks=names)
        missing = [name for name in names or () if name not in successors]
        if missing:
            # A clear answer for one, and for many what is missing of them.
            self._client.ask("find", task=missing[0])
            raise OptionError(
                f"{', '.join(missing[:5])}: only tasks that failed or were cancelled, and were "
                "not put back yet, can be put back"
            )
        new = list(dict.fromkeys(successors.values()))  # two ids may be of one task, by its key
        known = self._client.ask("names", tasks=new) if new else {}
        return [self._client.adopt(task, known.get(task, "")) for task in new]

    def retry(self, *tasks: Any) -> list[Future[Any]]:
        """Run failed or cancelled tasks again; one that waits for its backoff goes on now.

        Errors are those of `redrive`.
        """
        return self.redrive(*tasks)
