"""``%%remote``: from the text of a cell to tasks, and back to names of the notebook."""

from __future__ import annotations

import ast
import sys
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from threading import RLock
from types import FunctionType, ModuleType
from typing import Any, Final

from IPython.core.error import UsageError

from nbcluster.cells import Cell, CellResult, compile_cell, remember_source, run_cell, text_of
from nbcluster.client.cluster import Cluster
from nbcluster.client.future import Future
from nbcluster.core.model import Ended
from nbcluster.errors import OptionError, UnpicklableError
from nbcluster.notebook.analysis import CellNames, names_of
from nbcluster.notebook.areas import Area
from nbcluster.notebook.session import Session, say
from nbcluster.notebook.tracebacks import CellSyntaxError, as_shown
from nbcluster.notebook.waiting import wait_here
from nbcluster.serial.code import all_names
from nbcluster.serial.session import is_shells, needed_submodules

#: Bytes of a name at which it is said once that it goes along.
_LARGE_BYTES: Final = 10_000_000
_OPTIONS: Final = ("group", "retries", "timeout", "priority")


class CellFuture(Future[Any]):
    """The future of a cell: its result is the value of the last expression."""

    _outputs: dict[str, Any] | None = None
    _bring: Callable[[], None] | None = None  #: binds the outputs, once the cell has ended

    @property
    def outputs(self) -> dict[str, Any]:
        """What the names of ``-o`` were bound to at the end of the cell; waits for it."""
        self.result()
        return dict(self._outputs or {})

    def result(self, timeout: float | None = None) -> Any:
        """Return the value of the cell; by then its outputs are bound."""
        value = super().result(timeout)
        if self._bring is not None:
            self._bring()
        return value

    def _load(self, ended: Ended) -> Any:
        came = super()._load(ended)
        if not isinstance(came, CellResult):
            return came
        self._outputs = came.outputs
        return came.value


@dataclass(frozen=True)
class Plan:
    """What is to be sent, and what is to come home."""

    cell: Cell
    inputs: dict[str, Any]
    title: str  #: name of its tasks


# --------------------------------------------------------------------------- planning


def plan_cell(session: Session, args: Namespace, body: str) -> Plan:
    """Look at a cell before anything of it is sent.

    Raises
    ------
    UsageError
        If it is empty, or one of its names is not there.
    CellSyntaxError
        If it is no Python.
    """
    number = session.shell.execution_count
    out = tuple(dict.fromkeys(name for names in args.out or () for name in names))
    extra = [name for names in args.inputs or () for name in names]
    _refuse_magic(body)
    filename = f"<remote In[{number}]>"
    cell = Cell(body, filename, _first_line(session, body), out, args.name is not None)
    tree = _parsed(cell)
    if not tree.body:
        raise UsageError("%%remote: the cell is empty; nothing was sent")
    names = names_of(tree)
    _check_names(session, names, out, extra)
    plan = _planned(session, cell, names, extra, f"In[{number}]")
    if args.name is not None and not args.bg and not isinstance(tree.body[-1], ast.Expr):
        raise UsageError(
            f"%%remote {args.name}: the cell's last line is no expression, so it has no value; "
            f"a name that it binds comes home with -o {args.name}"
        )
    return plan


def plan_expression(session: Session, text: str) -> Plan:
    """Look at the expression of ``%remote`` before it is sent."""
    cell = Cell(text, f"<remote In[{session.shell.execution_count}]>", wants_value=True)
    tree = _parsed(cell)
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        raise UsageError("%remote takes one expression; for more there is %%remote")
    return _planned(
        session, cell, names_of(tree), [], text if len(text) < 80 else text[:77] + "..."
    )


def _refuse_magic(body: str) -> None:
    for line in body.splitlines():
        if line.strip():
            word = line.split()[0]
            if word.startswith("%%"):
                raise UsageError(f"{word} inside of %%remote: a cell can have one such line only")
            return


