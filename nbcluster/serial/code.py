"""Which global names a function's code uses, found in its bytecode.

``co_names`` alone would not do: it holds attribute names too, and ``row.data`` must not send a
global ``data`` of 80 MB along.
"""

from __future__ import annotations

import marshal
from functools import lru_cache
from opcode import EXTENDED_ARG, opmap
from types import CodeType
from typing import Final

_LOAD_GLOBAL: Final = opmap["LOAD_GLOBAL"]
#: Their argument is the index of the name; that of LOAD_GLOBAL has a flag in its lowest bit.
_BY_NAME: Final = frozenset(
    opmap[name]
    for name in (
        "LOAD_NAME",
        "STORE_GLOBAL",
        "DELETE_GLOBAL",
        "LOAD_FROM_DICT_OR_GLOBALS",
    )
    if name in opmap
)
#: The format without back references: those depend on reference counts, so that the same code
#: would not always give the same bytes.
_MARSHAL_VERSION: Final = 2


@lru_cache(maxsize=4096)
def global_names(code: CodeType) -> tuple[str, ...]:
    """Return the names that ``code`` and the code inside it look up as globals, sorted."""
    found = set(_own_names(code))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found.update(global_names(constant))
    return tuple(sorted(found))


@lru_cache(maxsize=4096)
def all_names(code: CodeType) -> frozenset[str]:
    """Return all names in ``code`` and the code inside it, attributes included."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= all_names(constant)
    return frozenset(found)


def _own_names(code: CodeType) -> list[str]:
    names, raw, found, high = code.co_names, code.co_code, [], 0
    for at in range(0, len(raw), 2):
        op, arg = raw[at], raw[at + 1] | high
        high = arg << 8 if op == EXTENDED_ARG else 0
        if op == _LOAD_GLOBAL:
            found.append(names[arg >> 1])
        elif op in _BY_NAME:
            found.append(names[arg])
    return found


def dump_code(code: CodeType) -> bytes:
    """Return ``code`` as bytes that the same version of Python can read."""
    return marshal.dumps(code, _MARSHAL_VERSION)


def load_code(raw: bytes) -> CodeType:
    """Return the code object that `dump_code` wrote."""
    code = marshal.loads(raw)
    assert isinstance(code, CodeType)
    return code
