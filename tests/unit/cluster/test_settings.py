"""Start options: what is given, what the environment says, and what a running cluster has."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

import nbcluster
from nbcluster.cluster import settings
from nbcluster.cluster.settings import start_options, what_differs
from nbcluster.errors import (
    ClusterConnectionError,
    NbclusterError,
    OptionError,
    OptionTypeError,
)
from nbcluster.master.config import MasterConfig


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("engines", value) for value in ("4", 2.5, True, -1, [4], 1025)),
        *(("slots", value) for value in ("4", 2.5, True, -1, 1025)),
        *(("persist", value) for value in ("yes", 1)),
        *(("journal", value) for value in (5, ["x"], "", "j\0.db", "\udcff/j.db")),
        *(("retention", value) for value in ("x", -1, math.nan)),
        *(("retention_bytes", value) for value in ("x", -1, 0.5)),
        *(("memory_limit", value) for value in ("x", -1, 1)),
        *(("max_pending", value) for value in (0, "x")),
        *(("log_level", value) for value in (5, "LOUD")),
        *(("durability", value) for value in (5, "total")),
        *(("backend", value) for value in (5, "dusk")),
        *(("name", value) for value in (5, "a/b")),
        *(("group", value) for value in (5, "")),
        *(("env", value) for value in (5, {1: 2}, {"A": 1}, {1: "x"})),
    ],
)
def test_an_impossible_start_option_is_an_error_of_ours_that_names_it(
    option: str, value: Any
) -> None:
    with pytest.raises(OptionError, match=option) as caught:
        start_options(**{option: value})

    is_wrong_type = not isinstance(value, str | int | float) or isinstance(value, bool)
    assert not is_wrong_type or isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    "env", [{"A=B": "x"}, {"": "x"}, {"A\0": "x"}, {"A": "x\0"}, {"A": "\ud800"}, {"\ud800": "x"}]
)
def test_a_variable_that_no_process_can_have_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="env="):
        start_options(env=env)


def test_a_variable_may_hold_bytes_that_are_no_text() -> None:
    assert start_options(env={"A": "\udcff"}).env == {"A": "\udcff"}


@pytest.mark.parametrize("option", ["engines", "slots"])
def test_nothing_may_be_started(option: str) -> None:
    assert getattr(start_options(**{option: 0}), option) == 0


def test_what_is_kept_for_ever_can_be_sent_to_the_master() -> None:
    kept = start_options(retention=math.inf).retention_s

    assert msgspec.json.decode(msgspec.json.encode(kept)) == kept


@pytest.mark.parametrize(
    ("name", "near"),
    [("timeot", "timeout"), ("initialiser", "initializer"), ("initarg", "initargs")],
)
def test_all_options_of_a_start_are_suggested(name: str, near: str) -> None:
    with pytest.raises(OptionError, match=rf"did you mean '{near}'\?.*initargs, initializer"):
        nbcluster.start(1, **{name: 5})  # type: ignore[arg-type]


def test_completion_of_a_start_shows_all_its_options() -> None:
    shown = inspect.signature(nbcluster.start).parameters

    assert [p for p in shown if p != "unknown"][:8] == [
        *("engines", "name", "group", "slots", "persist", "journal", "standby", "backend"),
    ]
    assert {*shown} - {"unknown"} == {*settings._CHECKS, *settings._OF_START}


@pytest.mark.parametrize("option", settings._CHECKS)
def test_each_option_of_a_start_is_checked(option: str, home: Path) -> None:
    with pytest.raises(OptionError, match=option):
        nbcluster.start(**{option: object()})  # type: ignore[arg-type]

    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": "a"},
        {"timeout": None},
        {"initializer": 5},
        {"initializer": len, "initargs": 5},
        {"initargs": "ab"},
    ],
)
def test_a_start_checks_what_is_no_setting_of_the_master(
    options: dict[str, Any], home: Path
) -> None:
    with pytest.raises(OptionTypeError):
        nbcluster.start(0, **options)

    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "text"),
    [("ENGINES", "many"), ("PERSIST", "maybe"), ("RETENTION", "x"), ("SLOTS", "-1")],
)
def test_what_the_environment_says_wrong_names_the_variable(
    variable: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"NBCLUSTER_{variable}", text)

    with pytest.raises(OptionError, match=f"NBCLUSTER_{variable}"):
        start_options()


def test_numbers_and_truth_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("ENGINES", "7"), ("PERSIST", "yes"), ("RETENTION", "1.5")):
        monkeypatch.setenv(f"NBCLUSTER_{name}", text)

    found = start_options()

    assert (found.engines, found.persist, found.retention_s) == (7, True, 1.5)


# --------------------------------------------------------------------------- connect, executor


@pytest.mark.parametrize("target", [5, ["default"]])
def test_only_a_name_or_a_path_can_be_connected_to(target: Any) -> None:
    with pytest.raises(OptionTypeError, match="connect"):
        nbcluster.connect(target)


def test_the_cluster_to_connect_to_is_the_given_one_or_the_environments_or_the_default(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClusterConnectionError, match="no cluster 'default'"):
        nbcluster.connect()
    monkeypatch.setenv("NBCLUSTER_NAME", "mine")
    with pytest.raises(ClusterConnectionError, match="no cluster 'mine'"):
        nbcluster.connect()
    with pytest.raises(ClusterConnectionError, match="no cluster 'yours'"):
        nbcluster.connect("yours")


@pytest.mark.parametrize("timeout", ["a", -1, None])
def test_the_time_to_connect_is_a_number(timeout: Any, home: Path) -> None:
    with pytest.raises(OptionError, match="timeout="):
        nbcluster.connect(timeout=timeout)


@pytest.mark.parametrize(
    ("options", "builtin"),
    [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": -1}, ValueError),
        ({"max_workers": "a"}, TypeError),
        ({"max_workers": True}, TypeError),
        ({"max_workers": 1, "initializer": 5}, TypeError),
        ({"max_workers": 1, "initializer": len, "initargs": 5}, TypeError),
    ],
    ids=str,
)
def test_an_impossible_executor_is_an_error_of_ours_and_the_builtin(
    options: dict[str, Any], builtin: type[Exception], home: Path
) -> None:
    with pytest.raises(builtin) as caught:
        nbcluster.ClusterExecutor(**options)

    assert isinstance(caught.value, NbclusterError)
    assert list(home.iterdir()) == []


# --------------------------------------------------------------------------- attaching

RUNNING = msgspec.to_builtins(
    MasterConfig(name="c", directory="/d", journal="/d/journal.db", own_journal=True, engines=2)
)


def differs(has: int = 2, **given: Any) -> list[str]:
    settings = {name: value for name, value in given.items() if name != "initializer"}
    return what_differs(given, start_options(**settings), RUNNING, has)


def test_an_attached_cluster_says_how_to_get_the_engines_that_were_asked_for() -> None:
    assert differs(2) == []
    assert differs(2, engines=2) == []
    assert differs(2, engines=3) == ["it has 2 engines, 3 were asked for: cluster.scale(3)"]
    assert differs(1, engines=3, group="gpu")[0].endswith(
        "1 engine, 3 were asked for: cluster.scale(3, group='gpu')"
    )


def test_an_attached_cluster_names_each_option_that_stays_as_it_was() -> None:
    said = differs(slots=2, group="gpu", persist=True, journal="/e/journal.db", max_pending=5)

    assert said == [
        "slots=1 stays, not 2",
        "group='default' stays, not 'gpu'",
        "persist=False stays, not True",
        "its journal is /d/journal.db",
        "max_pending=0 stays, not 5",
    ]
    assert differs(slots=1, group="default", persist=False, journal="/d/journal.db") == []


def test_an_attached_cluster_says_what_was_not_applied() -> None:
    assert differs(initializer=len, env={"A": "b"}) == [
        "initializer= was not applied",
        "env= was not applied",
    ]
