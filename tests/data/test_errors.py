"""Errors are one tree, print one line and survive a trip between processes."""

from __future__ import annotations

import copy

import pytest

from roofcast.data import errors

ROWS = [(line, "no model") for line in range(2, 12)]


@pytest.mark.parametrize(("error", "also", "text", "values"), [
    (
        errors.UnknownName("gpu", "b20", ("b200-sxm",)), KeyError,
        "unknown gpu 'b20'; nearest: b200-sxm", {"kind": "gpu", "name": "b20", "nearest": ("b200-sxm",)},
    ),
    (errors.UnknownName("model", "x\n", ()), KeyError, "unknown model 'x '", {"nearest": ()}),
    (
        errors.BadRequest("tp", 3, "a divisor of 8"), ValueError,
        "tp = 3 is not allowed: a divisor of 8", {"field": "tp", "value": 3, "allowed": "a divisor of 8"},
    ),
    (errors.BadRequest("x", float("inf"), "finite"), ValueError, "x = inf is not allowed: finite", {}),
    (
        errors.BadRows("runs.csv", ROWS), ValueError,
        "runs.csv: 10 bad row(s): line 2: no model; line 3: no model; line 4: no model; and 7 more",
        {"file": "runs.csv", "rows": ROWS},
    ),
    # A row number of 0 speaks of the file.
    (errors.BadRows("runs.csv", [(0, "empty")]), ValueError, "runs.csv: 1 bad row(s): empty", {}),
    (errors.BadBundle("schema 9"), Exception, "schema 9", {}),
    (errors.BadStore("half a write"), Exception, "half a write", {}),
])  # fmt: skip
def test_an_error_is_one_printable_line_with_its_values_and_copies_whole(
    error: errors.RoofcastError, also: type[Exception], text: str, values: dict[str, object]
) -> None:
    again = copy.copy(error)
    for each in (error, again):
        assert isinstance(each, errors.RoofcastError)
        assert isinstance(each, also)
        assert str(each) == text
        assert {name: getattr(each, name) for name in values} == values
    assert vars(again) == vars(error)
    assert text.isprintable()


NAMES = ["h100-sxm", "b200-sxm", "mi300x", "qwen2.5-72b", "l4", "a10"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("h10", "h100-sxm"), ("B200", "b200-sxm"), ("mi300", "mi300x"), ("qwen2.5-72", "qwen2.5-72b")],
)
def test_nearest_names_finds_what_was_meant(typed: str, expected: str) -> None:
    assert errors.nearest_names(typed, NAMES)[0] == expected


def test_nearest_names_gives_at_most_n_and_nothing_for_noise() -> None:
    known = [f"model-{number}b" for number in range(20)]
    assert len(errors.nearest_names("model-b", known, n=2)) == 2
    assert errors.nearest_names("zzzzzzzz", known) == errors.nearest_names("", known) == ()
