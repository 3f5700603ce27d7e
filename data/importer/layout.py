"""How a deployment is laid out: replicas, attention data parallelism, prefill and decode pools.

One meaning for every source: `tp` is the width of one model instance (attention data parallelism is inside
it), `dp` how many attention groups that width holds, `replicas` the instances, so that num_gpus = tp x pp x
replicas, and in disaggregated rows num_gpus = prefill_gpus + decode_gpus with prefill_gpus = prefill_tp x
prefill_workers (the like for decode; `tp`, `ep`, `dp` repeat decode's).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from .raw import say


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


def settle(rows: pd.DataFrame) -> None:
    """Bring tp, dp and replicas to the one meaning.

    `dp_means` says how the source counts dp: "replicas"; "outside" (attention dp beside tp, vLLM's and
    aiconfigurator's way: the instance is tp x dp wide); "inside" (SGLang's and InferenceX's way); "" decides
    by which product gives num_gpus.
    """
    rows["disagg"] = rows["disagg"].fillna(0)
    rows["pp"] = rows["pp"].fillna(1)
    dp = rows["dp"].fillna(1)
    single = (rows["num_gpus"] == 1) & rows["tp"].isna()
    rows.loc[single, "tp"] = 1
    split = (dp > 1) & (rows["dp_means"] == "") & (rows["num_gpus"] == rows["tp"] * rows["pp"] * dp)
    rows.loc[split, "dp_means"] = "outside"
    copies = (rows["dp_means"] == "replicas") & rows["tp"].notna()
    rows["replicas"] = rows["replicas"].where(~copies, dp)
    outside = rows["dp_means"] == "outside"
    rows.loc[outside, "tp"] = (rows["tp"] * dp)[outside]
    rows["dp"] = dp.mask(rows["dp_means"] == "replicas", 1.0)
    _pools_of_one_width(rows)
    _count_replicas(rows)


def _pools_of_one_width(rows: pd.DataFrame) -> None:
    """Where a source states one tp for a disaggregated system, both pools' workers are that wide."""
    for pool in ("prefill", "decode"):
        workers = rows[f"{pool}_gpus"] / rows["tp"]
        plain = (rows["disagg"] == 1) & rows[f"{pool}_tp"].isna() & (workers == workers.round())
        rows.loc[plain, f"{pool}_tp"] = rows.loc[plain, "tp"]
        rows.loc[plain, f"{pool}_workers"] = workers[plain]
        has = (rows["disagg"] == 1) & rows[f"{pool}_tp"].notna() & rows[f"{pool}_dp"].isna()
        divided = (rows["dp"] > 1) & (rows["dp"] == rows["tp"])
        rows.loc[has, f"{pool}_dp"] = rows[f"{pool}_tp"].where(divided, rows["dp"].fillna(1.0))[has]


def _count_replicas(rows: pd.DataFrame) -> None:
    """Fill num_gpus from an instance's width, or replicas from num_gpus, where one of them is missing."""
    together = rows["disagg"] == 0
    width = rows["tp"] * rows["pp"]
    bare = together & rows["num_gpus"].isna() & width.notna()
    rows.loc[bare, "num_gpus"] = (width * rows["replicas"].fillna(1))[bare]
    copies = rows["num_gpus"] / width
    whole = together & rows["replicas"].isna() & (copies >= 1) & (copies == copies.round())
    rows.loc[whole, "replicas"] = copies[whole]
    say(rows, whole & (copies > 1), remark="replicas = num_gpus/(tp x pp)")
    rows.loc[rows["disagg"] == 1, "replicas"] = 1.0


def check(rows: pd.DataFrame) -> None:
    """Reject layouts that do not multiply to num_gpus."""
    together = rows["disagg"] == 0
    width = rows["tp"] * rows["pp"]
    wrong = (
        together & width.notna() & rows["num_gpus"].notna() & (width * rows["replicas"] != rows["num_gpus"])
    )
    say(rows, wrong, reject="tp x pp x replicas is not num_gpus")
    wide = rows["ep"] > rows["tp"]
    say(rows, wide & together, reject="ep wider than the instance")
    pools = rows["prefill_gpus"] + rows["decode_gpus"]
    say(
        rows,
        ~together & pools.notna() & (pools != rows["num_gpus"]),
        reject="prefill + decode GPUs are not num_gpus",
    )
