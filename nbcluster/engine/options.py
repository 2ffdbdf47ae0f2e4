"""What an engine can be told when it is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of one engine; a field for each flag of ``python -m nbcluster.engine``, and more."""

    connection: Path  #: the connection file; it need not exist yet
    engine: str = ""  #: id; empty: a random one
    groups: tuple[str, ...] = ("default",)
    slots: int = 1
    owner_fd: int | None = None  #: when its other end is closed, the engine ends at once
    owner_pid: int | None = None  #: when this process ends, the engine ends at once
    memory_limit: int = 0  #: bytes of data an executor may have; 0: no limit
    imports: tuple[str, ...] = ()  #: modules that each executor imports at its start
    log: Path | None = None
    log_level: str = "INFO"
    tells: bool = False  #: say on standard error when it has joined
