"""Source names to catalogue names: GPUs, models, engines, precisions, dates."""

from __future__ import annotations

from contextlib import suppress
from functools import cache, partial

import pandas as pd

from .. import catalogue
from ..errors import UnknownName
from ..spellings import checkpoint
from ..vocabulary import ENGINES, PRECISIONS, SPECULATION
from .draft import note, reject

_GPU_ALIASES = {"v100-16g": "v100"}  # of a source that measured a plain "V100"


@cache
def _catalogue_name(kind: str, name: str) -> str:
    """Return the catalogue's name, or "" where it knows none."""
    with suppress(UnknownName):
        return (
            catalogue.model(name) if kind == "model" else catalogue.gpu(_GPU_ALIASES.get(name, name))
        ).name
    return ""


def resolve(rows: pd.DataFrame) -> None:
    """Put catalogue and glossary names in place of the sources'; reject what the catalogue lacks."""
    for kind in ("gpu", "model"):
        given = rows[kind].str.lower()
        found = given.map(partial(_catalogue_name, kind))
        unknown = found == ""
        for name in sorted(set(given[unknown])):
            reject(rows, unknown & (given == name), "not-in-catalogue", column=kind, value=name)
        rows[kind] = found.where(~unknown, given)
    # "fp4/fp8 native" (DeepSeek-V4: routed experts fp4, the rest fp8), "fp8 native": the native checkpoint.
    unsure = rows["weight_precision"].str.contains("native")
    stored = {"engine": ENGINES.stored, "spec_decode": SPECULATION.stored, "date": whole_date}
    stored |= dict.fromkeys(("weight_precision", "kv_precision"), PRECISIONS.stored)
    for name, as_stored in stored.items():
        rows[name] = rows[name].map(as_stored)
    note(rows, rows["weight_precision"] == "", "precision-inferred", column="weight_precision")
    unsure |= rows["weight_precision"] == ""
    own = [*map(native_precision, rows.loc[unsure, "model_raw"], rows.loc[unsure, "model"])]
    rows.loc[unsure, "weight_precision"] = own


def native_precision(model_raw: str, model: str) -> str:
    """Return the precision that a checkpoint's name says, else the model's native one."""
    spec = catalogue.models().get(model)
    native = spec.native_weight_precision if spec else "bf16"
    return checkpoint(model_raw).weight_precision or PRECISIONS.stored(native) or "bf16"


def whole_date(text: str) -> str:
    """Complete a date to YYYY-MM-DD: the 15th of a month, the 1st of July of a year; "" stays.

    >>> whole_date("2025-11"), whole_date("2025"), whole_date("")
    ('2025-11-15', '2025-07-01', '')
    """
    return text + {4: "-07-01", 7: "-15"}.get(len(text), "")
