"""Frames <-> messages, one codec for each direction."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec

from nbcluster.errors import MalformedError
from nbcluster.wire import messages

T = TypeVar("T")

_encoder: Final = msgspec.msgpack.Encoder()

#: Bytes of a message: from the sum of its payloads nothing above this is taken off a socket. Any
#: part of one has to fit into a row of the journal: SQLite takes 1e9.
MAX_FRAME_BYTES: Final = 900 << 20

encode: Final = _encoder.encode


class Reader(Generic[T]):
    """Decodes the messages of one direction, and nothing else."""

    def __init__(self, union: type[T]) -> None:
        self._decode = msgspec.msgpack.Decoder(union).decode

    def __call__(self, frame: bytes | memoryview) -> T:
        """Return the message in ``frame``.

        Raises
        ------
        MalformedError
            If it is no message of this direction.
        """
        try:
            return self._decode(frame)
        except (msgspec.DecodeError, RecursionError) as error:
            raise MalformedError(f"{error} in a frame of {len(frame)} bytes") from None


hello: Final = Reader[messages.Hello](messages.Hello)  # type: ignore[arg-type]
from_client: Final = Reader[messages.FromClient](messages.FromClient)  # type: ignore[arg-type]
from_engine: Final = Reader[messages.FromEngine](messages.FromEngine)  # type: ignore[arg-type]
from_executor: Final = Reader[messages.FromExecutor](messages.FromExecutor)  # type: ignore[arg-type]
to_client: Final = Reader[messages.ToClient](messages.ToClient)  # type: ignore[arg-type]
to_engine: Final = Reader[messages.ToEngine](messages.ToEngine)  # type: ignore[arg-type]
to_executor: Final = Reader[messages.ToExecutor](messages.ToExecutor)  # type: ignore[arg-type]


def is_message(frame: bytes) -> bool:
    """Return whether ``frame`` is a message to a master, of whatever peer."""
    for read in (from_client, from_engine, from_executor):
        try:
            read(frame)
        except MalformedError:
            continue
        return True
    return False
