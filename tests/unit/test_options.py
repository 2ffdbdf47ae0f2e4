"""Options are checked once, in the caller, before anything is sent."""

from __future__ import annotations

import inspect
import math
from typing import Any

import msgspec
import pytest

from nbcluster import Cluster
from nbcluster import options as module
from nbcluster.client.remote import RemoteFunction
from nbcluster.errors import NbclusterError, OptionError, OptionTypeError
from nbcluster.options import (
    MAX_PRIORITY,
    Backoff,
    CallOptions,
    Options,
    TaskOptions,
    call_options,
    check_callable,
    number,
    seconds,
    unknown_option,
    whole,
)


def options(**changes: Any) -> CallOptions:
    return call_options(CallOptions(), changes)


# --------------------------------------------------------------------------- the names


def test_the_names_for_completion_are_all_that_are_known() -> None:
    assert {*Options.__annotations__} == {*module._TASK_FIELDS, *module._CALL_FIELDS}


@pytest.mark.parametrize(
    "method", [Cluster.options, Cluster.config, Cluster.remote, RemoteFunction.options]
)
def test_completion_shows_each_option_of_a_call(method: Any) -> None:
    shown = inspect.signature(method).parameters

    assert {*Options.__annotations__} <= {*shown}
    assert not [p for p in shown.values() if p.kind is p.VAR_KEYWORD]


# --------------------------------------------------------------------------- the whole


def test_without_changes_the_base_comes_back_itself() -> None:
    base = CallOptions(name="kept")

    assert call_options(base, {}) is base


def test_changes_are_put_over_the_base_and_the_base_stays() -> None:
    base = options(retries=3, name="a")

    changed = call_options(base, {"timeout": 5})

    assert (changed.task.retries, changed.task.timeout, changed.name) == (3, 5.0, "a")
    assert base.task.timeout is None


def test_each_option_lands_in_its_field() -> None:
    got = options(
        group="gpu",
        retries=2,
        backoff=Backoff(3.0),
        timeout=60,
        priority=-5,
        delivery="at_most_once",
        max_crashes=7,
        expires=3600,
        wait=False,
        load=4,
        engine="e-1",
        name="train-17",
        key="k",
        after=["g"],
        retry_on=(OSError,),
    )

    assert got == CallOptions(
        task=TaskOptions(
            group="gpu",
            retries=2,
            backoff=Backoff(3.0),
            timeout=60.0,
            priority=-5,
            at_most_once=True,
            max_crashes=7,
            expires=3600.0,
            wait=False,
            load=4,
            pin="e-1",
        ),
        name="train-17",
        key="k",
        after=("g",),
        retry_on=(OSError,),
    )


def test_the_defaults_are_those_of_the_design() -> None:
    task = TaskOptions()

    assert (task.retries, task.max_crashes, task.at_most_once, task.wait) == (0, 3, False, True)
    assert (task.backoff.base, task.backoff.factor, task.backoff.cap) == (1.0, 2.0, 100.0)


def test_an_unknown_name_is_refused_and_the_nearest_known_one_is_named() -> None:
    with pytest.raises(OptionError, match=r"no option 'retrys'; did you mean 'retries'\?"):
        options(retrys=3)


def test_an_unknown_name_far_from_all_lists_the_known_ones() -> None:
    with pytest.raises(OptionError) as caught:
        options(zzzzzzzz=1)

    assert "did you mean" not in str(caught.value)
    assert "after, backoff, delivery" in str(caught.value)


def test_the_fields_behind_the_options_are_no_options() -> None:
    for name in ("pin", "at_most_once", "task"):
        with pytest.raises(OptionError, match=f"no option '{name}'"):
            options(**{name: True})


@pytest.mark.parametrize("value", [5, ["t-1", 5], [None], {"t-1": 1, 5: 2}])
def test_only_futures_and_ids_can_be_waited_for(value: Any) -> None:
    with pytest.raises(OptionTypeError, match="after= takes a future or the id of a task"):
        options(after=value)


@pytest.mark.parametrize("name", ["name", "key", "engine", "group"])
def test_a_name_is_a_string(name: str) -> None:
    with pytest.raises(OptionTypeError, match=name):
        options(**{name: 5})


