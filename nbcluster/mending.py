"""Modules of others that show things: in a task they show where it was submitted.

Runs in executors. What user code never imports is never imported here.
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Final

from nbcluster.looks import display, show_figures


def _mend_ipython(module: ModuleType) -> None:
    """Have IPython's functions call ours, under whatever names user code holds them.

    Outside of a shell they would only print. Their code is replaced and not they themselves: they
    may have been imported by name, or sent from the notebook.
    """
    for name in ("display", "update_display", "publish_display_data", "clear_output"):
        function = getattr(module, name, None)
        code = getattr(function, "__code__", None)
        if code is not None and code is not _CALLS[name].__code__:
            function.__code__ = _CALLS[name].__code__  # type: ignore[union-attr]
            function.__defaults__ = function.__kwdefaults__ = None  # type: ignore[union-attr]


def _call_display(*args: Any, **kwargs: Any) -> Any:
    from nbcluster import looks

    return looks.display(*args, **kwargs)


def _call_update(*args: Any, **kwargs: Any) -> Any:
    from nbcluster import looks

    return looks.update_display(*args, **kwargs)


def _call_publish(*args: Any, **kwargs: Any) -> Any:
    from nbcluster import looks

    return looks.publish_display_data(*args, **kwargs)


def _call_clear(*args: Any, **kwargs: Any) -> Any:
    from nbcluster import looks

    return looks.clear_output(*args, **kwargs)


_CALLS: Final[dict[str, Any]] = {
    "display": _call_display,
    "update_display": _call_update,
    "publish_display_data": _call_publish,
    "clear_output": _call_clear,
}


def _mend_pyplot(module: ModuleType) -> None:
    """Draw without a window, and let ``show()`` show where the task was submitted."""
    if str(module.get_backend()).lower() != "agg":
        module.switch_backend("agg")
    module.show = show_figures  # type: ignore[attr-defined]


_MENDS: Final = {
    "IPython.core.display_functions": _mend_ipython,
    "matplotlib.pyplot": _mend_pyplot,
}


class _Mender(MetaPathFinder):
    """Mends modules when they are imported: user code may do so at any moment."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        mend = _MENDS.get(fullname)
        spec = PathFinder.find_spec(fullname, path, target) if mend else None
        if spec is None or spec.loader is None or mend is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_mend(module: ModuleType) -> None:
            execute(module)
            mend(module)

        spec.loader.exec_module = execute_and_mend  # type: ignore[method-assign]
        return spec


_MENDER: Final = _Mender()


def mend_modules() -> None:
    """Have IPython and matplotlib, here already or still to come, show through us."""
    if _MENDER in sys.meta_path:
        return
    os.environ["MPLBACKEND"] = "agg"  # what was inherited may be that of a notebook
    sys.meta_path.insert(0, _MENDER)
    for name, mend in _MENDS.items():
        module = sys.modules.get(name)
        if module is not None:
            mend(module)


def _no_input(prompt: object = "") -> str:
    raise EOFError(
        "input() cannot be answered on an engine: ask in the notebook, and use the answer's name"
    )


@contextmanager
def in_a_cell() -> Iterator[None]:
    """Give code what it finds in a notebook: ``display``; and no ``input``, which nobody hears."""
    mend_modules()
    former = builtins.input
    builtins.input = _no_input
    builtins.display = display  # type: ignore[attr-defined]
    try:
        yield
    finally:
        builtins.input = former
        del builtins.display  # type: ignore[attr-defined]
