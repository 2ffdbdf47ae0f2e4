"""Sends what the running task shows, at once, while its code runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from nbcluster.engine.executor.attempt import Attempts
from nbcluster.engine.executor.streams import Streams
from nbcluster.wire import codec
from nbcluster.wire import messages as m
from nbcluster.wire.shown import SHOWN_STREAM, Shown, encode

#: Bytes, and pieces, that one attempt may show.
LIMIT_BYTES: Final = 10 << 20
LIMIT: Final = 20_000


class Showing:
    """Counts and sends what attempts show.

    Parameters
    ----------
    send
        Sends a frame while user code runs; False if it does not, or nobody is there.
    """

    def __init__(self, attempts: Attempts, streams: Streams, send: Callable[[bytes], bool]) -> None:
        self._attempts = attempts
        self._streams = streams
        self._send = send
        self._token = 0
        self._count = 0
        self._bytes = 0

    def show(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any],
        display_id: str,
        update: bool,
        clear: bool,
    ) -> bool:
        """Send one piece; see `displays.show`."""
        run = self._attempts.run
        if run is None:
            return False
        if run.token != self._token:
            self._token, self._count, self._bytes = run.token, 0, 0
        streams = self._streams
        streams.flush()
        at = os.lseek(streams.out_fd, 0, os.SEEK_END) - streams.out_start
        piece = encode(Shown(max(at, 0), data, metadata, display_id, update, clear))
        if self._count >= LIMIT or self._bytes + len(piece) > LIMIT_BYTES:
            return False
        chunk = (run.token, SHOWN_STREAM, self._count, piece)
        if not self._send(codec.encode(m.Output([chunk]))):
            return False
        self._count += 1
        self._bytes += len(piece)
        return True
