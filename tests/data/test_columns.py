"""The table of columns agrees with itself, and what is derived from it with what uses it."""

from __future__ import annotations

import pytest

from roofcast.data.columns import (
    ANSWERS,
    COLUMNS,
    FIGURES,
    REQUEST_COLUMNS,
    ROLES,
    TABLE,
    Column,
    names,
)


def test_every_column_stands_once_and_figures_and_answers_are_columns() -> None:
    assert len(COLUMNS) == len(TABLE)
    assert {column.role for column in TABLE} == set(ROLES)
    assert set(FIGURES) <= set(ANSWERS) <= set(COLUMNS)
    assert "isl" in names(asked=True, stored=True, roles=("load",))


@pytest.mark.parametrize("column", TABLE, ids=lambda column: column.name)
def test_a_column_can_be_asked_stored_or_claimed_and_says_what_it_is(column: Column) -> None:
    assert column.asked or column.stored or column.role == "measured"
    assert bool(column.allowed) == (column.kind == "name")
    assert column.low <= column.high
    assert column.missing is None or not column.allowed or column.missing in column.allowed
    assert column.help or column.name not in REQUEST_COLUMNS
