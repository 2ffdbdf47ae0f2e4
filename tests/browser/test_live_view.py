"""The live view in a real JupyterLab: it moves, and does what it is told, while a cell runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers import eventually

if TYPE_CHECKING:
    from tests.browser.conftest import Open
    from tests.browser.lab import Lab, Notebook

START = """
import os, time, nbcluster
from nbcluster.notebook.view import show_view
cluster = nbcluster.start(engines=2, name=f"b{os.getpid()}")
view = show_view(cluster)
"""
#: Tasks that end as soon as a file is there, and others.
TASKS = """
from pathlib import Path
gate = Path(f"gate-{os.getpid()}").absolute()

def wait_for_gate(number):
    print("waiting for", gate.name)
    while not gate.exists():
        time.sleep(0.01)
    return number

def fail(number):
    raise ValueError(f"number {number} <b>is</b> bad")
"""
#: Twenty that succeed, three that fail after a retry, and a cell that blocks until it is killed.
MIXED = """
some = [cluster.options(name=f"quick-{i}").submit(pow, i, 2) for i in range(20)]
bad = [cluster.options(name="bad", retries=1, backoff=0).submit(fail, i) for i in range(3)]
last = cluster.options(name="last").submit(wait_for_gate, 7)
"""
BLOCK = """
try:
    print("value", last.result(60))
except BaseException as error:
    print("ended with", type(error).__name__)
"""
MIXED_IS_SHOWN = "d.succeeded === 20 && d.failed === 3 && d.retries === 3 && d.running === 1"


@pytest.fixture(scope="module")
def blocked(module_open_notebook: Open) -> Notebook:
    """Return a notebook whose last cell blocks until its task is cancelled."""
    notebook = module_open_notebook([START, TASKS + MIXED + BLOCK])
    notebook.run_all()
    notebook.view(MIXED_IS_SHOWN)
    return notebook


def test_rows_move_while_a_cell_blocks(blocked: Notebook) -> None:
    blocked.view(MIXED_IS_SHOWN + " && d.total === 24 && d.done === 23 && d.engines === 2")
    blocked.await_rows("rows.length > 5 && rows[0].state === 'succeeded'")
    assert blocked.is_busy


def test_sort_filter_and_search_work_while_a_cell_blocks(blocked: Notebook) -> None:
    page = blocked.page

    page.click("[data-sort=retries]")
    blocked.await_rows("rows.slice(0, 3).every(row => row.retries === '1')")
    page.click("[data-filter=failed]")
    blocked.await_rows("rows.length === 3 && rows.every(row => row.state === 'failed')")
    page.click("[data-filter=failed]")
    blocked.await_rows("rows.length > 3")
    page.fill("input[data-action=search]", "QUICK-1")
    blocked.await_rows("rows.length === 11")
    page.fill("input[data-action=search]", "number 2 <b>")
    blocked.await_rows("rows.length === 1 && rows[0].state === 'failed'")
    page.fill("input[data-action=search]", "")
    page.click("[data-sort=name]")
    blocked.await_rows("rows.length > 5 && rows.slice(0, 3).every(row => row.state === 'failed')")
    page.click("[data-sort=name]")
    blocked.await_rows("rows.length > 5 && rows[0].state === 'succeeded'")
    assert blocked.is_busy


def test_a_row_opens_its_attempts_and_its_output_while_a_cell_blocks(blocked: Notebook) -> None:
    page = blocked.page

    page.click("[data-filter=failed]")
    blocked.await_rows("rows.length === 3")
    page.focus(".nbcluster-rows")  # with the keyboard alone
    page.keyboard.press("End")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_selector(".nbcluster-details [data-attempt='2']")
    assert "number 1 <b>is</b> bad" in page.inner_text(".nbcluster-details")
    page.keyboard.press("Escape")
    page.wait_for_selector(".nbcluster-details", state="hidden")
    page.click("[data-filter=failed]")
    page.click("[data-filter=running]")
    blocked.await_rows("rows.length === 1 && rows[0].state === 'running'")
    page.click(".nbcluster-row[data-state=running]")
    page.wait_for_selector(".nbcluster-details [data-stream=stdout]")
    assert "waiting for gate" in page.inner_text(".nbcluster-details [data-stream=stdout]")
    page.click("[data-action=close]")
    page.click("[data-filter=running]")
    assert blocked.is_busy


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_every_text_of_the_view_can_be_read(
    blocked: Notebook, screenshots: Path, theme: str
) -> None:
    page = blocked.page
    page.evaluate(
        "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})",
        f"JupyterLab {theme}",
    )
    page.fill("input[data-action=search]", "bad")
    blocked.await_rows("rows.length === 3")
    page.click(".nbcluster-row")
    page.wait_for_selector(".nbcluster-details [data-attempt='2']")
    page.fill("input[data-action=search]", "")
    blocked.await_rows("rows.length > 5")
    page.wait_for_selector(".nbcluster-timeline")
    page.wait_for_function(
        "dark => (getComputedStyle(document.querySelector('.nbcluster-view')).backgroundColor"
        " === 'rgb(255, 255, 255)') !== dark",
        arg=theme == "Dark",
    )
    picture = page.locator(".nbcluster-view").screenshot()
    (screenshots / f"view-{theme.lower()}.png").write_bytes(picture)

    # 4.5 is what the rules of accessibility ask for.
    assert [text for text in page.evaluate(CONTRASTS) if text["contrast"] < 4.5] == []
    page.click("[data-action=close]")


def test_all_that_can_be_used_has_a_name_and_can_be_reached_by_keyboard(blocked: Notebook) -> None:
    nameless = blocked.page.evaluate(
        "[...document.querySelectorAll('.nbcluster-view :is(button, input, [tabindex])')]"
        ".filter(e => e.tabIndex < 0 || !(e.ariaLabel || e.innerText.trim()))"
        ".map(e => e.outerHTML)"
    )

    assert nameless == []


def test_cancel_and_retry_work_while_a_cell_blocks(blocked: Notebook) -> None:
    page = blocked.page

    page.click("[data-action=retry]")
    blocked.view("d.failed === 6 && d.total === 27")
    assert blocked.is_busy
    page.click("[data-action=cancel]")

    blocked.printed("ended with CancelledError")
    blocked.view("d.running === 0 && d.cancelled === 1")


MANY = """
n = 100_000
many = [cluster.submit(wait_for_gate, i) for i in range(n)]
try:
    many[-1].result(90)
