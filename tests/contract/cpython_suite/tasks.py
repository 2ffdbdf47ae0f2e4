"""What the tests send to executors; in a module that a child can import at little cost."""

from __future__ import annotations

import os
import pickle
from pathlib import Path


def fail(text: str) -> None:
    raise RuntimeError(text)  # this comment is seen in the traceback


class Witness:
    """Leaves a file when another process than the one that made it lets go of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.maker = os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.maker:
            Path(self.path).touch()


class Thing:
    """A result that can be referred to weakly."""


class Unsendable:
    def __reduce__(self) -> str:
        raise pickle.PicklingError("not this one")
