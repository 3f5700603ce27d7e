"""Small made-up tables: benchmark rows whose truth is known, and a scores frame as evaluation yields it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

MODELS = {"llama-3.1-8b": 8.0, "qwen2.5-72b": 72.7, "deepseek-r1": 37.0, "deepseek-v3": 37.0}
GPUS = {"h100-sxm": 3.35, "b200-sxm": 8.0, "h200-sxm": 4.8, "gb200": 8.0, "a100-80g": 2.0}
ENGINES = ("vllm", "trtllm", "sglang")
SOURCES = ("inferencex", "mlperf", "vendor-docs", "aic-nvidia")
PROTOCOLS = ("configuration", "platform")
METRICS = ("tpot_ms", "ttft_ms", "output_tok_s", "ttft_mean_ms")


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """Closed-loop rows, each set-up measured once to three times; TPOT is active weights over bandwidth."""
    rng = np.random.default_rng(3)
    n = 500
    drawn = {
        "model": list(MODELS), "gpu": list(GPUS), "engine": ENGINES, "tp": [1.0, 2.0, 4.0, 8.0],
        "isl": [128.0, 1024.0, 8192.0], "osl": [128.0, 1024.0], "concurrency": [1.0, 8.0, 64.0],
    }  # fmt: skip
    odds = {"gpu": [0.4, 0.3, 0.2, 0.08, 0.02]}
    rows = pd.DataFrame({name: rng.choice(values, n, p=odds.get(name)) for name, values in drawn.items()})
    rows = rows.assign(
        num_gpus=rows["tp"], num_nodes=1, pp=1.0, ep=1.0, dp=1.0, replicas=1.0, disagg=0, prefill_gpus=np.nan,
        decode_gpus=np.nan, request_rate=np.nan, prefix_cached_frac=np.nan, weight_precision="bf16",
        kv_precision="", spec_decode="none", mode="closed-loop",
    )  # fmt: skip
    rows["config_group"] = [f"c{k}" for k in rows.groupby(list(rows.columns), dropna=False).ngroup()]
    rows = rows.loc[np.repeat(np.arange(n), rng.integers(1, 4, n))].reset_index(drop=True)
    rows["source_family"] = rng.choice(SOURCES, len(rows), p=[0.6, 0.2, 0.1, 0.1])
    rows["source"], rows["date"], rows["weight"] = rows["source_family"], "2026-01-01", 1.0
    ideal = rows["model"].map(MODELS) / rows["gpu"].map(GPUS) / rows["tp"]
    rows["tpot_ms"] = ideal * np.exp(0.05 * rng.standard_normal(len(rows)))
    rows["row_id"] = [f"r{k}" for k in range(len(rows))]
    return rows


@pytest.fixture(scope="session")
def scores() -> pd.DataFrame:
    """Scores of 400 rows x 2 protocols x 4 metrics; the blend errs by 4 % in TPOT, by 60 % else."""
    rng = np.random.default_rng(5)
    parts, n = [], 400
    for protocol in PROTOCOLS:
        for metric in METRICS:
            measured = np.exp(rng.normal(3.0, 1.0, n))
            spread = 0.06 if metric == "tpot_ms" else 0.9
            blend = measured * np.exp(spread * rng.standard_normal(n))
            off = {"baseline": 0.3, "neighbour": 0.5, "pure_ml": 0.4}
            drawn = {
                "support": ["in", "near", "far"], "gpu": list(GPUS), "model": list(MODELS), "engine": ENGINES,
                "weight_precision": ["fp8", "bf16"], "mode": ["closed-loop", "offline"], "source": SOURCES,
            }  # fmt: skip
            part = pd.DataFrame({"row_id": [f"r{k}" for k in range(n)], "measured": measured, "blend": blend})
            parts.append(
                part.assign(
                    protocol=protocol, metric=metric, fold=rng.integers(0, 5, n), floor=measured / 3.0,
                    blend_lo=blend * np.exp(-1.645 * spread), blend_hi=blend * np.exp(1.645 * spread),
                    **{k: measured * np.exp(size * rng.standard_normal(n)) for k, size in off.items()},
                    **{k: rng.choice(values, n) for k, values in drawn.items()},
                )
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)
