"""Why a task is where it is, as a sentence."""

from __future__ import annotations

from typing import Any


def explain(known: dict[str, Any]) -> str:
    """Return the master's answer to ``why`` as a sentence."""
    state = known["state"]
    if state == "pending":
        crashed = f", after {known['crashes']} crashes" if known["crashes"] else ""
        return f"pending{crashed}: {known['reason']}"
    if state == "running":
        return f"running on engine {known['engine']}, attempt {known['attempts']}"
    if state == "retrying":
        return (
            f"retrying in {known['due_s']:.1f} s, after attempt {known['attempts']} ended with "
            f"{known['error'] or 'a timeout'}"
        )
    if state == "failed":
        return (
            f"failed ({known['cause']}) after {known['attempts']} attempts, "
            f"{known['crashes']} crashes: {known['error']}"
        )
    return f"{state} after {known['attempts']} attempts"
