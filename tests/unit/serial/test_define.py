"""Definitions: written once, and again as soon as anything they hold changed."""

from __future__ import annotations

import gc
import math
import operator
import random
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from nbcluster.errors import UnpicklableError
from nbcluster.serial.pack import Packer
from nbcluster.serial.unpack import Unpacker
from tests.unit.serial.notebook import Notebook


def make(source: str, **names: Any) -> dict[str, Any]:
    """Return the namespace of a module nobody can import, after running ``source`` in it."""
    names["__name__"] = "handmade"
    exec(source, names)
    return names


def test_an_unchanged_function_has_one_definition(packer: Packer) -> None:
    f = make("k = 1\ndef h(x): return x + k\ndef f(x): return h(x)")["f"]

    assert packer.define(f) is packer.define(f)


def test_a_definition_is_named_after_its_function_and_addressed_by_content(packer: Packer) -> None:
    space = make("def f(): return 1")
    first = packer.define(space["f"])
    other = packer.define(make("def f(): return 2")["f"])

    assert first.name == "f"
    assert len(first.hash) >= 16
    assert int(first.hash, 16) > 0
    assert first.hash != other.hash


class Callee:
    def __call__(self) -> None: ...
    def method(self) -> None: ...


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (math.sqrt, "sqrt"),
        (partial(partial(math.pow, 2), 3), "pow"),
        (Callee(), "Callee"),
        (Callee().method, "method"),
        (operator.itemgetter(1), "itemgetter"),
        (lambda: 0, "<lambda>"),
    ],
)
def test_everything_that_can_be_called_has_a_name(
    packer: Packer, fn: Callable[..., Any], name: str
) -> None:
    assert packer.define(fn).name == name


def _rebind_global(space: dict[str, Any]) -> None:
    space["k"] = 2


def _rebind_helper(space: dict[str, Any]) -> None:
    exec("def h(x): return x - k", space)


def _change_code_of_helper(space: dict[str, Any]) -> None:
    space["h"].__code__ = (lambda x: 7).__code__


def _change_defaults(space: dict[str, Any]) -> None:
    space["f"].__defaults__ = (9,)


def _change_defaults_of_helper(space: dict[str, Any]) -> None:
    space["h"].__defaults__ = (9,)


def _set_attribute(space: dict[str, Any]) -> None:
    space["f"].limit = 5


def _change_attribute(space: dict[str, Any]) -> None:
    space["g"].limit = 6


def _change_keyword_default(space: dict[str, Any]) -> None:
    space["g"].__kwdefaults__["z"] = 6


def _change_cell(space: dict[str, Any]) -> None:
    space["change"](5)


def _append(space: dict[str, Any]) -> None:
    space["data"].append(3)


def _set_attribute_of_object(space: dict[str, Any]) -> None:
    space["thing"].x = 2


def _define_what_was_missing(space: dict[str, Any]) -> None:
    space["absent"] = 1


def _change_class(space: dict[str, Any]) -> None:
    space["Plain"].factor = 3


def _redefine_method(space: dict[str, Any]) -> None:
    space["Plain"].get = lambda self: 3


def _change_global_of_method(space: dict[str, Any]) -> None:
    space["deep"] = 3


SOURCE = """
import types
k = 1
data = [1]
thing = types.SimpleNamespace(x=1)
deep = 1
class Plain:
    factor = 2
    def get(self): return deep
def h(x=0): return x + k
def f(x=0): return h(x)
def g(*, z=1): return g.limit + z
g.limit = 5
def closed():
    n = 1
    def inner(): return n
    def change(x):
        nonlocal n
        n = x
    return inner, change
inner, change = closed()
def uses_data(): return data
def uses_thing(): return thing.x
def uses_absent(): return absent
def uses_class(): return Plain().get()
"""


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("f", _rebind_global),
        ("f", _rebind_helper),
        ("f", _change_code_of_helper),
        ("f", _change_defaults),
        ("f", _change_defaults_of_helper),
        ("f", _set_attribute),
        ("g", _change_attribute),
        ("g", _change_keyword_default),
        ("inner", _change_cell),
        ("uses_data", _append),
        ("uses_thing", _set_attribute_of_object),
        ("uses_absent", _define_what_was_missing),
        ("uses_class", _change_class),
        ("uses_class", _redefine_method),
        ("uses_class", _change_global_of_method),
    ],
)
def test_a_change_that_a_function_would_see_gives_a_new_definition(
    packer: Packer, name: str, change: Callable[[dict[str, Any]], None]
) -> None:
    space = make(SOURCE)
    before = packer.define(space[name])
    again = packer.define(space[name])

    change(space)
    after = packer.define(space[name])

    assert before.hash == again.hash
    assert before.hash != after.hash


