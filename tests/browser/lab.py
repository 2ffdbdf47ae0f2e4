"""A real JupyterLab on loopback, and notebooks in it, driven by headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import nbformat
import psutil
from playwright.sync_api import Browser, Error, Page, sync_playwright

from tests.helpers import eventually

ROOT: Final = Path(__file__).parents[2]
CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS: Final = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
#: Milliseconds until a condition of a page is given up.
WAIT_MS: Final = 30_000
#: Notes what scripts of widgets, which are blobs, took while the page could do nothing else.
_WATCH_TASKS: Final = """
window.longTasks = [];
new PerformanceObserver((list) => {
  for (const frame of list.getEntries()) {
    const own = frame.scripts.filter((script) => script.sourceURL.startsWith("blob:"));
    for (const script of own) window.longTasks.push([script.duration, script.invoker]);
  }
}).observe({ entryTypes: ["long-animation-frame"] });
"""


class Lab:
    """A running server with folders of its own."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.folder = folder
        self.url = url
        self.token = token

    def write(self, name: str, cells: Sequence[str]) -> None:
        """Write a notebook, a cell for each text."""
        book = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],  # type: ignore[no-untyped-call]
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        (self.folder / name).write_text(json.dumps(book), encoding="utf-8")

    def outputs(self, name: str) -> list[dict[str, Any]]:
        """Return all outputs of a notebook as it was saved."""
        book = json.loads((self.folder / name).read_text(encoding="utf-8"))
        return [output for cell in book["cells"] for output in cell["outputs"]]


@contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """Run a server; when it ends, nothing that it has started may be left."""
    books = folder / "books"
    books.mkdir()
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    own = {
        **{f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")},
        **{
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTERLAB_SETTINGS_DIR": str(settings.parents[1]),
        },
        **{"JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"), "PYTHONPATH": str(ROOT)},
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={books}"]
    command += ["--LabApp.expose_app_in_browser=True"]
    command += ["--JupyterNotebookApp.expose_app_in_browser=True"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
    try:
        info = eventually(lambda: _info(folder, server), 60, (folder / "log").read_text)
        yield Lab(books, info["url"], info["token"])
    finally:
        below = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        server.wait(30)
        eventually(lambda: not [p for p in below if p.is_running()], 10, "processes are left")


def _info(folder: Path, server: subprocess.Popen[bytes]) -> dict[str, Any]:
    path = folder / "RUNTIME" / f"jpserver-{server.pid}.json"
    assert server.poll() is None, (folder / "log").read_text()
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # not there yet, or half of it
        return {}
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Notebook:
    """A notebook that is open in a page of its own."""

    def __init__(self, lab: Lab, page: Page, name: str, kind: str = "lab") -> None:
        self._lab = lab
        self._kind = kind
        self.page = page
        self.name = name
        self.errors: list[str] = []  #: of scripts of the page
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", self._note_error)
        page.add_init_script(_WATCH_TASKS)
        self.load()

    def _note_error(self, error: Error) -> None:
        # Notebook 7 fails in its own settings now and then; modules of widgets are blobs.
        if self._kind == "lab" or "blob:" in (error.stack or ""):
            self.errors.append(f"{error}\n{error.stack}")

    def load(self) -> None:
        """Load the page, or load it anew."""
        path = f"lab/tree/{self.name}?reset" if self._kind == "lab" else f"notebooks/{self.name}"
        mark = "&" if "?" in path else "?"
        self.page.goto(f"{self._lab.url}{path}{mark}token={self._lab.token}")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.wait_for_function("window.jupyterapp !== undefined")

    def command(self, name: str) -> None:
        """Carry out a command of JupyterLab; does not wait for what it begins."""
        self.page.evaluate("name => { window.jupyterapp.commands.execute(name); }", name)

    def await_kernel(self) -> None:
        """Wait until the kernel is idle."""
        self.page.wait_for_function(
            "() => { const w = window.jupyterapp.shell.currentWidget;"
            " return w && w.sessionContext.session?.kernel?.status === 'idle'; }"
        )

    @property
    def is_busy(self) -> bool:
        """Whether a cell runs. The kernel's status tells of messages of widgets too."""
        prompts: list[str] = self.page.evaluate(
            "[...document.querySelectorAll('.jp-InputPrompt')].map(prompt => prompt.textContent)"
        )
        return "[*]:" in prompts

    def run_all(self) -> None:
        """Begin to run all cells."""
        self.await_kernel()
        self.command("notebook:run-all-cells")

    def run_first(self, count: int) -> None:
        """Begin to run the first cells."""
        for number in range(count):
            self.page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(number).click()
            self.command("notebook:run-cell")

    def run_last(self) -> None:
        """Begin to run the last cell."""
        self.page.locator(".jp-Notebook .jp-CodeCell .cm-content").last.click()
        self.command("notebook:run-cell")

    def view(self, condition: str = "") -> None:
        """Wait for a live view of which ``condition``, of its data by ``d``, is true."""
        self.page.wait_for_function(
            "test => [...document.querySelectorAll('.nbcluster-view')].some(view => {"
            " const d = Object.fromEntries(Object.entries(view.dataset)"
            ".map(([k, v]) => [k, Number(v)]));"
            " return new Function('d', `return ${test || true}`)(d); })",
            arg=condition,
        )

    def rows(self, attribute: str = "data-task") -> list[str]:
        """Return an attribute of each row that can be seen, from the top."""
        found: list[str] = self.page.evaluate(
            "name => [...document.querySelectorAll('.nbcluster-row[data-task]')]"
            ".sort((a, b) => a.dataset.at - b.dataset.at).map(row => row.getAttribute(name))",
            attribute,
        )
        return found

    def await_rows(self, condition: str) -> None:
        """Wait until ``condition`` of ``rows``, a list of the data of those to be seen, is true."""
        self.page.wait_for_function(
            "test => { const rows = [...document.querySelectorAll('.nbcluster-row[data-task]')]"
            ".sort((a, b) => a.dataset.at - b.dataset.at).map(row => row.dataset);"
            " return new Function('rows', `return ${test}`)(rows); }",
            arg=condition,
        )

    def printed(self, text: str) -> None:
        """Wait until a cell has printed ``text``; its own source does not count."""
        self.page.wait_for_function(
            "text => [...document.querySelectorAll('.jp-OutputArea-output')]"
            ".some(output => output.textContent.includes(text))",
            arg=text,
        )

    def save(self) -> None:
        """Save it, and wait until it is."""
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")

    def end_kernel(self) -> None:
        """Shut its kernel down."""
        self.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def long_tasks(self) -> list[tuple[float, str]]:
        """Return which scripts of widgets took more than 50 ms, and how long; forget them."""
        found: list[tuple[float, str]] = self.page.evaluate(
            "(() => { const all = window.longTasks; window.longTasks = []; return all; })()"
        )
        return [task for task in found if task[0] > 50]
