"""Digests of calls: the same for the same call in every process, another one for another call."""

from __future__ import annotations

import colorsys
import importlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from nbcluster.serial.blobs import INLINE_LIMIT
from nbcluster.serial.digest import digest_of

_ROOT: Final = Path(__file__).parents[3]

#: What has another pickle in each process: sets, classes, markers and paths of a notebook.
PROGRAM: Final = """
import contextvars, enum, functools, logging, typing
import numpy as np
from nbcluster.serial.digest import digest_of

LIMITS = {"alpha", "beta", "gamma", "delta"}
MISSING = object()
T = typing.TypeVar("T")
WHO = contextvars.ContextVar("WHO", default=1)
class Colour(enum.Enum):
    RED, GREEN = "red", "green"
class Point:
    def __init__(self, x): self.x = x
class Tags(set):
    pass
def helper(x): return x in LIMITS and outer
def outer(x, missing=MISSING):
    def inner(y: T): return y in {"one", "two", "three", "four"} or helper(x) or np.sum, WHO
    return inner(x)
tags = Tags("abcdef")
tags.note = "x"
calls = [
    (outer, ("a", {"p", "q", "r", "s"}), {"k": frozenset({("a", 1), ("b", 2), ("c", 3)})}),
    (len, ({Point.__name__: [Point({"u", "v", "w"}), Colour.RED, MISSING]},), {}),
    (functools.partial(outer, tags), (np.arange(300_000.0),), {}),
    (lambda x: x.startswith(("a", "b")), (logging.getLogger("x"), Point, {outer, helper}), {}),
]
print(*(digest_of(*call).hex() for call in calls))
"""


def digests(program: str, seed: int, file: Path) -> list[str]:
    """Return what a program prints that runs with this hash seed, and from this file."""
    file.write_text(program)
    env = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(_ROOT)}
    ran = subprocess.run(
        [sys.executable, file], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    return ran.stdout.split()


def test_a_call_has_the_same_digest_in_another_process(tmp_path: Path) -> None:
    first = digests(PROGRAM, 1, tmp_path / "one.py")
    moved = digests("\n\n" + PROGRAM, 2, tmp_path / "two.py")

    assert len(set(first)) == 4
    assert moved == first


def function(source: str, **names: Any) -> Callable[..., Any]:
    """Return ``f`` of a module nobody can import, after running ``source`` in it."""
    names["__name__"] = "handmade"
    exec(source, names)
    found: Callable[..., Any] = names["f"]
    return found


BASE: Final = """
def make(z):
    def f(x, y=1): return g(x) + y + z
    return f
def g(x): return x + k
f = make(1)
"""


@pytest.mark.parametrize(
    "other",
    [
        function(BASE.replace("+ y", "- y"), k=1),
        function(BASE.replace("y=1", "y=2"), k=1),
        function(BASE.replace("+ k", "- k"), k=1),
        function(BASE, k=2),
        function(BASE.replace("make(1)", "make(2)"), k=1),
        function(BASE + "\nh, h.__qualname__ = f, 'other'", k=1),
        len,
    ],
    ids=[
        "code",
        "default",
        "code of a helper",
        "captured value",
        "closure",
        "name",
        "another function",
    ],
)
def test_another_function_has_another_digest(other: Callable[..., Any]) -> None:
    assert digest_of(function(BASE, k=1), (1,), {}) == digest_of(function(BASE, k=1), (1,), {})
    assert digest_of(other, (1,), {}) != digest_of(function(BASE, k=1), (1,), {})


def test_a_function_of_a_module_that_was_edited_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "digested.py").write_text("def f(): return 1")
    module = importlib.import_module("digested")
    before = digest_of(module.f, (), {})

    (tmp_path / "digested.py").write_text("def f(): return 1 + len('')")
    importlib.reload(module)

    assert digest_of(module.f, (), {}) != before


