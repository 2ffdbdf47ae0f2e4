"""Whether JupyterLab can show our widgets: half of each lives in the environment of the server.

The kernel, in which nbcluster runs, often has an environment of its own. Then ``pip install`` there
brings only the kernel's half, and the page says "Error displaying widget".
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from nbcluster.cluster.findings import Finding, Grade

#: What is told about, if it is there; nothing depends on it being there.
_PACKAGES: Final = ("ipython", "ipykernel", "ipywidgets", "anywidget", "jupyterlab", "notebook")
#: The first of ipykernel with which a busy kernel can be asked and told things.
_OLDEST_KERNEL: Final = (6, 29)
_INSTALL: Final = "pip install -U ipywidgets anywidget"


@dataclass(frozen=True, slots=True)
class Half:
    """The half of a package that runs in the browser."""

    package: str
    folder: str  #: below ``labextensions``
    release: int  #: numbers of a version that are the same in both halves; 0: they count apart


_HALVES: Final = (
    Half("ipywidgets", "@jupyter-widgets/jupyterlab-manager", 0),
    Half("anywidget", "anywidget", 2),
)
#: The first version of the widget manager that speaks the protocol of ipywidgets 8.
_MANAGER: Final = (5,)


@dataclass(frozen=True, slots=True)
class Server:
    """A Jupyter server that runs."""

    pid: int
    prefix: Path  #: of its Python environment

    @property
    def pip(self) -> str:
        """How to install something there."""
        return f"'{self.prefix / 'bin' / 'python'}' -m {_INSTALL}"


# --------------------------------------------------------------------------- versions


def notebook_packages() -> Iterator[Finding]:
    """Tell the versions of what a notebook needs, as far as they are here."""
    found = []
    for package in _PACKAGES:
        version = _version(package)
        if version:
            found.append(f"{package} {version}")
    yield Finding("notebook", Grade.OK, ", ".join(found) or "nothing of Jupyter is installed here")
    kernel = _version("ipykernel")
    if kernel and _numbers(kernel) < _OLDEST_KERNEL:
        text = f"ipykernel {kernel} is older than what nbcluster is tried with"
        yield Finding("notebook", Grade.WARN, text, "pip install -U ipykernel")


def _version(package: str) -> str:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
    numbers = []
    for part in version.lstrip("~^v").split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


# --------------------------------------------------------------------------- the browser's half


def widget_halves() -> Iterator[Finding]:
    """Look for the halves that run in the browser, in the environment of each server.

    Where no server runs, in this environment, if JupyterLab or Notebook is installed in it.
    """
    servers = running_servers()
    for server in servers:
        where = f"the environment of the Jupyter server {server.pid} ({server.prefix})"
        yield from _halves_in(data_paths(server.prefix), where, server.pip)
    if not servers and (_version("jupyterlab") or _version("notebook")):
        yield from _halves_in(
            data_paths(Path(sys.prefix)), f"this environment ({sys.prefix})", _INSTALL
        )
    elif not servers:
        text = "no Jupyter server runs, and none is installed here, so nothing was looked for"
        yield Finding("widgets", Grade.OK, text)


def _halves_in(paths: list[Path], where: str, remedy: str) -> Iterator[Finding]:
    for half in _HALVES:
        version = front_end_version(half.folder, paths)
        here = _version(half.package)
        what = f"the front end of {half.package}"
        reload = f"{remedy}, then restart the server and reload the page"
        if not version:
            text = f"{what} is missing in {where}: the live view shows plain HTML"
            yield Finding("widgets", Grade.WARN, text, reload)
        elif not _fit(half, version, here):
            text = f"{what} is {version} in {where}, the kernel's half {here}"
            yield Finding("widgets", Grade.WARN, text, f"in both environments: {reload}")
        else:
            yield Finding("widgets", Grade.OK, f"{what}, {version}, is in {where}")


def _fit(half: Half, version: str, here: str) -> bool:
    """Whether both halves of a package understand each other."""
    if not here:
        return True  # that the kernel's is missing, is told elsewhere
    if half.release:
        return _numbers(version)[: half.release] == _numbers(here)[: half.release]
    return (_numbers(version) >= _MANAGER) == (_numbers(here) >= (8,))


def front_end_version(folder: str, paths: list[Path]) -> str:
    """Return the version of an extension of JupyterLab, found as JupyterLab does; empty: none."""
    for path in paths:
        with suppress(OSError, ValueError, AttributeError):
            known = json.loads((path / "labextensions" / folder / "package.json").read_text())
            return str(known.get("version", "?"))
    return ""


def data_paths(prefix: Path) -> list[Path]:
    """Return where a server of an environment looks for its data, the first find counts."""
    paths = [Path(path) for path in os.environ.get("JUPYTER_PATH", "").split(os.pathsep) if path]
    paths += [_data_dir(), prefix / "share" / "jupyter"]
    return [*paths, Path("/usr/local/share/jupyter"), Path("/usr/share/jupyter")]


def _data_dir() -> Path:
    """Return where this user's own data of Jupyter is."""
    known = os.environ.get("JUPYTER_DATA_DIR")
    if known:
        return Path(known)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Jupyter"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "jupyter"


# --------------------------------------------------------------------------- servers


def running_servers() -> list[Server]:
    """Return the Jupyter servers of this user that run, that of this kernel first."""
    parent = os.environ.get("JPY_PARENT_PID", "")  # set by the server for its kernels
    pids = [int(parent)] if parent.isdigit() else []
    runtime = Path(os.environ.get("JUPYTER_RUNTIME_DIR") or _data_dir() / "runtime")
    for path in sorted(runtime.glob("jpserver-*.json")):
        with suppress(ValueError):
            pids.append(int(path.stem.removeprefix("jpserver-")))
    found = (_server(pid) for pid in dict.fromkeys(pids))
    return [server for server in found if server is not None]


def _server(pid: int) -> Server | None:
    """Return a server by its process; None if it is gone, or is no Jupyter server."""
    try:
        command = psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return None
    if not any("jupyter" in Path(word).name or word == "notebook" for word in command[:4]):
        return None
    # Not what the link of an environment leads to: the environment is where the link is.
    python = Path(command[0])
    return Server(pid, python.parent.parent) if python.is_absolute() else None
