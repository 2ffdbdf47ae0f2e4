"""Classes, enums and markers of a notebook stay themselves in other processes."""

from __future__ import annotations

from tests.unit.serial.notebook import Notebook


def test_instances_of_two_submissions_are_of_one_class_in_the_executor(
    notebook: Notebook,
) -> None:
    notebook.run(
        "class Foo:\n    pass\n"
        "def keep(x):\n    global kept\n    kept = x\n"
        "def same(x): return type(kept) is type(x), isinstance(kept, Foo)\n"
        "submit(keep, Foo())"
    )

    assert notebook.eval("submit(same, Foo())") == (True, True)


def test_a_class_that_was_defined_again_is_another_class(notebook: Notebook) -> None:
    notebook.run(
        "class Foo:\n    version = 1\n"
        "old = Foo()\n"
        "def f(x): return Foo.version, isinstance(x, Foo), x.version\n"
        "first = submit(f, old)\n"
        "class Foo:\n    version = 2\n"
        "second = submit(f, old)\n"
        "third = submit(f, Foo())"
    )

    assert notebook.eval("[first, second, third]") == [
        (1, True, 1),
        (2, False, 1),
        (2, True, 2),
    ]


def test_a_class_that_was_changed_in_place_travels_changed(notebook: Notebook) -> None:
    notebook.run(
        "class Foo:\n    def get(self): return 1\n"
        "first = submit(Foo().get)\n"
        "Foo.get = lambda self: 2\n"
        "second = submit(Foo().get)\n"
        "back = submit(Foo)"
    )

    assert notebook.eval("[first, second, type(back) is Foo]") == [1, 2, True]


def test_a_changed_base_class_travels_with_the_class_below_it(notebook: Notebook) -> None:
    notebook.run(
        "class Base:\n    limit = 1\n"
        "class Below(Base):\n    def get(self): return self.limit\n"
        "first = submit(Below().get)\n"
        "Base.limit = 2\n"
        "second = submit(Below().get)"
    )

    assert notebook.eval("[first, second]") == [1, 2]


def test_a_class_made_by_a_task_comes_home(notebook: Notebook) -> None:
    notebook.run(
        "def f(n):\n"
        "    class Made:\n"
        "        def get(self): return n\n"
        "    return Made()\n"
        "made = submit(f, 3)"
    )

    assert notebook.eval("(made.get(), type(made).__name__)") == (3, "Made")


def test_an_instance_that_goes_out_again_is_still_of_its_class(notebook: Notebook) -> None:
    notebook.run(
        "class Foo:\n    def __init__(self): self.n = 0\n"
        "def up(foo):\n    foo.n += isinstance(foo, Foo)\n    return foo\n"
        "foo = submit(up, submit(up, Foo()))"
    )

    assert notebook.eval("(foo.n, type(foo) is Foo)") == (2, True)


def test_a_marker_comes_home_as_itself(notebook: Notebook) -> None:
    notebook.run(
        "missing = object()\n"
        "def f(x=missing): return x is missing, missing\n"
        "def g(x): return x is missing\n"
        "found, back = submit(f)"
    )

    assert notebook.eval("(found, back is missing, submit(g, missing))") == (True, True, True)


def test_the_state_of_a_class_is_not_sent_home_over_the_notebooks(notebook: Notebook) -> None:
    notebook.run(
        "class Foo:\n    n = 0\ndef f():\n    Foo.n = 5\n    return Foo()\nfoo = submit(f)"
    )

    assert notebook.eval("(Foo.n, type(foo) is Foo)") == (0, True)


def test_a_subclass_hook_of_the_user_runs_once_and_at_home(notebook: Notebook) -> None:
    notebook.run(
        "log = []\n"
        "class Base:\n"
        "    def __init_subclass__(cls, flag, **kw):\n"
        "        super().__init_subclass__(**kw)\n"
        "        log.append(flag)\n"
        "class Below(Base, flag='x'): pass\n"
        "def f(b):\n"
        "    class Lower(Base, flag='y'): pass\n"
        "    return list(log)\n"
        "seen = submit(f, Below())"
    )

    assert notebook.eval("(seen, log)") == (["x", "y"], ["x"])


def test_an_abstract_class_of_an_importable_base_keeps_its_registry(notebook: Notebook) -> None:
    notebook.run(
        "from collections.abc import Sized\n"
        "class Mine(Sized):\n    pass\n"
        "Mine.register(dict)\n"
        "def f():\n"
        "    try: Mine()\n"
        "    except TypeError: return isinstance({}, Mine), isinstance([], Mine)\n"
        "answer = submit(f)"
    )

    assert notebook.eval("answer") == (True, False)
