"""What a task shows beside what it prints: a table, a figure, for whoever watches the task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: data, metadata, display_id, update, clear
Show = Callable[[dict[str, Any], dict[str, Any], str, bool, bool], bool]


def show(
    data: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    *,
    display_id: str = "",
    update: bool = False,
    clear: bool = False,
) -> bool:
    """Show something of the task that runs, in every form there is of it.

    Parameters
    ----------
    data
        By MIME type: text, bytes, or what JSON can hold.
    metadata
        Likewise, as Jupyter has it.
    display_id
        A name under which it can be shown anew.
    update
        Show it in the place of what was last shown under that name.
    clear
        Show it in the place of all that was shown and printed before.

    Returns
    -------
    bool
        Whether it was sent: not outside of a task, and not once a task has shown too much.
    """
    return _show(data, metadata or {}, display_id, update, clear)


def _nobody_watches(*_: Any) -> bool:
    return False


_show: Show = _nobody_watches


def provide_show(provider: Show) -> None:
    """Have `show` call ``provider``. Called once, by whatever runs tasks in this process."""
    global _show  # noqa: PLW0603 - the one place of this process where it is kept
    _show = provider
