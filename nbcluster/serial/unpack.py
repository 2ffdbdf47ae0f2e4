"""The executor's side: functions and arguments as they come in, results on their way out."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Final

from nbcluster.core.model import Definition
from nbcluster.serial.blobs import INLINE_LIMIT, BlobStore, SharedMemoryFullError
from nbcluster.serial.chains import picklable_chain
from nbcluster.serial.culprit import refuse
from nbcluster.serial.refresh import refresh
from nbcluster.serial.session import Session
from nbcluster.serial.spaces import activate
from nbcluster.serial.stream import PLAIN, Read, read, to_payload, write

_ATOMS: Final = frozenset({int, float, str, bytes, bool, type(None)})
_EMPTY_CALL: Final = pickle.dumps(((), {}), 5)
_NONE: Final = pickle.dumps(None, 5)
_NO_BLOBS: Final[tuple[str, ...]] = ()


class Unpacker:
    """Unpickles for an executor and pickles what it answers. For one thread.

    Parameters
    ----------
    blobs
        Where large buffers are and go.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def load_definition(self, definition: Definition) -> Any:
        """Return the callable, or the tuple of classes, of a definition.

        It may be kept and called at any time: if it captured globals, each call begins by putting
        those in place that another version of it, or another function, has changed.
        """
        found = read(definition.blob, (), activate, refresh)
        if not found.prints or isinstance(found.value, (type, tuple)):
            return found.value
        return _activated(found)

    def loads_call(
        self, payload: bytes, blobs: tuple[str, ...]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call. Raises whatever unpickling raises."""
        if payload == _EMPTY_CALL:
            return (), {}
        call: tuple[tuple[Any, ...], dict[str, Any]]
        if not blobs and payload[0] == PLAIN:
            call = pickle.loads(payload)
        else:
            call = read(payload, map(self._blobs.map, blobs), activate, None).value
        return call

    def dumps_result(self, value: Any) -> tuple[bytes, tuple[str, ...]]:
        """Return a value as payload and names of blobs.

        Raises
        ------
        UnpicklableError
            If it cannot travel.
        MemoryError
            If there is no room to pickle it.
        SharedMemoryFullError
            If a large buffer does not fit.
        """
        if value is None:
            return _NONE, _NO_BLOBS
        if type(value) in _ATOMS:
            payload = pickle.dumps(value, 5)
            if len(payload) < INLINE_LIMIT:
                return payload, _NO_BLOBS
        try:
            written = write(value, Session(homeward=True), out_of_band=True)
        except MemoryError:
            raise
        except Exception as error:  # user code runs while its objects are pickled
            raise refuse("result", value, error) from error
        return to_payload(written, self._blobs)

    def dumps_exception(self, exc: BaseException) -> tuple[bytes, tuple[str, ...]]:
        """Return an exception, with those of its causes that can travel.

        It is unpickled here first: one that could not be read at home is rebuilt from its class,
        ``args`` and attributes instead.

        Raises
        ------
        UnpicklableError
            If there is no way for it to travel.
        """
        try:
            return self._dumps_exception(exc)
        except SharedMemoryFullError:
            raise
        except Exception as error:  # user code runs while its objects are pickled
            raise refuse("exception", exc, error) from error

    def _dumps_exception(self, exc: BaseException) -> tuple[bytes, tuple[str, ...]]:
        unchained = picklable_chain(exc)
        for by_hand in (False, True):
            session = Session(homeward=True, chain=True, unchained=unchained, by_hand=by_hand)
            try:
                written = write(exc, session, out_of_band=False)
                payload = to_payload(written, self._blobs)
                self._try(*payload)
            except Exception:  # as above, and the second way is still to be tried
                if by_hand:
                    raise
            else:
                return payload
        raise AssertionError

    def _try(self, payload: bytes, blobs: tuple[str, ...]) -> None:
        try:
            read(payload, map(self._blobs.map, blobs), activate, None)
        except BaseException:
            self._blobs.remove(blobs)
            raise


def _activated(found: Read) -> Callable[..., Any]:
    function, prints, values = found.value, found.prints, found.values
    if iscoroutinefunction(function):

        @wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            activate(prints, values)
            return await function(*args, **kwargs)

        return call_async

    def call(*args: Any, **kwargs: Any) -> Any:
        activate(prints, values)
        return function(*args, **kwargs)

    return wraps(function, updated=())(call)
