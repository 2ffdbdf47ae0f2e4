"""What a row of the journal holds, and how it is told from a damaged one.

Each row carries a checksum over its content that starts from the row's own key, so that a row in
the place of another is noticed too. Payloads above 64 KiB are not in the rows: a row says in
which file they lie (`Ref`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar
from zlib import crc32

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from nbcluster.core.model import Definition, Task, Template
from nbcluster.core.records import (
    Defined,
    Dropped,
    Failed,
    Forgotten,
    Record,
    Redriven,
    Submitted,
    Succeeded,
    TemplateKnown,
)

T = TypeVar("T")

#: Payloads of more bytes lie in files: SQLite copies a large row page by page, twice.
FILE_BYTES: Final = 1 << 16
#: A turn of more bytes is written as several: SQLite takes 1e9 in a row, and one is cleaned whole.
ROW_BYTES: Final = 1 << 25


class Ref(Struct, frozen=True, array_like=True, gc=False):
    """A payload that lies in a file of its own."""

    name: str
    size: int
    crc: int


class Entry(Struct, array_like=True, gc=False):
    """What one commit put into the log."""

    epoch: int
    at: float
    records: list[Record]
    files: tuple[tuple[int, Ref], ...] = ()  #: (index of the record, its payload)


class Header(NamedTuple):
    """The state that is no task's: ``main`` is written at each cleaning, each part only once."""

    main: bytes
    parts: Mapping[int, bytes] = MappingProxyType({})  #: of one number there is ever one content


class Snapshot(Struct, array_like=True, gc=False):
    """The state of one task."""

    task: Task
    payload: Ref | None = None
    result: Ref | None = None


class Turn(Struct, frozen=True, array_like=True, gc=False):
    """One commit, as it is read from the log."""

    seq: int
    epoch: int
    at: float
    records: list[Record]


class DamagedRowError(Exception):
    """A row is not what was written. Becomes a `JournalCorruptError`, which names the path."""


encode: Final = msgspec.msgpack.Encoder().encode
_entry: Final = msgspec.msgpack.Decoder(Entry)
_snapshot: Final = msgspec.msgpack.Decoder(Snapshot)
_definition: Final = msgspec.msgpack.Decoder(Definition)
_template: Final = msgspec.msgpack.Decoder(Template)


# --------------------------------------------------------------------------- checksums


def checksum(key: str | int, blob: bytes, number: int = 0) -> int:
    """Return the checksum of a row with this key (and this number beside it)."""
    start = key if isinstance(key, int) else crc32(key.encode())
    return crc32(blob, (start + number * 0x9E3779B1) & 0xFFFFFFFF)


def check(table: str, key: str | int, crc: object, blob: object, number: object = 0) -> bytes:
    """Return ``blob`` if it is what was written under ``key``.

    Raises
    ------
    DamagedRowError
        If not.
    """
    if not isinstance(blob, bytes) or not isinstance(number, int):
        raise DamagedRowError(f"{table} {key!r} has values of the wrong type")
    if checksum(key, blob, number) != crc:
        raise DamagedRowError(f"{table} {key!r} does not match its checksum")
    return blob


def _decode(decoder: msgspec.msgpack.Decoder[T], table: str, key: str | int, blob: bytes) -> T:
    try:
        return decoder.decode(blob)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DamagedRowError(f"{table} {key!r} cannot be decoded: {error}") from None


def read_entry(seq: int, crc: object, blob: object) -> Entry:
    """Return the turn of that row."""
    return _decode(_entry, "turn", seq, check("turn", seq, crc, blob))


def read_snapshot(task: str, seq: object, crc: object, blob: object) -> Snapshot | None:
    """Return the state of the task in that row; None: it was forgotten."""
    data = check("snapshot", task, crc, blob, seq)
    return _decode(_snapshot, "snapshot", task, data) if data else None


