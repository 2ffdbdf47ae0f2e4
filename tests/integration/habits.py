"""Habits: what tasks do to the process they share with later ones, and get away with.

A module of its own that imports nothing heavy, because executors import it.
"""

from __future__ import annotations

import asyncio
import io
import json
import locale
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import zmq

import nbcluster

# ruff: noqa: T201 - that a task prints is what is tested


def close_output() -> str:
    os.close(1)
    os.close(2)
    return "done"


def take_the_number_of_output() -> str:
    os.close(1)
    os.open(os.devnull, os.O_WRONLY)
    return "done"


def redirect_output() -> str:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    return "done"


def close_other_descriptors_of_output() -> str:
    """Close all that lead to the files of output but 1 and 2."""
    files = [os.fstat(1), os.fstat(2)]
    for number in range(3, 64):
        try:
            if any(os.path.samestat(os.fstat(number), file) for file in files):
                os.close(number)
        except OSError:
            continue
    return "done"


def detach_stdout() -> str:
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8")
    print("through a wrapper of its own")
    return "done"


def become_a_daemon() -> str:
    for number in (0, 1, 2):
        os.close(number)
    return "done"


def read_input() -> str:
    return sys.stdin.read() + "done"


def end_zmq() -> str:
    zmq.Context.instance().term()
    return "done"


def destroy_zmq() -> str:
    zmq.Context.instance().destroy(0)
    return "done"


def watch_calls() -> str:
    def note(frame: FrameType, event: str, arg: Any) -> None:
        note.calls += 1  # type: ignore[attr-defined]

    note.calls = 0  # type: ignore[attr-defined]
    sys.setprofile(note)
    return "done"


def leave_a_child() -> str:
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    return "done"


def leave_a_child_that_prints() -> str:
    if os.fork() == 0:
        time.sleep(0.05)
        print("from a child")
        sys.stdout.flush()
        os._exit(0)
    return "done"


def leave_a_thread_that_prints() -> str:
    def later() -> None:
        time.sleep(0.05)
        print("from a thread")

    threading.Thread(target=later).start()
    return "done"


def leave_a_thread_that_raises() -> str:
    threading.Thread(target=lambda: 1 / 0).start()
    return "done"


def leave_a_program() -> str:
    subprocess.Popen(["sleep", "60"])
    return "done"


def run_a_program() -> str:
    assert subprocess.run(["cat"], check=True, capture_output=True).stdout == b""
    return subprocess.run(["echo", "done"], check=True, capture_output=True, text=True).stdout[:-1]


def square(x: int) -> int:
    return x * x


def use_a_pool() -> str:
    with multiprocessing.Pool(2) as pool:
        assert pool.map(square, [1, 2, 3]) == [1, 4, 9]
    return "done"


_kept: Final[list[Any]] = []


def leave_a_pool() -> str:
    _kept.append(multiprocessing.Pool(2))
    return "done"


def leave_handlers() -> str:
    def refuse(number: int, frame: FrameType | None) -> None:
        raise ValueError(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1):
        signal.signal(number, refuse)
    return "done"


def run_a_loop() -> str:
    return asyncio.run(asyncio.sleep(0, "done"))


def is_on_the_main_thread() -> str:
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)  # raises elsewhere
    return "done" if threading.current_thread() is threading.main_thread() else "no"


def change_settings() -> str:
    os.umask(0o077)
    os.environ["NBCLUSTER_HABIT"] = "1"
    locale.setlocale(locale.LC_ALL, "C")
    warnings.simplefilter("error")
    logging.basicConfig(level=logging.DEBUG, force=True)
    sys.path.insert(0, "/nowhere")
    sys.setswitchinterval(1.0)
    for name in [n for n in sys.modules if n.startswith("json")]:
        del sys.modules[name]
    return "done"


def spoil_hooks() -> str:
    for name in ("excepthook", "unraisablehook", "displayhook"):
        setattr(sys, name, None)
    threading.excepthook = None  # type: ignore[assignment]
    return "done"


HABITS: Final[tuple[Callable[[], str], ...]] = (
    close_output,
    take_the_number_of_output,
    redirect_output,
    close_other_descriptors_of_output,
    detach_stdout,
    become_a_daemon,
    read_input,
    end_zmq,
    destroy_zmq,
    watch_calls,
    leave_a_child,
    leave_a_child_that_prints,
    leave_a_thread_that_prints,
    leave_a_thread_that_raises,
    leave_a_program,
    run_a_program,
    use_a_pool,
    leave_a_pool,
    leave_handlers,
    run_a_loop,
    is_on_the_main_thread,
    spoil_hooks,
    change_settings,
)


def speak(word: str) -> str:
    print(word)
    return word


def is_unwatched() -> bool:
    return sys.getprofile() is None and sys.gettrace() is None


def nest_json() -> str:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    return json.dumps(deep)


def nest_repr() -> str:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return repr(deep)


def close_control() -> str:
    """Close the ends of all pipes: orders of the supervisor come through them."""
    for number in range(3, 64):
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith("pipe:"):
                os.close(number)
        except OSError:
            continue
    return "done"


def count_pipes() -> int:
    links = [f"/proc/self/fd/{number}" for number in range(3, 64)]
    return sum(os.readlink(link).startswith("pipe:") for link in links if os.path.islink(link))


def submit_to(name: str, x: int) -> int:
    """Submit a task from inside of a task."""
    cluster = nbcluster.connect(name)
    try:
        return cluster.submit(square, x).result(10)
    finally:
        cluster.close()


def take_much(size: int) -> int:
    return len(bytearray(size))


class Swelling:
    """Takes so many bytes when it is unpickled."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> Any:
        return bytearray, (self.size,)


class Hoarding:
    """Takes much when it is pickled."""

    def __reduce__(self) -> Any:
        return bytes, (bytearray(2 << 30),)


def write_file_and_die(path: str) -> None:
    """Leave a file as half a result would be, and die."""
    with open(path, "wb") as file:
        file.write(bytes(1000))
    os._exit(3)


def write_file_and_wait(path: str) -> None:
    with open(path, "wb") as file:
        file.write(bytes(1000))
    time.sleep(60)