def _parsed(cell: Cell) -> ast.Module:
    remember_source(cell.filename, text_of(cell))
    try:
        compile_cell(cell)
        return ast.parse(text_of(cell), cell.filename)
    except (SyntaxError, ValueError) as error:
        if not isinstance(error, SyntaxError):  # a zero byte
            raise UsageError(f"the cell is no Python: {error}") from None
        if (error.text or "").lstrip().startswith(("%", "!")):
            error.msg += " (magics and shell commands do not run on engines)"
        raise CellSyntaxError(error) from None


def _first_line(session: Session, body: str) -> int:
    """Return the number that the first line of the body has in the whole cell."""
    history = session.shell.history_manager.input_hist_raw
    raw = str(history[-1]) if history else ""
    head = raw[: -len(body.rstrip())] if raw.rstrip().endswith(body.rstrip()) else "%%remote\n"
    return head.count("\n") + 1


def _check_names(
    session: Session, names: CellNames, out: tuple[str, ...], extra: list[str]
) -> None:
    for name in extra:
        if name not in session.names:
            raise UsageError(f"-i {name}: there is no such name in the notebook")
    for name in out:
        if name not in names.binds and not names.has_star:
            raise UsageError(f"-o {name}: the cell never assigns it; nothing was sent")


def _planned(session: Session, cell: Cell, names: CellNames, extra: list[str], title: str) -> Plan:
    space = session.names
    wanted = dict.fromkeys([*names.reads, *extra])
    inputs = {
        name: space[name]
        for name in wanted
        if name in space and (name in extra or not _is_the_shells(name, space[name]))
    }
    _mention_large(session, inputs)
    code, _ = compile_cell(cell)
    binds = tuple(sorted(names.binds))
    imports = _submodules(inputs, all_names(code))
    return Plan(replace(cell, binds=binds, imports=imports), inputs, title)


def _is_the_shells(name: str, value: Any) -> bool:
    """Return whether the engine has a name of its own for what it is here."""
    if name == "display":
        return getattr(value, "__module__", "").startswith("IPython.")
    return is_shells(name, value)


def _submodules(inputs: dict[str, Any], names: frozenset[str]) -> tuple[str, ...]:
    """Return modules that the cell reaches as attributes of packages: they are imported first."""
    modules = {name: value for name, value in inputs.items() if isinstance(value, ModuleType)}
    if not modules:
        return ()
    code = compile(f"lambda: ({', '.join(modules)},)", "<inputs>", "eval").co_consts[0]
    return tuple(needed_submodules(FunctionType(code, modules), names))


def _mention_large(session: Session, inputs: dict[str, Any]) -> None:
    for name, value in inputs.items():
        size = _size_of(value)
        if size > _LARGE_BYTES and name not in session.told:
            session.told.add(name)
            say(f"{name} goes along: {size / 1e6:.0f} MB")


def _size_of(value: Any) -> int:
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size
    usage = getattr(value, "memory_usage", None)
    if callable(usage) and type(value).__module__.partition(".")[0] == "pandas":
        used = usage()
        return int(getattr(used, "sum", lambda: used)())
    return 0 if isinstance(value, type) else sys.getsizeof(value, 0)


# --------------------------------------------------------------------------- sending


def run_cell_magic(session: Session, args: Namespace, body: str) -> None:
    """Do what ``%%remote`` says."""
    cluster = session.cluster(args.cluster)
    if args.all and args.copies:
        raise UsageError("%%remote: --all and -n contradict each other")
    plan = plan_cell(session, args, body)
    engines = _engines(cluster, args.group) if args.all else []
    futures = _submit(session, cluster, args, plan, engines)
    home = _Home(session, args, plan.cell.outputs, engines)
    if args.bg:
        home.bring_later(futures)
        return
    wait_here(session, cluster, futures)
    home.bring(futures)


def run_expression(session: Session, args: Namespace, text: str) -> Future[Any]:
    """Do what ``%remote`` says."""
    cluster = session.cluster(args.cluster)
    return _submit(session, cluster, args, plan_expression(session, text), [])[0]


