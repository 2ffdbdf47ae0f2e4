"""What the pages and files of the executors show from outside: what runs, how far, what it says."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Final

from nbcluster.core.model import Progress
from nbcluster.engine.capture import LIMIT_BYTES, cut
from nbcluster.engine.children import Child, Stream
from nbcluster.transport.page import CURRENT, ENDED, OUT_START, SENT

#: Shorter attempts are not told: their result tells enough, and there are thousands a second.
TOLD_S: Final = 0.01
#: Output is sent while an attempt runs for longer than this.
STREAMED_S: Final = 0.1
#: Output of one attempt: in one look, and in all.
LOOK_BYTES: Final = 64 << 10
STREAM_BYTES: Final = 256 << 10
_PROGRESS_S: Final = 0.2


@dataclass(slots=True)
class Sight:
    """What one look at all executors showed."""

    is_busy: bool = False  #: something runs
    is_news: bool = False  #: something runs that the master does not know of
    #: executor, token, and for how many seconds it has run
    running: list[tuple[str, int, float]] = field(default_factory=list)
    progress: list[tuple[int, Progress]] = field(default_factory=list)
    chunks: list[tuple[int, int, int, bytes]] = field(default_factory=list)


class Watcher:
    """Looks at the executors; remembers when progress was told last."""

    def __init__(self) -> None:
        self._progress_due = 0.0

    def look(self, children: list[Child]) -> Sight:
        """Return what the executors do now."""
        sight = Sight()
        now = time.monotonic()
        is_progress_due = now >= self._progress_due
        for child in children:
            token, began = child.page.running()
            if not token:
                continue
            sight.is_busy = True
            age_s = now - began
            if age_s >= TOLD_S:
                sight.running.append((child.id, token, age_s))
                sight.is_news |= child.told != token
                words = child.page.words
                if words[ENDED] != words[SENT]:
                    child.alarm()
                if is_progress_due:  # not before the start is told: the master would not know it
                    _look_at_progress(child, token, sight)
            _look_at_output(child, token, age_s >= STREAMED_S, sight)
        if sight.progress:
            self._progress_due = now + _PROGRESS_S
        return sight


def _look_at_progress(child: Child, token: int, sight: Sight) -> None:
    found = child.page.progress(child.progress_seen)
    if found is None:
        return
    child.progress_seen, of, done, total, message = found
    if of == token:
        sight.progress.append((token, Progress(done, total, message)))


def _look_at_output(child: Child, token: int, is_streamed: bool, sight: Sight) -> None:
    if child.watched != token:
        child.watched = token
        for stream in child.streams:
            stream.sent = 0
    room = min(LOOK_BYTES, STREAM_BYTES - sum(stream.sent for stream in child.streams))
    for kind, stream in enumerate(child.streams, 1):
        start = child.page.words[stream.word]
        status = os.fstat(stream.fd)
        size = status.st_size
        length = min(size - start - stream.sent, room) if is_streamed else 0
        if length > 0:
            data = os.pread(stream.fd, length, start + stream.sent)
            # Else the attempt ended, and what was read may be of another one.
            if child.page.words[CURRENT] != token:
                return
            sight.chunks.append((token, kind, stream.sent, data))
            stream.sent += len(data)
            room -= len(data)
        on_disk = min(size - start, status.st_blocks * 512)
        if on_disk > LIMIT_BYTES and child.page.words[CURRENT] == token:
            _shorten(child, stream, token, start, size)


def _shorten(child: Child, stream: Stream, token: int, start: int, size: int) -> None:
    gone = cut(stream.fd, start, size)
    is_out = stream.word == OUT_START
    child.page.drop_output(token, gone if is_out else 0, 0 if is_out else gone)
    stream.sent = STREAM_BYTES  # what follows is not what stood there: no more of it is sent


def shorten_idle(children: list[Child]) -> None:
    """Empty the files of idle executors in which threads left behind go on writing."""
    for child in children:
        if child.page.words[CURRENT] == 0:
            for stream in child.streams:
                if os.fstat(stream.fd).st_size > LIMIT_BYTES:
                    os.ftruncate(stream.fd, 0)
