"""A cell as an engine runs it, and how what it makes looks. No process."""

from __future__ import annotations

import builtins
import pickle
import sys
import traceback
import types
from collections.abc import Iterator
from typing import Any

import pytest

from nbcluster import displays, mending
from nbcluster.cells import Cell, CellResult, compile_cell, run_cell
from nbcluster.looks import bundle

Shown = list[tuple[dict[str, Any], str, bool, bool]]


@pytest.fixture
def shown() -> Iterator[Shown]:
    """Return the list of what is shown meanwhile."""
    seen: Shown = []

    def take(
        data: dict[str, Any], metadata: dict[str, Any], name: str, update: bool, clear: bool
    ) -> bool:
        seen.append((data, name, update, clear))
        return True

    former = displays._show
    displays.provide_show(take)
    yield seen
    displays.provide_show(former)


@pytest.fixture(autouse=True)
def main(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Return the namespace of a ``__main__`` of this test alone; importing goes on as before."""
    module = types.ModuleType("__main__")
    module.__builtins__ = builtins  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setenv("MPLBACKEND", "agg")
    before = list(sys.meta_path)
    yield vars(module)
    sys.meta_path[:] = before


def run(source: str, inputs: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    """Run a cell and return what comes home."""
    cell = Cell(source, "<remote In[1]>", **kwargs)
    return pickle.loads(pickle.dumps(run_cell(cell, inputs or {})))


# --------------------------------------------------------------------------- values and names


def test_the_value_of_the_last_expression_comes_home_if_it_is_wanted() -> None:
    assert run("a = 2\na + x", {"x": 3}, wants_value=True) == 5
    assert run("a = 2\na + 3") is None


def test_a_cell_that_ends_with_no_expression_has_no_value() -> None:
    assert run("a = 2", wants_value=True) is None


def test_outputs_come_home_beside_the_value() -> None:
    came = run("a = 2\nb = 3\na * b", outputs=("a", "b"), wants_value=True)

    assert came == CellResult(6, {"a": 2, "b": 3})


def test_an_output_that_is_not_bound_at_the_end_is_named() -> None:
    with pytest.raises(NameError, match="'a', of -o, is not bound"):
        run("if False:\n a = 2", outputs=("a",))


def test_functions_of_the_notebook_see_what_the_cell_binds(main: dict[str, Any]) -> None:
    exec("def area(): return side ** 2", main)

    assert run("side = 4\narea()", {"side": 1}, binds=("side",), wants_value=True) == 16


def test_a_cell_leaves_no_name_behind(main: dict[str, Any]) -> None:
    main["kept"] = "old"
    before = set(main)

    run("kept = 1\nnew = 2\nx", {"x": 3}, binds=("kept", "new"))

    assert main["kept"] == "old"
    assert set(main) == before


def test_a_cell_that_fails_leaves_no_name_behind(main: dict[str, Any]) -> None:
    before = set(main)

    with pytest.raises(ZeroDivisionError) as caught:
        run("new = 2\nnew / x", {"x": 0}, binds=("new",))

    assert set(main) == before, caught  # though the error is still looked at


def test_names_stay_bound_until_the_result_is_dropped(main: dict[str, Any]) -> None:
    ran = run_cell(Cell("new = 2", "<remote In[1]>", binds=("new",)), {})
    assert main["new"] == 2

    del ran

    assert "new" not in main


def test_a_cell_may_await_at_its_top_level() -> None:
    source = "import asyncio\nawait asyncio.sleep(0)\n[i async for i in g()]"
    source = "async def g():\n yield 1\n" + source

    assert run(source, wants_value=True) == [1]


# --------------------------------------------------------------------------- errors


def failing(source: str, **kwargs: Any) -> traceback.TracebackException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
        run(source, **kwargs)
    trace = caught.value.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != "<remote In[1]>":
        trace = trace.tb_next
    return traceback.TracebackException(type(caught.value), caught.value, trace)


def test_a_traceback_has_the_lines_of_the_notebook_and_no_frames_of_ours() -> None:
    told = "".join(failing("def f():\n    return 1 / 0\nf()", first_line=3).format())

    assert 'File "<remote In[1]>", line 5, in <module>' in told
    assert 'File "<remote In[1]>", line 4, in f\n    return 1 / 0\n' in told
    assert "nbcluster" not in told


def test_a_syntax_error_has_the_line_of_the_notebook() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile_cell(Cell("a = 1\nb = (", "<remote In[1]>", 2))

    assert caught.value.lineno == 3


def test_nobody_is_asked_for_input() -> None:
    told = "".join(failing("input('name? ')").format())

    assert "EOFError: input() cannot be answered on an engine" in told
    assert "mending.py" not in told


def test_input_and_display_are_as_before_after_a_cell() -> None:
    run("display, input")

    assert builtins.input is not mending._no_input
    assert not hasattr(builtins, "display")


# --------------------------------------------------------------------------- shown


def test_the_last_value_is_shown_as_it_looks(shown: Shown) -> None:
    run("class A:\n def _repr_html_(self): return '<b>a</b>'\n def __repr__(self): return 'a'\nA()")

    assert [data for data, *_ in shown] == [{"text/html": "<b>a</b>", "text/plain": "a"}]


@pytest.mark.parametrize("source", ["1;", "1 ;  # one", "None", "a = 1", "1\na = 2"])
def test_nothing_is_shown_of(source: str, shown: Shown) -> None:
    run(source)

    assert shown == []


def test_a_semicolon_in_a_text_or_comment_hides_nothing(shown: Shown) -> None:
    run("'a;'  # b;")

    assert shown[0][0] == {"text/plain": "'a;'"}


def test_what_is_displayed_can_be_updated_and_cleared(shown: Shown) -> None:
    run("h = display(1, display_id='x')\nh.update(2)\ndisplay(3, clear=True)")

    assert [(d.get("text/plain"), *rest) for d, *rest in shown] == [
        ("1", "x", False, False),
        ("2", "x", True, False),
        (None, "", False, True),
        ("3", "", False, False),
    ]


def test_a_method_that_fails_spoils_no_other_look(capsys: pytest.CaptureFixture[str]) -> None:
    class Bad:
        def _repr_html_(self) -> str:
            raise ValueError("no")

        def _repr_png_(self) -> bytes:
            return b"png"

    found = bundle(Bad())

    assert found is not None
    assert found[0]["image/png"] == b"png"
    assert "_repr_html_() failed: ValueError: no" in capsys.readouterr().err


def test_a_class_looks_like_its_name_and_not_like_its_objects() -> None:
    class Table:
        def _repr_html_(self) -> str:
            return "<table>"

    found = bundle(Table)

    assert found is not None
    assert list(found[0]) == ["text/plain"]


def test_metadata_of_a_method_comes_along() -> None:
    class Image:
        def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
            return b"png", {"width": 3}

    found = bundle(Image())

    assert found is not None
    assert found[1] == {"image/png": {"width": 3}}


def test_a_long_text_is_cut() -> None:
    found = bundle("x" * 1_000_000)

    assert found is not None
    assert len(found[0]["text/plain"]) < 300_000
