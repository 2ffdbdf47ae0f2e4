"""The connection file: written whole, for the user alone, believed only if it is both."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from nbcluster.errors import ClusterConnectionError, RuntimeDirError
from nbcluster.transport.connection import (
    Connection,
    new_key,
    read_connection,
    write_connection,
)

CONNECTION = Connection(
    name="one",
    epoch=3,
    address="ipc:///somewhere",
    key="secret-key",
    pid=12,
    host="here",
    python="3.11",
    version="1",
    directory="/d",
    run="/r",
    blobs="/b",
    persist=False,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "connection.json"
    write_connection(path, CONNECTION)
    return path


def test_what_was_written_is_read(path: Path) -> None:
    assert read_connection(path) == CONNECTION
    assert CONNECTION.protocol == 1


def test_it_is_for_the_user_alone_and_leaves_nothing_beside_it(path: Path) -> None:
    old = os.umask(0)
    try:
        write_connection(path, replace(CONNECTION, epoch=4))
    finally:
        os.umask(old)

    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert list(path.parent.iterdir()) == [path]
    assert read_connection(path).epoch == 4


def test_a_reader_that_has_the_old_file_open_keeps_it_whole(path: Path) -> None:
    with path.open() as reader:
        write_connection(path, replace(CONNECTION, epoch=4))

        assert json.load(reader) == asdict(CONNECTION)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "connection.json").mkdir()

    with pytest.raises(IsADirectoryError):
        write_connection(tmp_path / "connection.json", CONNECTION)

    assert [p.name for p in tmp_path.iterdir()] == ["connection.json"]


def test_without_a_file_there_is_no_cluster(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_connection(tmp_path / "connection.json")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", "[" * 100_000, '"\\ud800"'])
def test_a_damaged_file_is_named(path: Path, content: str) -> None:
    path.write_text(content)

    with pytest.raises(ClusterConnectionError, match=f"{path} is damaged"):
        read_connection(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 1),
        ("epoch", "3"),
        ("epoch", 0),
        ("address", None),
        ("key", ["k"]),
        ("key", ""),
        ("pid", 1.5),
        ("pid", True),
        ("pid", 0),
        ("pid", -1),
        ("persist", "yes"),
        ("protocol", "1"),
    ],
)
def test_a_field_of_an_impossible_value_is_damage(path: Path, field: str, value: Any) -> None:
    path.write_text(json.dumps(asdict(CONNECTION) | {field: value}))

    with pytest.raises(ClusterConnectionError, match="damaged"):
        read_connection(path)


def test_fields_of_a_newer_version_are_passed_over(path: Path) -> None:
    path.write_text(json.dumps(asdict(CONNECTION) | {"more": 1}))

    assert read_connection(path) == CONNECTION


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_open_is_refused(path: Path, bits: int) -> None:
    path.chmod(bits)

    with pytest.raises(RuntimeDirError, match="others may read the key"):
        read_connection(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(path: Path) -> None:
    os.chown(path, 12_345, -1)

    with pytest.raises(RuntimeDirError, match="belongs to user 12345"):
        read_connection(path)


def test_a_link_is_not_followed(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)

    with pytest.raises(RuntimeDirError, match="symbolic link"):
        read_connection(link)


def test_a_pipe_does_not_block_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "connection.json", 0o600)

    with pytest.raises(RuntimeDirError, match="not a file"):
        read_connection(tmp_path / "connection.json")


def test_the_key_is_not_shown() -> None:
    assert "secret-key" not in repr(CONNECTION)


def test_keys_are_long_and_new_each_time() -> None:
    first, second = new_key(), new_key()

    assert first != second
    assert min(len(first), len(second)) >= 43
