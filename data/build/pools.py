"""The prefill and decode pools of disaggregated rows, from what the sources note of them."""

from __future__ import annotations

import numpy as np
import pandas as pd


def pools_in_notes(rows: pd.DataFrame) -> None:
    """Read "prefill tp=4 ep=4 dpa=1 workers=8; decode tp=16 ep=16 dpa=1 workers=1" (InferenceX form).

    tp is the width of one worker and dpa whether its attention is data parallel. Exceptions, checked against
    the GPU counts: tp=1 with several GPUs per worker is SGLang's wide-EP notation (the width is GPUs/workers,
    ep unknown), a worker count below GPUs/width was not counted per engine, workers=0 marks early rows whose
    tp is the total (layout unknown, the split known from per-GPU throughputs).
    """
    for pool in ("prefill", "decode"):
        found = rows["notes"].str.extract(rf"{pool} tp=(\d+) ep=(\d+) dpa=([01]) workers=(\d+)").astype(float)
        tp, ep, dpa, workers = found[0], found[1], found[2], found[3]
        gpus, written = rows[f"{pool}_gpus"], pd.Series(np.fmax(tp, ep), index=rows.index)
        wide = (tp == 1) & (ep == 1) & ((gpus > workers) | (gpus.isna() & (dpa == 1)))
        width = written.mask(wide, gpus / workers)
        has = workers > 0
        rows.loc[has, f"{pool}_tp"] = width[has]
        rows.loc[has, f"{pool}_ep"] = ep.mask(wide)[has]
        rows.loc[has, f"{pool}_dp"] = np.where(dpa[has] == 1, width[has], 1.0)
        rows.loc[has, f"{pool}_workers"] = (gpus / width).fillna(workers)[has]
        early = workers == 0
        rows.loc[early & rows["num_gpus"].isna(), "num_gpus"] = tp[early & rows["num_gpus"].isna()]
    _decode_is_the_instance(rows)


def pools_in_aic_notes(rows: pd.DataFrame) -> None:
    """Read aiconfigurator's form: "prefill tp=1.0 dp=4.0 ep=4.0 workers=1.0; decode workers=4.0".

    There tp excludes attention dp, and the columns tp, dp, ep are the decode worker's. Rows without that note
    say less: the column tp is the decode width and the name in source_ref ("..._tp4_ep4_803") the prefill
    worker's tp and ep (seen on 259 rows that InferenceX's own files hold with their full layout); worker
    counts are unknown. Where both are one odd number it is the total of an early row of unknown layout;
    tp=1 is SGLang's wide-EP notation, the width unknown.
    """
    pool = r"prefill tp=([\d.]+) dp=([\d.]+) ep=([\d.]+) workers=([\d.]+|nan)"
    prefill = rows["notes"].str.extract(pool).astype(float)
    workers = rows["notes"].str.extract(r"decode workers=([\d.]+|nan)")[0].astype(float)
    has = prefill[0].notna() & (rows["disagg"] == 1)
    rows.loc[has, "prefill_tp"] = (prefill[0] * prefill[1])[has]
    rows.loc[has, "prefill_dp"] = prefill.loc[has, 1]
    rows.loc[has, "prefill_ep"] = prefill.loc[has, 2]
    rows.loc[has, "prefill_workers"] = prefill.loc[has, 3]
    rows.loc[has, "decode_tp"] = (rows["tp"] * rows["dp"].fillna(1))[has]
    rows.loc[has, "decode_dp"] = rows.loc[has, "dp"]
    rows.loc[has, "decode_ep"] = rows.loc[has, "ep"]
    rows.loc[has, "decode_workers"] = workers[has]
    named = rows["source_ref"].str.extract(r"_tp(\d+)(?:_0)?_ep(\d+)").astype(float)
    bare = ~has & (rows["disagg"] == 1)
    total = (named[0] == rows["tp"]) & (rows["ep"] == 1) & ~rows["tp"].isin([1, 2, 4, 8, 16])
    early = bare & total
    rows.loc[early, "num_gpus"] = rows.loc[early, "tp"]
    rows.loc[early, ["tp", "ep", "dp"]] = np.nan
    wide = bare & (rows["tp"] == 1)
    rows.loc[wide, ["tp", "ep", "dp"]] = np.nan
    known = bare & rows["tp"].notna()
    rows.loc[known, "prefill_tp"] = named.loc[known, 0]
    rows.loc[known, "prefill_ep"] = named.loc[known, 1]
    rows.loc[known, "decode_tp"] = rows.loc[known, "tp"]
    _decode_is_the_instance(rows)


def _decode_is_the_instance(rows: pd.DataFrame) -> None:
    has = rows["decode_tp"].notna() & (rows["disagg"] == 1)
    for name in ("tp", "ep", "dp"):
        rows.loc[has, name] = rows.loc[has, f"decode_{name}"]
    rows.loc[has, "dp_means"] = "inside"
    for pool in ("prefill", "decode"):
        counted = rows[f"{pool}_tp"] * rows[f"{pool}_workers"]
        rows[f"{pool}_gpus"] = rows[f"{pool}_gpus"].where(counted.isna(), counted)
    known = has & rows["prefill_gpus"].notna() & rows["decode_gpus"].notna()
    rows.loc[known, "num_gpus"] = (rows["prefill_gpus"] + rows["decode_gpus"])[known]


def pools_of_replicas(rows: pd.DataFrame) -> None:
    """Read anyscale's pools: replicas of the stated width, or "prefill TP4 + 2 decode TP8"."""
    split = rows["disagg"] == 1
    named = rows["notes"].str.extract(r"prefill TP(\d+) \+ \d+ decode TP(\d+)").astype(float)
    for i, pool in enumerate(("prefill", "decode")):
        width = named[i].fillna(rows["tp"])
        rows.loc[split, f"{pool}_tp"] = width[split]
        rows.loc[split, f"{pool}_workers"] = (rows[f"{pool}_gpus"] / width)[split]
    rows.loc[split, "dp_means"] = "inside"


def pools_of_servers(rows: pd.DataFrame) -> None:
    """Read "14 prefill servers x tp4 + 2 decode servers x tp8" and "prefill 2x(tp4,...), decode 4x(tp16"."""
    for pattern in (
        r"(\d+) prefill servers x tp(\d+) \+ (\d+) decode servers x tp(\d+)",
        r"prefill (\d+)x\(tp(\d+).*?decode (\d+)x\(tp(\d+)",
    ):
        found = rows["notes"].str.extract(pattern).astype(float)
        has = found[0].notna()
        for i, name in enumerate(("prefill_workers", "prefill_tp", "decode_workers", "decode_tp")):
            rows.loc[has, name] = found.loc[has, i]
        rows.loc[has, "disagg"] = 1
        rows.loc[has, "tp"] = found.loc[has, 3]
