"""What the benchmark asks of a system."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

Roles = dict[str, list[int]]  #: "client", "master", "executors", ... and their process ids


NOT_INSTALLED = "not installed"


class Peer(Protocol):
    """A system under test; the packages it needs are imported by ``load``, not before."""

    name: str

    def version(self) -> str:
        """Return the installed version; needs no ``load``."""

    def load(self) -> None:
        """Import the packages; `ImportError` says that the system is missing here."""

    def start(self, workers: int = 2) -> None:
        """Bring up the workers; everything listens on loopback or on files only."""

    def submit(self, fn: Callable[..., object], /, *args: object) -> Any:
        """Return the system's own future of one call."""

    def map(self, fn: Callable[[Any], object], items: Sequence[object]) -> list[object]:
        """Return the results of the system's own map, in order."""

    def result(self, future: Any) -> object:
        """Wait for one future."""

    def gather(self, futures: Sequence[Any]) -> list[object]:
        """Wait for many futures, in the way the system recommends."""

    def pids(self) -> Roles:
        """Return every process of the system by its role, the caller's own as "client"."""

    def stop(self) -> None:
        """End all that ``start`` began; also right after a failed ``start``."""


class FuturesPeer:
    """The part common to systems whose futures have ``result``."""

    name = ""
    package = ""  #: distribution whose version counts

    def version(self) -> str:
        """Return the installed version."""
        return installed_version(self.package) if self.package else sys.version.split()[0]

    def result(self, future: Any) -> object:
        """Wait for one future."""
        value: object = future.result()
        return value

    def gather(self, futures: Sequence[Any]) -> list[object]:
        """Wait for many futures."""
        return [future.result() for future in futures]

    def pids(self) -> Roles:
        """Return the caller and its children, which are all taken for executors."""
        return {"client": [os.getpid()], "executors": descendants()}


def installed_version(package: str) -> str:
    """Return the version of an installed distribution, or say that there is none."""
    # The measured process stays lean: whatever it has imported, no system has to import again.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def descendants() -> list[int]:
    """Return the ids of all processes below this one."""
    return list(_command_lines())


def split_executors(is_executor: Callable[[str], bool]) -> Roles:
    """Sort the processes below this one by their command lines into executors and the rest."""
    roles: Roles = {"client": [os.getpid()], "master": [], "executors": []}
    for pid, line in _command_lines().items():
        roles["executors" if is_executor(line) else "master"].append(pid)
    return roles


def _command_lines() -> dict[int, str]:
    """Return how each process below this one was started, by its id."""
    import psutil  # late, as above

    lines: dict[int, str] = {}
    for child in psutil.Process().children(recursive=True):
        try:
            lines[child.pid] = " ".join(child.cmdline())
        except psutil.Error:
            continue
    return lines
