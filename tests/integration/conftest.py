"""Fixtures of tests that start processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from nbcluster import Cluster

END_S: Final = 20.0


@pytest.fixture
def cluster_goes_on(one: Cluster) -> Iterator[None]:
    """Fail a test after which the cluster that its module shares does not work."""
    yield
    assert one.submit(len, "ab").result(END_S) == 2
