"""Names and tokens: how clusters, clients, engines, executors, tasks and dispatches are called.

A dispatch token is one 64-bit number, ``epoch << 40 | n``: it rises with every dispatch of one
master and, because the epoch rises at each start of a master, over all masters of a cluster. It
fits one machine word, so that it can be stored in a shared page in a single write.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

from nbcluster.errors import OptionError, OptionTypeError

_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # no l, o, 0, 1: ids are read aloud
EPOCH_SHIFT: Final = 40  #: bits of a token below the epoch: 10^12 dispatches for each master
NO_TOKEN: Final = 0
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def random_id(prefix: str = "", length: int = 8) -> str:
    """Return ``prefix`` and ``length`` random letters and digits (5 bits each)."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(length))


def token(epoch: int, number: int) -> int:
    """Return the token of dispatch ``number`` (from 1) of the master of ``epoch`` (from 1)."""
    return epoch << EPOCH_SHIFT | number


def epoch_of(token: int) -> int:
    """Return the epoch in which ``token`` was given out."""
    return token >> EPOCH_SHIFT


def executor_id(engine: str, slot: int, incarnation: int) -> str:
    """Return the id of an executor: its engine, its slot, how often that slot was filled."""
    return f"{engine}/{slot}.{incarnation}"


def engine_of(executor: str) -> str:
    """Return the engine of an executor's id."""
    return executor.partition("/")[0]


def check_name(name: object, what: str = "cluster name") -> str:
    """Return ``name`` if it can be a file name everywhere, else raise.

    Raises
    ------
    OptionError
        If it is empty, longer than 63 characters, starts with a dot or dash, or has other
        characters than letters, digits, dot, dash and underscore.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        error = OptionError if isinstance(name, str) else OptionTypeError
        raise error(
            f"{what} {name!r} must be 1 to 63 letters, digits, '.', '-' or '_', "
            "and start with a letter or digit"
        )
    return name
