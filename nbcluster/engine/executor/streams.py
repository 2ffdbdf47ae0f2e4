"""Standard output and error of an executor: files, of which each attempt owns a segment."""

from __future__ import annotations

import errno
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
        self._files = os.fstat(0), os.fstat(1), os.fstat(2)
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
        if _is_closed(self.stdout):
            self.stdout = _line_buffered(1)
        if _is_closed(self.stderr):
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
        in_file, out_file, err_file = self._files
        if not _is(0, in_file):
            _reopen_input()
        self.out_fd = _both(1, self.out_fd, out_file)
        self.err_fd = _both(2, self.err_fd, err_file)
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


def _both(number: int, own: int, file: os.stat_result) -> int:
    """Have ``number`` be the file again; return a descriptor of our own for it.

    Raises
    ------
    OSError
        If user code has closed or replaced both.
    """
    if not _is(own, file):
        if not _is(number, file):
            raise OSError(errno.EBADF, "user code has closed the descriptors of the output")
        return os.dup(number)
    if not _is(number, file):
        os.dup2(own, number)
    return own


def _reopen_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    if null != 0:  # else 0 was closed, and is the first that is free
        os.dup2(null, 0)
        os.close(null)
    os.set_inheritable(0, True)


def _is(fd: int, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), file)
    except OSError:
        return False


def _is_closed(stream: TextIO) -> bool:
    try:
        return stream.closed
    except ValueError:  # detached
        return True


def _line_buffered(fd: int) -> TextIO:
    """Return a text stream on ``fd`` whose lines leave at once, so that they can be watched."""
    raw = io.FileIO(fd, "wb", closefd=False)
    buffer = io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
