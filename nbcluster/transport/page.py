"""The page an executor shares with its supervisor: what runs, since when, and orders to it.

A small memory-mapped file. Each field is one aligned word with one writer, so it is read and
written whole, in well under a microsecond and without a message. The file outlives both
processes: after an engine's death the master reads from it what had begun.

Beginning an attempt, and revoking it (numbers are the order of the acts):

- executor, which takes tokens in rising order: (1) ``CURRENT = token``, (2) read ``WATERMARK``.
  At or below it, skip: note ``SKIPPED_AFTER = BEGUN``, ``SKIPPED_UPTO = token``, then
  ``CURRENT = 0``. Else (3) ``BEGUN = token`` and run; at the end ``CURRENT = 0``, ``BEGUN`` stays.
- supervisor: (1) write ``WATERMARK``, (2) wait for some microseconds, (3) read ``CURRENT`` and
  ``BEGUN``. If the first is at or below the watermark and not ``BEGUN``, the executor is between
  its steps 1 and 3 and may go either way: look again. Else ``BEGUN`` is the answer: nothing above
  it and up to the watermark will ever begin. Only if the executor was so fast that it has begun
  something above the watermark already, the answer is where it began to skip. One revocation is
  answered before the next is written, so that the page needs to remember one place.

The wait in the supervisor's step 2 stands for the memory barrier that Python does not have: a
processor may let a later read overtake an earlier write, but not by microseconds.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from threading import Lock
from typing import Final

# Words of 8 bytes. First those the executor writes on its hot path, by number and not through
# a property, since that would cost more than the write.
CURRENT: Final = 0  #: token of what runs, 0: nothing
BEGUN: Final = 1  #: highest token that ever began
ENDED: Final = 2  #: attempts that ended
SENT: Final = 3  #: how many of those were given to the socket
OUT_START: Final = 4  #: size of the output file when the attempt began
ERR_START: Final = 5
PROGRESS_SEQ: Final = 6  #: odd while the progress is being written
PROGRESS_TOKEN: Final = 7
PROGRESS_LENGTH: Final = 8  #: bytes of the message
SKIPPED_AFTER: Final = 9  #: what had begun when attempts were skipped last
SKIPPED_UPTO: Final = 10  #: highest token that was skipped
# Those the supervisor writes.
WATERMARK: Final = 16
KILL: Final = 17  #: token of the attempt that is to be interrupted
STOP: Final = 18  #: 1: end after what runs
POKES: Final = 19  #: raised when the executor must look at `STOP` and the connection file
DROP_TOKEN: Final = 20  #: attempt of which output was thrown away
DROPPED_OUT: Final = 21  #: how many bytes
DROPPED_ERR: Final = 22
# Words that are floating point.
STARTED_AT: Final = 32  #: of what runs, by the monotonic clock: processes of a host share it
DONE: Final = 33
TOTAL: Final = 34

_MESSAGE_AT: Final = 40 * 8
MESSAGE_BYTES: Final = 200
SIZE: Final = 1024
#: Longer than a processor holds back a write from the others, by far.
_BARRIER_S: Final = 20e-6


class Page:
    """One executor's page, from either side.

    Parameters
    ----------
    path
        The file; both sides map the same one.
    create
        Make it, empty. Else it must exist.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        fd = os.open(path, flags, 0o600)
        try:
            if create:
                os.ftruncate(fd, SIZE)
            self._map = mmap.mmap(fd, SIZE)
        finally:
            os.close(fd)
        self._bytes = memoryview(self._map)
        self.words = self._bytes.cast("Q")
        self.reals = self._bytes.cast("d")
        self._progress_lock = Lock()  # between threads of user code; the reader takes none

    def close(self) -> None:
        """Unmap; the file stays."""
        for view in (self.words, self.reals, self._bytes):
            view.release()
        self._map.close()

    # ------------------------------------------------------------------ read by both

    def running(self) -> tuple[int, float]:
        """Return token and `STARTED_AT` of what runs; token 0 if nothing does."""
        words = self.words
        while True:
            token = words[CURRENT]
            started_at = self.reals[STARTED_AT]
            if words[CURRENT] == token:  # else another attempt has begun between the two reads
                return token, started_at

    @classmethod
    def read_current(cls, path: Path) -> tuple[int, float]:
        """Return token and `STARTED_AT` of what runs, or ran when the processes died.

        Raises
        ------
        OSError
            If there is no such page.
        ValueError
            If the file is not a page.
        """
        page = cls(path)
        try:
            return page.running()
        finally:
            page.close()

    # ------------------------------------------------------------------ the supervisor's side

    def revoke(self, watermark: int) -> int:
        """Let nothing begin up to the watermark; return the one before, for `begun`."""
        words = self.words
        previous = words[WATERMARK]
        if watermark > previous:
            words[WATERMARK] = watermark
            time.sleep(_BARRIER_S)
        return previous

    def begun(self, watermark: int, previous: int) -> int | None:
        """Return up to which token attempts began that the watermark was to stop.

        Nothing above it and up to ``watermark`` will ever begin. None while that is being
        decided.

        Parameters
        ----------
        watermark
            As given to `revoke`.
        previous
            What `revoke` returned: of attempts up to there, an earlier answer has told.
        """
        if watermark <= previous:
            return watermark
        words = self.words
        current = words[CURRENT]
        begun = words[BEGUN]
        if 0 != current != begun and current <= watermark:
            return None
        if begun <= watermark:
            return begun
        return words[SKIPPED_AFTER] if words[SKIPPED_UPTO] > previous else watermark

    def poke(self) -> None:
        """Have the executor look at `STOP` and at the connection file."""
        self.words[POKES] += 1

    def drop_output(self, token: int, dropped_out: int, dropped_err: int) -> None:
        """Note that so many bytes of what this attempt wrote are thrown away."""
        words = self.words
        if words[DROP_TOKEN] != token:
            words[DROPPED_OUT] = words[DROPPED_ERR] = 0
            words[DROP_TOKEN] = token
        words[DROPPED_OUT] += dropped_out
        words[DROPPED_ERR] += dropped_err

    def progress(self, seen: int) -> tuple[int, int, float, float, str] | None:
        """Return seq, token, done, total and message, or None if nothing is new since ``seen``."""
        words, reals = self.words, self.reals
        seq = words[PROGRESS_SEQ]
        if seq == seen or seq % 2:
            return None
        length = min(words[PROGRESS_LENGTH], MESSAGE_BYTES)
        message = bytes(self._bytes[_MESSAGE_AT : _MESSAGE_AT + length])
        found = (
            seq,
            words[PROGRESS_TOKEN],
            reals[DONE],
            reals[TOTAL],
            message.decode(errors="replace"),
        )
        return found if words[PROGRESS_SEQ] == seq else None

    # ------------------------------------------------------------------ the executor's side

    def dropped(self, token: int) -> tuple[int, int]:
        """Return how many bytes of this attempt's stdout and stderr were thrown away."""
        words = self.words
        if words[DROP_TOKEN] != token:
            return 0, 0
        return words[DROPPED_OUT], words[DROPPED_ERR]

    def report(self, token: int, done: float, total: float, message: str) -> None:
        """Write the progress of the attempt that runs; of any other one it is ignored."""
        data = message[:MESSAGE_BYTES].encode("utf-8", "replace")[:MESSAGE_BYTES]
        data = data.decode("utf-8", "ignore").encode()  # a character may have been cut in two
        words, reals = self.words, self.reals
        with self._progress_lock:
            if words[CURRENT] != token:  # a thread that outlived its attempt
                return
            # Made odd whatever it was: an interrupt may have ended an earlier write half-way.
            words[PROGRESS_SEQ] = words[PROGRESS_SEQ] + 1 | 1
            words[PROGRESS_TOKEN] = token
            reals[DONE], reals[TOTAL] = done, total
            words[PROGRESS_LENGTH] = len(data)
            self._bytes[_MESSAGE_AT : _MESSAGE_AT + len(data)] = data
            words[PROGRESS_SEQ] += 1


def page_name(executor: str) -> str:
    """Return the file name of an executor's page."""
    return executor.replace("/", "_") + ".page"
