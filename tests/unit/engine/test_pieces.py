"""Options, definitions, and the task that user code sees."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest

from nbcluster.core.memo import Limits
from nbcluster.core.model import Definition, Run
from nbcluster.current import CurrentTask, current_task, provide_current
from nbcluster.engine import supervisor
from nbcluster.engine.__main__ import parse
from nbcluster.engine.executor import attempt
from nbcluster.engine.executor.attempt import Library
from nbcluster.engine.executor.birth import ExecutorOptions
from nbcluster.engine.options import EngineOptions
from nbcluster.engine.processes import describe_exit
from nbcluster.serial.blobs import BlobStore
from nbcluster.serial.pack import Packer
from nbcluster.serial.unpack import Unpacker


def test_flags_become_options() -> None:
    options = parse(
        [
            "--connection",
            "c.json",
            "--group",
            "a,b",
            "--slots",
            "3",
            "--import",
            "m1",
            "m2",
            "--import",
            "m3",
            "--owner-fd",
            "4",
        ]
    )

    assert options == EngineOptions(
        Path("c.json"), groups=("a", "b"), slots=3, imports=("m1", "m2", "m3"), owner_fd=4
    )


def test_an_engine_needs_no_flags_but_its_cluster() -> None:
    assert parse(["--connection", "c.json"]) == EngineOptions(Path("c.json"))


def test_an_engine_is_suspect_after_three_beats_that_did_not_come_and_lost_after_five() -> None:
    limits = Limits()

    assert supervisor.BEAT_S == 3.0
    assert (limits.suspect_s, limits.lost_s) == (3 * supervisor.BEAT_S, 5 * supervisor.BEAT_S)


@pytest.mark.parametrize("imports", [(), ("a", "b.c")])
def test_options_of_an_executor_survive_the_command_line(imports: tuple[str, ...]) -> None:
    options = ExecutorOptions("e/0.1", Path("/c x"), Path("/r"), 17, 5, 6, 1 << 40, imports)

    assert ExecutorOptions.from_argv(options.to_argv()) == options


@pytest.mark.parametrize(
    ("code", "text"), [(-11, "SIGSEGV"), (3, "exit code 3"), (0, "exit code 0"), (-63, "signal 63")]
)
def test_an_end_is_named(code: int, text: str) -> None:
    assert describe_exit(code) == text


def run_of(fn: str, retry_on: str = "") -> Run:
    return Run("t", 1, 1, fn, b"", retry_on=retry_on)


def known(books: Library) -> str:
    return "".join(name for name in "abcde" if books.knows(run_of(name)))


def library(tmp_path: Path) -> Library:
    return Library(Unpacker(BlobStore(tmp_path, "x")))


def test_a_definition_is_loaded_once(tmp_path: Path) -> None:
    books = library(tmp_path)
    definition = Packer(BlobStore(tmp_path, "y")).define(lambda: 42)
    books.add([definition])

    first = books.load(definition.hash)

    assert first() == 42
    assert books.load(definition.hash) is first


def test_the_oldest_definition_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "MAX_DEFINITIONS", 2)
    books = library(tmp_path)
    a, b, c = (Definition(name, name, b"") for name in "abc")

    books.add([a, b])
    books.add([a, c])

    assert known(books) == "ac"


def test_definitions_are_bounded_by_bytes_and_the_newest_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "MAX_DEFINITION_BYTES", 10)
    books = library(tmp_path)
    a, b, c, d = (Definition(name, name, bytes(6)) for name in "abcd")

    books.add([a])
    books.add([b])
    assert known(books) == "b"
    books.add([b])
    books.add([Definition("e", "e", bytes(4))])
    assert known(books) == "be"

    books.add([c, d])
    assert known(books) == "cd"  # both are about to be used


def test_a_loaded_definition_goes_with_all_that_it_captured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "MAX_DEFINITION_BYTES", 1)
    books = library(tmp_path)
    packer = Packer(BlobStore(tmp_path, "y"))
    first, second = packer.define(lambda: 1), packer.define(lambda: 2)
    books.add([first])
    loaded = weakref.ref(books.load(first.hash))
    assert books.load(first.hash) is loaded()

    books.add([second])

    assert loaded() is None
    assert not books.knows(run_of(first.hash))


def test_classes_to_retry_on_that_went_are_asked_for_again(tmp_path: Path) -> None:
    books = library(tmp_path)
    books.add([Definition("a", "a", b"")])

    assert books.knows(run_of("a"))
    assert not books.knows(run_of("a", "classes"))


def test_progress_is_reported_under_the_token_of_the_attempt() -> None:
    told: list[tuple[int, float, float, str]] = []
    task = CurrentTask("t1", "train", 2, 77, lambda *news: told.append(news))

    task.progress(1)
    task.progress(2, 10, "half")

    assert told == [(77, 1.0, 0.0, ""), (77, 2.0, 10.0, "half")]


def test_the_current_task_is_whatever_the_provider_says() -> None:
    task = CurrentTask("t1", "train", 2, 77, lambda *news: None)
    try:
        provide_current(lambda: task)
        assert current_task() is task
    finally:
        provide_current(lambda: None)
    assert current_task() is None
