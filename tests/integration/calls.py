"""What the tests of the client submit; a module of its own, which imports nothing heavy."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import nbcluster

# ruff: noqa: T201 - that a task prints is what is tested


def wait_for(path: str, value: Any = None) -> Any:
    """Return ``value`` once the file is there."""
    while not os.path.exists(path):
        time.sleep(0.005)
    return value


def slowly(seconds: float, value: int) -> int:
    """Return ``value`` after a while."""
    time.sleep(seconds)
    return value


def append(path: str, word: str) -> str:
    """Write a line to a file that many tasks share."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(word + "\n")
    return word


def append_when(gate: str, path: str, word: str) -> str:
    wait_for(gate)
    return append(path, word)


def bytes_of(count: int) -> bytes:
    return b"x" * count


def double(x: int) -> int:
    return 2 * x


def negate(x: int, *, times: int = 1) -> int:
    return -x * times


def divide(a: float, b: float) -> float:
    return a / b


def fail_until(path: str, times: int) -> int:
    """Raise OSError ``times`` times, then return how often it was called."""
    append(path, "called")
    count = len(Path(path).read_text(encoding="utf-8").split())
    if count <= times:
        raise OSError(f"attempt {count}")
    return count


def tell_progress(gate: str) -> None:
    task = nbcluster.current_task()
    assert task is not None
    task.progress(1, 4, "a quarter")
    wait_for(gate)


def talk(gate: str) -> None:
    print("hello")
    print("trouble", file=sys.stderr)
    wait_for(gate)
    print("goodbye")


def talk_between(begin: str, end: str) -> str:
    wait_for(begin)
    print("hello")
    wait_for(end)
    return "whole"


def who_am_i() -> tuple[str, int, str]:
    task = nbcluster.current_task()
    assert task is not None
    return task.id, task.attempt, task.name


def size(data: bytes) -> int:
    return len(data)


def first_and_size(data: bytes) -> tuple[int, int]:
    return data[0], len(data)
