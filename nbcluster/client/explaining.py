"""Why a task is where it is, as a sentence."""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec import structs

from nbcluster.client.facts import Facts
from nbcluster.client.owner import Owner
from nbcluster.core.model import Cause, Ended, ErrorInfo, Progress, State
from nbcluster.errors import (
    ClosedError,
    ClusterConnectionError,
    ClusterTimeoutError,
    JournalFullError,
    MissingModuleError,
    TaskKeptError,
    UndecodableError,
)
from nbcluster.serial.blobs import BlobGoneError

#: Lines of a stack: any frame; the one below which all is ours; ours between it and the task's.
_FRAME: Final = re.compile(r'  File "')
_ATTEMPT: Final = re.compile(r'nbcluster/engine/executor/attempt\.py", line \d+ in attempt$')
_CALLER: Final = re.compile(r'nbcluster/(serial/unpack|calls)\.py", line \d+ in ')
#: Of a submission that may not have arrived.
_KEPT: Final = "the task is kept here and is sent again"


def explain_open(client: Owner, future: Facts) -> str:
    """Ask the master why a task that has not ended is where it is, and say so as a sentence."""
    if client.link.is_lost:
        return client.lost_text()
    reason: object
    try:
        known = client.ask("why", timeout=1.0, task=future.id)
    except ClusterTimeoutError:
        reason = f"it does not answer at the moment; {_KEPT}"
    except LookupError as error:
        if future._exception is not None:  # it was refused meanwhile
            return explain_loss(future._exception)
        reason = _KEPT if future.id in client.link.outgoing.unaccepted() else error
    except (ClusterConnectionError, JournalFullError) as error:
        reason = error
    else:
        return explain(known, future._moved.progress if future._moved else None)
    return f"the master has not acknowledged it: {reason}"


def stack(client: Owner, future: Facts) -> str:
    """Return where a running attempt is, as a Python stack."""
    client.settle()
    text = str(client.ask("stack", timeout=5.0, task=future.id))
    return own_stack(text, future.name or "the task", future.duration)


def explain(known: dict[str, Any], progress: Progress | None = None) -> str:
    """Return the master's answer to ``why`` as a sentence; ``progress``: what is known here."""
    state, attempts = known["state"], _count(known["attempts"], "attempt")
    crashes = _count(known["crashes"], "crash", "es")
    if state == "pending":
        crashed = f", after {crashes}" if known["crashes"] else ""
        return f"pending{crashed}: {known['reason']}"
    if state == "running":
        text = f"running on engine {known['engine']}, attempt {known['attempts']}"
        return text + progress_text(progress, ": ")
    if state == "retrying":
        return (
            f"retrying in {known['due_s']:.1f} s, after attempt {known['attempts']} ended with "
            f"{known['error'] or 'a timeout'}"
        )
    if state == "failed":
        return f"failed ({known['cause']}) after {attempts}, {crashes}: {known['error']}"
    return f"{state} after {attempts}"


def progress_text(progress: Progress | None, before: str) -> str:
    """Return ``before`` and how far a task says it is, on one line; empty if it said nothing."""
    if progress is None:
        return ""
    share = f"{progress.done / progress.total:.0%}" if progress.total else ""
    message = progress.message
    message = message if message.isprintable() else ascii(message)
    told = f"{share} {message}".strip()
    return before + told if told else ""


def explain_end(ended: Ended) -> str:
    """Return how a task ended as a sentence; nobody needs to be asked."""
    error = ended.code
    if ended.error is not None:
        error = f"{ended.error.type}: {ended.error.message}".removesuffix(": ")
    elif ended.code and ended.args:
        error = f"{ended.code}: {ended.args[-1]}"
    known = {"state": ended.state, "cause": ended.cause, "error": error}
    return explain(known | {"attempts": ended.attempts, "crashes": ended.crashes})


def explain_loss(error: BaseException | None) -> str:
    """Return why nothing more is heard of a task, as a sentence."""
    if isinstance(error, ClosedError):
        return f"{error}. If its cluster goes on, so does the task: connect again and look there."
    if isinstance(error, TaskKeptError):
        return str(error)
    if isinstance(error, ClusterConnectionError):
        return f"the cluster was shut down before the task had ended: {error}"
    return f"it was not accepted: {error}"


def own_stack(text: str, what: str, since_s: float | None) -> str:
    """Return the part of an executor's stack that is the task's, without what called it.

    Parameters
    ----------
    text
        The stack as the executor wrote it, the latest call first.
    what
        Name of the task.
    since_s
        Seconds for which it has run, if that is known.
    """
    lines = text.splitlines()
    bottom = [i for i, line in enumerate(lines) if _ATTEMPT.search(line)]
    if not bottom:  # too deep to be whole, or no stack but a sentence
        return text
    end = bottom[-1]
    while end and _CALLER.search(lines[end - 1]):
        end -= 1
    if any(_FRAME.match(line) for line in lines[:end]):
        return "\n".join(lines[:end])
    since = "" if since_s is None else f", for {since_s:.1f} s"
    return f"{what} is inside C code that was called directly{since}: there is no Python frame"


def unreadable(task: str, error: BaseException) -> UndecodableError:
    """Return the error of a task that has ended, but whose result cannot be given."""
    if isinstance(error, BlobGoneError):
        why = (
            "ended, but its result is gone: it was released when the last future that held it was "
            "dropped, its cluster was stopped, or its file was removed; submit it again"
        )
    else:
        why = f"ended, but its result cannot be unpickled here: {error!r}"
    cls = MissingModuleError if isinstance(error, ImportError) else UndecodableError
    return cls(task, why)


def as_unreadable(ended: Ended, error: UndecodableError) -> Ended:
    """Return the news of a task whose value cannot be unpickled here, as that of a failed one."""
    info = ErrorInfo(type(error).__name__, error.message)
    return structs.replace(ended, state=State.FAILED, cause=Cause.UNDECODABLE, error=info)


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"
