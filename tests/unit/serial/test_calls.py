"""Arguments and results as payloads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbcluster.errors import UnpicklableError
from nbcluster.serial.blobs import INLINE_LIMIT, BlobGoneError, BlobStore, SharedMemoryFullError
from nbcluster.serial.pack import Packer
from nbcluster.serial.unpack import Unpacker


def files(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1, 2.5, "a", b"b", True, None), {}),
        ((), {"x": 1}),
        (([1, {"a": (2, 3)}],), {"y": {4}}),
    ],
)
def test_arguments_arrive_as_they_were(
    packer: Packer, unpacker: Unpacker, args: Any, kwargs: Any
) -> None:
    payload, blobs = packer.dumps_call(args, kwargs)

    assert blobs == ()
    assert unpacker.loads_call(payload, blobs) == (args, kwargs)


def test_the_empty_call_is_made_once(packer: Packer) -> None:
    assert packer.dumps_call((), {})[0] is packer.dumps_call((), {})[0]


@pytest.mark.parametrize("value", [None, 1, 2.5, "a", b"b", True, [1, 2], {"a": 1}])
def test_a_result_comes_home_as_it_was(packer: Packer, unpacker: Unpacker, value: Any) -> None:
    payload, blobs = unpacker.dumps_result(value)

    back = packer.loads(payload, blobs)

    assert (back, type(back), blobs) == (value, type(value), ())


def test_a_large_array_is_mapped_and_not_copied(
    tmp_path: Path, packer: Packer, unpacker: Unpacker
) -> None:
    array = np.arange(INLINE_LIMIT, dtype=np.uint8)

    payload, blobs = packer.dumps_call((array,), {})
    (back,), _ = unpacker.loads_call(payload, blobs)

    assert len(payload) < 1000
    assert files(tmp_path) == list(blobs) == ["client-1"]
    assert not back.flags.writeable
    assert not back.flags.owndata
    np.testing.assert_array_equal(back, array)


def test_an_array_below_the_limit_stays_in_the_payload(tmp_path: Path, packer: Packer) -> None:
    _, blobs = packer.dumps_call((np.zeros(INLINE_LIMIT - 1000, np.uint8),), {})

    assert blobs == ()
    assert files(tmp_path) == []


def test_a_mapped_array_outlives_its_file(packer: Packer, unpacker: Unpacker) -> None:
    payload, blobs = unpacker.dumps_result(np.ones(INLINE_LIMIT, np.uint8))
    back = packer.loads(payload, blobs)

    BlobStore(unpacker._blobs.directory, "x").remove(blobs)

    assert back.sum() == INLINE_LIMIT


def test_an_array_that_is_not_contiguous_arrives(packer: Packer, unpacker: Unpacker) -> None:
    array = np.arange(4 * INLINE_LIMIT, dtype=np.uint8).reshape(-1, 4)[:, ::2]

    payload, blobs = unpacker.dumps_result(array)

    np.testing.assert_array_equal(packer.loads(payload, blobs), array)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes_go_through_a_file(packer: Packer, unpacker: Unpacker, kind: Any) -> None:
    payload, blobs = unpacker.dumps_result(kind(b"x") * INLINE_LIMIT)

    assert len(payload) < 100
    assert len(blobs) == 1
    assert packer.loads(payload, blobs) == kind(b"x") * INLINE_LIMIT


def test_a_large_string_argument_goes_through_a_file(packer: Packer, unpacker: Unpacker) -> None:
    payload, blobs = packer.dumps_call(("x" * INLINE_LIMIT,), {})

    assert len(payload) < 100
    assert unpacker.loads_call(payload, blobs) == (("x" * INLINE_LIMIT,), {})


def test_a_long_stream_and_a_large_buffer_travel_together(
    packer: Packer, unpacker: Unpacker
) -> None:
    value = ["x" * INLINE_LIMIT, np.ones(INLINE_LIMIT, np.uint8)]

    payload, blobs = unpacker.dumps_result(value)
    back = packer.loads(payload, blobs)

    assert len(blobs) == 2
    assert back[0] == value[0]
    np.testing.assert_array_equal(back[1], value[1])


def test_an_array_that_is_returned_is_not_copied_again(
    tmp_path: Path, packer: Packer, unpacker: Unpacker
) -> None:
    payload, sent = packer.dumps_call((np.ones(INLINE_LIMIT),), {})
    (array,), _ = unpacker.loads_call(payload, sent)

    _, returned = unpacker.dumps_result(array)

    assert (tmp_path / sent[0]).stat().st_ino == (tmp_path / returned[0]).stat().st_ino


def test_a_data_frame_keeps_its_large_blocks_out_of_the_payload(
    packer: Packer, unpacker: Unpacker
) -> None:
    frame = pd.DataFrame({"a": np.arange(200_000.0), "b": np.arange(200_000.0)})

    payload, blobs = packer.dumps_call((frame,), {})
    (back,), _ = unpacker.loads_call(payload, blobs)

    assert len(payload) < 10_000
    assert len(blobs) >= 1
    pd.testing.assert_frame_equal(back, frame)


def test_nothing_is_left_of_a_call_that_did_not_fit(
    tmp_path: Path, packer: Packer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = os.write, []

    def full_after_one(fd: int, data: Any) -> int:
        written.append(fd)
        if len(written) > 1:
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full_after_one)
    with pytest.raises(SharedMemoryFullError):
        packer.dumps_call((np.ones(INLINE_LIMIT), np.zeros(INLINE_LIMIT)), {})

    assert files(tmp_path) == []


def test_a_result_whose_buffer_is_gone_says_so(packer: Packer, unpacker: Unpacker) -> None:
    payload, blobs = unpacker.dumps_result(np.ones(INLINE_LIMIT))
    unpacker._blobs.remove(blobs)

    with pytest.raises(BlobGoneError):
        packer.loads(payload, blobs)


def test_a_result_that_cannot_travel_is_refused_with_a_path(unpacker: Unpacker) -> None:
    with pytest.raises(UnpicklableError) as caught:
        unpacker.dumps_result([1, {"a": (n for n in "")}])

    assert caught.value.what == "result"
    assert caught.value.path == "result -> item 1 -> key 'a' -> generator"


class Exits:
    def __reduce__(self) -> Any:
        raise SystemExit(3)


def test_an_exit_while_pickling_is_not_swallowed(packer: Packer, unpacker: Unpacker) -> None:
    with pytest.raises(SystemExit):
        unpacker.dumps_result(Exits())
    with pytest.raises(SystemExit):
        packer.dumps_call((Exits(),), {})


class Interrupted:
    """While it is pickled, a signal comes."""

    def __getstate__(self) -> dict[str, Any]:
        signal.raise_signal(signal.SIGUSR1)
        return {}


def test_what_a_handler_raises_while_arguments_are_pickled_comes_out(
    packer: Packer,
) -> None:
    came: list[int] = []

    def handler(number: int, _: object) -> None:
        came.append(number)
        raise TimeoutError("mine")

    former = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeoutError, match="mine"):
            packer.dumps_call((Interrupted(),), {})
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert len(came) == 1


def test_a_lock_arrives_free_and_an_object_only_dill_knows_arrives(
    packer: Packer, unpacker: Unpacker
) -> None:
    keys = {"a": 1}.keys()

    payload, blobs = unpacker.dumps_result(keys)

    assert list(packer.loads(payload, blobs)) == ["a"]


@pytest.mark.parametrize("module", ["pack", "unpack"])
def test_importing_it_loads_neither_numpy_nor_pandas_nor_dill(module: str) -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys, nbcluster.serial.{module}\n"
            "print([m for m in ('numpy', 'pandas', 'dill', 'IPython') if m in sys.modules])",
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "[]"
