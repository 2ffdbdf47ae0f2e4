"""Which kind of view suits this session."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

from nbcluster.cluster.frontend import data_paths, front_end_version, running_servers
from nbcluster.options import unknown_option

#: ``live`` needs anywidget, ``core`` only ipywidgets, ``html`` neither; ``off`` shows nothing.
MODES: Final = ("live", "core", "html", "off")
VARIABLE: Final = "NBCLUSTER_VIEW"


def choose(mode: str | None = None) -> str:
    """Return the kind of view to show: one of `MODES`, or ``text`` where there is no notebook.

    Parameters
    ----------
    mode
        One of `MODES`; default: what ``NBCLUSTER_VIEW`` says, else what will work here.

    Raises
    ------
    OptionError
        If there is no such mode (the nearest one is named).
    """
    asked = mode or os.environ.get(VARIABLE) or ""
    if asked and asked not in MODES:
        raise unknown_option(asked, MODES, "view")
    if asked == "off":
        return "off"
    if kernel() is None:
        return "text"
    if asked:
        return asked
    wished = (_best_of_server(), "live" if _is_installed("anywidget") else "core")
    return max(wished, key=MODES.index) if _is_installed("ipywidgets") else "html"


def shell() -> Any:
    """Return the IPython shell this runs in, or None. Imports nothing."""
    # Not sys.modules["IPython"].get_ipython: it may be half imported in another thread.
    interactive = getattr(
        sys.modules.get("IPython.core.interactiveshell"), "InteractiveShell", None
    )
    if interactive is None or not interactive.initialized():
        return None
    return interactive.instance()


def kernel() -> Any:
    """Return the Jupyter kernel this runs in, or None: scripts, and IPython on a terminal."""
    return getattr(shell(), "kernel", None)


def is_unattended() -> bool:
    """Return whether a program runs the notebook (nbclient, papermill): it answers no questions."""
    return getattr(kernel(), "_allow_stdin", True) is False


def has_subshells() -> bool:
    """Return whether messages of a front end are taken in while a cell runs."""
    return bool(getattr(kernel(), "_supports_kernel_subshells", False))


def best_of(paths: list[Path]) -> str:
    """Return what the front ends of a Jupyter server that has its data in ``paths`` can show."""
    if not front_end_version("@jupyter-widgets/jupyterlab-manager", paths):
        return "html"
    return "live" if front_end_version("anywidget", paths) else "core"


@cache
def _best_of_server() -> str:
    """Return what can be shown by the server that has started this kernel.

    It may be in another environment, or not be on this machine, or no Jupyter server at all: where
    that tells nothing, it is taken to show everything.
    """
    own = os.environ.get("JPY_PARENT_PID", "")
    for server in running_servers():
        if str(server.pid) == own:
            return best_of(data_paths(server.prefix))
    return "live"


@cache
def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
