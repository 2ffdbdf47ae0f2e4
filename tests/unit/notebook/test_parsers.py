"""What the lines of the magics may say, and what they get that say something else."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from IPython.core.error import UsageError

from nbcluster.notebook import parsers
from nbcluster.notebook.completion import completions
from nbcluster.notebook.magics import split_options
from nbcluster.notebook.session import Session
from nbcluster.notebook.verbs import VERBS


class Shell:
    """As much of a shell as completion looks at."""

    user_ns: ClassVar = {"model": 1, "matrix": 2, "_hidden": 3}


def complete(line: str) -> list[str]:
    return completions(Session(Shell()), line)


# --------------------------------------------------------------------------- %%remote


def test_a_cell_may_name_everything() -> None:
    args = parsers.parse(
        parsers.REMOTE,
        "model -i X,y -o a,b -o c --retries 3 --timeout 1.5 --priority -2 --group gpu --bg -n 4",
    )

    assert args.name == "model"
    assert args.inputs == [["X", "y"]]
    assert args.out == [["a", "b"], ["c"]]
    assert (args.retries, args.timeout, args.priority, args.group) == (3, 1.5, -2, "gpu")
    assert (args.bg, args.copies, args.all) == (True, 4, False)


@pytest.mark.parametrize(
    "line",
    [
        "--nonsense",
        "a b",
        "a.b",
        "class",
        "-n 0",
        "-n x",
        "--retries -1",
        "--timeout soon",
        "-o a-b",
        "-o",
        "'unclosed",
    ],
)
def test_what_cannot_be_understood_is_a_usage_error_of_one_line(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsers.parse(parsers.REMOTE, line)

    assert str(caught.value).startswith("%%remote: ")
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------- %remote


@pytest.mark.parametrize(
    ("line", "options", "expression"),
    [
        ("slow(3)", "", "slow(3)"),
        ("--retries 2 slow('a b')", "--retries 2", "slow('a b')"),
        ("--retries=2 -c other f(x)", "--retries=2 -c other", "f(x)"),
        ('--group "a b" f()', '--group "a b"', "f()"),
        ("-x", "", "-x"),
        ("-- -c", "", "-c"),
        ("--retries 2 -- -c", "--retries 2", "-c"),
        ("--unknown 3", "", "--unknown 3"),
        ("", "", ""),
    ],
)
def test_options_are_told_from_the_expression(line: str, options: str, expression: str) -> None:
    found = split_options(line, parsers.REMOTE_LINE)

    assert (found[0].strip(), found[1]) == (options, expression)


# --------------------------------------------------------------------------- %cluster


def test_every_verb_has_a_parser_and_something_that_does_it() -> None:
    assert parsers.VERBS.keys() == VERBS.keys()


def test_the_help_names_every_verb() -> None:
    assert all(f"  {verb} " in parsers.cluster_help() for verb in VERBS)


@pytest.mark.parametrize(
    ("verb", "line"),
    [
        ("start", "-n many"),
        ("start", "--nmae x"),
        ("scale", ""),
        ("tasks", "--state asleep"),
        ("config", "on_interrupt"),
        ("view", "--mode loud"),
    ],
)
def test_a_bad_line_of_a_verb_is_a_usage_error_that_names_the_verb(verb: str, line: str) -> None:
    with pytest.raises(UsageError, match=f"^%cluster {verb}: "):
        parsers.parse(parsers.VERBS[verb], line)


# --------------------------------------------------------------------------- completion


@pytest.mark.usefixtures("home")
def test_verbs_flags_choices_and_names_are_completed() -> None:
    assert complete("%cluster st") == ["start", "stop", "status"]
    assert "--persist" in complete("%cluster start --")
    assert complete("%cluster tasks --state f") == ["failed"]
    assert complete("%cluster config on_interrupt=d") == ["on_interrupt=detach"]
    assert complete("%%remote --ret") == ["--retries"]
    assert complete("%%remote -o m") == ["model", "matrix"]
    assert complete("%%remote -i model,ma") == ["model,matrix"]
    assert complete("%cluster nonsense x") == []


def test_running_clusters_are_completed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": "one", "state": "running"}, {"name": "two", "state": "dead"}]
    monkeypatch.setattr("nbcluster.notebook.completion.cluster_rows", lambda: rows)

    assert complete("%cluster attach ") == ["one"]
    assert complete("%%remote --cluster o") == ["one"]


@pytest.mark.parametrize("line", ["--retres 3", "x --retres=3"])
def test_a_flag_that_does_not_exist_is_named_and_not_what_stands_behind_it(line: str) -> None:
    with pytest.raises(UsageError, match=r"there is no flag --retres; did you mean --retries\?"):
        parsers.parse(parsers.REMOTE, line)
