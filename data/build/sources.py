"""The table of sources (sources.toml) and its application: every source aligned by its family's steps."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..rows import draft
from . import inferencex_rules, mlperf_rules, pools, source_rules

USUAL_RANK = 5


@dataclass(frozen=True, kw_only=True)
class Family:
    """Sources of one origin and how they are aligned: an entry of sources.toml, which describes the keys."""

    name: str
    about: str
    sources: Sequence[str]
    rank: int = USUAL_RANK
    set: Mapping[str, str | float] = field(default_factory=dict)
    steps: Sequence[str | Mapping[str, Any]] = ()

    def align(self, rows: pd.DataFrame) -> None:
        """Align rows of this family's sources in place."""
        rows["source_family"] = self.name
        for column, value in self.set.items():
            rows[column] = value
        for step in self.steps:
            if isinstance(step, str):
                RULES[step](rows)
            else:
                _apply(rows, **step)


def _apply(
    rows: pd.DataFrame,
    *,
    where: Mapping[str, str] | None = None,
    missing: Sequence[str] = (),
    above: Mapping[str, float] | None = None,
    below: Mapping[str, float] | None = None,
    set: Mapping[str, str | float] | None = None,
    reject: str = "",
    note: str = "",
    **equal: Mapping[str, Any],
) -> None:
    """Set values, reject or note the rows that match all conditions of a step."""
    match = pd.Series(True, index=rows.index)
    for column, pattern in (where or {}).items():
        match &= rows[column].str.contains(pattern)
    for column, values in equal.get("is", {}).items():
        match &= rows[column].isin(values if isinstance(values, list) else [values])
    for column in missing:
        match &= rows[column].isna()
    for column, bound in (above or {}).items():
        match &= rows[column] > bound
    for column, bound in (below or {}).items():
        match &= rows[column] < bound
    for column, value in (set or {}).items():
        rows.loc[match, column] = value
    if reject:
        draft.reject(rows, match, "source", value=reject)
    if note:
        draft.note(rows, match, "source", value=note)


_MODULES = (inferencex_rules, mlperf_rules, pools, source_rules)
RULES: dict[str, Callable[[pd.DataFrame], None]] = {
    name: rule
    for module in _MODULES
    for name, rule in vars(module).items()
    if getattr(rule, "__module__", "") == module.__name__
}


def _families() -> tuple[Family, ...]:
    table: dict[str, Any] = tomllib.loads(
        Path(__file__).with_name("sources.toml").read_text(encoding="utf-8")
    )
    return tuple(Family(**entry) for entry in table["family"])


FAMILIES = _families()
SOURCE_RANK = {source: family.rank for family in FAMILIES for source in family.sources}


def align(collected: pd.DataFrame) -> pd.DataFrame:
    """Return the collected rows, every source aligned as its family is; a source of no family is rejected."""
    parts = []
    for family in FAMILIES:
        rows = collected[collected["source"].isin(family.sources)].copy()
        if len(rows):
            family.align(rows)
            parts.append(rows)
    strange = collected[~collected["source"].isin(SOURCE_RANK)].copy()
    if len(strange):
        strange["source_family"] = "unknown"
        draft.reject(strange, strange["source"].notna(), "source", value="no rule for this source")
        parts.append(strange)
    return pd.concat(parts).sort_index()
