"""Standard output and error of an executor: files, of which each attempt owns a segment."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from nbcluster.engine.capture import TIDY_BYTES, read_segment
from nbcluster.transport.page import ERR_START, OUT_START, Page


class Streams:
    """The two files, and how long they were when the attempt began.

    Parameters
    ----------
    page
        Where the supervisor finds those lengths.
    """

    def __init__(self, page: Page) -> None:
        self._page = page
        # Descriptors of our own: user code may close or redirect 1 and 2.
        self.out_fd = os.dup(1)
        self.err_fd = os.dup(2)
        self.stdout: TextIO = _line_buffered(1)
        self.stderr: TextIO = _line_buffered(2)
        self.stdin: TextIO = sys.stdin
        sys.stdout, sys.stderr = self.stdout, self.stderr
        sys.__stdout__, sys.__stderr__ = self.stdout, self.stderr  # type: ignore[misc, assignment]
        self.mark()

    def mark(self) -> None:
        """Let the next segment begin here."""
        self.out_start = os.lseek(self.out_fd, 0, os.SEEK_END)
        self.err_start = os.lseek(self.err_fd, 0, os.SEEK_END)
        self._page.words[OUT_START] = self.out_start
        self._page.words[ERR_START] = self.err_start

    def restore(self) -> None:
        """Put back what user code replaced or closed."""
        if self.stdout.closed:
            self.stdout = _line_buffered(1)
        if self.stderr.closed:
            self.stderr = _line_buffered(2)
        if self.stdin.closed:
            self.stdin = io.TextIOWrapper(io.FileIO(os.devnull), encoding="utf-8")
        sys.stdout, sys.stderr, sys.stdin = self.stdout, self.stderr, self.stdin

    def flush(self) -> None:
        """Write out what Python holds back."""
        for stream in (self.stdout, self.stderr):
            with suppress(OSError, ValueError):  # the disk is full, or user code closed it
                stream.flush()

    def take(self, token: int) -> tuple[bytes, bytes]:
        """Return what the attempt wrote, and begin new segments."""
        for number, own in ((1, self.out_fd), (2, self.err_fd)):
            if not _is_same(number, own):
                os.dup2(own, number)
        out_end = os.lseek(self.out_fd, 0, os.SEEK_END)
        err_end = os.lseek(self.err_fd, 0, os.SEEK_END)
        dropped_out, dropped_err = self._page.dropped(token)
        out = read_segment(self.out_fd, self.out_start, out_end, dropped_out)
        err = read_segment(self.err_fd, self.err_start, err_end, dropped_err)
        for fd, end in ((self.out_fd, out_end), (self.err_fd, err_end)):
            if end > TIDY_BYTES:
                os.ftruncate(fd, 0)
        self.mark()
        return out, err


def _is_same(number: int, own: int) -> bool:
    try:
        return os.path.sameopenfile(number, own)
    except OSError:
        return False


def _line_buffered(fd: int) -> TextIO:
    """Return a text stream on ``fd`` whose lines leave at once, so that they can be watched."""
    raw = io.FileIO(fd, "wb", closefd=False)
    buffer = io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
