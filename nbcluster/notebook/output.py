"""What tasks print and show, on its way to the cell that submitted them."""

from __future__ import annotations

import codecs
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeGuard

from nbcluster.client.future import Future
from nbcluster.core.model import Ended
from nbcluster.engine.capture import HEAD_BYTES, TAIL_BYTES
from nbcluster.wire.shown import Shown

#: Characters of what one task prints that are shown, and things beside it.
LIMIT: Final = 1_000_000
LIMIT_SHOWN: Final = 500
_OUT, _ERR = 1, 2
#: ``stdout`` or ``stderr``, and a text; or something shown.
Piece = tuple[int, str] | Shown


class Tap:
    """Takes what one task prints and shows, piece by piece, as it comes.

    Parameters
    ----------
    future
        Of the task.
    """

    def __init__(self, future: Future[Any]) -> None:
        self.future = future
        self._attempt = 0
        self._left = LIMIT
        self._suppressed = self._hidden = self._new = 0
        self._is_told = self._is_over = False
        self._begin(1)

    def _begin(self, attempt: int) -> None:
        self._attempt = attempt
        self._at = {_OUT: 0, _ERR: 0}
        self._count = 0  #: of what was shown
        self._decoders = {
            stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in (_OUT, _ERR)
        }

    def take(self) -> list[Piece]:
        """Return what has come since the last time, in the order of its printing."""
        future = self.future
        is_over = future.done()  # before it is looked at: what comes later, comes next time
        pieces: list[Piece] = []
        if future.attempts > self._attempt:
            if any(self._at.values()) or self._count:
                pieces.append((_ERR, f"--- attempt {future.attempts}\n"))
            self._begin(future.attempts)
        ended, kept = future._ended, future._output or {}
        if ended is not None and not self._is_over:
            self._is_over = True
            self._skip_what_was_left_out(ended)
        for piece in list(future._shown)[self._count :]:
            self._count += 1
            pieces += self._text(_OUT, ended.stdout if ended else kept.get(_OUT, b""), piece.at)
            if self._may_show(piece):
                pieces.append(piece)
        for stream in (_OUT, _ERR):
            written = kept.get(stream, b"") if ended is None else _written(ended, stream)
            pieces += self._text(stream, written, len(written))
        if is_over and not self._is_told:
            self._is_told = True
            pieces += self._told_of_the_rest()
        return thinned(pieces)

    def _may_show(self, piece: Shown) -> bool:
        if piece.clear:
            self._new = 0
        self._new += not piece.update
        self._hidden += self._new > LIMIT_SHOWN
        return piece.update or self._new <= LIMIT_SHOWN

    def _told_of_the_rest(self) -> Iterator[Piece]:
        if self._suppressed:
            yield _ERR, f"\n--- {self._suppressed} lines suppressed: see fut.stdout\n"
        if self._hidden:
            yield _ERR, f"\n--- shown things suppressed: {self._hidden}\n"

    def _skip_what_was_left_out(self, ended: Ended) -> None:
        """Go on with the end of a long output: of its middle, more was shown than was kept."""
        for stream, at in self._at.items():
            if len(_written(ended, stream)) > HEAD_BYTES + TAIL_BYTES:
                self._at[stream] = min(at, HEAD_BYTES)

    def _text(self, stream: int, written: bytes | bytearray, end: int) -> Iterator[Piece]:
        """Give the text up to byte ``end``, as far as it is there and may be shown."""
        at = self._at[stream]
        raw = bytes(written[at:end])
        self._at[stream] = max(at, at + len(raw))
        text = self._decoders[stream].decode(raw)
        shown = text[: self._left]
        self._left -= len(shown)
        self._suppressed += text.count("\n", len(shown))
        if shown:
            yield stream, shown


def thinned(pieces: list[Piece]) -> list[Piece]:
    """Return pieces without those that others of them replace at once."""
    for i in range(len(pieces) - 1, 0, -1):
        piece = pieces[i]
        if isinstance(piece, Shown) and piece.clear:
            pieces = pieces[i:]
            break
    last = {piece.display_id: i for i, piece in enumerate(pieces) if _is_update(piece)}
    return [
        piece
        for i, piece in enumerate(pieces)
        if not _is_update(piece) or last[piece.display_id] == i
    ]


def _is_update(piece: Piece) -> TypeGuard[Shown]:
    return isinstance(piece, Shown) and piece.update and not piece.clear


def _written(ended: Ended, stream: int) -> bytes:
    return ended.stdout if stream == _OUT else ended.stderr


class Prefixed:
    """Whole lines of several tasks, each with the task's label before it."""

    def __init__(self, tap: Tap, label: Callable[[], str]) -> None:
        self._tap = tap
        self._label = label
        self._rest = {_OUT: "", _ERR: ""}

    def take(self) -> list[Piece]:
        """Return what has come, as `Tap.take`; a line that has no end yet waits for it."""
        is_over = self._tap.future.done()
        pieces: list[Piece] = []
        for piece in self._tap.take():
            if isinstance(piece, Shown):
                pieces += [(_OUT, f"[{self._label()}]\n"), piece]
                continue
            stream, text = piece
            text = self._rest[stream] + text
            whole, newline, self._rest[stream] = text.rpartition("\n")
            pieces += self._lines(stream, whole + newline)
        if is_over:
            for stream, rest in self._rest.items():
                pieces += self._lines(stream, rest + "\n" if rest else "")
                self._rest[stream] = ""
        return pieces

    def _lines(self, stream: int, text: str) -> list[Piece]:
        prefix = f"[{self._label()}] "
        lines = [prefix + line for line in text.splitlines(keepends=True)]
        return [(stream, "".join(lines))] if lines else []


Source = Tap | Prefixed


def sources_of(futures: list[Future[Any]]) -> list[Source]:
    """Return what to take the output of these tasks from; several are told apart by a prefix."""
    if len(futures) == 1:
        return [Tap(futures[0])]

    def labelled(number: int, future: Future[Any]) -> Prefixed:
        return Prefixed(Tap(future), lambda: f"{number}, engine {future.engine}")

    return [labelled(number, future) for number, future in enumerate(futures)]


def jupyter_data(piece: Shown) -> dict[str, Any]:
    """Return a bundle as front ends take it: bytes in base64."""
    return {
        mime: b64encode(value).decode() if isinstance(value, bytes) else value
        for mime, value in piece.data.items()
    }


def write_here(shell: Any, pieces: list[Piece], task: str) -> None:
    """Write and show pieces in the cell that runs now, in whose thread this is."""
    import sys

    for piece in pieces:
        if not isinstance(piece, Shown):
            stream, text = piece
            (sys.stdout if stream == _OUT else sys.stderr).write(text)
            continue
        sys.stdout.flush()
        sys.stderr.flush()
        if piece.clear:
            shell.display_pub.clear_output(wait=True)
        if piece.data:
            transient = {"display_id": f"{task}-{piece.display_id}"} if piece.display_id else {}
            shell.display_pub.publish(
                data=jupyter_data(piece),
                metadata=piece.metadata,
                transient=transient,
                update=piece.update,
            )
    sys.stdout.flush()
    sys.stderr.flush()