def encode_turns(entry: Entry) -> list[tuple[Entry, bytes]]:
    """Return the turns that a commit becomes, encoded: one, if it fits into a row."""
    blob, count = encode(entry), len(entry.records)
    if len(blob) <= ROW_BYTES or count < 2:
        return [(entry, blob)]
    half = count // 2
    first = tuple((index, ref) for index, ref in entry.files if index < half)
    rest = tuple((index - half, ref) for index, ref in entry.files if index >= half)
    return [
        *encode_turns(Entry(entry.epoch, entry.at, entry.records[:half], first)),
        *encode_turns(Entry(entry.epoch, entry.at, entry.records[half:], rest)),
    ]


def definition_row(definition: Definition, seq: int) -> tuple[str, str, int, int, bytes]:
    """Return the row of a definition that arrived in turn ``seq``."""
    key, blob = definition.hash, encode(definition)
    return key, definition.name, seq, checksum(key, blob, seq), blob


def template_row(number: int, template: Template) -> tuple[int, int, bytes]:
    """Return the row of a template."""
    blob = encode(template)
    return number, checksum(number, blob), blob


def snapshot_row(task: str, seq: int, snapshot: Snapshot | None) -> tuple[str, int, int, bytes]:
    """Return the row of a task's state at ``seq``; None: it was forgotten in that turn."""
    blob = encode(snapshot) if snapshot is not None else b""
    return task, seq, checksum(task, blob, seq), blob


def read_definition(key: str, seq: object, crc: object, blob: object) -> Definition:
    """Return the definition of that row."""
    return _decode(_definition, "definition", key, check("definition", key, crc, blob, seq))


def read_template(number: int, crc: object, blob: object) -> Template:
    """Return the template of that row."""
    return _decode(_template, "template", number, check("template", number, crc, blob))


# --------------------------------------------------------------------------- records

_WITH_PAYLOAD: Final = frozenset({Succeeded, Failed})
_SPECIAL: Final = frozenset({Defined, TemplateKnown, Dropped, Redriven})


def are_plain(records: Iterable[Record], with_files: Collection[str]) -> bool:
    """Return whether the records can go into the log just as they are.

    Parameters
    ----------
    records
        Those of one turn.
    with_files
        Tasks that have payloads in files.
    """
    for record in records:
        kind = type(record)
        if kind is Submitted:
            if len(record.task.payload) > FILE_BYTES:  # type: ignore[union-attr]
                return False
        elif kind in _WITH_PAYLOAD:
            if len(record.payload) > FILE_BYTES:  # type: ignore[union-attr]
                return False
        elif kind is Forgotten:
            if with_files and any(task in with_files for task in record.tasks):  # type: ignore[union-attr]
                return False
        elif kind in _SPECIAL:
            return False
    return True


def place_of_payload(record: Record) -> tuple[str, str]:
    """Return the task, and the field of it, that the payload of a record becomes."""
    if isinstance(record, Submitted):
        return record.task.id, "payload"
    if isinstance(record, Succeeded | Failed):
        return record.task, "result"
    raise DamagedRowError(f"a {type(record).__name__} has a payload file, but no payload")


def large_payload(record: Record) -> bytes | None:
    """Return the payload of a record if it belongs into a file."""
    if isinstance(record, Submitted):
        payload = record.task.payload
    elif isinstance(record, Succeeded | Failed):
        payload = record.payload
    else:
        return None
    return payload if len(payload) > FILE_BYTES else None


def without_payload(record: Record) -> Record:
    """Return a copy of a record that has a payload, without it."""
    if isinstance(record, Submitted):
        return Submitted(record.client, replace(record.task, payload=b""))
    assert isinstance(record, Succeeded | Failed)
    return replace(record, payload=b"")


def put_payload(record: Record, payload: bytes) -> None:
    """Write its payload into a record fresh from the log."""
    if isinstance(record, Submitted):
        record.task.payload = payload
    else:
        assert isinstance(record, Succeeded | Failed)
        record.payload = payload