def _engines(cluster: Cluster, group: str | None) -> list[str]:
    table = cluster._client.ask("engines")
    rows = zip(table["id"], table["state"], table["group"], strict=True)
    found = [
        engine
        for engine, state, own in rows
        if state in ("active", "starting") and group in (None, own)
    ]
    if not found:
        raise UsageError("%%remote --all: there is no engine; %cluster scale N starts some")
    return found


def _submit(
    session: Session, cluster: Cluster, args: Namespace, plan: Plan, engines: list[str]
) -> list[Future[Any]]:
    options = {key: getattr(args, key) for key in _OPTIONS if getattr(args, key) is not None}
    places: list[str | None] = list(engines) or [None] * (getattr(args, "copies", None) or 1)
    futures: list[Future[Any]] = []
    try:
        chosen = cluster.options(name=plan.title, **options)
        for engine in places:
            if engine is not None:
                chosen = chosen.options(engine=engine)
            future: Future[Any] = chosen.submit(run_cell, plan.cell, plan.inputs)
            future.__class__ = CellFuture  # the client makes all its futures of one class
            futures.append(future)
    except OptionError as error:
        raise UsageError(f"%%remote: {error}") from None
    except UnpicklableError as error:
        path = error.path.removeprefix("args[1] -> key ")  # of `run_cell`
        raise UnpicklableError("name that the cell reads", path, error.reason) from None
    except BaseException:
        cluster._client.cancel(future.id for future in futures)
        raise
    return futures


# --------------------------------------------------------------------------- coming home


class _Home:
    """Binds what comes home to names of the notebook."""

    def __init__(
        self, session: Session, args: Namespace, outputs: tuple[str, ...], engines: list[str]
    ) -> None:
        self._session = session
        self._name: str | None = args.name
        self._outputs = outputs
        self._engines = engines
        self._is_single = not engines and not args.copies

    def bring(self, futures: list[Future[Any]]) -> None:
        """Bind values and outputs of tasks that have ended; raise what one of them raised."""
        for future in futures:
            _raise_error(future)
        if self._name is not None:
            self._bind(self._name, [future.result() for future in futures])
        self._bind_outputs(futures)

    def bring_later(self, futures: list[Future[Any]]) -> None:
        """Bind the futures, show them, and bind the outputs when all have ended."""
        if self._name is not None:
            self._bind(self._name, list(futures))
        for future in futures:
            _display(future)
        if self._session.is_kernel:
            Area(self._session.shell, futures).open()
        if self._outputs:
            bring = _Once(lambda: self._bind_outputs(futures), futures)
            for future in futures:
                future._bring = bring  # type: ignore[attr-defined]
                future.add_done_callback(lambda _: bring())

    def _bind_outputs(self, futures: list[Future[Any]]) -> None:
        for name in self._outputs:
            self._bind(name, [f.outputs[name] for f in futures])  # type: ignore[attr-defined]

    def _bind(self, name: str, values: list[Any]) -> None:
        value: Any = values
        if self._is_single:
            value = values[0]
        elif self._engines:
            value = dict(zip(self._engines, values, strict=True))
        self._session.names[name] = value


class _Once:
    """Acts once, as soon as all of a cell's tasks have succeeded; who comes meanwhile waits."""

    def __init__(self, act: Callable[[], None], futures: list[Future[Any]]) -> None:
        self._act = act
        self._futures = futures
        self._lock = RLock()  # to act asks for results, which asks for this
        self._is_over = False

    def __call__(self) -> None:
        with self._lock:
            if not self._is_over and all(f.state == "succeeded" for f in self._futures):
                self._is_over = True
                self._act()


def _raise_error(future: Future[Any]) -> None:
    """Raise what a task ended with, if it has failed, so that only its own frames are shown."""
    try:
        error = future.exception()
    except CancelledError as cancelled:
        error = cancelled
        error.args = error.args or (f"task {future.id} was cancelled",)
    if error is not None:
        raise as_shown(error, future)


def _display(obj: Any) -> None:
    from IPython.display import display

    display(obj)  # type: ignore[no-untyped-call]