except BaseException as error:
    print("ended with", type(error).__name__)
"""


def use_all(notebook: Notebook) -> list[tuple[float, str]]:
    """Sort and search all rows; return what took more than 50 ms at a time."""
    page = notebook.page
    notebook.long_tasks()
    page.click("[data-sort=name]")
    page.click("[data-sort=duration]")
    page.click("[data-sort=id]")
    notebook.await_rows("rows.length > 5 && !rows[0].task.endsWith('-100000')")
    page.click("[data-sort=id]")
    notebook.await_rows("rows.length > 5 && rows[0].task.endsWith('-100000')")
    page.fill("input[data-action=search]", "-9999")
    notebook.await_rows("rows.length > 5 && rows[0].task.endsWith('-99999')")
    page.fill("input[data-action=search]", "")
    notebook.await_rows("rows.length > 5 && rows[0].task.endsWith('-100000')")
    return notebook.long_tasks()


def test_a_hundred_thousand_tasks_are_sorted_searched_and_cancelled_at_once(
    open_notebook: Open, screenshots: Path
) -> None:
    """How long it took is written beside the screenshots: a busy machine would fail a limit."""
    notebook = open_notebook([START, TASKS + MANY])
    page = notebook.page
    notebook.run_all()
    notebook.view("d.total === 100000 && d.running === 2")
    page.click("[data-filter=pending]")
    notebook.await_rows("rows.length > 5 && rows[0].state === 'pending'")
    long_tasks = [use_all(notebook) for _ in range(3)]
    took_ms = page.evaluate("""async () => {
        const view = document.querySelector('.nbcluster-view');
        const began = performance.now();
        document.querySelector('[data-action=cancel]').click();
        while (Number(view.dataset.cancelled) < 100000) await new Promise(f => setTimeout(f, 5));
        return performance.now() - began;
    }""")

    times = {"cancelled_ms": took_ms, "long_tasks": long_tasks}
    (screenshots / "times.json").write_text(json.dumps(times))
    notebook.printed("ended with CancelledError")


def test_a_page_that_is_loaded_anew_in_the_middle_shows_the_view_again(
    open_notebook: Open,
) -> None:
    notebook = open_notebook([START, TASKS + MIXED, "gate.touch(); print('value', last.result())"])
    notebook.await_kernel()
    notebook.run_first(2)
    notebook.view(MIXED_IS_SHOWN)
    notebook.save()

    notebook.load()

    notebook.view(MIXED_IS_SHOWN)
    notebook.run_last()
    notebook.view("d.succeeded === 21 && d.running === 0")


def test_what_was_saved_is_a_static_table_and_lives_again_in_the_page(
    open_notebook: Open, lab: Lab
) -> None:
    notebook = open_notebook([START, TASKS + MIXED + "gate.touch(); print(last.result())"])
    page = notebook.page
    notebook.run_all()
    notebook.view("d.total === 24 && d.done === 24")
    # The output is a static table now, with the live view in its place.
    page.wait_for_selector(".nbcluster-static[hidden]", state="attached")
    notebook.view("d.total === 24 && d.done === 24")
    page.click("[data-action=retry]")
    notebook.view("d.total === 27 && d.done === 27")
    page.wait_for_selector(".nbcluster-static[hidden][data-total='27']", state="attached")
    notebook.save()
    notebook.end_kernel()

    notebook.load()

    page.wait_for_selector(".nbcluster-static[data-total='27'][data-done='27'][data-failed='6']")
    assert page.locator(".nbcluster-view").count() == 0
    assert "<b>is</b> bad" in page.inner_text(".nbcluster-static")
    shown = [output["data"] for output in lab.outputs(notebook.name) if "data" in output]
    assert [set(data) for data in shown] == [{"text/plain", "text/html"}]


def test_notebook_7_shows_it_too(open_notebook: Open) -> None:
    notebook = open_notebook([START, TASKS + MIXED + BLOCK], "notebook")

    notebook.run_all()

    notebook.view(MIXED_IS_SHOWN)
    notebook.page.click("[data-action=cancel]")
    notebook.printed("ended with CancelledError")


CONTRASTS = """() => {
    const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
    const light = (colour) => {
        const [r, g, b] = numbers(colour).slice(0, 3).map((part) => {
            const share = part / 255;
            return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if ((numbers(colour)[3] ?? 1) === 1) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    const view = document.querySelector(".nbcluster-view");
    return [...view.querySelectorAll("*")]
        .filter((element) => !element.disabled && !element.children.length && element.innerText)
        .map((element) => {
            const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
            const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            return { text: element.innerText.slice(0, 30), contrast };
        });
}"""


def test_closing_the_cluster_leaves_a_table_without_buttons(open_notebook: Open) -> None:
    notebook = open_notebook(
        [START, "print(sum(cluster.map(abs, range(8), chunksize=1)))\ncluster.shutdown()"]
    )
    notebook.run_all()

    notebook.page.wait_for_selector(".nbcluster-static[data-succeeded='8']")
    eventually(lambda: notebook.page.locator(".nbcluster-view").count() == 0)
