"""The two picklers, and how one of them is chosen.

The C pickler with our reducers does nearly everything. What it does not know is given to dill's
pickler, which knows more types and has the same reducers above its own; it is written in Python
and fifty times slower, so it comes second, and is imported at its first use.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Final

from nbcluster.serial.handlers import is_of_handler
from nbcluster.serial.reducers import reduce
from nbcluster.serial.session import Session

PROTOCOL: Final = 5

Write = Callable[[Any], Any]
Chunks = list[bytes | bytearray | memoryview]
BufferCallback = Callable[[pickle.PickleBuffer], Any]


class Sink:
    """A file that keeps what is written to it: large pieces stay what they are, uncopied."""

    __slots__ = ("write",)

    def __init__(self, write: Write) -> None:
        self.write = write


class FastPickler(pickle.Pickler):
    """The C pickler, with our reducers."""

    def __init__(self, write: Write, session: Session, callback: BufferCallback | None) -> None:
        super().__init__(Sink(write), PROTOCOL, buffer_callback=callback)
        self.session = session

    def reducer_override(self, obj: Any) -> Any:
        """Reduce ``obj`` our way, or leave it to the pickler."""
        return reduce(obj, self.session, dump_bytes)


def dill_pickler(write: Write, session: Session, callback: BufferCallback | None) -> Any:
    """Return dill's pickler, with our reducers above its own."""
    import dill

    class DillPickler(dill.Pickler):  # type: ignore[misc]  # dill has no types
        def reducer_override(self, obj: Any) -> Any:
            return reduce(obj, session, dump_bytes)

    def write_copy(piece: Any) -> None:
        # The frames come as views of a BytesIO. From Python 3.13 on, one that becomes garbage
        # together with a view of it says so on stderr.
        write(bytes(piece))

    sink = Sink(write_copy)
    return DillPickler(sink, PROTOCOL, buffer_callback=callback, recurse=True, byref=False)


Make = Callable[[Write, Session, BufferCallback | None], Any]
#: Tried one after the other. One that fails leaves no trace.
PICKLERS: Final[tuple[Make, ...]] = (FastPickler, dill_pickler)


def attempt(act: Callable[[Make], Any]) -> Any:
    """Return ``act`` of the first pickler that can do it; raise what the first one raised."""
    try:
        return act(FastPickler)
    except RecursionError:
        raise  # dill nests deeper still
    except Exception as error:  # whatever a user's object raises while it is pickled
        if is_of_handler(error):
            raise
        first = error
    try:
        return act(dill_pickler)
    except Exception as error:
        if is_of_handler(error):
            raise
        raise first from None


def dump_bytes(obj: Any, session: Session) -> bytes:
    """Return ``obj`` as one pickle, all in band."""

    def act(make: Make) -> bytes:
        chunks: Chunks = []
        make(chunks.append, session, None).dump(obj)
        return b"".join(chunks)

    found: bytes = attempt(act)
    return found
