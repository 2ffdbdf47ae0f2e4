"""A notebook's cell on an engine: compiled under its own name, run, and what it made.

Runs in executors, which import nothing for it beside the standard library.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import linecache
import sys
import tokenize
from dataclasses import dataclass
from io import StringIO
from types import CodeType, TracebackType
from typing import Any, Final

from nbcluster import mending
from nbcluster.displays import show
from nbcluster.looks import bundle, close_figures, show_figures
from nbcluster.mending import in_a_cell

#: Under this name the value of the last expression is bound while the cell runs.
_VALUE: Final = "__nbcluster_value__"
_UNBOUND: Final = object()
_NO_CODE: Final = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.DEDENT}
)


@dataclass(frozen=True)
class Cell:
    """One cell to run.

    Parameters
    ----------
    source
        Its text, as it stands in the notebook below the magic.
    filename
        What tracebacks call it, as ``<remote In[6]>``.
    first_line
        Number of the first line of ``source`` in the notebook's cell.
    outputs
        Names whose values come home.
    wants_value
        Whether the value of the last expression comes home; else only how it looks.
    binds
        Names that the cell binds: they are taken back at its end.
    imports
        Modules to import first: those that the notebook reaches as attributes of a package.
    """

    source: str
    filename: str
    first_line: int = 1
    outputs: tuple[str, ...] = ()
    wants_value: bool = False
    binds: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellResult:
    """What came home of a cell with ``-o``."""

    value: Any
    outputs: dict[str, Any]


def arrive(value: Any, outputs: dict[str, Any]) -> Any:
    """Return what came home of a cell: its value, with the outputs if there are any."""
    return CellResult(value, outputs) if outputs else value


class Borrowed:
    """Names of a namespace that a cell uses for itself, until this object is dropped.

    What the cell sends home may be a function that looks them up while it is pickled, which
    happens after the cell has ended: so they are put back when its result is not needed any more.
    """

    def __init__(self, namespace: dict[str, Any], names: set[str]) -> None:
        self._namespace = namespace
        self._before = {name: namespace.get(name, _UNBOUND) for name in names}

    def put_back(self) -> None:
        """Bind the names as they were before."""
        while self._before:
            name, value = self._before.popitem()
            if value is _UNBOUND:
                self._namespace.pop(name, None)
            else:
                self._namespace[name] = value

    __del__ = put_back


class Ran:
    """What came of a cell, on its way home."""

    def __init__(self, value: Any, outputs: dict[str, Any], borrowed: Borrowed) -> None:
        self._value = value
        self._outputs = outputs
        self._borrowed = borrowed

    def __reduce__(self) -> Any:
        return arrive, (self._value, self._outputs)


def compile_cell(cell: Cell) -> tuple[CodeType, bool]:
    """Return the code of a cell, and whether its last statement is an expression to be shown.

    Raises
    ------
    SyntaxError
        With the line as it is counted in the notebook.
    """
    text = text_of(cell)
    remember_source(cell.filename, text)
    tree = ast.parse(text, cell.filename)
    last = tree.body[-1] if tree.body else None
    has_value = isinstance(last, ast.Expr)
    if isinstance(last, ast.Expr):
        target = ast.copy_location(ast.Name(_VALUE, ast.Store()), last)
        tree.body[-1] = ast.copy_location(ast.Assign([target], last.value), last)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(tree, cell.filename, "exec", flags, dont_inherit=True)
    return code, has_value and not _ends_in_semicolon(cell.source)


def text_of(cell: Cell) -> str:
    """Return the source so that its lines have the numbers that they have in the notebook."""
    return "\n" * (cell.first_line - 1) + cell.source


def remember_source(filename: str, text: str) -> None:
    """Let tracebacks show the lines of a cell."""
    linecache.cache[filename] = len(text), None, text.splitlines(keepends=True), filename


def run_cell(cell: Cell, inputs: dict[str, Any]) -> Ran:
    """Run a cell in this process's ``__main__``, where functions that were sent look as well.

    Parameters
    ----------
    cell
        What to run.
    inputs
        Names that it needs of the notebook.

    Raises
    ------
    NameError
        If one of its outputs is not bound at its end.
    Exception
        What the cell raises.
    """
    code, is_shown = compile_cell(cell)
    for module in cell.imports:
        importlib.import_module(module)
    namespace = vars(sys.modules["__main__"])
    # The registry keeps a warning from being shown by the next cell too.
    names = {*inputs, *cell.binds, _VALUE, "__warningregistry__"}
    borrowed = Borrowed(namespace, names)
    namespace.update(inputs)
    namespace.pop(_VALUE, None)
    try:
        with in_a_cell():
            execute(code, namespace)
            value = namespace.pop(_VALUE, None)
            outputs = {name: _output(namespace, name) for name in cell.outputs}
            if is_shown and not cell.wants_value and value is not None:
                _show_value(value)
            show_figures()
    except BaseException as error:
        close_figures()
        borrowed.put_back()
        error.__traceback__ = _own_frames(error, cell.filename)
        raise
    return Ran(value if cell.wants_value else None, outputs, borrowed)


def execute(code: CodeType, namespace: dict[str, Any]) -> None:
    """Run the code of a cell, to the end of what it awaits."""
    made = eval(code, namespace)
    if code.co_flags & inspect.CO_COROUTINE:  # there is an ``await`` at its top level
        import asyncio

        asyncio.run(made)


def _output(namespace: dict[str, Any], name: str) -> Any:
    try:
        return namespace[name]
    except KeyError:
        raise NameError(f"name {name!r}, of -o, is not bound at the end of the cell") from None


def _show_value(value: Any) -> None:
    found = bundle(value)
    if found is not None:
        show(*found)


def _own_frames(error: BaseException, filename: str) -> TracebackType | None:
    """Return the traceback from the cell's own first frame on; all of it, if it has none."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != filename:
        trace = trace.tb_next
    last = trace
    while last is not None and last.tb_next is not None:
        if last.tb_next.tb_frame.f_code.co_filename == mending.__file__:  # as in `input`
            last.tb_next = None
        else:
            last = last.tb_next
    return trace or error.__traceback__


def _ends_in_semicolon(source: str) -> bool:
    try:
        tokens = list(tokenize.generate_tokens(StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return False
    code = [token.string for token in tokens if token.type not in _NO_CODE]
    return bool(code) and code[-1] == ";"
