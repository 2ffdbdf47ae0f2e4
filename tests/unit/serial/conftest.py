"""A notebook process for each module, and stores in a directory that goes with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbcluster.serial.blobs import BlobStore
from nbcluster.serial.pack import Packer
from nbcluster.serial.unpack import Unpacker
from tests.unit.serial.notebook import Notebook


@pytest.fixture(scope="module")
def notebook() -> Iterator[Notebook]:
    with Notebook() as notebook:
        yield notebook


@pytest.fixture
def packer(tmp_path: Path) -> Packer:
    return Packer(BlobStore(tmp_path, "client"))


@pytest.fixture
def unpacker(tmp_path: Path) -> Unpacker:
    return Unpacker(BlobStore(tmp_path, "executor"))
