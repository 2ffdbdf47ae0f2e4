"""How futures and clusters look in a notebook: text, and HTML that nobody can put code into."""

from __future__ import annotations

import math
from html.parser import HTMLParser

import pytest

from nbcluster import Future
from nbcluster.client.faces import bar, cluster_html, cluster_text
from nbcluster.core.model import Ended, ErrorInfo, Moved, Progress, State

STATS = {"engines": 4, "pending": 12, "running": 4, "succeeded": 96, "failed": 1}


class Reader(HTMLParser):
    """Reads HTML as a browser does: its tags, their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.known: dict[str, str | None] = {}  #: attributes of the first tag
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if not self.tags:
            self.known = dict(attrs)
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def future(name: str = "train-17", retries: float = 0) -> Future[int]:
    ours: Future[int] = Future(None, "t-1", name)
    ours._retries_allowed = retries
    return ours


def moved(state: State, attempts: int = 1, progress: Progress | None = None, **some: int) -> Moved:
    counts = {"retries": 0, "crashes": 0} | some
    return Moved("t-1", state, "", attempts, **counts, engine="e2", progress=progress)


def ended(state: State, error: ErrorInfo | None = None, attempts: int = 1) -> Ended:
    return Ended("t-1", state, "", attempts, attempts - 1, 0, "e2", 1.0, 2.0, 5.5, b"", error=error)


def html_of(ours: Future[int]) -> Reader:
    return Reader(ours._repr_mimebundle_()["text/html"])


@pytest.mark.parametrize(
    ("retries", "news", "text"),
    [
        (3, moved(State.RUNNING, 2), "attempt 2 of 4"),
        (3, moved(State.RUNNING, 1), "attempt 1 of 4"),
        (3, moved(State.RUNNING, 5, crashes=2), "attempt 5 of 6"),
        (math.inf, moved(State.RUNNING, 2), "attempt 2"),
        (0, moved(State.RUNNING, 2), "attempt 2"),
    ],
)
def test_an_open_task_tells_its_attempt_and_how_many_there_may_be(
    retries: float, news: Moved, text: str
) -> None:
    ours = future(retries=retries)
    ours._on_moved(news)

    told = html_of(ours).text

    assert text in told
    assert (" of " in told) == (" of " in text)


def test_a_first_and_only_attempt_is_not_worth_a_word() -> None:
    ours = future()
    ours._on_moved(moved(State.RUNNING))

    assert "attempt" not in html_of(ours).text


def test_the_page_can_be_read_by_a_program() -> None:
    ours = future()
    ours._on_ended(ended(State.SUCCEEDED, attempts=3))

    html = html_of(ours)

    assert html.known["class"] == "nbcluster-future"
    assert (html.known["data-task"], html.known["data-state"]) == ("t-1", "succeeded")
    assert html.known["data-retries"] == "2"
    assert html.text == "train-17 succeeded 3.5 s on engine e2, attempt 3"


def test_names_errors_and_messages_of_the_user_are_no_html() -> None:
    evil = "<script>alert(1)</script>\"'"
    ours = future(evil)
    ours._on_moved(moved(State.RUNNING, progress=Progress(1, 4, evil)))
    running = html_of(ours)
    ours._on_ended(ended(State.FAILED, ErrorInfo(evil, evil)))
    failed = html_of(ours)

    assert "script" not in running.tags + failed.tags
    assert running.text.count(evil) == 2
    assert failed.text.count(evil) == 3
    assert "<script" not in cluster_html(f"Cluster '{evil}'", evil)


def test_a_running_task_that_tells_how_far_it_is_has_a_bar() -> None:
    ours = future()
    ours._on_moved(moved(State.RUNNING, progress=Progress(1, 4)))

    assert 'aria-valuenow="25.0"' in ours._repr_mimebundle_()["text/html"]


def test_a_long_error_is_shortened() -> None:
    ours = future()
    ours._on_ended(ended(State.FAILED, ErrorInfo("ValueError", "long " * 400)))

    assert 100 < len(html_of(ours).text) < 500


@pytest.mark.parametrize(("share", "width"), [(-1, "0.0"), (0.5, "50.0"), (7, "100.0")])
def test_a_bar_stays_within_its_bounds(share: float, width: str) -> None:
    assert f"width:{width}%" in bar(share)


def test_a_cluster_shows_its_counts() -> None:
    html = Reader(cluster_html("Cluster 'default'", STATS))

    assert cluster_text(STATS) == "4 engines | 12 pending 4 running 96 succeeded 1 failed"
    assert html.text == "Cluster 'default' 4 engines 12 pending 4 running 96 succeeded 1 failed"
    assert html.known["data-succeeded"] == "96"


def test_a_cluster_that_cannot_be_asked_says_why() -> None:
    assert Reader(cluster_html("Cluster 'x'", "closed")).text == "Cluster 'x' closed"
