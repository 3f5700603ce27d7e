"""How a deployment is laid out: replicas, attention data parallelism, prefill and decode pools.

One meaning for every source: `tp` is the width of one model instance (attention data parallelism is inside
it), `dp` how many attention groups that width holds, `replicas` the instances, so that num_gpus = tp x pp x
replicas, and in disaggregated rows num_gpus = prefill_gpus + decode_gpus with prefill_gpus = prefill_tp x
prefill_workers (the like for decode; `tp`, `ep`, `dp` repeat decode's).
"""

from __future__ import annotations

import pandas as pd

from .draft import note, reject


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
    note(rows, whole & (copies > 1), "replicas-counted", column="replicas")
    rows.loc[rows["disagg"] == 1, "replicas"] = 1.0


def check(rows: pd.DataFrame) -> None:
    """Reject layouts that do not multiply to num_gpus."""
    together = rows["disagg"] == 0
    width = rows["tp"] * rows["pp"]
    wrong = (
        together & width.notna() & rows["num_gpus"].notna() & (width * rows["replicas"] != rows["num_gpus"])
    )
    reject(rows, wrong, "layout-width", column="num_gpus")
    wide = rows["ep"] > rows["tp"]
    reject(rows, wide & together, "layout-ep", column="ep")
    pools = rows["prefill_gpus"] + rows["decode_gpus"]
    unequal = ~together & pools.notna() & (pools != rows["num_gpus"])
    reject(rows, unequal, "layout-pools", column="num_gpus")
