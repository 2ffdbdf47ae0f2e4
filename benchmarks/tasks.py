"""What the systems are asked to run. Importable, so that every system may send it by name."""

from __future__ import annotations

import os
import time


def nop() -> None:
    """Do nothing: what is left is the cost of the system itself."""


def identity(value: object) -> object:
    """Give the argument back: an echo."""
    return value


def nap(seconds: float) -> None:
    """Hold the worker for a while without using the CPU."""
    time.sleep(seconds)


def wait_for_file(path: str) -> None:
    """Hold the worker until ``path`` exists, so that a queue can grow behind it."""
    while not os.path.exists(path):
        time.sleep(0.001)
