"""Errors are one tree, print one line and survive a trip between processes."""

from __future__ import annotations

import copy

import pytest

from roofcast.data import errors

ROWS = [(line, "no model") for line in range(2, 12)]


@pytest.mark.parametrize(("error", "also", "text"), [
    (errors.UnknownName("gpu", "b20", ("b200-sxm",)), KeyError, "unknown gpu 'b20'; nearest: b200-sxm"),
    (errors.UnknownName("model", "x\n", ()), KeyError, "unknown model 'x '"),
    (errors.BadRequest("tp", 3, "a divisor of 8"), ValueError, "tp = 3 is not allowed: a divisor of 8"),
    (errors.BadRequest("x", float("inf"), "finite"), ValueError, "x = inf is not allowed: finite"),
    (errors.BadRows("runs.csv", ROWS), ValueError,
     "runs.csv: 10 bad row(s): line 2: no model; line 3: no model; line 4: no model; and 7 more"),
    # A row number of 0 speaks of the file.
    (errors.BadRows("runs.csv", [(0, "empty")]), ValueError, "runs.csv: 1 bad row(s): empty"),
    (errors.BadBundle("schema 9"), Exception, "schema 9"),
])  # fmt: skip
def test_an_error_is_one_line_and_copies_whole(error: errors.RoofcastError, also: type, text: str) -> None:
    again = copy.copy(error)
    assert isinstance(again, errors.RoofcastError)
    assert isinstance(again, also)
    assert str(error) == str(again) == text
    assert text.isprintable()
    assert vars(again) == vars(error)


def test_nearest_names_finds_what_was_meant_at_most_n_and_nothing_for_noise() -> None:
    names = ["h100-sxm", "b200-sxm", "mi300x", "qwen2.5-72b", "l4", "a10"]
    meant = {"h10": "h100-sxm", "B200": "b200-sxm", "mi300": "mi300x", "qwen2.5-72": "qwen2.5-72b"}
    assert {typed: errors.nearest_names(typed, names)[0] for typed in meant} == meant
    known = [f"model-{number}b" for number in range(20)]
    assert len(errors.nearest_names("model-b", known, n=2)) == 2
    assert errors.nearest_names("zzzzzzzz", known) == errors.nearest_names("", known) == ()
