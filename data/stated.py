"""What a row's source itself says where the table says otherwise: the column `stated`, and what it asks.

A row of the table says what was run: mean lengths as they were drawn, the whole layout, one name for each
thing. Its source may say so in other terms (nominal lengths, dp beside tp, a checkpoint's name) or not at
all. `stated` keeps that as JSON of request columns to values, null where the source is silent; on what it
does not hold, source and table agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from . import catalogue
from .columns import ASKED, COLUMNS, ROLES
from .errors import UnknownName
from .vocabulary import ENGINES, PRECISIONS, SPECULATION

SPREAD = "length_spread"  # "0.8-1": lengths uniform between these shares of the nominal one; "dataset"
_SPELLED: Mapping[str, Callable[[str], str]] = {
    "engine": ENGINES.stored, "spec_decode": SPECULATION.stored, "weight_precision": PRECISIONS.stored,
    "kv_precision": PRECISIONS.stored,
}  # fmt: skip


def as_said(drafts: pd.DataFrame) -> pd.DataFrame:
    """Return draft rows in their source's terms, as long as nothing of them has been aligned.

    Without the GPU: whoever reads a row names it, and what the source calls the system is `platform_raw`. A
    dp that counts copies is no degree: the number of GPUs says as much.
    """
    named = drafts["model_raw"].where(drafts["model_raw"] != "", drafts["model"])
    nominal = {name: drafts[f"{name}_nominal"].fillna(drafts[name]) for name in ("isl", "osl")}
    spread = drafts[SPREAD].mask(drafts["length_kind"] == "dataset", "dataset")
    dp = drafts["dp"].mask(drafts["dp_means"] == "replicas")
    return drafts.drop(columns="gpu").assign(model=named, dp=dp, **nominal, **{SPREAD: spread})


def statements(said: pd.DataFrame, rows: pd.DataFrame) -> pd.Series[str]:
    """Return the column `stated` of rows, "" where nothing differs.

    said: the same rows in their source's terms, with any request columns, and SPREAD where lengths vary. A
    spelling of the same name, a date as exact as it was given, and silence about a default are no difference.
    """
    found: list[dict[str, Any]] = [{} for _ in range(len(rows))]
    for name in dict.fromkeys((*ASKED, SPREAD)):
        if name in said and (name in rows or name == SPREAD):
            values = said[name].to_numpy()
            for at in np.flatnonzero(_differs(name, said[name], rows)):
                silent = values[at] == "" or values[at] != values[at]
                found[at][name] = None if silent else values[at]
    texts = [json.dumps(each) if each else "" for each in found]
    return pd.Series(texts, index=rows.index, dtype=object)


def _differs(name: str, said: pd.Series[Any], rows: pd.DataFrame) -> Any:
    if name == SPREAD:
        return said != ""
    column, now = COLUMNS[name], rows[name]
    meant = column.missing if column.missing is not None else column.default
    if not column.is_text:
        before, after = (x.fillna(np.nan if meant is None else meant) for x in (said, now))
        return ((before != after) & (before.notna() | after.notna())).to_numpy()
    spelled, default = _SPELLED.get(name, str), "" if name == "weight_precision" else meant or ""
    before, after = (x.map(spelled).replace("", default) for x in (said, now))
    if name == "date":
        return np.array([not b or not a.startswith(b) for b, a in zip(before, after, strict=True)])
    return (before != after).to_numpy()


def as_stated(table: pd.DataFrame, roles: Sequence[str] = ROLES) -> pd.DataFrame:
    """Return the table's rows as questions in their sources' terms: request columns, without a source.

    roles: of which columns (see `columns.ROLES`) the source's terms are taken; the others stay as the table
    says, and so do a model's name that the catalogue does not know and the number of GPUs where the source
    is silent: whoever asks has counted them. Needs the column `stated`.
    """
    asked = table[[name for name in ASKED if name in table]].copy()
    if "length_kind" in table:
        asked[SPREAD] = table["length_kind"]
    said = _by_column(table)
    known = set(filter(understood, set(said["model"].values())))
    said["model"] = {at: name for at, name in said["model"].items() if name in known}
    said["num_gpus"] = {at: n for at, n in said.get("num_gpus", {}).items() if n is not None}
    for name in (n for n in said if n in ASKED and COLUMNS[n].role in roles):
        silent, kind = ("", object) if COLUMNS[name].is_text else (np.nan, np.float64)
        start = asked[name] if name in asked else [silent] * len(asked)
        values = np.array(start, dtype=kind)
        values[list(said[name])] = [silent if v is None else v for v in said[name].values()]
        asked[name] = values
    return asked.assign(source="") if "origin" in roles else asked


def names_stated(table: pd.DataFrame) -> dict[str, Any]:
    """Return of the rows whose source writes another model's name than the table: rows, names, unknown.

    unknown: (name, rows) of the names that the catalogue does not know, most rows first.
    """
    rows = pd.Series(_by_column(table)["model"], dtype=str).value_counts()
    unknown = [[str(name), int(n)] for name, n in rows.items() if not understood(str(name))]
    return {"rows": int(rows.sum()), "names": len(rows), "unknown": unknown}


def understood(name: str) -> bool:
    """Return whether the catalogue knows a model by this name."""
    with suppress(UnknownName, ValueError):
        return bool(catalogue.model(name).name)
    return False


def _by_column(table: pd.DataFrame) -> dict[str, dict[int, Any]]:
    """Return what the sources say, by column and then by position."""
    said: dict[str, dict[int, Any]] = {"model": {}}
    for at, text in enumerate(table["stated"]):
        for name, value in (json.loads(text) if text else {}).items():
            said.setdefault(name, {})[at] = value
    return said
