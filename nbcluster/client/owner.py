"""What its futures, and all that is done for it, need of a client."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from nbcluster.client.asking import ASK_S, Asks
from nbcluster.client.callbacks import Callbacks
from nbcluster.client.link import Link
from nbcluster.core.model import Ended
from nbcluster.serial.pack import Packer


class Owner(Protocol):
    """A client, as it is seen from below; `Client` says what each of these does."""

    asks: Asks
    callbacks: Callbacks

    @property
    def link(self) -> Link: ...
    @property
    def packer(self) -> Packer: ...

    def ask(
        self,
        op: str,
        timeout: float | None = ASK_S,
        on_silence: Callable[[], bool] | None = None,
        **args: Any,
    ) -> Any: ...
    def cancel(
        self, tasks: Iterable[str], on_silence: Callable[[], bool] | None = None
    ) -> list[str]: ...
    def settle(self) -> None: ...
    def lost_text(self) -> str: ...
    def wait_for(self, is_over: Callable[[], bool], timeout: float | None) -> bool: ...
    def take_in(self) -> None: ...
    def load(self, ended: Ended, views: list[memoryview] | None) -> Any: ...
    def follow_paths(self) -> None: ...
