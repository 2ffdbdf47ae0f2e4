"""The rows of a live view: what a front end is told is what the master knows, and no more."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace

import pytest

from nbcluster.client.feed import STATES
from nbcluster.notebook.view import store as module
from nbcluster.notebook.view.store import TaskStore
from tests.unit.notebook.feeding import NOW, Reader, Task, changes, shown


def store_of(*tasks: Task) -> TaskStore:
    store = TaskStore()
    store.apply(changes(tasks, reset=True))
    return store


def test_a_front_end_knows_what_the_master_knows() -> None:
    tasks = [
        Task("ab2-1", "succeeded", "fit", "e1", started=NOW - 9, finished=NOW - 7, attempts=1),
        Task("ab2-2", "failed", "fit", "e2", "ValueError: bad", 3, 2),
        Task("ab2-3", "pending", "load"),
    ]
    reader = Reader()

    reader.take(store_of(*tasks).messages())

    assert reader.tasks() == shown(tasks)
    assert reader.rows[0]["duration"] == pytest.approx(2.0)
    assert reader.head["counts"]["failed"] == 1
    assert reader.head["retries"] == 2


@pytest.mark.parametrize(
    "task", ["ab2-0", "ab2-007", "ab2-1~2", "ab2-4294967295", "-", "", "ab2-²", "ab2--5", "17"]
)
def test_an_id_of_any_form_arrives_as_it_is(task: str) -> None:
    reader = Reader()

    reader.take(store_of(Task(task)).messages())

    assert list(reader.tasks()) == [task]


def test_only_what_has_changed_is_told() -> None:
    tasks = [Task(f"a-{i}") for i in range(1, 1001)]
    store, reader = store_of(*tasks), Reader()
    reader.take(store.messages())
    reader.told = 0
    tasks[7] = replace(tasks[7], state="running", engine="e1", started=NOW)
    new = Task("a-1001")

    store.apply(changes([tasks[7], new], known=[*tasks, new]))
    messages = store.messages()
    reader.take(messages)

    assert reader.told == 2
    assert reader.tasks() == shown([*tasks, new])
    assert len(messages[0].body) < 100
    assert messages[0].header["strings"] == ["e1"]


def test_whatever_happens_in_whatever_order_the_front_end_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAGE", 16)  # several pages, and what is gone is soon left out
    chance = random.Random(7)
    known: dict[str, Task] = {}
    store, reader, number = TaskStore(), Reader(), 0
    for _ in range(300):
        new = [Task(f"a-{number + i}", name=f"n{number % 5}") for i in range(chance.randrange(9))]
        number += len(new)
        known |= {task.id: task for task in new}
        moved = chance.sample(sorted(known), min(len(known), chance.randrange(9)))
        for task in moved:
            known[task] = replace(
                known[task],
                state=chance.choice(STATES),
                engine=chance.choice(["", "e1", "e2"]),
                error=f"error {chance.randrange(50)}",
                retries=chance.randrange(4),
            )
        gone = chance.sample(sorted(known), min(len(known), chance.randrange(8)))
        for task in gone:
            del known[task]
        told = dict.fromkeys([task.id for task in new] + moved)
        store.apply(
            changes([known[t] for t in told if t in known], known=known.values(), gone=gone)
        )
        if chance.random() < 0.1:
            store.tell_all()
        if chance.random() < 0.7:
            reader.take(store.messages())

    reader.take(store.messages())
    assert reader.tasks() == shown(known.values())
    assert len(store) == len(known)
    assert store.retries == sum(task.retries for task in known.values())
    assert len(reader.rows) < number / 2


def test_one_that_comes_later_is_told_everything_and_all_others_begin_anew() -> None:
    tasks = [Task(f"a-{i}", name=f"name {i}") for i in range(1, 50)]
    store, first, second = store_of(*tasks), Reader(), Reader()
    first.take(store.messages())

    store.tell_all()
    messages = store.messages()
    first.take(messages)
    second.take(messages)

    assert first.tasks() == second.tasks() == shown(tasks)


def test_a_master_that_comes_back_begins_with_no_rows() -> None:
    store, reader = store_of(Task("a-1"), Task("a-2")), Reader()
    reader.take(store.messages())

    store.apply(changes([Task("a-2", "running")], reset=True))
    reader.take(store.messages())

    assert reader.tasks() == shown([Task("a-2", "running")])


def test_a_hundred_thousand_rows_are_told_in_pages() -> None:
    tasks = [Task(f"a-{i}", error=f"error {i}") for i in range(1, 100_001)]
    reader = Reader()

    messages = store_of(*tasks).messages()

    assert len(messages) == 10
    assert max(len(message.header["strings"]) for message in messages) < 10_010
    reader.take(messages)
    assert len(reader.rows) == 100_000


def test_nothing_new_is_a_message_with_the_facts_alone() -> None:
    store = store_of(Task("a-1"))
    store.messages()

    is_news = store.apply(changes([], known=[Task("a-1")], now=NOW + 1))

    assert not is_news
    assert [m.body for m in store.messages()] == [b""]


def test_what_is_only_counted_is_news_too() -> None:
    store = store_of(Task("a-1"))

    assert store.apply(changes([], known=[Task("a-1", "running")]))
    assert store.counts["running"] == 1


def test_rate_and_time_left_are_of_the_last_seconds() -> None:
    tasks = [Task(f"a-{i}") for i in range(1, 101)]
    store = store_of(*tasks)
    for second in range(1, 31):
        if second <= 20:
            tasks[second - 1] = replace(tasks[second - 1], state="succeeded")
        store.apply(changes([tasks[second - 1]], known=tasks, now=NOW + second))
        if second == 20:
            assert store.rate == pytest.approx(1.0)
            assert store.seconds_left == pytest.approx(80)

    assert store.rate == pytest.approx(0, abs=0.15)


def test_values_out_of_range_do_no_harm() -> None:
    odd = Task("a-1", "running", "n" * 10_000, "e", "x" * 10_000, 2**31, 2**31, 7.5, NOW, NOW - 5)
    early = Task("a-2", "succeeded", started=1.0, finished=2.0)
    reader = Reader()

    reader.take(store_of(odd, early).messages())

    assert reader.rows[0]["retries"] == 65_535
    assert reader.rows[0]["progress"] == 100
    assert reader.rows[0]["duration"] == 0
    assert max(map(len, reader.strings)) == 200
    assert reader.rows[1]["duration"] == pytest.approx(1.0)


def test_failures_are_worth_telling_first_then_what_runs_then_the_most_repeated() -> None:
    store = store_of(
        Task("a-1", "succeeded", started=NOW - 9, finished=NOW - 8),
        Task("a-2", "succeeded", started=NOW - 9, finished=NOW - 2),
        Task("a-3", "succeeded", retries=2),
        Task("a-4", "running", started=NOW - 3),
        Task("a-5", "failed"),
        Task("a-6", "retrying", retries=1),
    )

    rows = store.worth_telling(5)

    assert [row.task for row in rows] == ["a-5", "a-6", "a-4", "a-3", "a-2"]
    assert rows[2].duration == pytest.approx(3)
    assert [row.task for row in store.worth_telling(5, "running")] == ["a-4"]


def test_a_store_needs_neither_ipython_nor_pandas() -> None:
    code = (
        "import sys, nbcluster.notebook.view.store\n"
        "print([n for n in ('IPython', 'pandas', 'ipywidgets', 'anywidget') if n in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
