"""What the buttons of a view do. In threads of their own: a click never waits for the master."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

from nbcluster.client.client import Client
from nbcluster.errors import NbclusterError
from nbcluster.notebook.view.text import count

_OUTPUT: Final = 20_000  #: characters of each stream that a row shows, the last ones

#: Told what has come of it.
Tell = Callable[[dict[str, Any]], None]


class Actions:
    """Carries out what a front end asks for.

    Parameters
    ----------
    client
        Of the cluster.
    tell
        Called in another thread with the answer.
    """

    def __init__(self, client: Client, tell: Tell) -> None:
        self._client = client
        self._tell = tell

    def begin(self, message: dict[str, Any]) -> None:
        """Do what a message says, in a thread; what is not known is left alone."""
        act = {"cancel": self.cancel, "retry": self.retry, "details": self.details}.get(
            str(message.get("type"))
        )
        if act is not None:
            task = message.get("task")
            args = (act, None if task is None else str(task))
            threading.Thread(
                target=self._run, args=args, name="nbcluster-view-action", daemon=True
            ).start()

    def _run(self, act: Callable[[str | None], dict[str, Any]], task: str | None) -> None:
        try:
            answer = act(task)
        except NbclusterError as error:
            answer = {"type": "notice", "text": f"{type(error).__name__}: {error}"}
            answer |= {"task": task} if task else {}
        self._tell(answer)

    def cancel(self, task: str | None) -> dict[str, Any]:
        """Cancel one task, or all that are open with one order."""
        self._client.link.flush()
        cancelled = self._client.ask("cancel", tasks=None if task is None else [task])
        return {"type": "notice", "text": f"cancelled {count(len(cancelled), 'task')}"}

    def retry(self, task: str | None) -> dict[str, Any]:
        """Run one task again, or all that have failed."""
        again = self._client.ask("redrive", tasks=None if task is None else [task])
        return {"type": "notice", "text": f"put back {count(len(again), 'task')}"}

    def details(self, task: str | None) -> dict[str, Any]:
        """Return attempts, error and output of a task."""
        client = self._client
        page = client.ask("attempts", task=task)["columns"]
        known = client.ask("find", task=task)
        # Its news, output among them, come before the answer to the second question.
        future = client.adopt(known["id"], known["name"])
        client.ask("find", task=task)
        attempts = [dict(zip(page, row, strict=True)) for row in zip(*page.values(), strict=True)]
        return {
            **{"type": "details", "task": task, "attempts": attempts, "why": future.why()},
            **{"stdout": future.stdout[-_OUTPUT:], "stderr": future.stderr[-_OUTPUT:]},
        }
