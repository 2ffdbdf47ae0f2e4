"""``demo``: runs the tour notebook headless and prints what it ends with."""

from __future__ import annotations

import importlib.util
import os
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import nbcluster
from nbcluster.cli.flags import Flags, Verb
from nbcluster.errors import NbclusterError

_NOTEBOOK: Final = Path("notebooks") / "01_tour.ipynb"
_CELL_S: Final = 300
#: Cells whose output is printed bear this tag.
SHOWN: Final = "demo-shows"


def demo_flags(flags: Flags) -> None:
    """Add the flags of ``demo``."""
    flags.flag("--notebook", metavar="PATH", help="the notebook; default: the tour of nbcluster")
    flags.flag("--save", action="store_true", help="write its outputs into the notebook")


def run_demo(args: Namespace) -> int:
    """Run the notebook, with a line for each part, then print the outputs of its last cells."""
    path = Path(args.notebook) if args.notebook else find()
    missing = [name for name in ("nbclient", "ipykernel", "sklearn") if not _is_there(name)]
    if missing:
        raise NbclusterError(
            f"the tour needs {', '.join(missing)}; run: pip install 'nbcluster[examples]'"
        )
    import nbformat

    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    execute(notebook, path.parent)
    if args.save:
        nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    for text in shown(notebook):
        print(f"\n{text.rstrip()}")
    return 0


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def find() -> Path:
    """Return the tour: below this folder, or beside the package.

    Raises
    ------
    NbclusterError
        If it is in neither place, since it is not part of an installed package.
    """
    package = Path(nbcluster.__file__).parent
    places = (Path.cwd() / _NOTEBOOK, Path.cwd() / _NOTEBOOK.name, package.parent / _NOTEBOOK)
    for place in places:
        if place.is_file():
            return place
    raise NbclusterError(
        f"{_NOTEBOOK} is neither here nor beside the package. It comes with the source: run this "
        "in a clone of the project, or name a notebook with --notebook"
    )


def execute(notebook: Any, folder: Path) -> None:
    """Run all cells in a kernel of their own; the outputs are in ``notebook`` then.

    Raises
    ------
    NbclusterError
        If a cell fails; it ends with the cell's own traceback.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbclient.exceptions import DeadKernelError as KernelDied

    began = time.monotonic()

    def tell(cell: Any, cell_index: int) -> None:
        title = title_of(cell)
        if title:
            print(f"{time.monotonic() - began:6.1f} s  {title}", flush=True)

    client = NotebookClient(
        notebook,
        timeout=_CELL_S,
        record_timing=False,  # or each run would change every cell of a stored notebook
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=tell,
        extra_arguments=["--log-level=ERROR"],  # a kernel warns of loopback ports since ipykernel 7
    )
    try:
        client.execute(env=_environment())
    except (CellExecutionError, KernelDied, RuntimeError, TimeoutError) as error:
        raise NbclusterError(f"the notebook stopped:\n{error}") from None


def _environment() -> dict[str, str]:
    """Return our environment, with the package where the kernel finds it, installed or not.

    A cluster that a notebook starts without a name has one of its own: others may be running.
    """
    paths = [str(Path(nbcluster.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, paths))
    return os.environ | {"PYTHONPATH": path, "NBCLUSTER_NAME": f"demo-{os.getpid()}"}


def title_of(cell: Any) -> str:
    """Return the heading of a text cell, empty for any other cell."""
    first = str(cell.source).partition("\n")[0]
    is_heading = cell.cell_type == "markdown" and first.startswith("#")
    return first.lstrip("#").strip() if is_heading else ""


def shown(notebook: Any) -> Iterator[str]:
    """Yield the text outputs of the cells that are tagged to be shown."""
    for cell in notebook.cells:
        if SHOWN in cell.metadata.get("tags", ()):
            for output in cell.get("outputs", ()):
                text = output.get("text") or output.get("data", {}).get("text/plain")
                if text:
                    yield text


VERBS = {"demo": Verb(demo_flags, run_demo)}
