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
    dp, means = rows["dp"].fillna(1), rows["dp_means"]
    tp = rows["tp"].mask((rows["num_gpus"] == 1) & rows["tp"].isna(), 1.0)
    split = (dp > 1) & (means == "") & (rows["num_gpus"] == tp * rows["pp"] * dp)
    rows["dp_means"] = means = means.mask(split, "outside")
    rows["replicas"] = rows["replicas"].mask((means == "replicas") & tp.notna(), dp)
    rows["tp"] = tp.mask(means == "outside", tp * dp)
    rows["dp"] = dp.mask(means == "replicas", 1.0)
    _pools_of_one_width(rows)
    _count_replicas(rows)


def _pools_of_one_width(rows: pd.DataFrame) -> None:
    """Where a source states one tp for a disaggregated system, both pools' workers are that wide."""
    apart = rows["disagg"] == 1
    divided = (rows["dp"] > 1) & (rows["dp"] == rows["tp"])
    for pool in ("prefill", "decode"):
        tp, workers, dp = (f"{pool}_{name}" for name in ("tp", "workers", "dp"))
        count = rows[f"{pool}_gpus"] / rows["tp"]
        plain = apart & rows[tp].isna() & (count == count.round())
        rows[tp] = rows[tp].mask(plain, rows["tp"])
        rows[workers] = rows[workers].mask(plain, count)
        has = apart & rows[tp].notna() & rows[dp].isna()
        rows[dp] = rows[dp].mask(has, rows[tp].where(divided, rows["dp"]))


def _count_replicas(rows: pd.DataFrame) -> None:
    """Fill num_gpus from an instance's width, or replicas from num_gpus, where one of them is missing."""
    together = rows["disagg"] == 0
    width = rows["tp"] * rows["pp"]
    bare = together & rows["num_gpus"].isna()
    rows["num_gpus"] = rows["num_gpus"].mask(bare, width * rows["replicas"].fillna(1))
    copies = rows["num_gpus"] / width
    whole = together & rows["replicas"].isna() & (copies >= 1) & (copies == copies.round())
    note(rows, whole & (copies > 1), "replicas-counted", column="replicas")
    rows["replicas"] = rows["replicas"].mask(whole, copies).mask(rows["disagg"] == 1, 1.0)


def check(rows: pd.DataFrame) -> None:
    """Reject layouts that do not multiply to num_gpus."""
    together = rows["disagg"] == 0
    gpus, width, pools = rows["num_gpus"], rows["tp"] * rows["pp"], rows["prefill_gpus"] + rows["decode_gpus"]
    wrong = together & width.notna() & gpus.notna() & (width * rows["replicas"] != gpus)
    reject(rows, wrong, "layout-width", column="num_gpus")
    reject(rows, (rows["ep"] > rows["tp"]) & together, "layout-ep", column="ep")
    reject(rows, ~together & pools.notna() & (pools != gpus), "layout-pools", column="num_gpus")
