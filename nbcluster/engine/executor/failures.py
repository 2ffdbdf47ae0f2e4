"""From an exception to the outcome that tells of it."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import nbcluster
from nbcluster.core.model import ErrorInfo, Outcome, Run, Verdict
from nbcluster.errors import PermanentFailure, UnpicklableError
from nbcluster.serial.session import OF_SHELL

if TYPE_CHECKING:
    from nbcluster.serial.unpack import Unpacker

_MESSAGE_CHARS: Final = 2_000
_TRACEBACK_CHARS: Final = 16_000
_OURS: Final = str(Path(nbcluster.__file__ or "").parent)


def describe(error: BaseException) -> ErrorInfo:
    """Return what may be said of an error; never raises, whatever the error's class does."""
    if type(error) is MemoryError and not error.args:
        _name_limit(error)
    if type(error) is NameError and type(error.name) is str and error.name in OF_SHELL:
        error.add_note(f"{error.name} is IPython's own, which tasks are not sent: pass its value")
    return ErrorInfo(
        _clean(type(error).__name__, _MESSAGE_CHARS),
        _clean(_text_of(error), _MESSAGE_CHARS),
        _traceback_of(error),
    )


def _name_limit(error: MemoryError) -> None:
    """Give an error that the interpreter raises without a text one, if memory was limited."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit != resource.RLIM_INFINITY:
        mib = limit / 2**20
        error.args = (f"the executor's limit of {mib:.0f} MiB (memory_limit=) was reached",)


def undecodable(run: Run, started_at: float, duration_s: float, error: ErrorInfo) -> Outcome:
    """Return the outcome of an attempt whose call, value or exception cannot travel."""
    return Outcome(run.task, run.token, Verdict.UNDECODABLE, started_at, duration_s, b"", (), error)


def raised(
    run: Run,
    started_at: float,
    duration_s: float,
    error: BaseException,
    unpacker: Unpacker,
    retry_on: Callable[[str], Any],
) -> Outcome:
    """Return the outcome of an attempt that ended with an exception of user code."""
    info = describe(error)
    try:
        payload, blobs = unpacker.dumps_exception(error)
    except UnpicklableError as why:
        info.message = _clean(
            f"raised {info.type}: {info.message}; and that cannot be sent: {why}", _MESSAGE_CHARS
        )
        return undecodable(run, started_at, duration_s, info)
    permanent = isinstance(error, PermanentFailure)
    return Outcome(
        run.task,
        run.token,
        Verdict.PERMANENT if permanent else Verdict.EXCEPTION,
        started_at,
        duration_s,
        payload,
        blobs,
        info,
        not permanent and _is_retryable(error, run.retry_on, retry_on),
        _retry_after(error),
    )


def _is_retryable(error: BaseException, name: str, load: Callable[[str], Any]) -> bool:
    if not name:
        return isinstance(error, Exception)
    try:
        return isinstance(error, load(name))
    except Exception:  # noqa: BLE001 - the classes are the user's, and so is their __instancecheck__
        return False


def _retry_after(error: BaseException) -> float | None:
    try:
        value = getattr(error, "retry_after", None)
        wait = float(value) if isinstance(value, int | float) else -1.0
    except Exception:  # noqa: BLE001 - a property of the user's class may raise anything
        return None
    return wait if math.isfinite(wait) and wait >= 0 else None


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - __str__ of the user's class may raise anything
        return f"<its text cannot be made: {type(second).__name__}>"


def _traceback_of(error: BaseException) -> str:
    import traceback  # costs some milliseconds, and most executors never see an exception

    frames = error.__traceback__
    while frames is not None and _is_ours(frames):
        frames = frames.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, frames))
    except Exception as second:  # noqa: BLE001 - formatting calls code of the user's classes
        return f"<the traceback cannot be made: {type(second).__name__}>"
    return _clean(text[-_TRACEBACK_CHARS:], _TRACEBACK_CHARS)


def _is_ours(frame: TracebackType) -> bool:
    return frame.tb_frame.f_code.co_filename.startswith(_OURS)


def _clean(text: str, chars: int) -> str:
    """Cut ``text``, and replace what cannot be sent: halves of surrogate pairs."""
    return text[:chars].encode("utf-8", "replace").decode()
