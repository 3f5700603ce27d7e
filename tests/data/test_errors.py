"""Errors are one tree, print one line and survive a trip between processes."""

from __future__ import annotations

import copy

import pytest

from roofcast.data import errors

EXAMPLES = [
    errors.UnknownName("gpu", "b20\n0", ("b200-sxm", "h200-sxm")),
    errors.UnknownName("model", "", ()),
    errors.BadRequest("tp", 3, "a divisor of 8"),
    errors.BadRequest("isl", float("nan"), "above 0"),
    errors.BadRows("runs.csv", [(2, "isl is negative"), (9, "no model")]),
    errors.BadBundle("manifest.json: schema 9, this program reads 1"),
    errors.BadStore("the store holds half a write"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_an_error_is_a_roofcast_error_and_prints_one_line(error: errors.RoofcastError) -> None:
    assert isinstance(error, errors.RoofcastError)
    assert str(error).isprintable()
    assert str(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
def test_an_error_copies_whole(error: errors.RoofcastError) -> None:
    again = copy.copy(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert repr(vars(again)) == repr(vars(error))


def test_an_unknown_name_is_a_key_error_that_names_the_nearest() -> None:
    error = errors.UnknownName("gpu", "b20", ("b200-sxm",))
    assert isinstance(error, KeyError)
    assert str(error) == "unknown gpu 'b20'; nearest: b200-sxm"
    assert (error.kind, error.name, error.nearest) == ("gpu", "b20", ("b200-sxm",))


def test_a_bad_request_is_a_value_error_with_its_field() -> None:
    error = errors.BadRequest("tp", 3, "a divisor of 8")
    assert isinstance(error, ValueError)
    assert str(error) == "tp = 3 is not allowed: a divisor of 8"
    assert (error.field, error.value, error.allowed) == ("tp", 3, "a divisor of 8")


def test_bad_rows_show_the_first_three_and_count_the_rest() -> None:
    error = errors.BadRows("runs.csv", [(line, "no model") for line in range(2, 12)])
    assert "10 bad row(s)" in str(error)
    assert "line 4" in str(error)
    assert "line 5" not in str(error)
    assert "7 more" in str(error)
    assert len(error.rows) == 10


def test_a_row_number_of_0_speaks_of_the_file() -> None:
    assert str(errors.BadRows("runs.csv", [(0, "empty")])) == "runs.csv: 1 bad row(s): empty"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("h10", "h100-sxm"), ("B200", "b200-sxm"), ("mi300", "mi300x"), ("qwen2.5-72", "qwen2.5-72b")],
)
def test_nearest_names_finds_what_was_meant(typed: str, expected: str) -> None:
    known = ["h100-sxm", "b200-sxm", "mi300x", "qwen2.5-72b", "l4", "a10"]
    assert errors.nearest_names(typed, known)[0] == expected


def test_nearest_names_gives_at_most_n_and_nothing_for_noise() -> None:
    known = [f"model-{number}b" for number in range(20)]
    assert len(errors.nearest_names("model-b", known, n=2)) == 2
    assert errors.nearest_names("zzzzzzzz", known) == ()
    assert errors.nearest_names("", known) == ()
