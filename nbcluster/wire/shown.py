"""What a task shows, on its way: one piece of the third stream beside stdout and stderr."""

from __future__ import annotations

from typing import Any, Final

import msgspec

#: Number of the stream, in `Output` and `OutputNews`; its offsets count what was shown.
SHOWN_STREAM: Final = 3


class Shown(msgspec.Struct, array_like=True):
    """Something that a task has shown, in every form there is of it."""

    at: int  #: bytes of stdout that were there before it
    data: dict[str, Any]  #: by MIME type
    metadata: dict[str, Any] = {}
    display_id: str = ""
    update: bool = False  #: in the place of what was last shown under that id
    clear: bool = False  #: in the place of all before it


encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Shown).decode
