"""Every story is replayed from its records when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.core.story import Story


@pytest.fixture
def begin() -> Iterator[Callable[..., Story]]:
    """Return what begins a story; the end of the test is also the test of its replay."""
    stories: list[Story] = []

    def start(**limits: Any) -> Story:
        stories.append(Story(**limits))
        return stories[-1]

    yield start
    for each in stories:
        each.check_replay()


@pytest.fixture
def story(begin: Callable[..., Story]) -> Story:
    """Return a cluster without engines and with the default limits."""
    return begin()