def test_a_time_without_limit_is_none_and_one_with_a_limit_is_checked() -> None:
    assert seconds("timeout", None) is None
    assert seconds("timeout", math.inf) is None
    assert seconds("timeout", 0) == 0.0
    for value in (-1, math.nan):
        with pytest.raises(OptionError, match="timeout="):
            seconds("timeout", value)
    with pytest.raises(OptionTypeError, match="timeout="):
        seconds("timeout", "a")


def test_what_cannot_be_called_is_named() -> None:
    check_callable(len, "submit()")

    with pytest.raises(OptionTypeError, match=r"submit\(\) takes a function .* not 'pow'"):
        check_callable("pow", "submit()")


def test_the_kind_of_an_unknown_name_is_said() -> None:
    error = unknown_option("engine", ["engines", "name", "slots"], "start option")

    assert "no start option 'engine'; did you mean 'engines'?" in str(error)


def test_each_wrong_option_is_an_error_of_ours_and_a_value_error() -> None:
    with pytest.raises(OptionError) as caught:
        options(retries=-1)

    assert isinstance(caught.value, NbclusterError)
    assert isinstance(caught.value, ValueError)


def test_a_wrong_type_is_a_type_error_too() -> None:
    with pytest.raises(TypeError, match="priority= must be a number, not 'high'"):
        options(priority="high")


# --------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("name", ["retries", "priority", "max_crashes", "load", "timeout"])
@pytest.mark.parametrize("value", ["3", True, False, None, [1], 1j])
def test_a_number_is_neither_text_nor_a_truth_value(name: str, value: object) -> None:
    if name == "timeout" and value is None:
        return  # no timeout

    with pytest.raises(OptionTypeError, match=f"{name}= must be a number"):
        options(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("retries", -1), ("max_crashes", 0), ("load", -1), ("priority", -MAX_PRIORITY - 1)],
)
def test_a_whole_number_has_a_least_value(name: str, value: int) -> None:
    with pytest.raises(OptionError, match=f"{name}= must be at least"):
        options(**{name: value})


@pytest.mark.parametrize("name", ["retries", "priority", "max_crashes", "load"])
def test_a_fraction_is_no_whole_number(name: str) -> None:
    with pytest.raises(OptionError, match=f"{name}= must be a whole number, not 1.5"):
        options(**{name: 1.5})


@pytest.mark.parametrize("name", ["retries", "priority", "max_crashes", "load", "timeout"])
def test_nan_is_refused_everywhere(name: str) -> None:
    with pytest.raises(OptionError):
        options(**{name: math.nan})


@pytest.mark.parametrize("name", ["priority", "max_crashes", "load"])
def test_only_retries_may_be_without_end(name: str) -> None:
    with pytest.raises(OptionError):
        options(**{name: math.inf})

    assert options(retries=math.inf).task.retries == math.inf


def test_a_whole_float_becomes_an_int() -> None:
    got = options(retries=2.0, priority=3.0, load=1.0, max_crashes=4.0).task

    values = (got.retries, got.priority, got.load, got.max_crashes)
    assert values == (2, 3, 1, 4)
    assert {type(v) for v in values} == {int}


def test_zero_retries_and_zero_load_are_allowed() -> None:
    assert (options(retries=0).task.retries, options(load=0).task.load) == (0, 0)


def test_a_priority_has_a_greatest_value() -> None:
    assert options(priority=MAX_PRIORITY).task.priority == MAX_PRIORITY
    assert options(priority=-MAX_PRIORITY).task.priority == -MAX_PRIORITY

    with pytest.raises(OptionError, match="at most 1,000,000"):
        options(priority=MAX_PRIORITY + 1)


@pytest.mark.parametrize("name", ["timeout", "expires"])
def test_a_time_is_above_zero(name: str) -> None:
    for value in (0, 0.0, -1, -math.inf):
        with pytest.raises(OptionError, match=f"{name}= must be above 0"):
            options(**{name: value})

    assert getattr(options(**{name: 0.001}).task, name) == 0.001


@pytest.mark.parametrize("name", ["timeout", "expires"])
@pytest.mark.parametrize("value", [None, math.inf])
def test_no_time_limit_is_said_by_none_or_infinity(name: str, value: float | None) -> None:
    base = options(**{name: 5})

    assert getattr(call_options(base, {name: value}).task, name) is None


def test_number_takes_its_least_value_unless_it_must_be_above() -> None:
    assert number("n", 1, least=1) == 1

    with pytest.raises(OptionError, match="n= must be above 1, not 1"):
        number("n", 1, least=1, above=True)


