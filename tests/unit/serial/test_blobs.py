"""Shared buffers."""

from __future__ import annotations

import errno
import os
import pickle
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcluster.serial import blobs
from nbcluster.serial.blobs import BlobGoneError, BlobStore, SharedMemoryFullError, sweep


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path, "a")


def test_a_buffer_is_read_back_as_it_was_written(store: BlobStore) -> None:
    assert bytes(store.map(store.write(b"hello"))) == b"hello"


def test_an_empty_buffer_is_a_buffer(store: BlobStore) -> None:
    assert bytes(store.map(store.write(b""))) == b""


def test_a_buffer_of_wide_items_is_stored_as_bytes(store: BlobStore) -> None:
    wide = memoryview(bytes(range(16))).cast("I")

    assert bytes(store.map(store.write(wide))) == bytes(range(16))


def test_parts_are_stored_one_after_another(store: BlobStore) -> None:
    assert bytes(store.map(store.write_all([b"ab", bytearray(b"cd")]))) == b"abcd"


def test_the_names_of_a_store_begin_with_its_owner(store: BlobStore) -> None:
    assert [store.write(b"x"), store.write(b"y")] == ["a-1", "a-2"]


def test_a_name_that_is_taken_is_not_written_over(tmp_path: Path, store: BlobStore) -> None:
    again = BlobStore(tmp_path, "a")

    first, second = store.write(b"old"), again.write(b"new")

    assert first != second
    assert bytes(store.map(first)) == b"old"


def test_only_the_user_may_read_a_buffer(tmp_path: Path, store: BlobStore) -> None:
    assert (tmp_path / store.write(b"x")).stat().st_mode & 0o777 == 0o600


def test_a_view_is_read_only_and_outlives_its_name(store: BlobStore) -> None:
    name = store.write(b"hello")
    view = store.map(name)

    store.remove([name])

    assert view.readonly
    assert bytes(view) == b"hello"


def test_a_missing_buffer_is_a_lookup_error_that_says_what_to_do(store: BlobStore) -> None:
    with pytest.raises(LookupError, match=r"'a-9' is gone.*Submit the task again") as caught:
        store.map("a-9")

    assert isinstance(caught.value, BlobGoneError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_directory_that_was_removed_is_made_again_by_the_next_who_writes(tmp_path: Path) -> None:
    place = tmp_path / "blobs"
    store = BlobStore(place, "a", place.mkdir)

    names = [store.write(b"x"), store.write(b"y")]

    assert [bytes(store.map(name)) for name in names] == [b"x", b"y"]


def test_removing_what_is_not_there_is_fine(tmp_path: Path, store: BlobStore) -> None:
    name = store.write(b"x")

    store.remove([name, name, "never"])

    assert list(tmp_path.iterdir()) == []


def test_a_whole_mapped_buffer_is_written_by_a_second_name_with_its_own_life(
    tmp_path: Path, store: BlobStore
) -> None:
    old = store.write(b"hello")
    view = store.map(old)

    new = store.write(view)
    same_file = (tmp_path / old).stat().st_ino == (tmp_path / new).stat().st_ino
    store.remove([old])

    assert same_file
    assert bytes(store.map(new)) == b"hello"


def test_a_part_of_a_mapped_buffer_is_copied(store: BlobStore) -> None:
    view = store.map(store.write(b"hello"))

    assert bytes(store.map(store.write(view[1:]))) == b"ello"


def test_a_mapped_buffer_whose_name_is_gone_is_copied(store: BlobStore) -> None:
    name = store.write(b"hello")
    view = store.map(name)
    store.remove([name])

    assert bytes(store.map(store.write(view))) == b"hello"


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    tmp_path: Path, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SharedMemoryFullError, match="shared memory is full: 2 MiB") as caught:
        store.write(bytes(2 << 20))

    assert list(tmp_path.iterdir()) == []
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_another_error_of_the_disk_stays_what_it_is(
    tmp_path: Path, store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(OSError, match="Input/output") as caught:
        store.write(b"x")

    assert type(caught.value) is OSError
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_descriptors")
def test_more_buffers_may_be_mapped_than_the_soft_limit_of_open_files(store: BlobStore) -> None:
    name = store.write(b"x")

    views = [store.map(name) for _ in range(20)]

    assert {bytes(view) for view in views} == {b"x"}


def test_the_sweep_removes_what_is_not_kept(tmp_path: Path) -> None:
    for name in ("a-1", "a-2", "b-1"):
        (tmp_path / name).write_bytes(b"x")

    assert sweep(tmp_path, keep={"a-2"}, prefix="a-") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-2", "b-1"]
    assert sweep(tmp_path) == 2


def test_sweeping_a_directory_that_is_not_there_removes_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path / "none") == 0


def test_the_sweep_leaves_directories_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    assert sweep(tmp_path) == 0


def test_the_limit_is_one_mebibyte() -> None:
    assert blobs.INLINE_LIMIT == 2**20


def test_what_is_mapped_ahead_outlives_its_name(store: BlobStore) -> None:
    name = store.write(b"hello")
    views = store.map_ahead([name])
    store.remove([name])

    assert views is not None
    assert bytes(views[0]) == b"hello"


def test_what_is_gone_is_not_mapped_ahead(store: BlobStore) -> None:
    assert store.map_ahead([store.write(b"x"), "gone"]) is None


def test_not_all_descriptors_are_taken_by_what_nobody_asked_for(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs, "_MOST_AHEAD", 1)
    name = store.write(b"x")
    first = store.map_ahead([name])

    assert store.map_ahead([name]) is None
    del first
    assert store.map_ahead([name]) is not None