def test_a_function_of_the_standard_library_is_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest_of(colorsys.rgb_to_hsv, ("x",), {})

    monkeypatch.setattr(colorsys.rgb_to_hsv, "__code__", colorsys.rgb_to_hls.__code__)

    assert digest_of(colorsys.rgb_to_hsv, ("x",), {}) == before
    assert digest_of(colorsys.rgb_to_hls, ("x",), {}) != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.ones(INLINE_LIMIT), np.zeros(INLINE_LIMIT)),
        (b"x" * INLINE_LIMIT, b"y" * INLINE_LIMIT),
        ("x" * INLINE_LIMIT, "y" * INLINE_LIMIT),
        ({1, 2}, {1, 3}),
        ({1, 2}, frozenset({1, 2})),
        ([1, 2], (1, 2)),
        ({1}, {True}),
        ({1}, {1.0}),
        ({0.0}, {-0.0}),
        ({(1, "a")}, {(True, "a")}),
        ({"1", None}, {b"1", None}),
        ({frozenset({1})}, {frozenset({1.0})}),
        ({1: 2, 3: 4}, {1: 4, 3: 2}),
        ({1: 2}, {True: 2}),
        ({1: 2}, {1: 2.0}),
        ({None: 2}, {None: 3}),
        ({1: 2}, {1}),
        ("1", b"1"),
        (int, float),
    ],
)
def test_another_argument_gives_another_digest(one: Any, other: Any) -> None:
    assert digest_of(len, (one,), {}) != digest_of(len, (other,), {})
    assert digest_of(len, (one,), {}) != digest_of(len, (), {"x": one})


def test_equal_texts_count_as_equal_whether_they_are_one_object_or_two() -> None:
    text, twin = "some text", "".join(["some", " text"])

    assert text is not twin
    assert digest_of(max, (text, text), {}) == digest_of(max, (text, twin), {})
    one, two = {(1, text), (2, text)}, {(1, text), (2, twin)}
    assert digest_of(max, (one,), {}) == digest_of(max, (two,), {})


NAN: Final = float("nan")


@pytest.mark.parametrize(
    "items",
    [
        (0, 8, 16),
        (0, 8.0, True, 2.5),
        ("a", "b", "c", "d", "e"),
        ((0, "a"), (8, "b"), (16, "c")),
        ((8, "a"), (8, 0)),
        (0.0, 8.0, NAN),
        ((0, NAN), (8, NAN)),
        (None, 0, "a", (8, None), ()),
        (frozenset({0, 8}), frozenset({8, 16}), frozenset({0, 16}), frozenset()),
    ],
)
def test_sets_and_dicts_have_no_order(items: tuple[Any, ...]) -> None:
    forth, back = items, items[::-1]

    assert digest_of(len, (set(forth),), {}) == digest_of(len, (set(back),), {})
    of_dicts = {
        digest_of(len, ({key: [items.index(key)] for key in keys},), {}) for keys in (forth, back)
    }
    assert len(of_dicts) == 1


def test_the_digest_of_a_large_set_takes_no_call_for_each_item() -> None:
    calls = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event == "call"

    items = {str(number) for number in range(10_000)}
    sys.setprofile(count)
    try:
        digest_of(len, (items,), {})
    finally:
        sys.setprofile(None)

    assert 0 < calls < 1_000


def test_a_dict_in_many_places_is_written_once() -> None:
    nest: dict[str, Any] = {}
    for _ in range(40):
        nest = {"a": nest, "b": nest}
    circle: dict[str, Any] = {}
    circle["circle"] = circle

    assert digest_of(len, (nest,), {}) != digest_of(len, (nest["a"],), {})
    assert digest_of(len, (circle,), {}) == digest_of(len, (circle,), {})


class Node:
    """Something in a circle through a set, which no order can be found for."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.all = {self}


def test_what_has_no_order_is_compared_as_it_would_travel() -> None:
    node = Node(1)

    assert digest_of(len, (node,), {}) == digest_of(len, (node,), {})
    assert digest_of(len, (node,), {}) != digest_of(len, (Node(2),), {})


def test_a_call_that_captures_what_only_its_process_has_is_still_named() -> None:
    guarded = function("def f(): return lock", lock=threading.Lock())

    assert digest_of(guarded, (), {}) == digest_of(guarded, (), {})


def made(source: str) -> Any:
    """Return what a cell of a notebook binds to ``made``."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(source, space)
    return space["made"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("class A:\n def m(self): return 1", "class A:\n def m(self): return 2"),
        (
            "def made():\n try:\n  a()\n  b()\n except E: pass",
            "def made():\n try: a()\n except E: pass\n else: b()",
        ),
        ("def made(a, /, b): pass", "def made(a, b): pass"),
    ],
)
def test_code_that_does_something_else_is_another_call(one: str, other: str) -> None:
    use = "" if "made" in one else "\ndef made(): return A().m()"

    assert digest_of(made(one + use), (), {}) == digest_of(made(one + use), (), {})
    assert digest_of(made(one + use), (), {}) != digest_of(made(other + use), (), {})


def test_the_order_of_keyword_arguments_does_not_matter() -> None:
    assert digest_of(len, (), {"a": 1, "b": 2}) == digest_of(len, (), {"b": 2, "a": 1})
