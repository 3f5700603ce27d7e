"""data/kernels.toml: kernels, collectives and copies measured on their own, of the collected sources."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from roofcast.data import catalogue
from roofcast.features.collectives import all_reduce_s, fabric_arrays
from roofcast.features.facts import ARCHITECTURE_OF

SOURCE = "aiconfigurator-core 0.12.0"
HEAD = """\
# Kernels, collectives and copies measured on their own, summed up: what coefficients can be held against.
#
# kernels: median and 10 to 90 % range over series (a GPU with a library), each the median of many shapes
# [share of the datasheet's rate in gpus.toml; of collectives a factor, series are single measurements].
# small_all_reduces: latency in CUDA graphs (engine) or as nccl-tests prints it [us], over versions and runs.
# aiconfigurator-core is Apache-2.0; its kernels were timed alone, on silicon.

format = 1
"""
GPU_OF = {"a100_sxm": "a100-80g", "rtx_pro_6000_server": "rtx-pro-6000"}
PRECISION_OF = {"bfloat16": "bf16", "fp8_block": "fp8", "nvfp4": "fp4"}
# Coefficient: file, column of the rate, column of the precision.
FILES = {
    "weight_bandwidth": ("kernel_gemv_weight_bw", "med", "dtype"),
    "kv_bandwidth": ("kernel_decode_attention_bw", "gqa_med", "kv"),
    "compute": ("kernel_gemm_efficiency", "big_med", "dtype"),
    "attention_compute": ("kernel_context_attention_eff", "med", "attn"),
}
LOW, HIGH = 0.1, 0.9


def _spread(values: Sequence[float] | pd.Series[float]) -> dict[str, float]:
    low, median, high = np.quantile(np.asarray(values, dtype=np.float64), [LOW, 0.5, HIGH])
    return {"median": round(median, 3), "low": round(low, 3), "high": round(high, 3), "series": len(values)}


def _gpu(row: Mapping[str, Any]) -> Any:
    return catalogue.gpu(GPU_OF.get(row["system"], row["system"].replace("_", "-")))


def _kernels(root: Path) -> Iterator[dict[str, Any]]:
    """Yield a summary per coefficient, architecture and precision."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for coefficient, (name, rate, precision) in FILES.items():
        for row in pd.read_csv(root / "catalogue" / f"{name}.csv").dropna(subset=[rate]).to_dict("records"):
            gpu, kind = _gpu(row), PRECISION_OF.get(row[precision], row[precision])
            family = gpu.architecture.split()[0]
            peak = gpu.peak_flops(kind) if coefficient.endswith("compute") else gpu.memory_bandwidth
            own = f"compute_{kind}" if coefficient == "compute" else coefficient
            key = (f"{own}.{ARCHITECTURE_OF.get(family, family)}", kind, f"{name}.csv")
            found.setdefault(key, []).append(row[rate] * 1e12 / peak)
    for (coefficient, kind, name), shares in sorted(found.items()):
        source = f"{SOURCE}: {name}"
        yield {"coefficient": coefficient, "precision": kind, **_spread(shares), "source": source}


def _collectives(root: Path) -> Iterator[dict[str, Any]]:
    """Yield what small messages take beside the best version, and large ones beside the model."""
    rows = pd.read_csv(root / "catalogue" / "collectives.csv")
    rows = rows[(rows["operation"] == "all_reduce") & rows["library"].isin(["sglang", "trtllm", "vllm"])]
    rows = rows[rows["system"] != "b60"]  # no entry of the GPU catalogue
    small = rows[(rows["message_bytes"] <= 65_536) & (rows["versions"] > 1)]
    ratio = small["latency_us"] / small["latency_min_us"]
    source = f"{SOURCE}, engines' all-reduce: "
    yield {"coefficient": "collective_latency", "precision": "up to 64 KiB", **_spread(ratio),
           "source": source + "median over best version"}  # fmt: skip
    large = rows[(rows["message_bytes"] >= 2**22) & (rows["message_bytes"] <= 2**27)]
    shares = []
    for row in large.to_dict("records"):
        gpu, domain = _gpu(row), 72 if row["system"].startswith("gb") else 8
        link = {"link": [gpu.link or "pcie5"], "link_bandwidth": gpu.link_bandwidth or gpu.pcie_bandwidth}
        fabric = fabric_arrays(**link, domain=domain, nic_bandwidth=50e9)
        model = float(all_reduce_s(row["message_bytes"], row["num_gpus"], fabric)[0])
        shares.append(model * 1e6 / row["latency_us"])
    yield {"coefficient": "collective_bandwidth", "precision": "4 to 128 MiB", **_spread(shares),
           "source": source + "modelled over measured"}  # fmt: skip


def _small_all_reduces(root: Path) -> Iterator[dict[str, Any]]:
    """Yield the latencies of small all-reduces over eight GPUs of one box, by platform and library."""
    rows = pd.read_csv(root / "fabric" / "small_message_latency.csv")
    graph = rows["method"].str.contains("graph", case=False)
    nccl = rows["method"].str.contains("nccl-tests all_reduce_perf")
    rows = rows[(graph | nccl) & (rows["gpus"] == 8) & rows["message_bytes"].isin([16_384, 32_768])]
    library = np.where(rows["method"].str.contains("nccl-tests"), "nccl", "engine")
    for (platform, by, size), part in rows.groupby(["platform", library, "message_bytes"]):
        us = part["latency_us"].astype(float)
        spread = {"low": us.min(), "median": round(us.median(), 2), "high": us.max(), "rows": len(us)}
        yield {"platform": platform, "library": by, "bytes": size, **spread, "source": SOURCE}


HOST_COPIES = {
    "coefficient": "host_bandwidth", "precision": "copies", "median": 0.938, "low": 0.907, "high": 0.969,
    "series": 2, "source": "stas00/ml-engineering@744d01e1: 359 and 377 GB/s of GB300's 389 to 396",
}  # fmt: skip


def summary(root: Path) -> str:
    def block(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
        lines = (", ".join(f"{k} = {json.dumps(v)}" for k, v in row.items()) for row in rows)
        return f"{name} = [\n" + "".join(f"    {{ {line} }},\n" for line in lines) + "]\n"

    kernels = [*_kernels(root), *_collectives(root), HOST_COPIES]
    small = list(_small_all_reduces(root))
    return "\n".join([HEAD, block("kernels", kernels), block("small_all_reduces", small)])
