"""The form of payloads and definitions. Nobody but `nbcluster.serial` looks inside.

The first byte tells the kind:

====  =============================================================================
0x80  a pickle; its large buffers are the blobs, in order
0x01  nothing more: the pickle is the first blob, its buffers are the others
0x02  header and stream of something that brings globals along; the blobs are buffers
0x03  the same, but the stream is the first blob
====  =============================================================================

A stream is written by one pickler in several steps: tables of globals, what runs at unpickling
before what needs it, and then the thing itself. So ``__setstate__`` and ``__hash__`` of the
user's classes find their globals when the thing is built.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from struct import Struct
from types import FunctionType, ModuleType
from typing import Any, Final

from nbcluster.serial.blobs import INLINE_LIMIT, BlobStore
from nbcluster.serial.origin import Stamp, local_modules, stamp
from nbcluster.serial.picklers import Chunks, Make, attempt, dump_bytes
from nbcluster.serial.session import Session
from nbcluster.serial.spaces import Prints, Values

PLAIN: Final = 0x80  #: the first byte of every pickle
_IN_BLOB: Final = b"\x01"
_WITH_GLOBALS: Final = b"\x02"
_WITH_GLOBALS_IN_BLOB: Final = b"\x03"
_LENGTH: Final = Struct("<I")
#: Prints, stamps of local modules, number of tables
Header = tuple[Prints, list[Stamp], int]
Apply = Callable[[Prints, Values], None]
Refresh = Callable[[list[Stamp]], None]


@dataclass(slots=True)
class Written:
    """Something pickled."""

    session: Session
    header: bytes = b""  #: empty: no globals travel
    chunks: Chunks = field(default_factory=list)
    buffers: list[pickle.PickleBuffer] = field(default_factory=list)
    #: size in bytes of each global that travels
    sizes: dict[str, int] = field(default_factory=dict)

    def stream_size(self) -> int:
        """Return the number of bytes of the stream, buffers apart."""
        return sum(memoryview(chunk).nbytes for chunk in self.chunks)


def write(obj: Any, session: Session, *, out_of_band: bool, stamped: bool = False) -> Written:
    """Pickle ``obj`` with the globals it needs.

    Parameters
    ----------
    obj
        The thing to pickle.
    session
        How to; it is used up.
    out_of_band
        Whether large buffers are kept apart.
    stamped
        Whether the versions of local modules travel along.
    """
    written = _pickle((obj,), session, out_of_band)
    if not session.taken and not stamped:
        return written
    prints, sizes = _explore(session)
    stamps = _stamps(session) if stamped else []
    if not prints and not stamps:
        return written
    tables = _tables(session)
    written = _pickle((*tables, obj), _again(session), out_of_band)
    written.session = session
    written.sizes = sizes
    header: Header = (prints, stamps, len(tables))
    written.header = pickle.dumps(header, 5)
    return written


def _again(session: Session) -> Session:
    """Return a session of the same kind that has gathered nothing."""
    return Session(
        homeward=session.homeward,
        chain=session.chain,
        unchained=session.unchained,
        by_hand=session.by_hand,
    )


def _stamps(session: Session) -> list[Stamp]:
    return sorted(stamp(name, path) for name, path in local_modules(session.modules).items())


def _explore(session: Session) -> tuple[Prints, dict[str, int]]:
    """Fingerprint each global that must travel; this finds those which it needs in turn."""
    prints: Prints = {}
    sizes: dict[str, int] = {}
    for space, _, name in session.taken:  # grows meanwhile
        if name in prints.get(space, {}) or name not in session.names.get(space, {}):
            continue
        apart = Session(names=session.names, taken=session.taken, shallow=True)
        apart.homeward = session.homeward
        raw = dump_bytes(session.names[space][name], apart)
        session.modules |= apart.modules
        # What refers to a local module that was edited since is not the same any more.
        mark = blake2b(repr(_stamps(apart)).encode(), digest_size=8)
        mark.update(raw)
        prints.setdefault(space, {})[name] = mark.digest()
        sizes[name] = len(raw)
    return prints, sizes


def _tables(session: Session) -> list[Values]:
    """Sort the globals: what data may call while it is built goes first."""
    early: Values = {}
    late: Values = {}
    for space, named in session.names.items():
        for name, value in named.items():
            is_code = isinstance(value, (ModuleType, FunctionType, type))
            (early if is_code else late).setdefault(space, {})[name] = value
    return [table for table in (early, late) if table]


def _pickle(parts: Iterable[Any], session: Session, out_of_band: bool) -> Written:
    def act(make: Make) -> Written:
        written = Written(session)
        pickler = make(
            written.chunks.append, session, _apart(written.buffers) if out_of_band else None
        )
        for part in parts:
            pickler.dump(part)
        return written

    found: Written = attempt(act)
    return found


def _apart(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    def keep_in_band(buffer: pickle.PickleBuffer) -> bool:
        try:
            large = buffer.raw().nbytes >= INLINE_LIMIT
        except BufferError:  # not contiguous
            return True
        if large:
            buffers.append(buffer)
        return not large

    return keep_in_band


# --------------------------------------------------------------------------- payloads


def to_payload(written: Written, blobs: BlobStore) -> tuple[bytes, tuple[str, ...]]:
    """Return payload and blobs; large parts are in shared memory by then."""
    names: list[str] = []
    try:
        in_blob = written.stream_size() >= INLINE_LIMIT
        if in_blob:
            names.append(blobs.write_all(written.chunks))
        names.extend(blobs.write(buffer.raw()) for buffer in written.buffers)
    except BaseException:
        blobs.remove(names)
        raise
    stream = b"" if in_blob else b"".join(written.chunks)
    return _framed(written.header, stream, in_blob), tuple(names)


def to_definition(written: Written) -> bytes:
    """Return the blob of a definition, with everything in it."""
    return _framed(written.header, b"".join(written.chunks), in_blob=False)


def _framed(header: bytes, stream: bytes, in_blob: bool) -> bytes:
    if not header:
        return _IN_BLOB if in_blob else stream
    kind = _WITH_GLOBALS_IN_BLOB if in_blob else _WITH_GLOBALS
    return b"".join((kind, _LENGTH.pack(len(header)), header, stream))


@dataclass(slots=True)
class Read:
    """Something unpickled, and the globals that came with it."""

    value: Any
    prints: Prints = field(default_factory=dict)
    values: Values = field(default_factory=dict)


def read(
    payload: bytes, buffers: Iterable[memoryview], apply: Apply, refresh: Refresh | None
) -> Read:
    """Unpickle a payload or a definition.

    Parameters
    ----------
    payload
        What `to_payload` returned.
    buffers
        Views of the blobs.
    apply
        Puts globals in place, as soon as they are there.
    refresh
        Drops local modules whose files changed.
    """
    views = list(buffers)
    if payload[0] == PLAIN:
        return Read(pickle.loads(payload, buffers=views))
    if payload[:1] == _IN_BLOB:
        return Read(pickle.loads(views[0], buffers=views[1:]))
    size = _LENGTH.unpack_from(payload, 1)[0]
    start = 1 + _LENGTH.size
    header: Header = pickle.loads(memoryview(payload)[start : start + size])
    file: Any
    if payload[:1] == _WITH_GLOBALS_IN_BLOB:
        file = views.pop(0).obj
    else:
        file = io.BytesIO(payload)
        file.seek(start + size)
    if refresh is not None:
        refresh(header[1])
    return _read_with_globals(file, header, views, apply)


def _read_with_globals(file: Any, header: Header, views: list[memoryview], apply: Apply) -> Read:
    prints, _, tables = header
    unpickler = pickle.Unpickler(file, buffers=views)
    found = Read(None, prints)
    for _ in range(tables):
        values: Values = unpickler.load()
        apply(_part(prints, values), values)
        for space, named in values.items():
            found.values.setdefault(space, {}).update(named)
    found.value = unpickler.load()
    return found


def _part(prints: Prints, values: Values) -> Prints:
    return {
        space: {name: prints[space][name] for name in named if name in prints.get(space, {})}
        for space, named in values.items()
    }
