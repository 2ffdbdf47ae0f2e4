from __future__ import annotations

import math
import os.path

import pytest

from nbcluster.cli.submitting import argument, resolve, split, text_of
from nbcluster.errors import OptionError, RemoteTraceback


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("16", 16),
        ("-1.5", -1.5),
        ("true", True),
        ("null", None),
        ('{"a": [1]}', {"a": [1]}),
        ('"16"', "16"),
        ("sixteen", "sixteen"),
        ("", ""),
        ("[1", "[1"),
    ],
)
def test_an_argument_is_json_where_it_can_be_and_else_a_string(word: str, value: object) -> None:
    assert argument(word) == value


def test_the_first_word_is_the_cluster_unless_it_names_a_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert split(["math:sqrt", "16"]) == ("default", "math:sqrt", ["16"])
    assert split(["mine", "math:sqrt", "a:b"]) == ("mine", "math:sqrt", ["a:b"])

    monkeypatch.setenv("NBCLUSTER_NAME", "mine")

    assert split(["math:sqrt"]) == ("mine", "math:sqrt", [])
    assert split(["math:sqrt", "16"], "other") == ("other", "math:sqrt", ["16"])


@pytest.mark.parametrize("words", [[], ["mine"], ["mine", "math.sqrt"]])
def test_a_call_without_a_function_is_refused_with_an_example(words: list[str]) -> None:
    with pytest.raises(OptionError, match="MODULE:FUNCTION"):
        split(words)


def test_a_cluster_that_is_named_by_its_flag_is_no_word() -> None:
    with pytest.raises(OptionError, match="MODULE:FUNCTION"):
        split(["mine", "math:sqrt"], "other")


def test_a_function_is_found_in_its_module_and_in_classes() -> None:
    assert resolve("math:sqrt") is math.sqrt
    assert resolve("os.path:join") is os.path.join
    assert resolve("builtins:str.upper") is str.upper


@pytest.mark.parametrize("text", ["no_such_module:f", "math:no_such_function", ":f", "math:pi"])
def test_what_cannot_be_called_is_refused_by_name(text: str) -> None:
    with pytest.raises(OptionError, match=text):
        resolve(text)


def test_of_a_users_exception_the_remote_traceback_is_shown() -> None:
    error = ValueError("no")
    assert text_of(error) == "ValueError: no"

    error.__cause__ = RemoteTraceback("Traceback: there\n")

    assert text_of(error) == "Traceback: there"
