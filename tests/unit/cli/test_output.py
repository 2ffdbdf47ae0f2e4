from __future__ import annotations

import json

import pytest

from nbcluster.cli.output import lines_of, print_json, rows_of, shown


def test_columns_are_aligned_under_their_names() -> None:
    rows = [{"id": "a", "state": "running"}, {"id": "long-one", "state": "failed"}]

    assert lines_of(rows, ["id", "state"]) == [
        "id        state",
        "a         running",
        "long-one  failed",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert lines_of([], ["id", "state"]) == ["id  state"]


def test_the_widest_columns_are_cut_to_the_width_of_the_terminal() -> None:
    rows = [{"id": "a", "error": "x" * 200}]

    lines = lines_of(rows, ["id", "error"], width=40)

    assert max(map(len, lines)) == 40
    assert lines[1].endswith("x…")


def test_a_cell_stays_on_one_line() -> None:
    assert lines_of([{"error": "one\ntwo\tthree"}], ["error"])[1] == "one two three"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("progress", 0.5, "50%"),
        ("persist", True, "yes"),
        ("duration_s", 0.123456, "0.123"),
        ("duration_s", 1234.5, "1234"),
        ("cause", None, ""),
    ],
)
def test_values_are_shown_short(name: str, value: object, text: str) -> None:
    assert lines_of([{name: value}], [name])[1] == text


def test_columns_become_rows() -> None:
    assert rows_of({"id": ["a", "b"], "n": [1, 2]}) == [{"id": "a", "n": 1}, {"id": "b", "n": 2}]
    assert rows_of({"id": [], "n": []}) == []


def test_json_has_only_what_every_program_can_read(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"started_at": 0.0, "x": float("nan"), "y": float("inf"), "z": {1}, "t": (1,)})

    assert json.loads(capsys.readouterr().out) == {
        "started_at": "1970-01-01T00:00:00+00:00",
        "x": None,
        "y": "inf",
        "z": "{1}",
        "t": [1],
    }


class Unshown:
    def __repr__(self) -> str:
        raise ValueError("closed")


def test_a_value_that_cannot_be_shown_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    text = "<Unshown that cannot be shown: ValueError: closed>"

    assert shown(Unshown()) == text
    print_json({"value": Unshown()})
    assert json.loads(capsys.readouterr().out) == {"value": text}
