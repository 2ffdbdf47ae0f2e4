"""What an attempt writes: a segment of a file, of which the beginning and the end are kept."""

from __future__ import annotations

import os
import sys
from typing import Final

#: Bytes kept of the beginning, and as many of the end.
HEAD_BYTES: Final = 64 << 10
TAIL_BYTES: Final = 64 << 10
#: A file longer than this is emptied after the attempt.
TIDY_BYTES: Final = 1 << 20
#: A file that an attempt makes longer than this is cut while it runs.
LIMIT_BYTES: Final = 32 << 20
_KEEP_SIZE: Final = 1  #: of fallocate(2)
_PUNCH_HOLE: Final = 2
_OWN_FRAMES: Final = ('"<frozen runpy>"', "/nbcluster/engine/", "/nbcluster/serial/")
_LAST_LINES: Final = 20
_LAST_BYTES: Final = 2 << 10


def read_segment(fd: int, start: int, size: int, dropped: int = 0) -> bytes:
    """Return what was written from ``start`` to ``size``, without its middle if that is long.

    Parameters
    ----------
    fd
        The file.
    start, size
        Where the segment begins, and the length of the file.
    dropped
        Bytes that `cut` has thrown away; they stood right after the first `HEAD_BYTES`.
    """
    if start > size:  # the file was emptied by whom we do not know: all that is there is new
        start = 0
    length = size - start
    if not dropped and length <= HEAD_BYTES + TAIL_BYTES:
        return _read(fd, start, length)
    head = _read(fd, start, min(HEAD_BYTES, length))
    tail_bytes = min(TAIL_BYTES, length - len(head))
    left_out = dropped + length - len(head) - tail_bytes
    note = f"\n… {left_out} bytes left out …\n".encode()
    return head + note + _read(fd, size - tail_bytes, tail_bytes)


def cut(fd: int, start: int, size: int) -> int:
    """Give the middle of the segment at ``start`` back to the disk; return the bytes that went.

    Where the system can make holes in files, nothing goes: offsets stay what they are, and what
    the writer appends meanwhile is not touched. Elsewhere the file is shortened to the first
    `HEAD_BYTES` of the segment, behind which the writer goes on, and what it appends between the
    two calls is lost without being counted.
    """
    keep = min(start, size) + HEAD_BYTES
    end = size - TAIL_BYTES
    if keep >= end:
        return 0
    if _punch_hole(fd, keep, end - keep):
        return 0
    os.ftruncate(fd, keep)
    return size - keep


def _punch_hole(fd: int, offset: int, length: int) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes  # only for attempts that write without end

    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return bool(fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, offset, length) == 0)


def last_lines(text: bytes) -> str:
    """Return the last lines of a segment of stderr: at most 20, at most 2 KiB.

    Frames of ours in the dump that Python makes at a crash say nothing to the task's author.
    """
    lines = text.decode("utf-8", "replace").splitlines()
    kept = [line for line in lines if not _is_own_frame(line)][-_LAST_LINES:]
    return "\n".join(kept)[-_LAST_BYTES:]


def _is_own_frame(line: str) -> bool:
    if not line.startswith('  File "'):
        return False
    return any(part in line for part in _OWN_FRAMES)


def _read(fd: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0:
        part = os.pread(fd, length, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)
