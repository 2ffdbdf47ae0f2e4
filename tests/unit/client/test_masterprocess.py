"""What a client sees of the master's process."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from nbcluster.client.masterprocess import MasterProcess
from nbcluster.transport.connection import Connection
from tests.helpers import eventually


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.communicate()


def test_one_that_was_halted_is_told_from_one_that_runs_or_has_ended(
    child: subprocess.Popen[bytes],
) -> None:
    host = socket.gethostname()
    connection = Connection("one", 1, "", "", child.pid, host, "3.11", "1", "", "", "", False)
    process = MasterProcess()
    assert not process.is_halted
    assert process.watch(connection, select.poll())
    assert not process.is_halted

    child.send_signal(signal.SIGSTOP)
    eventually(lambda: process.is_halted)
    child.send_signal(signal.SIGCONT)
    eventually(lambda: not process.is_halted)
    child.send_signal(signal.SIGSTOP)
    eventually(lambda: process.is_halted)

    process.kill()
    process.await_end(10.0)
    assert not process.is_halted
    assert child.wait() == -signal.SIGKILL
    process.close()
    assert not process.is_halted
