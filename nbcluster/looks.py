"""How things look: MIME bundles of values, figures as PNG, and ``display()`` in a task.

Runs in executors, which import nothing for it beside the standard library: matplotlib and IPython
are met only where user code has brought them.
"""

from __future__ import annotations

import pprint
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import uuid4

from nbcluster.displays import show

Bundle = tuple[dict[str, Any], dict[str, Any]]

_METHODS: Final = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "application/pdf": "_repr_pdf_",
    "text/latex": "_repr_latex_",
    "application/json": "_repr_json_",
    "application/javascript": "_repr_javascript_",
}
#: Pixels of a figure; a larger one is drawn smaller.
MAX_PIXELS: Final = 4_000_000
#: Characters of a text, and items of a container that is laid out over several lines.
_MAX_TEXT: Final = 200_000
_MAX_ITEMS: Final = 1_000


# --------------------------------------------------------------------------- values


def bundle(value: Any) -> Bundle | None:
    """Return how ``value`` looks, by MIME type, and metadata; None if it has shown itself."""
    cls = type(value)
    if cls.__module__ == "matplotlib.figure" and hasattr(value, "savefig"):
        return _figure(value)
    own = getattr(cls, "_ipython_display_", None)
    if own is not None and _called(own, value) is not _FAILED:
        return None
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    _add_bundle(value, data, metadata)
    for mime, name in _METHODS.items():
        method = getattr(cls, name, None)
        if mime not in data and method is not None:
            _add(mime, _called(method, value), data, metadata)
    if "text/plain" not in data:
        data["text/plain"] = _text(value)
    return data, metadata


_FAILED: Final = object()


def _called(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what a method of the user's object gives; one that fails is told of on stderr."""
    try:
        return method(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - code of the user's class
        name = getattr(method, "__qualname__", "?")
        sys.stderr.write(f"{name}() failed: {type(error).__name__}: {error}\n")
        return _FAILED


def _add_bundle(value: Any, data: dict[str, Any], metadata: dict[str, Any]) -> None:
    method = getattr(type(value), "_repr_mimebundle_", None)
    made = _called(method, value, include=None, exclude=None) if method is not None else None
    if isinstance(made, tuple):
        metadata.update(made[1])
        made = made[0]
    if isinstance(made, dict):
        data.update(made)


def _add(mime: str, made: Any, data: dict[str, Any], metadata: dict[str, Any]) -> None:
    if made is None or made is _FAILED:
        return
    if isinstance(made, tuple):
        made, metadata[mime] = made
    data[mime] = made


def _text(value: Any) -> str:
    is_plain = type(value) in (list, dict, tuple, set, frozenset)
    if is_plain and len(value) <= _MAX_ITEMS:
        text = _called(pprint.pformat, value, compact=True, sort_dicts=False)
    else:
        text = _called(repr, value)
    if not isinstance(text, str):
        return f"<{type(value).__name__}, whose text cannot be made>"
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + " ... cut"


# --------------------------------------------------------------------------- figures


def _figure(figure: Any) -> Bundle | None:
    """Return a figure as PNG, drawn smaller if it has very many pixels, and close it."""
    import io

    width, height = (float(side) * float(figure.dpi) for side in figure.get_size_inches())
    factor = min(1.0, (MAX_PIXELS / max(width * height, 1.0)) ** 0.5)
    if factor < 1:
        sys.stdout.write(
            f"a figure of {width:.0f} x {height:.0f} pixels is shown with "
            f"{width * factor:.0f} x {height * factor:.0f}; save it to a file to have it all\n"
        )
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=figure.dpi * factor, bbox_inches="tight")
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(figure)
    text = f"<Figure of {width:.0f} x {height:.0f} pixels>"
    return {"image/png": drawn.getvalue(), "text/plain": text}, {}


def show_figures(*_: Any, **__: Any) -> None:
    """Show the figures that are open, and close them; `matplotlib.pyplot.show` on engines."""
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    if helpers is None:
        return
    for manager in list(helpers.Gcf.get_all_fig_managers()):
        drawn = _figure(manager.canvas.figure)
        if drawn is not None:
            show(*drawn)


def close_figures() -> None:
    """Drop the figures that are open: they belong to what has failed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


# --------------------------------------------------------------------------- display()


class Handle:
    """What ``display(x, display_id=True)`` returns: shows something else in the same place."""

    def __init__(self, display_id: str) -> None:
        self.display_id = display_id

    def display(self, obj: Any, **kwargs: Any) -> None:
        """Show ``obj`` in a new place of the same name."""
        display(obj, display_id=self.display_id, **kwargs)

    def update(self, obj: Any, **kwargs: Any) -> None:
        """Show ``obj`` in the place of what was shown before."""
        display(obj, display_id=self.display_id, update=True, **kwargs)


def display(
    *objs: Any,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    metadata: dict[str, Any] | None = None,
    transient: dict[str, Any] | None = None,
    display_id: str | bool | None = None,
    raw: bool = False,
    clear: bool = False,
    **kwargs: Any,
) -> Handle | None:
    """Show objects where the task was submitted; as ``IPython.display.display``."""
    name = uuid4().hex if display_id is True else str(display_id or "")
    update = bool(kwargs.get("update"))
    if clear:
        clear_output(wait=True)
    for obj in objs:
        found = (dict(obj), {}) if raw else bundle(obj)
        if found is None:
            continue
        data = {
            mime: value
            for mime, value in found[0].items()
            if (not include or mime in include) and mime not in (exclude or ())
        }
        show(data, {**found[1], **(metadata or {})}, display_id=name, update=update)
    return Handle(name) if display_id and not update else None


def update_display(obj: Any, *, display_id: str, **kwargs: Any) -> None:
    """Show ``obj`` in the place of what was shown under ``display_id``."""
    display(obj, display_id=display_id, **{**kwargs, "update": True})


def publish_display_data(
    data: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    *,
    transient: dict[str, Any] | None = None,
    update: bool = False,
    **_: Any,
) -> None:
    """Show what is a MIME bundle already."""
    name = str((transient or {}).get("display_id") or "")
    show(data, metadata, display_id=name, update=update)


def clear_output(wait: bool = False) -> None:
    """Have the next thing shown in the place of all before it."""
    show({}, clear=True)
