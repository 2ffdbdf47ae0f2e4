"""The way to what cannot be pickled."""

from __future__ import annotations

import functools
import sys
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from nbcluster.errors import UnpicklableError
from nbcluster.serial import pack
from nbcluster.serial.pack import Packer
from nbcluster.serial.picklers import dill_pickler
from nbcluster.serial.session import Session
from nbcluster.serial.unpack import Unpacker

THREAD = threading.current_thread()


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value

    def method(self) -> None: ...


class Slotted:
    __slots__ = ("other", "value")

    def __init__(self, value: Any) -> None:
        self.value = value


def refusing(method: str) -> type[Holder]:
    """Return a class whose objects say themselves that they cannot travel."""

    def refuse(*_: object) -> None:
        raise TypeError("send something else")

    return type("Refusing", (Holder,), {method: refuse, "__module__": __name__})


class Reduced(Holder):
    def __reduce__(self) -> Any:
        return Reduced, (self.value,)


def refused(packer: Packer, *args: Any, **kwargs: Any) -> UnpicklableError:
    with pytest.raises(UnpicklableError) as caught:
        packer.dumps_call(args, kwargs)
    assert caught.value.what == "argument"
    return caught.value


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (THREAD, "threading._MainThread"),
        ([0, THREAD], "item 1 -> threading._MainThread"),
        ({"a": THREAD}, "key 'a' -> threading._MainThread"),
        ({THREAD: 1}, "a key -> threading._MainThread"),
        (Holder(THREAD), "attribute 'value' -> threading._MainThread"),
        (Slotted(THREAD), "attribute 'value' -> threading._MainThread"),
        (
            Holder([Slotted(THREAD)]),
            "attribute 'value' -> item 0 -> attribute 'value' -> threading._",
        ),
        (Holder(THREAD).method, "its object -> attribute 'value' -> threading._MainThread"),
        (functools.partial(max, THREAD), "args[0] -> threading._MainThread"),
        (functools.partial(max, key=THREAD), "kwargs['key'] -> threading._MainThread"),
        (lambda x=THREAD: x, "default 0 -> threading._MainThread"),
        ((n for n in ""), "generator"),
        (sys._getframe(), "frame"),
        (ValueError(THREAD), "args[0] -> threading._MainThread"),
        (threading.Thread(args=(sys._getframe(),)), "threading.Thread"),
        (refusing("__reduce__")(THREAD), f"{__name__}.Refusing"),
        (refusing("__reduce_ex__")(THREAD), f"{__name__}.Refusing"),
        (refusing("__getstate__")(THREAD), f"{__name__}.Refusing"),
        (Reduced(THREAD), "attribute 'value' -> threading._MainThread"),
    ],
)
def test_the_path_leads_to_the_culprit(packer: Packer, value: Any, path: str) -> None:
    assert refused(packer, 1, value).path.startswith(f"args[1] -> {path}")
    assert refused(packer, x=value).path.startswith(f"kwargs['x'] -> {path}")


def test_the_reason_is_what_the_pickler_said(packer: Packer) -> None:
    assert "generator" in refused(packer, (n for n in "")).reason


def test_what_refuses_to_travel_gives_the_reason_itself(packer: Packer) -> None:
    error = refused(packer, [refusing("__reduce__")(THREAD)])

    assert error.reason == "send something else"


def test_a_circle_does_not_keep_the_search_going(packer: Packer) -> None:
    circle: list[Any] = []
    circle += [circle, THREAD]

    assert refused(packer, circle).path == "args[0] -> item 1 -> threading._MainThread"


def test_something_nested_too_deeply_is_refused(packer: Packer) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    assert "nested too deeply" in refused(packer, deep).reason


def test_what_dill_writes_holds_no_buffer_that_would_complain_as_garbage() -> None:
    pieces: list[Any] = []

    dill_pickler(pieces.append, Session(), None).dump(["few", bytes(100_000)])

    assert {type(piece) for piece in pieces} == {bytes}


def test_a_class_that_cannot_travel_names_the_attribute(packer: Packer) -> None:
    space: dict[str, Any] = {"__name__": "handmade", "thread": THREAD}
    exec("class Foo:\n    t = thread\ndef f(): return Foo", space)

    with pytest.raises(UnpicklableError) as caught:
        packer.define(space["f"])

    assert caught.value.path == "f -> global 'Foo' -> attribute 't' -> threading._MainThread"


def test_a_future_that_has_not_ended_is_refused_and_one_that_has_is_not(
    packer: Packer, unpacker: Unpacker
) -> None:
    future: Future[int] = Future()

    error = refused(packer, [future])
    future.set_result(8)
    (back,), _ = unpacker.loads_call(*packer.dumps_call((future,), {}))

    assert error.path == "args[0] -> item 0 -> concurrent.futures._base.Future"
    assert "its result() can be sent" in error.reason
    assert back.result(0) == 8


def test_an_open_file_is_refused_even_where_dill_would_reopen_it(packer: Packer) -> None:
    with open(__file__) as file:
        assert refused(packer, file).path == "args[0] -> _io.TextIOWrapper"


def test_a_function_that_captures_too_much_is_refused_and_the_largest_parts_are_named(
    packer: Packer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "MAX_DEFINITION_BYTES", 4 << 20)
    space: dict[str, Any] = {"__name__": "handmade", "big": bytes(3 << 20)}
    exec("def make(held):\n    def f(few=1): return big, held, few\n    return f", space)

    with pytest.raises(UnpicklableError) as caught:
        packer.define(space["make"](bytes(2 << 20)))

    assert caught.value.path == "f -> global 'big' (3 MiB), closure 'held' (2 MiB)"
    assert "5 MiB" in caught.value.reason
    assert "pass it as an argument" in caught.value.reason
    assert packer.define(space["make"](b"")).name == "f"


def test_classes_that_hold_too_much_are_refused(
    packer: Packer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "MAX_DEFINITION_BYTES", 4 << 20)
    space: dict[str, Any] = {"__name__": "handmade"}
    exec("class E(Exception):\n    many = [bytes(100_000) for _ in range(50)]", space)

    with pytest.raises(UnpicklableError, match="argument"):
        packer.define_classes((space["E"],))
