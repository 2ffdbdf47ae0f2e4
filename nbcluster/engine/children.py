"""One executor as its supervisor holds it: process, page, output files, orders."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nbcluster.engine import processes
from nbcluster.engine.capture import last_lines, read_segment
from nbcluster.engine.executor.birth import STACK_SIGNAL, STACK_SUFFIX, ExecutorOptions
from nbcluster.transport.descriptors import watch
from nbcluster.transport.page import (
    BEGUN,
    CURRENT,
    ENDED,
    ERR_START,
    KILL,
    OUT_START,
    SENT,
    STOP,
    Page,
    page_name,
)

#: For results to leave, or for zmq to notice that it cannot work any more.
_DEAF_S: Final = 3.0
_APPEND: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


@dataclass(slots=True)
class Stream:
    """One output file, and how much of the attempt that runs was sent already."""

    path: Path
    fd: int
    word: int  #: of the page: where the attempt's segment begins
    sent: int = 0


@dataclass(slots=True)
class Death:
    """What is left to say of an executor."""

    executor: str
    token: int
    exit_code: int
    peak_bytes: int
    stderr: str
    stdout: bytes
    expected: bool


@dataclass(slots=True, eq=False)
class Child:
    """A live executor. Made by `spawn`; ends with `bury`."""

    id: str
    slot: int
    pid: int
    pidfd: int
    page: Page
    page_path: Path
    streams: tuple[Stream, Stream]
    control_fd: int
    alarm_fd: int
    born: float = field(default_factory=time.monotonic)
    is_ordered: bool = False  #: it was told to go: its death is no crash
    kill_token: int = 0  #: the attempt that is being stopped
    kill_due: float = 0.0  #: when that is done by force
    killed: bool = False  #: by force
    deaf_due: float = 0.0  #: when that is done to one that closed its descriptors
    told: int = 0  #: token that the master knows to have begun
    watched: int = 0  #: token to which `Stream.sent` belongs
    progress_seen: int = 0
    revokes: deque[int] = field(default_factory=deque)  #: watermarks, not yet answered
    revoked_before: int | None = None  #: the watermark before the first of those, once written

    # ------------------------------------------------------------------ orders

    def wake(self) -> None:
        """Have it look at its page and at the connection file, asleep or not."""
        self.page.poke()
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self.control_fd, b"!")

    def alarm(self) -> None:
        """Have results sent that wait behind a long attempt."""
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self.alarm_fd, b"!")

    def interrupt(self, token: int, due: float) -> None:
        """Stop the attempt of ``token``, gently until ``due``; nothing, if it does not run."""
        # The word is not written for what does not run: the signal for what does may be on its way.
        if self.page.words[CURRENT] == token and self.kill_token != token:
            self.page.words[KILL] = token
            self.kill_token, self.kill_due = token, due
            os.kill(self.pid, signal.SIGINT)

    def enforce(self, now: float) -> None:
        """Kill it, if the attempt that was to stop did not, or if it should have left by itself."""
        if self.killed:
            return
        current = self.page.words[CURRENT]
        if self.deaf_due and current:
            self.deaf_due = now + _DEAF_S
        elif self.deaf_due and now >= self.deaf_due:
            self.kill()
        if not self.kill_token:
            return
        if current != self.kill_token:
            self.kill_token = 0
        elif now >= self.kill_due:
            self.kill()

    def answer_revokes(self) -> Iterator[tuple[int, int]]:
        """Yield each watermark in turn with what had begun, as far as that is decided."""
        while self.revokes:
            watermark = self.revokes[0]
            if self.revoked_before is None:
                self.revoked_before = self.page.revoke(watermark)
            begun = self.page.begun(watermark, self.revoked_before)
            if begun is None:
                return
            self.revokes.popleft()
            self.revoked_before = None
            yield watermark, begun

    def ask_stack(self) -> int:
        """Have it write its stack; return from where on to read the file of its stacks.

        Raises
        ------
        OSError
            If it cannot be asked (yet).
        """
        size = self._stack_path.stat().st_size  # no file: the signal would kill it
        os.kill(self.pid, STACK_SIGNAL)
        return size

    def stack(self, start: int) -> str:
        """Return what it wrote since `ask_stack`; nothing yet: an empty string."""
        return self._stack_path.read_bytes()[start:].decode("utf-8", "replace")

    @property
    def _stack_path(self) -> Path:
        return self.page_path.with_name(self.page_path.name + STACK_SUFFIX)

    def retire(self) -> None:
        """Let it end after what it runs."""
        self.is_ordered = True
        self.page.words[STOP] = 1
        self.wake()

    def leave_by_itself(self, now: float) -> None:
        """Let it end after what it runs, which need not have closed the descriptors."""
        self.page.words[STOP] = 1
        self.page.poke()
        self.deaf_due = now + _DEAF_S

    def terminate(self) -> None:
        """Have it end at once, unless user code has other plans."""
        self.is_ordered = True
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it now, with all that user code started in it."""
        self.killed = True
        processes.kill_group(self.pid)

    # ------------------------------------------------------------------ the end

    def ran_nothing(self) -> bool:
        """Return whether it never began an attempt."""
        return self.page.words[BEGUN] == 0

    def bury(self) -> Death:
        """Take in its end; what it left behind is gone after this, but for its last words."""
        processes.kill_group(self.pid)  # what it forked; it is itself dead, and not yet reaped
        exit_code, peak = processes.reap(self.pid)
        token = self._culprit()
        out, err = (self._last_words(stream, token) for stream in self.streams)
        expected = self.is_ordered or (token != 0 and token == self.kill_token)
        self.close()
        return Death(self.id, token, exit_code, peak, last_lines(err), out, expected)

    def _culprit(self) -> int:
        """Return the token to charge: of what ran, or else ended last without a word of it sent.

        Without the latter a task that spoils the process it leaves behind would run for ever.
        """
        words = self.page.words
        return words[CURRENT] or (words[BEGUN] if words[ENDED] != words[SENT] else 0)

    def _last_words(self, stream: Stream, token: int) -> bytes:
        start = self.page.words[stream.word] if token else 0
        dropped = self.page.dropped(token)[stream.word - OUT_START] if token else 0
        return read_segment(stream.fd, start, os.fstat(stream.fd).st_size, dropped)

    def close(self) -> None:
        """Close and remove all that belongs to it."""
        for fd in (self.pidfd, self.control_fd, self.alarm_fd):
            os.close(fd)
        for stream in self.streams:
            os.close(stream.fd)
            stream.path.unlink(missing_ok=True)
        self.page.close()
        self.page_path.unlink(missing_ok=True)
        self._stack_path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Nursery:
    """What all executors of an engine have in common.

    Parameters
    ----------
    connection
        The connection file.
    run
        Directory of pages and output files.
    """

    connection: Path
    run: Path
    memory_limit: int
    imports: tuple[str, ...]

    def spawn(self, executor: str, slot: int) -> Child:
        """Start an executor.

        It leads a session of its own, so that an interrupt of the notebook does not reach it,
        and so that what it forks can be found.

        Raises
        ------
        OSError
            If the system cannot start it now; nothing is left behind.
        """
        with ExitStack() as undo:
            page_path = self.run / page_name(executor)
            page = Page(page_path, create=True)
            undo.callback(page_path.unlink, missing_ok=True)
            undo.callback(page.close)
            out, err = (_open(page_path.with_suffix(s), w, undo) for s, w in _STREAMS)
            control_read, control_write = _pipe(undo)
            alarm_read, alarm_write = _pipe(undo)
            options = ExecutorOptions(
                executor,
                self.connection,
                self.run,
                os.getpid(),
                control_read,
                alarm_read,
                self.memory_limit,
                self.imports,
            )
            pid = _start(options, out.fd, err.fd)
            undo.pop_all()
        os.close(control_read)
        os.close(alarm_read)
        return Child(
            executor,
            slot,
            pid,
            watch(pid),
            page,
            page_path,
            (out, err),
            control_write,
            alarm_write,
        )


_STREAMS: Final = ((".out", OUT_START), (".err", ERR_START))


def _open(path: Path, word: int, undo: ExitStack) -> Stream:
    fd = os.open(path, _APPEND, 0o600)
    undo.callback(path.unlink, missing_ok=True)
    undo.callback(os.close, fd)
    return Stream(path, fd, word)


def _pipe(undo: ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    undo.callback(os.close, reader)
    undo.callback(os.close, writer)
    os.set_blocking(writer, False)
    return reader, writer


def _start(options: ExecutorOptions, out_fd: int, err_fd: int) -> int:
    # Two descriptors are made inheritable for the moment of the start; this process has one
    # thread, so nobody else can start something meanwhile.
    os.set_inheritable(options.control_fd, True)
    os.set_inheritable(options.alarm_fd, True)
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "nbcluster.engine.executor", *options.to_argv()],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out_fd, 1),
            (os.POSIX_SPAWN_DUP2, err_fd, 2),
        ],
        setsid=True,
    )
