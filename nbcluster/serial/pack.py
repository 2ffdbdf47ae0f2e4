"""The client's side: functions and arguments on their way out, results on their way home."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from types import FunctionType
from typing import Any, Final
from weakref import ref

from nbcluster.core.model import Definition
from nbcluster.serial.blobs import INLINE_LIMIT, BlobStore
from nbcluster.serial.culprit import refuse, refuse_large
from nbcluster.serial.handlers import is_of_handler
from nbcluster.serial.session import Session
from nbcluster.serial.spaces import Prints, Values, fill
from nbcluster.serial.stream import PLAIN, Written, read, to_definition, to_payload, write
from nbcluster.serial.watch import Watch, watch_function, watch_reference

#: Bytes of a definition at the most: an executor keeps no more than that of all of them.
MAX_DEFINITION_BYTES: Final = 256 << 20
#: What a function captures is named to the user above this size.
NOTE_BYTES: Final = 10_000_000
EMPTY_CALL: Final = pickle.dumps(((), {}), 5)
#: Types whose values mean the same everywhere, so that nothing about them need be asked.
ATOMS: Final = frozenset({int, float, str, bytes, bool, type(None)})

_NO_BLOBS: Final[tuple[str, ...]] = ()


@dataclass(slots=True)
class _Cached:
    function: ref[Any]
    definition: Definition
    holds: Callable[[], bool]


class Packer:
    """Pickles for executors, and unpickles what comes home. Thread safe.

    Parameters
    ----------
    blobs
        Where large buffers go.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._cache: dict[int, _Cached] = {}
        self._classes: dict[tuple[type, ...], Definition] = {}
        self._notes: dict[tuple[str, str], str] = {}
        self._told: set[tuple[str, str]] = set()

    def define(self, fn: Any) -> Definition:
        """Return the definition of a callable; the same object while nothing of it changed.

        Nothing is kept alive by it. Where ``fn`` reaches something that can be changed in place,
        it is pickled at every call, and equal contents give an equal hash.

        Raises
        ------
        UnpicklableError
            If it cannot travel; the error names the way to what cannot.
        """
        cached = self._cache.get(id(fn))
        if cached is not None and cached.function() is fn and cached.holds():
            return cached.definition
        return self._define(fn)

    def define_classes(self, classes: tuple[type, ...]) -> Definition:
        """Return the definition of a tuple of classes, as ``retry_on`` takes them."""
        known = self._classes.get(classes)
        if known is not None:
            return known
        name = ", ".join(cls.__name__ for cls in classes)
        definition = self._defined(classes, name, "class")[0]
        if all(cls.__module__ == "builtins" for cls in classes):  # they never change
            self._classes[classes] = definition
        return definition

    def dumps_call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bytes, tuple[str, ...]]:
        """Return the arguments of a call as payload and names of blobs.

        Raises
        ------
        UnpicklableError
            If one of them cannot travel.
        SharedMemoryFullError
            If a large buffer does not fit.
        """
        if not args and not kwargs:
            return EMPTY_CALL, _NO_BLOBS
        for value in args:
            if type(value) not in ATOMS:
                return self._dumps_call(args, kwargs)
        for value in kwargs.values():
            if type(value) not in ATOMS:
                return self._dumps_call(args, kwargs)
        payload = pickle.dumps((args, kwargs), 5)
        if len(payload) >= INLINE_LIMIT:
            return self._dumps_call(args, kwargs)
        return payload, _NO_BLOBS

    def map_ahead(self, blobs: tuple[str, ...]) -> list[memoryview] | None:
        """Map what came home before it is opened; None if that cannot be."""
        return self._blobs.map_ahead(blobs)

    def loads(
        self, payload: bytes, blobs: tuple[str, ...], views: list[memoryview] | None = None
    ) -> Any:
        """Return the value or the exception that came home; ``views``: its blobs, if mapped.

        Raises whatever unpickling raises, ``SystemExit`` included.
        """
        if not blobs and payload[0] == PLAIN:
            return pickle.loads(payload)
        buffers = map(self._blobs.map, blobs) if views is None else views
        return read(payload, buffers, _at_home, None).value

    def notes(self) -> list[str]:
        """Return, once, a line for each large value that a function captured since last time."""
        # No lock: a handler of a signal may come in here, and submit.
        lines = [self._notes.pop(key, "") for key in list(self._notes)]
        return [line for line in lines if line]

    def _dumps_call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bytes, tuple[str, ...]]:
        call = args, kwargs
        try:
            written = write(call, Session(), out_of_band=True)
        except Exception as error:  # user code runs while its objects are pickled
            if is_of_handler(error):
                raise
            raise refuse("argument", call, error) from error
        return to_payload(written, self._blobs)

    def _define(self, fn: Any) -> Definition:
        definition, written = self._defined(fn, name_of(fn), "function")
        watch = _watch(fn, written.session.modules)
        if watch is not None:
            self._remember(fn, definition, watch)
        return definition

    def _defined(self, fn: Any, name: str, what: str) -> tuple[Definition, Written]:
        try:
            written = write(fn, Session(), out_of_band=False, stamped=True)
        except Exception as error:  # user code runs while its objects are pickled
            if is_of_handler(error):
                raise
            raise refuse(what, fn, error) from error
        if written.stream_size() > MAX_DEFINITION_BYTES:
            raise refuse_large(what, fn, written.stream_size(), MAX_DEFINITION_BYTES)
        blob = to_definition(written)
        self._note(name, written.sizes)
        return Definition(blake2b(blob, digest_size=12).hexdigest(), name, blob), written

    def _remember(self, fn: Any, definition: Definition, watch: Watch) -> None:
        key = id(fn)

        def forget(dead: ref[Any]) -> None:
            entry = self._cache.get(key)
            if entry is not None and entry.function is dead:
                del self._cache[key]

        try:
            weak = ref(fn, forget)
        except TypeError:
            return
        self._cache[key] = _Cached(weak, definition, watch.holds)

    def _note(self, name: str, sizes: dict[str, int]) -> None:
        for captured, size in sizes.items():
            key = name, captured
            if size > NOTE_BYTES and key not in self._told:
                self._told.add(key)
                self._notes[key] = (
                    f"{name} captures `{captured}`, {size / 1e6:.0f} MB; "
                    "it is sent with the function"
                )


def _at_home(prints: Prints, values: Values) -> None:
    fill(values)


def _watch(fn: Any, modules: set[str]) -> Watch | None:
    from nbcluster.serial.origin import by_reference

    if by_reference(fn) is not None:
        return watch_reference(fn, modules)
    if isinstance(fn, FunctionType):
        return watch_function(fn, modules)
    return None


def name_of(fn: Any) -> str:
    """Return what a callable is called in tables."""
    name = getattr(fn, "__name__", None)
    if isinstance(name, str):
        return name
    if isinstance(fn, partial):
        return name_of(fn.func)
    return type(fn).__name__
