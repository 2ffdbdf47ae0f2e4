"""Descriptors of processes' ends and of wake-ups, also where the system knows no pidfd."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from nbcluster.engine.processes import is_stopped
from nbcluster.transport.descriptors import Wakeup, await_readable, wakeup_pipe, watch
from tests.helpers import eventually


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that ends when it is told to."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def is_readable(fd: int, wait_ms: int = 0) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN | select.POLLHUP)
    return bool(poller.poll(wait_ms))


def end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()


@pytest.mark.parametrize("system", ["linux", "another"])
def test_the_end_of_a_child_makes_its_descriptor_readable_and_leaves_its_exit_code(
    child: subprocess.Popen[bytes], system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if system == "another":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
        monkeypatch.delattr(os, "waitid", raising=False)  # macOS had none before Python 3.13
    fd = watch(child.pid)
    try:
        assert not is_readable(fd)

        end(child)

        assert is_readable(fd, 5000)
        assert child.wait() == 0
    finally:
        os.close(fd)
    eventually(lambda: not [t for t in threading.enumerate() if t.name == f"watch-{child.pid}"])


@pytest.mark.parametrize("system", ["linux", "another"])
def test_a_process_that_is_not_there_cannot_be_watched(
    child: subprocess.Popen[bytes], system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    end(child)
    child.wait()
    if system == "another":
        monkeypatch.delattr(os, "pidfd_open", raising=False)

    with pytest.raises(ProcessLookupError):
        watch(child.pid)


@pytest.mark.parametrize("system", ["linux", "another"])
def test_a_stopped_child_is_told_from_one_that_runs_sleeps_or_has_ended(
    child: subprocess.Popen[bytes], system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if system == "another":
        monkeypatch.delattr(os, "waitid", raising=False)
    assert not is_stopped(child.pid)

    child.send_signal(signal.SIGSTOP)
    eventually(lambda: is_stopped(child.pid))
    child.send_signal(signal.SIGCONT)
    eventually(lambda: not is_stopped(child.pid))

    end(child)
    fd = watch(child.pid)
    assert is_readable(fd, 5000)
    os.close(fd)
    assert not is_stopped(child.pid)
    assert child.wait() == 0


def test_a_wakeup_pipe_never_blocks_and_is_not_inherited() -> None:
    reader, writer = wakeup_pipe()
    try:
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        with pytest.raises(BlockingIOError):
            os.write(writer, bytes(1 << 20)) and os.write(writer, bytes(1 << 20))
        assert not os.get_inheritable(reader)
        assert not os.get_inheritable(writer)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_wakeup_can_be_called_when_the_interpreter_has_emptied_the_modules() -> None:
    code = (
        "import os, weakref\n"
        "from nbcluster.transport.descriptors import Wakeup\n"
        "class Kept: pass\n"
        "wakeup, os.kept = Wakeup(), Kept()\n"
        "os.ref = weakref.ref(os.kept, lambda _, call=wakeup.call: call())\n"
    )

    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert ended.stderr == ""


def test_a_descriptor_of_any_number_can_be_waited_for() -> None:
    wakeup = Wakeup()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most <= 1_024:
        pytest.skip("this system allows no descriptor of such a number")
    high = fcntl.fcntl(wakeup.fd, fcntl.F_DUPFD, 1_024)  # `select` knows 1,024 of them
    try:
        wakeup.call()
        await_readable(high, 10.0)
        wakeup.drain()
        await_readable(high, 0.0)
    finally:
        os.close(high)
        wakeup.close()
