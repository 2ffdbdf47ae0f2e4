"""How long a failed attempt waits before the next."""

from __future__ import annotations

from zlib import crc32

from nbcluster.options import Backoff


def backoff_s(policy: Backoff, failures: int, luck: float) -> float:
    """Return the wait before the next attempt: growing, capped, spread.

    Tasks that failed together must not come back together, so the wait is scaled by a number
    between one half and one. The caller brings it: the core draws no random numbers.

    Parameters
    ----------
    policy
        Base, factor and cap of the wait.
    failures
        Failed attempts so far, counted from 1; crashes are not among them.
    luck
        Between 0 and 1; 1 gives the longest wait.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    ValueError
        If ``failures`` is less than 1.

    Notes
    -----
    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Examples
    --------
    >>> [backoff_s(Backoff(), n, luck=1.0) for n in (1, 2, 3, 9999)]
    [1.0, 2.0, 4.0, 100.0]
    """
    if failures < 1:
        raise ValueError(f"failures counts from 1, not {failures}")
    # The exponent is bounded so that the power cannot overflow; the cap is reached long before.
    wait = min(policy.cap, policy.base * policy.factor ** min(failures - 1, 500))
    return wait * (0.5 + luck / 2)


def luck_of(task: str, failures: int) -> float:
    """Return a number from 0 to 1 that looks random and is the same in every replay."""
    return crc32(task.encode(), failures) / 2**32
