from __future__ import annotations

import pytest

from nbcluster.cli import flags as f
from nbcluster.cli import verb_of


def read(verb: str, *words: str) -> dict[str, object]:
    parser = f.Flags(prog="test")
    verb_of(verb).flags(parser)
    return vars(parser.read(words))


def test_a_flag_beats_the_environment_and_that_beats_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NBCLUSTER_SLOTS", "3")

    assert read("engine", "--slots", "5")["slots"] == 5
    assert read("engine")["slots"] == 3
    monkeypatch.delenv("NBCLUSTER_SLOTS")
    assert read("engine")["slots"] == 1


@pytest.mark.parametrize(("text", "value"), [("1", True), ("yes", True), ("0", False)])
def test_a_flag_without_argument_is_switched_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, value: bool
) -> None:
    monkeypatch.setenv("NBCLUSTER_JSON", text)

    assert read("list")["json"] is value


def test_a_flag_that_may_be_repeated_is_a_list_with_commas_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NBCLUSTER_IMPORTS", "json,math")

    assert read("engine")["imports"] == ["json", "math"]


@pytest.mark.parametrize(
    ("verb", "variable", "text"),
    [
        ("start", "NBCLUSTER_ENGINES", "many"),
        ("tasks", "NBCLUSTER_STATE", "lost"),
        ("list", "NBCLUSTER_JSON", "perhaps"),
        ("list", "NBCLUSTER_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_in_the_environment_is_wrong_usage_and_names_the_variable(
    verb: str,
    variable: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, text)

    with pytest.raises(SystemExit) as end:
        read(verb)

    assert end.value.code == 2
    assert f"{variable}={text}" in capsys.readouterr().err


def test_the_name_of_the_cluster_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read("status")["name"] == "default"

    monkeypatch.setenv("NBCLUSTER_NAME", "mine")

    assert read("status")["name"] == "mine"
    assert read("status", "other")["name"] == "other"
    assert read("engine")["join"] == "mine"


def test_flags_may_stand_between_words() -> None:
    found = read("submit", "mine", "--timeout", "2", "math:sqrt", "16", "--json")

    assert found["words"] == ["mine", "math:sqrt", "16"]
    assert found["timeout"] == 2.0
    assert found["json"] is True


def test_words_after_two_dashes_are_no_flags() -> None:
    found = read("submit", "builtins:print", "--", "-x", "--json", "--")

    assert found["words"] == ["builtins:print", "-x", "--json", "--"]
    assert found["json"] is False


def test_every_flag_of_every_verb_names_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("start", "--help")

    text = " ".join(capsys.readouterr().out.split())
    for name in ("ENGINES", "NAME", "GROUP", "SLOTS", "PERSIST", "JOURNAL", "LOG_LEVEL"):
        assert f"[NBCLUSTER_{name}]" in text


@pytest.mark.parametrize("text", ["-1", "x", "1.5", ""])
def test_a_count_is_a_whole_number_of_at_least_zero(text: str) -> None:
    with pytest.raises(Exception, match="whole number"):
        f.count(text)


def test_a_start_without_flags_leaves_every_option_to_the_environment() -> None:
    found = read("start")

    del found["log_level"], found["json"]
    assert (found.pop("env"), found.pop("imports")) == ([], [])
    assert set(found.values()) == {None}
    assert {"memory_limit", "retention_tasks", "retention_bytes"} <= set(found)


@pytest.mark.parametrize("verb", ["status", "tasks", "stop", "doctor"])
def test_the_cluster_is_named_by_a_word_or_a_flag(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NBCLUSTER_NAME", "mine")

    assert read(verb, "other")["name"] == read(verb, "--name", "other")["name"] == "other"
    with pytest.raises(SystemExit):
        read(verb, "one", "--name", "other")
    assert "two clusters are named: other and one" in capsys.readouterr().err


def test_a_variable_for_the_cluster_has_a_name_and_a_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert read("start", "--env", "A=1=2", "--env", "B=")["env"] == ["A=1=2", "B="]
    for text in ("A", "=1"):
        with pytest.raises(SystemExit):
            read("start", "--env", text)
        assert "is not NAME=VALUE" in capsys.readouterr().err
