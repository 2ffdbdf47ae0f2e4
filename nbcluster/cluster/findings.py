"""What a check of the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"  #: something is odd, and nothing fails for it now
    FAIL = "fail"  #: a cluster cannot work like this


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    grade: Grade
    text: str
    remedy: str = ""  #: what to do, if there is something to do