def test_whole_refuses_infinity() -> None:
    with pytest.raises(OptionError, match="n= must be a whole number, not inf"):
        whole("n", math.inf, least=0)


# --------------------------------------------------------------------------- backoff


@pytest.mark.parametrize("name", ["base", "factor", "cap"])
@pytest.mark.parametrize("value", ["1", True, None])
def test_the_numbers_of_a_backoff_are_numbers(name: str, value: object) -> None:
    wrong: dict[str, Any] = {name: value}

    with pytest.raises(OptionTypeError, match=rf"Backoff\({name}=\) must be a number"):
        Backoff(**wrong)


@pytest.mark.parametrize("name", ["base", "factor", "cap"])
@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_the_numbers_of_a_backoff_are_finite_and_not_negative(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=rf"Backoff\({name}=\) must be a finite number >= 0"):
        Backoff(**{name: value})


def test_a_backoff_never_shrinks() -> None:
    assert Backoff(factor=1).factor == 1

    with pytest.raises(OptionError, match=r"Backoff\(factor=\) must be at least 1"):
        Backoff(factor=0.9)


def test_a_number_is_a_backoff_of_that_base() -> None:
    assert options(backoff=0).task.backoff == Backoff(0)
    assert options(backoff=2.5).task.backoff == Backoff(2.5)


@pytest.mark.parametrize("value", [-1, math.inf, math.nan, "1", None, True])
def test_an_impossible_backoff_is_refused(value: object) -> None:
    with pytest.raises(OptionError):
        options(backoff=value)


# --------------------------------------------------------------------------- words and the rest


@pytest.mark.parametrize("value", ["", "a/b", "..", ".hidden", "-x", "ä", "x" * 64, 5, None])
def test_a_group_can_be_a_file_name(value: object) -> None:
    with pytest.raises(OptionError, match="group"):
        options(group=value)


def test_delivery_is_one_of_two_words() -> None:
    assert options(delivery="at_most_once").task.at_most_once is True
    assert options(delivery="at_least_once").task.at_most_once is False

    for value in ("exactly_once", None, True, ["at_most_once"]):
        with pytest.raises(OptionError, match="delivery= must be one of at_least_once, at_most"):
            options(delivery=value)


@pytest.mark.parametrize("value", [1, 0, None, "no"])
def test_wait_is_true_or_false(value: object) -> None:
    with pytest.raises(OptionTypeError, match="wait= must be True or False"):
        options(wait=value)


@pytest.mark.parametrize("name", ["name", "key", "engine"])
def test_a_text_is_a_string_of_500_characters_at_the_most(name: str) -> None:
    options(**{name: "x" * 500})

    with pytest.raises(OptionError, match=f"{name}= has 501 characters; 500 are allowed"):
        options(**{name: "x" * 501})
    for value in (5, None, b"x"):
        with pytest.raises(OptionTypeError, match=f"{name}= must be a string"):
            options(**{name: value})


def test_retry_on_takes_one_class_or_several() -> None:
    assert options(retry_on=OSError).retry_on == (OSError,)
    assert options(retry_on=[OSError, KeyError]).retry_on == (OSError, KeyError)
    assert set(options(retry_on={OSError, KeyError}).retry_on) == {OSError, KeyError}
    assert options(retry_on=()).retry_on == ()


@pytest.mark.parametrize("value", [int, "OSError", OSError(), [OSError, int], None])
def test_retry_on_takes_nothing_but_exception_classes(value: object) -> None:
    with pytest.raises(OptionTypeError, match="retry_on= takes exception classes, not"):
        options(retry_on=value)


def test_after_takes_one_or_several() -> None:
    assert options(after="t-1").after == ("t-1",)
    assert options(after=["t-1", "t-2"]).after == ("t-1", "t-2")
    assert options(after=()).after == ()


def test_task_options_survive_the_wire() -> None:
    task = options(retries=3, backoff=Backoff(0.5, 3, 9), timeout=2, group="gpu").task

    back = msgspec.msgpack.decode(msgspec.msgpack.encode(task), type=TaskOptions)

    assert back == task


def test_infinite_retries_survive_the_wire() -> None:
    task = options(retries=math.inf).task

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(task), type=TaskOptions) == task


def test_a_large_bound_is_told_in_full() -> None:
    with pytest.raises(OptionError, match="at least 1048576, not 3"):
        number("memory_limit", 3, least=2**20)
