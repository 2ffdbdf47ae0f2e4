"""``await future``: wait on an event loop, and never block it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def await_on_loop(future: Future[T], cancel: Callable[[], None]) -> Generator[Any, None, T]:
    """Wait for ``future`` on the running loop; to cancel the waiting cancels the task.

    ``asyncio.wrap_future`` would ask the master to cancel it and wait for the answer, on the loop.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()

    def over() -> None:
        if not waiting.done():
            waiting.set_result(None)

    def tell(_: Any) -> None:
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(over)

    future.add_done_callback(tell)
    try:
        yield from waiting
    except asyncio.CancelledError:
        cancel()
        raise
    if future.cancelled():
        raise asyncio.CancelledError
    return future.result(0)
