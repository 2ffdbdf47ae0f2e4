"""Which causes and contexts of an exception can travel with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nbcluster.serial.picklers import dump_bytes
from nbcluster.serial.session import Session

_MOST: Final = 50  #: exceptions of a chain that are looked at


def picklable_chain(exc: BaseException) -> frozenset[int]:
    """Return the id() of each exception linked to ``exc`` that must stay behind."""
    bad = set()
    for number, link in enumerate(_links(exc)):
        if number >= _MOST or not _is_picklable(link):
            bad.add(id(link))
    return frozenset(bad)


def _links(exc: BaseException) -> Iterator[BaseException]:
    seen, waiting = {id(exc)}, [exc]
    while waiting:
        one = waiting.pop(0)
        inner = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        for link in (one.__cause__, one.__context__, *inner):
            if link is not None and id(link) not in seen:
                seen.add(id(link))
                waiting.append(link)
                if link not in inner:
                    yield link


def _is_picklable(exc: BaseException) -> bool:
    try:
        dump_bytes(exc, Session(homeward=True))
    except Exception:  # noqa: BLE001 - user code runs while its objects are pickled
        return False
    return True