def test_a_change_back_gives_the_old_hash(packer: Packer) -> None:
    space = make("k = 1\ndef f(): return k")
    first = packer.define(space["f"])
    space["k"] = 2
    packer.define(space["f"])

    space["k"] = 1

    assert packer.define(space["f"]).hash == first.hash


def test_a_global_that_only_shares_its_name_with_an_attribute_does_not_travel(
    packer: Packer,
) -> None:
    space = make("data = 'x' * 5000\ndef f(row): return row.data")

    assert len(packer.define(space["f"]).blob) < 2000


def test_only_the_globals_that_are_used_travel(packer: Packer) -> None:
    space = make(
        "a = 'x' * 5000\nb = 'y' * 50\ndef f():\n    class C:\n        c = b\n    return C.c"
    )

    blob = packer.define(space["f"]).blob

    assert b"y" * 50 in blob
    assert b"x" * 50 not in blob


def test_a_definition_keeps_nothing_alive(packer: Packer) -> None:
    space = make(
        "class Owner:\n    def method(self): return 1\n"
        "owner = Owner()\ndef f(): return f\ndef g(): return f"
    )
    alive = [weakref.ref(space[name]) for name in ("owner", "f", "g")]
    packer.define(space["owner"].method)
    packer.define(space["f"])
    packer.define(space["g"])

    space.clear()
    gc.collect()

    assert [ref() for ref in alive] == [None, None, None]


def test_the_methods_of_the_global_generator_travel_without_its_state(packer: Packer) -> None:
    import numpy as np

    for fn in (random.random, random.choice, np.random.rand, np.random.normal):
        assert len(packer.define(fn).blob) < 150


def test_a_function_that_cannot_travel_is_refused_with_a_path(packer: Packer) -> None:
    space = make(
        "import threading\ndb = {'t': [threading.current_thread()]}\ndef train(): return db"
    )

    with pytest.raises(UnpicklableError) as caught:
        packer.define(space["train"])

    assert caught.value.what == "function"
    path = "train -> global 'db' -> key 't' -> item 0 -> threading._MainThread"
    assert caught.value.path == path


def test_what_is_large_is_named_once(packer: Packer) -> None:
    space = make("big = b'x' * 11_000_000\nsmall = b'y'\ndef train(): return big, small")
    packer.define(space["train"])
    first = packer.notes()
    space["small"] = b"z"
    packer.define(space["train"])

    assert first == ["train captures `big`, 11 MB; it is sent with the function"]
    assert packer.notes() == []


def test_classes_to_retry_on_are_a_definition(packer: Packer, unpacker: Unpacker) -> None:
    own = make("class Mine(Exception): pass")["Mine"]

    definition = packer.define_classes((OSError, own))

    assert definition.name == "OSError, Mine"
    assert unpacker.load_definition(definition) == (OSError, own)


def test_older_and_newer_definitions_of_one_function_may_run_in_any_order(
    notebook: Notebook,
) -> None:
    notebook.run(
        "def f(): return k\n"
        "def helper(): return k * 10\n"
        "def g(): return helper()\n"
        "calls = []\n"
        "for k in range(3):\n"
        "    calls.append((packer.define(f), packer.define(g)))\n"
        "order = [2, 0, 1, 1, 0]\n"
        "answers = [call(calls[i][0]) for i in order], [call(calls[i][1]) for i in order]"
    )

    assert notebook.eval("answers") == ([2, 0, 1, 1, 0], [20, 0, 10, 10, 0])


