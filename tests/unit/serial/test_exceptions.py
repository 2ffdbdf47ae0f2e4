"""Exceptions on their way home."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from nbcluster.errors import UnpicklableError
from nbcluster.serial.pack import Packer
from nbcluster.serial.unpack import Unpacker


def home(packer: Packer, unpacker: Unpacker, error: BaseException) -> Any:
    return packer.loads(*unpacker.dumps_exception(error))


def raised(act: Any) -> BaseException:
    try:
        act()
    except Exception as error:  # noqa: BLE001 - it is what was asked for
        return error
    raise AssertionError


class Odd(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class OddOs(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "not there", path)
        self.asked = path


class BadReduce(Exception):
    def __reduce__(self) -> Any:
        return BadReduce._make, ("too", "many")

    @staticmethod
    def _make(one: str) -> None: ...


class Strict(Exception):
    def __new__(cls, *, key: str) -> Strict:
        return super().__new__(cls, key)

    def __init__(self, *, key: str) -> None:
        self.key = key


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1),
        KeyError("k"),
        SystemExit(3),
        KeyboardInterrupt(),
        StopIteration(5),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
        SyntaxError("bad", ("file", 1, 2, "text")),
        UnpicklableError("argument", "args[0]", "why"),
    ],
    ids=repr,
)
def test_an_exception_comes_home_as_itself(
    packer: Packer, unpacker: Unpacker, error: BaseException
) -> None:
    back = home(packer, unpacker, error)

    assert type(back) is type(error)
    assert (back.args, str(back), vars(back)) == (error.args, str(error), vars(error))


def test_an_exception_whose_init_takes_other_arguments_is_rebuilt(
    packer: Packer, unpacker: Unpacker
) -> None:
    back = home(packer, unpacker, Odd(3, detail="x"))

    assert type(back) is Odd
    assert (back.code, back.detail, back.args, str(back)) == (3, "x", ("3: x",), "3: x")


def test_what_a_builtin_exception_keeps_beside_its_attributes_is_rebuilt_too(
    packer: Packer, unpacker: Unpacker
) -> None:
    back = home(packer, unpacker, OddOs("/a"))

    assert type(back) is OddOs
    assert (back.errno, back.asked, back.args) == (2, "/a", (2, "not there"))


def test_an_exception_whose_own_reduce_cannot_be_read_is_rebuilt_without_it(
    packer: Packer, unpacker: Unpacker
) -> None:
    error = BadReduce("x")
    error.extra = 5  # type: ignore[attr-defined]  # as user code does

    back = home(packer, unpacker, error)

    assert (type(back), back.args, back.extra) == (BadReduce, ("x",), 5)


def test_an_exception_that_cannot_be_built_without_its_arguments_is_refused(
    unpacker: Unpacker,
) -> None:
    with pytest.raises(UnpicklableError) as caught:
        unpacker.dumps_exception(Strict(key="k"))

    assert caught.value.what == "exception"


def test_an_exception_with_something_that_cannot_travel_is_refused_with_a_path(
    unpacker: Unpacker,
) -> None:
    with pytest.raises(UnpicklableError) as caught:
        unpacker.dumps_exception(ValueError(1, threading.current_thread()))

    assert caught.value.path == "exception -> args[1] -> threading._MainThread"


def test_cause_context_and_notes_come_along(packer: Packer, unpacker: Unpacker) -> None:
    def act() -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise Odd(1, detail="second") from None
        except Odd as error:
            last = ValueError("third")
            last.add_note("look")
            raise last from error

    back = home(packer, unpacker, raised(act))

    assert back.__notes__ == ["look"]
    assert isinstance(back.__cause__, Odd)
    assert back.__suppress_context__
    assert isinstance(back.__cause__.__context__, KeyError)
    assert back.__cause__.__suppress_context__


def test_a_cause_that_cannot_travel_stays_behind(packer: Packer, unpacker: Unpacker) -> None:
    def act() -> None:
        try:
            raise ValueError(threading.current_thread())
        except ValueError as error:
            raise KeyError("k") from error

    back = home(packer, unpacker, raised(act))

    assert (type(back), back.__cause__, back.__context__) == (KeyError, None, None)


def test_causes_that_go_round_in_a_circle_come_along(packer: Packer, unpacker: Unpacker) -> None:
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__cause__ = two, one

    back = home(packer, unpacker, one)

    assert back.__cause__.__cause__ is back


def test_a_group_comes_home_with_its_exceptions_and_their_causes(
    packer: Packer, unpacker: Unpacker
) -> None:
    inner = Odd(1, detail="x")
    inner.__cause__ = KeyError("k")
    group = ExceptionGroup("many", [inner, ExceptionGroup("more", [ValueError(2)])])

    back = home(packer, unpacker, group)

    assert (back.message, len(back.exceptions)) == ("many", 2)
    assert type(back.exceptions[0]) is Odd
    assert type(back.exceptions[0].__cause__) is KeyError
    assert back.exceptions[1].exceptions[0].args == (2,)


def test_the_traceback_stays_behind(packer: Packer, unpacker: Unpacker) -> None:
    assert home(packer, unpacker, raised(lambda: 1 / 0)).__traceback__ is None


def test_an_exception_as_a_value_is_rebuilt_too(packer: Packer, unpacker: Unpacker) -> None:
    (back,) = packer.loads(*unpacker.dumps_result([Odd(3, detail="x")]))

    assert (type(back), back.code) == (Odd, 3)


def test_an_exception_as_a_value_comes_home_without_its_causes(
    packer: Packer, unpacker: Unpacker
) -> None:
    error = ValueError(1)
    error.__cause__ = KeyError(threading.current_thread())

    (back,) = packer.loads(*unpacker.dumps_result([error]))

    assert (back.args, back.__cause__) == ((1,), None)
