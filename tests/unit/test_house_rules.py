"""Promises about the source that a machine can watch and that no linter watches for us."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "nbcluster"

MAX_FILE_LINES: Final = 450
MAX_FUNCTION_LINES: Final = 60  #: its docstring apart

#: Loaded only when they are used: together they would cost a second at each start.
HEAVY: Final = frozenset(
    {
        *("pandas", "numpy", "IPython", "ipywidgets", "anywidget", "traitlets", "dill", "sqlite3"),
        *("tornado", "distributed", "dask", "prometheus_client", "cronsim", "asyncio"),
    }
)
#: Third parties that `import nbcluster` may load.
LIGHT: Final = frozenset({"msgspec", "psutil", "zmq"})

#: Where bytes of others become objects. The master, its journal and the transport carry payloads
#: and never open them.
MAY_UNPICKLE: Final = ("serial",)
MAY_USE_SERIAL: Final = ("serial", "client", "cluster", "engine", "backends", "notebook")

#: The borders where every exception must be met, file -> why. Elsewhere the error that is meant
#: is named, or the exception is raised again.
MAY_CATCH_ALL: Final[dict[str, str]] = {
    "cli/output.py": "what shows a result is code of the user's",
    "client/callbacks.py": "callbacks are code of the user's, and one must not end all others",
    "client/opening.py": "unpickling a result runs code of the user's",
    "client/link.py": "one bad message must not end all receiving",
    "client/mapping.py": "the user's iterables run there; what they raise comes in its turn",
    "cluster/executor.py": "the program's streams may be objects of the user's",
    "engine/executor/attempt.py": "the border to user code",
    "engine/executor/failures.py": "methods of the user's exceptions",
    "looks.py": "methods of the user's objects tell how they look",
    "notebook/debugging.py": "what the call raises is what is looked for",
    "serial/chains.py": "user code runs while its objects are pickled",
    "serial/culprit.py": "user code runs while its objects are pickled",
    "serial/digest.py": "user code runs while its objects are pickled",
    "serial/picklers.py": "user code runs while its objects are pickled",
    "serial/unpack.py": "the user's exceptions are tried out before they are sent",
    "serial/watch.py": "comparing the user's objects runs code of theirs",
}

PICKLERS: Final = frozenset({"pickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve"})
LOADERS: Final = frozenset({"load", "loads", "Unpickler", "_Unpickler", "open"})


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def shown(path: Path, node: ast.AST | None = None) -> str:
    line = f":{getattr(node, 'lineno', 0)}" if node is not None else ""
    return f"{path.relative_to(ROOT)}{line}"


def floor(path: Path) -> str:
    """Return the package of `path` below nbcluster, or the module's own name at the top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


# --------------------------------------------------------------------------- imports


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that `statement` adds in a fresh interpreter."""
    code = (
        "import sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import nbcluster") & HEAVY == set()


def test_importing_the_package_loads_no_third_party_but_the_light_ones() -> None:
    loaded = loaded_by("import nbcluster") - set(sys.stdlib_module_names)

    assert {name for name in loaded if not name.startswith("_")} <= {"nbcluster", *LIGHT}


@pytest.mark.parametrize("package", ["core", "wire", "transport", "engine", "master", "client"])
def test_no_process_pays_for_what_only_the_notebook_needs(package: str) -> None:
    if not list((PACKAGE / package).glob("*.py")):
        pytest.skip(f"nbcluster.{package} does not exist")

    loaded = loaded_by(f"import nbcluster.{package}")

    assert loaded & {"pandas", "numpy", "IPython", "ipywidgets", "anywidget", "tornado"} == set()


def imported_by(path: Path) -> Iterator[Path]:
    """Give the modules of ours that a module names, be it only as types."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nbcluster"):
            for alias in node.names:
                whole = ROOT.joinpath(*f"{node.module}.{alias.name}".split(".")).with_suffix(".py")
                part = ROOT.joinpath(*str(node.module).split(".")).with_suffix(".py")
                yield whole if whole.exists() else part


def test_no_modules_name_each_other_in_a_circle_not_even_as_types() -> None:
    faces = {path for path in sources() if path.name == "__init__.py"}  # they only hand names on
    graph = {path: set(imported_by(path)) - faces for path in set(sources()) - faces}

    assert any(len(names) > 3 for names in graph.values())
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which shows the circle


# --------------------------------------------------------------------------- size


@pytest.mark.parametrize("path", sources(), ids=shown)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    total = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        doc = function.body[0]
        total -= (doc.end_lineno or 0) - doc.lineno + 1
    return total


def test_a_function_fits_on_a_page() -> None:
    long = [
        f"{shown(path, function)} {function.name}: {length(function)} lines"
        for path in sources()
        for function in functions(tree(path))
        if length(function) > MAX_FUNCTION_LINES
    ]

    assert long == []


