"""Source names to catalogue names: GPUs, models, engines, precisions, dates."""

from __future__ import annotations

from functools import cache

import pandas as pd

from .. import catalogue
from ..errors import UnknownName
from ..vocabulary import ENGINES, PRECISIONS, SPECULATION, checkpoint_precision
from .draft import note, reject

# "GH200 120GB" is NVIDIA's name of the part with 96 GB HBM3 (120 GB is its LPDDR5X).
GPU_ALIASES = {
    "gh200": "gh200-96g", "a100-80g-pcie": "a100-pcie", "h20-96g": "h20", "h800-sxm": "h800",
    "inferentia2": "inf2", "trainium1": "trn1", "rtxpro6000-bw": "rtx-pro-6000", "v100-16g": "v100",
}  # fmt: skip


@cache
def _catalogue_name(kind: str, name: str) -> str:
    """Return the catalogue's name, or "" where it knows none."""
    look_up = catalogue.gpu if kind == "gpu" else catalogue.model
    try:
        return look_up(name).name
    except UnknownName:
        return ""


def resolve(rows: pd.DataFrame) -> None:
    """Put catalogue and glossary names in place of the sources'; reject what the catalogue lacks."""
    for kind, aliases in (("gpu", GPU_ALIASES), ("model", {})):
        given = rows[kind].str.lower()
        found = given.map(lambda name, a=aliases, k=kind: _catalogue_name(k, a.get(name, name)))
        unknown = found == ""
        for name in sorted(set(given[unknown])):
            reject(rows, unknown & (given == name), "not-in-catalogue", column=kind, value=name)
        rows[kind] = found.where(~unknown, given)
    rows["engine"] = rows["engine"].map(ENGINES.stored)
    rows["kv_precision"] = rows["kv_precision"].map(PRECISIONS.stored)
    rows["spec_decode"] = rows["spec_decode"].map(SPECULATION.stored)
    _resolve_precision(rows)
    rows["date"] = rows["date"].map(whole_date)


def _resolve_precision(rows: pd.DataFrame) -> None:
    """Settle `weight_precision`: as stated, else as the checkpoint's name says, else the model's native one.

    "fp4/fp8 native" (DeepSeek-V4: routed experts fp4, the rest fp8) and "fp8 native" are the native
    checkpoint.
    """
    stated = rows["weight_precision"].map(PRECISIONS.stored)
    unsettled = (stated == "") | rows["weight_precision"].str.contains("native")
    settled = [
        _inferred_precision(raw, model) if unsure else given
        for raw, model, unsure, given in zip(rows["model_raw"], rows["model"], unsettled, stated, strict=True)
    ]
    note(rows, stated == "", "precision-inferred", column="weight_precision")
    rows["weight_precision"] = settled


def _inferred_precision(model_raw: str, model: str) -> str:
    spec = catalogue.models().get(model)
    native = spec.native_weight_precision if spec else "bf16"
    return checkpoint_precision(model_raw) or PRECISIONS.stored(native) or "bf16"


def whole_date(text: str) -> str:
    """Complete a date to YYYY-MM-DD: the 15th of a month, the 1st of July of a year; "" stays.

    >>> whole_date("2025-11"), whole_date("2025"), whole_date("")
    ('2025-11-15', '2025-07-01', '')
    """
    return text + {4: "-07-01", 7: "-15"}.get(len(text), "")
