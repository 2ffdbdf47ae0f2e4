"""What is kept of what an attempt writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbcluster.engine import capture
from nbcluster.engine.capture import HEAD_BYTES, TAIL_BYTES, cut, last_lines, read_segment

Write = Callable[[bytes], int]


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    yield fd
    os.close(fd)


def size(fd: int) -> int:
    return os.fstat(fd).st_size


def test_a_segment_is_what_was_written_since_its_start(fd: int) -> None:
    os.write(fd, b"before")
    os.write(fd, b"mine")

    assert read_segment(fd, 6, size(fd)) == b"mine"


def test_of_a_long_segment_the_middle_is_left_out_and_counted(fd: int) -> None:
    os.write(fd, b"before")
    os.write(fd, b"a" * HEAD_BYTES + b"m" * 1234 + b"z" * TAIL_BYTES)

    text = read_segment(fd, 6, size(fd))

    assert text == (b"a" * HEAD_BYTES + "\n… 1234 bytes left out …\n".encode() + b"z" * TAIL_BYTES)


def test_a_segment_of_just_the_bound_is_whole(fd: int) -> None:
    os.write(fd, b"x" * (HEAD_BYTES + TAIL_BYTES))

    assert read_segment(fd, 0, size(fd)) == b"x" * (HEAD_BYTES + TAIL_BYTES)


def test_a_file_that_was_emptied_is_read_from_its_beginning(fd: int) -> None:
    os.write(fd, b"new")

    assert read_segment(fd, 5000, size(fd)) == b"new"


def test_a_cut_file_gives_its_middle_back_and_loses_nothing_of_head_and_tail(fd: int) -> None:
    middle = 1 << 20
    os.write(fd, b"before" + b"a" * HEAD_BYTES + b"m" * middle + b"z" * TAIL_BYTES)
    on_disk = os.fstat(fd).st_blocks * 512

    gone = cut(fd, 6, size(fd))
    os.write(fd, b"end")

    assert gone == 0
    assert os.fstat(fd).st_blocks * 512 < on_disk - middle // 2
    assert read_segment(fd, 6, size(fd), gone) == (
        b"a" * HEAD_BYTES
        + f"\n… {middle + 3} bytes left out …\n".encode()
        + b"z" * (TAIL_BYTES - 3)
        + b"end"
    )


def test_where_files_have_no_holes_a_cut_one_keeps_its_head(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbcluster.engine.capture.sys.platform", "other")
    os.write(fd, b"before" + b"a" * HEAD_BYTES + b"m" * 5000 + b"z" * TAIL_BYTES)

    gone = cut(fd, 6, size(fd))
    os.write(fd, b"end")

    assert gone == 5000 + TAIL_BYTES
    assert read_segment(fd, 6, size(fd), gone) == (
        b"a" * HEAD_BYTES + f"\n… {gone} bytes left out …\n".encode() + b"end"
    )


def test_a_short_file_is_not_cut(fd: int) -> None:
    os.write(fd, b"short")

    assert cut(fd, 0, size(fd)) == 0
    assert size(fd) == 5


@settings(max_examples=50, deadline=None)
@given(
    before=st.integers(0, 50), writes=st.lists(st.integers(0, 300), max_size=8), drop=st.booleans()
)
def test_kept_and_left_out_bytes_add_up(
    tmp_path_factory: pytest.TempPathFactory, before: int, writes: list[int], drop: bool
) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(capture, "HEAD_BYTES", 64)
    patch.setattr(capture, "TAIL_BYTES", 64)
    fd = os.open(tmp_path_factory.mktemp("c") / "f", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        os.write(fd, b"b" * before)
        dropped = 0
        for length in writes:
            os.write(fd, b"x" * length)
            dropped += cut(fd, before, size(fd)) if drop else 0
        text = read_segment(fd, before, size(fd), dropped)
    finally:
        os.close(fd)
        patch.undo()

    head, _, rest = text.partition("\n… ".encode())
    number, _, tail = rest.partition(" bytes left out …\n".encode())
    left_out = int(number or b"0")
    assert len(head) + left_out + len(tail) == sum(writes)
    assert len(head) <= (128 if not rest else 64)
    assert len(tail) <= 64


def test_last_lines_are_few_and_short() -> None:
    text = "".join(f"line {i}\n" for i in range(100)).encode()

    assert last_lines(text).splitlines() == [f"line {i}" for i in range(80, 100)]
    assert len(last_lines(b"x" * 10_000)) == 2048


def test_frames_of_ours_are_not_among_the_last_lines() -> None:
    dump = (
        b"Fatal Python error: Segmentation fault\n\nCurrent thread (most recent call first):\n"
        b'  File "/somewhere/user.py", line 3 in crash\n'
        b'  File "/lib/nbcluster/engine/executor/attempt.py", line 90 in attempt\n'
        b'  File "/lib/nbcluster/serial/unpack.py", line 9 in call\n'
        b'  File "<frozen runpy>", line 88 in _run_code\n'
    )

    lines = last_lines(dump).splitlines()

    assert lines[0] == "Fatal Python error: Segmentation fault"
    assert lines[-1] == '  File "/somewhere/user.py", line 3 in crash'