# --------------------------------------------------------------------------- unpickling


def unpicklings(module: ast.Module) -> Iterator[ast.AST]:
    """Yield each place that names a function which turns bytes into objects."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {a.asname or a.name for a in node.names if a.name in PICKLERS}
        elif isinstance(node, ast.ImportFrom) and node.module in PICKLERS:
            yield from [node] * any(a.name in LOADERS for a in node.names)
    for node in ast.walk(module):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in names:
                yield from [node] * (attr in LOADERS)


def test_only_the_serialiser_unpickles() -> None:
    found = [
        shown(path, node)
        for path in sources()
        if floor(path) not in MAY_UNPICKLE
        for node in unpicklings(tree(path))
    ]

    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle\npickle.loads(b'')",
        "import dill as d\nd.load(f)",
        "from pickle import loads",
        "from dill import Unpickler as U",
    ],
)
def test_the_rule_above_sees_each_way_to_unpickle(code: str) -> None:
    assert list(unpicklings(ast.parse(code)))


def imports(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Yield the dotted names that a file imports."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def test_master_journal_and_transport_never_reach_the_serialiser() -> None:
    found = {
        shown(path, node)
        for path in sources()
        if floor(path) not in MAY_USE_SERIAL
        for name, node in imports(path)
        if name.startswith("nbcluster.serial")
    }

    assert found == set()


# --------------------------------------------------------------------------- errors


def is_broad(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"})
        for kind in kinds
    )


def raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise)


def catches_all(path: Path) -> Iterator[ast.AST]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler) and is_broad(node) and not raises_again(node):
            yield node
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            all_kinds = {ast.unparse(arg) for arg in node.args} & {"Exception", "BaseException"}
            yield from [node] * bool(all_kinds)


def test_every_exception_is_met_only_at_the_borders() -> None:
    found = [
        shown(path, node)
        for path in sources()
        if path.relative_to(PACKAGE).as_posix() not in MAY_CATCH_ALL
        for node in catches_all(path)
    ]

    assert found == []


def test_every_border_on_the_list_still_needs_to_be_there() -> None:
    assert [name for name in MAY_CATCH_ALL if not list(catches_all(PACKAGE / name))] == []


def test_errors_that_leave_their_package_live_in_one_module() -> None:
    exported = {
        name.rpartition(".")[2]
        for path in sources()
        if path.name == "__init__.py"
        for name, _ in imports(path)
    }
    found = [
        f"{shown(path, node)} {node.name}"
        for path in sources()
        if path != PACKAGE / "errors.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and node.name in exported
        if any(ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases)
    ]

    assert found == []


# --------------------------------------------------------------------------- words

#: Put together here, so that this file does not break its own rule.
UNFINISHED: Final = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK:"]))
TEXTS: Final = frozenset(
    {".py", ".md", ".toml", ".ipynb", ".yml", ".yaml", ".json", ".cfg", ".js", ".css", ".txt", ""}
)
#: Made by programs, or not ours.
SKIPPED: Final = frozenset({"__pycache__", "build", "dist", "node_modules", "results"})


def texts() -> Iterator[Path]:
    """Yield the project's own text files."""
    for top in sorted(ROOT.iterdir()):
        if top.name in SKIPPED or (top.name.startswith(".") and top.name != ".ci"):
            continue
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            parts = path.relative_to(ROOT).parts
            hidden = any(part.startswith(".") for part in parts[1:]) or SKIPPED & set(parts)
            if path.is_file() and path.suffix in TEXTS and not hidden:
                yield path


def test_nothing_unfinished_is_left_in_the_source() -> None:
    found = [
        shown(path)
        for path in texts()
        if path.suffix == ".py" and UNFINISHED.search(path.read_text(encoding="utf-8"))
    ]

    assert found == []


def test_no_function_of_the_package_is_a_placeholder() -> None:
    found = [
        shown(path, node)
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Name) and node.id == "NotImplementedError"
    ]

    assert found == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    places = [str(place) for place in (ROOT, Path.home()) if len(place.parts) > 2]
    words = re.compile("|".join([*map(re.escape, places), r"/(?:home|Users)/\w+/"]))

    found = [
        f"{shown(path)}: {match.group()}"
        for path in texts()
        if (match := words.search(path.read_text(encoding="utf-8", errors="replace")))
    ]

    assert found == []


def test_every_exemption_from_a_check_names_its_rule() -> None:
    bare = re.compile(r"#\s*(?:noqa(?!:)|type:\s*ignore(?!\[)|ruff:\s*noqa(?!:))")
    found = [
        f"{shown(path)}:{number}"
        for path in texts()
        if path.suffix == ".py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if bare.search(line) and "bare = re" not in line
    ]

    assert found == []