def test_what_a_task_sets_is_seen_by_other_functions_until_the_notebook_changes_it(
    notebook: Notebook,
) -> None:
    notebook.run(
        "model, rate = None, 1\n"
        "def load():\n"
        "    global model, extra\n"
        "    model = extra = 'loaded'\n"
        "def use(): return model, extra, rate\n"
        "submit(load)\n"
        "first = submit(use)\n"
        "rate = 2\n"
        "second = submit(use)\n"
        "model = 'mine'\n"
        "third = submit(use)"
    )

    assert notebook.eval("[first, second, third]") == [
        ("loaded", "loaded", 1),
        ("loaded", "loaded", 2),
        ("mine", "loaded", 2),
    ]


def test_a_pushed_name_is_found_by_a_function_that_did_not_capture_it(notebook: Notebook) -> None:
    notebook.run("def f(): return pushed + 1\nfirst = packer.define(f)\npush(pushed=4)")

    assert notebook.eval("submit(f)") == 5
    notebook.run("push(pushed=5)")
    assert notebook.eval("submit(f)") == 6


def test_what_a_task_declares_global_can_be_pulled(notebook: Notebook) -> None:
    notebook.run("def f():\n    global fresh\n    fresh = 3\nsubmit(f)")

    assert notebook.eval("pull('fresh')") == 3


def test_the_results_of_a_task_do_not_change_the_notebook(notebook: Notebook) -> None:
    notebook.run(
        "level = 1\n"
        "class Thing:\n"
        "    def get(self): return level\n"
        "def f():\n"
        "    global level\n"
        "    level = 99\n"
        "    return Thing(), lambda: level\n"
        "thing, get = submit(f)"
    )

    assert notebook.eval("[level, thing.get(), get()]") == [1, 1, 1]


def test_a_function_that_comes_home_uses_the_notebooks_own_values(notebook: Notebook) -> None:
    notebook.run(
        "def f():\n    global quota\n    quota = 5\n    return lambda: quota\n"
        "answer = raw(f)\n"
        "quota = 1\n"
        "get = packer.loads(*answer)"
    )

    assert notebook.eval("(get(), quota)") == (1, 1)


def test_a_name_defined_after_its_class_was_sent_travels_with_the_next_instance(
    notebook: Notebook,
) -> None:
    notebook.run(
        "class Late:\n    def get(self): return defined_later\n"
        "for _ in range(2):\n    submit(type, Late())\n"
        "defined_later = 3"
    )

    assert notebook.eval("submit(Late().get)") == 3


def test_a_captured_object_may_use_globals_while_it_is_rebuilt(notebook: Notebook) -> None:
    notebook.run(
        "def fresh(): return 'fresh'\n"
        "class Rebuilt:\n"
        "    def __getstate__(self): return {'n': 1}\n"
        "    def __setstate__(self, state): self.made = fresh()\n"
        "a_rebuilt = Rebuilt()\n"
        "def f(): return a_rebuilt.made"
    )

    assert notebook.eval("submit(f)") == "fresh"


def test_a_result_does_not_carry_back_what_was_sent(notebook: Notebook) -> None:
    notebook.run(
        "big = b'x' * 100_000\n"
        "class Thing:\n"
        "    def get(self): return big\n"
        "def f(): return Thing(), (lambda: big)\n"
        "size = len(raw(f)[0])"
    )

    assert notebook.eval("size") < 10_000


def test_a_function_of_an_importable_module_keeps_that_modules_globals(
    packer: Packer, unpacker: Unpacker
) -> None:
    inner = unpacker.load_definition(packer.define(lambda: Callee))

    assert inner() is Callee


def test_a_builtin_that_the_shell_guards_is_the_builtin_in_a_task(notebook: Notebook) -> None:
    notebook.run(
        "import functools, io\n"
        "@functools.wraps(io.open)\n"
        "def open(file, *a, **k): raise ValueError\n"
        "def get_ipython(): raise ValueError\n"
        "def f():\n    with open('/dev/null') as file: return file.name\n"
        "answer = submit(f)\n"
        "del open, get_ipython"
    )

    assert notebook.eval("answer") == "/dev/null"
