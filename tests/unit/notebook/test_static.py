"""What a saved notebook shows of a cluster, and the line of a terminal."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import pytest

from nbcluster.notebook.view.static import static_html
from nbcluster.notebook.view.store import TaskStore
from nbcluster.notebook.view.text import TextView, duration, line
from tests.unit.notebook.feeding import NOW, Task, changes


def store_of(*tasks: Task) -> TaskStore:
    store = TaskStore()
    store.apply(changes(tasks, reset=True))
    return store


def data_of(html: str) -> dict[str, int]:
    first = html[: html.index(">")]
    return {name: int(number) for name, number in re.findall(r'data-(\w+)="(\d+)"', first)}


class Tags(HTMLParser):
    """Notes which tags there are, and that each is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


MIXED = (
    Task("a-1", "succeeded", attempts=3, retries=2),
    Task("a-2", "failed", error="ValueError: bad"),
    Task("a-3", "running", engine="e1", started=NOW - 2),
    Task("a-4", "cancelled"),
    Task("a-5"),
)


def test_the_counts_stand_in_the_data_of_the_root() -> None:
    html = static_html("c", store_of(*MIXED), "nbcluster-x")

    assert html.startswith('<div class="nbcluster-static"')
    assert 'data-view="nbcluster-x"' in html
    assert data_of(html) == {
        **{"total": 5, "done": 3, "pending": 1, "running": 1, "retrying": 0, "succeeded": 1},
        **{"failed": 1, "cancelled": 1, "retries": 2, "engines": 1},
    }


def test_twenty_rows_are_shown_and_the_rest_is_counted() -> None:
    html = static_html("c", store_of(*(Task(f"a-{i}") for i in range(1, 401))))

    assert html.count("<tr>") == 21
    assert "and 380 more tasks" in html
    assert len(html) < 20_000


def test_no_rows_make_no_table() -> None:
    assert "<table" not in static_html("c", store_of())


def test_nothing_a_task_says_becomes_html() -> None:
    bad = '<script>alert(1)</script><img src=x onerror="alert(1)">"\'>'
    html = static_html(bad, store_of(Task("a-1", "failed", bad, bad, bad)), bad)

    tags = Tags()
    tags.feed(html)

    assert tags.seen <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert tags.open == []


def test_a_state_is_told_by_its_name_and_a_sign_and_no_colour_is_fixed() -> None:
    html = static_html("c", store_of(*MIXED))

    assert "✗ failed" in html
    colours = re.findall(r"(?:^|[;\"\s])(?:color|background):([^;\"]+)", html)
    assert colours
    assert all("var(--jp-" in colour for colour in colours)


def test_a_line_says_how_it_stands() -> None:
    assert line("c", store_of(*MIXED)) == (
        "cluster c: 3/5 done | 1 pending, 1 running, 1 succeeded, 1 failed, 1 cancelled"
        " | 2 retries | 1 engine"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.0123, "12 ms"), (1.26, "1.3 s"), (61, "1:01 min"), (3661, "1:01:01")],
)
def test_a_duration_is_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_file_gets_whole_lines_and_each_once() -> None:
    out, store = io.StringIO(), store_of(Task("a-1"))
    view = TextView("c", store, out)

    view.begin()
    view.refresh(True, False)
    view.publish()
    store.apply(changes([Task("a-1", "succeeded")]))
    view.publish()
    view.publish()

    assert out.getvalue().splitlines() == [
        "cluster c: 0/1 done | 1 pending | 1 engine",
        "cluster c: 1/1 done | 1 succeeded | 1 engine",
    ]


def test_a_terminal_gets_a_line_that_moves() -> None:
    out, store = Terminal(), store_of(*MIXED)
    view = TextView("c", store, out)

    view.begin()
    view.refresh(True, False)

    assert "\r[############........] cluster c: 3/5 done" in out.getvalue()
