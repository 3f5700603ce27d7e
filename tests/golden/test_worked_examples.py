"""The worked examples: the arithmetic in words, the figure commonly quoted, and what roofcast computes.

docs/physics.md shows the same table; `pytest --regenerate` rewrites it from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofcast.data import catalogue
from roofcast.features.baseline import floor
from roofcast.features.collectives import all_reduce_s, fabric_arrays
from roofcast.features.memory import memory_fit
from roofcast.features.request import Requests, normalise
from roofcast.features.work import decode_layout, kv_bytes_stored, prefill_work, stored_weight_bytes

from .conftest import replace_or_compare

KILO, TOKENS_256K, TOKENS_128K, USERS = 1000, 256_000, 128_000, 16
HBM, C2C_BOTH, C2C_ONE_WAY, GRACE_MEASURED = 8e12, 900e9, 450e9, 370e9  # B/s


@dataclass(frozen=True, kw_only=True)
class Example:
    """One figure: `low` to `high` is what is quoted (rounded), `value` what roofcast computes, in `unit`."""

    what: str
    arithmetic: str
    low: float
    high: float
    value: Callable[[], float]
    unit: str


def qwen(**columns: Any) -> Requests:
    """Return a request for Qwen2.5-72B with FP4 weights and an FP8 cache."""
    given = {"model": "qwen2.5-72b", "gpu": "b200-sxm", "tp": 1, "weight_precision": "fp4",
             "kv_precision": "fp8", "mode": "static-batch", "concurrency": 1, "isl": 1, "osl": 2}  # fmt: skip
    r = normalise({name: [value] for name, value in (given | columns).items()})
    assert r.valid[0], r.reason[0]
    return r


def weights_gb(tp: int) -> float:
    r = qwen(tp=tp, num_gpus=tp)
    return float(stored_weight_bytes(r, decode_layout(r))[0]) / 1e9


def kv_gb(tokens: float) -> float:
    return float(kv_bytes_stored(qwen(), np.array([tokens]))[0]) / 1e9


def message_bytes(d_model: float = 8192.0) -> float:
    return d_model * 2.0


def all_reduces_ms(each_us: float, layers: int = 80) -> float:
    return 2 * layers * each_us * 1e-3


def measured_us(gpu: str, size: float) -> float:
    """Return what the fitted table of serving engines' kernels gives on eight GPUs [us]."""
    spec = catalogue.gpu(gpu)
    fabric = fabric_arrays(link=[spec.link], link_bandwidth=spec.link_bandwidth, domain=8, nic_bandwidth=50e9)
    return float(all_reduce_s(size, 8, fabric)[0]) * 1e6


def prefill_pflop(prompts: float, tokens: float) -> float:
    r = qwen(isl=tokens)
    one, zero = np.array([prompts]), np.zeros(1)
    work = prefill_work(r, decode_layout(r), np.array([tokens]), zero, one)
    return float(work.linear_flops[0] + work.attention_flops[0]) / 1e15


def floor_tpot_ms(gpu: str) -> float:
    return float(floor(qwen(gpu=gpu)).tpot_s[0]) * 1e3


EXAMPLES = (
    Example(
        what="Qwen2.5-72B weights in FP4",
        arithmetic="70.2e9 x 0.5625 B + 2.49e9 embedding and head x 2 B",
        low=44.0, high=45.0, value=lambda: weights_gb(1), unit="GB",
    ),
    Example(
        what="the same, per GPU at TP=8",
        arithmetic="44.5 GB / 8",
        low=5.5, high=5.65, value=lambda: weights_gb(8), unit="GB",
    ),
    Example(
        what="KV per token and layer, FP8",
        arithmetic="2 x 8 heads x 128 x 1 B",
        low=2048, high=2048, value=lambda: kv_gb(1) * 1e9 / 80, unit="B",
    ),
    Example(
        what="one decode all-reduce",
        arithmetic="8192 x 2 B",
        low=16_000, high=16_384, value=message_bytes, unit="B",
    ),
    Example(
        what="all-reduced per token",
        arithmetic="2 x 80 layers x 16 KB",
        low=2.56, high=2.63, value=lambda: 2 * 80 * message_bytes() / 1e6, unit="MB",
    ),
    Example(
        what="their time at 4 us each (quoted for NVLink 5)",
        arithmetic="2 x 80 x 4 us",
        low=0.64, high=0.64, value=lambda: all_reduces_ms(4.0), unit="ms",
    ),
    Example(
        what="their time at 10 us each (quoted for NVLink 4)",
        arithmetic="2 x 80 x 10 us",
        low=1.6, high=1.6, value=lambda: all_reduces_ms(10.0), unit="ms",
    ),
    Example(
        what="their time as measured, 8 x B200, engine kernels",
        arithmetic="2 x 80 x 5.3 us (best version)",
        low=0.8, high=1.3, value=lambda: all_reduces_ms(measured_us("b200-sxm", 16_384)), unit="ms",
    ),
    Example(
        what="their time as measured, 8 x H100, engine kernels",
        arithmetic="2 x 80 x 3.6 us (best version)",
        low=0.5, high=0.85, value=lambda: all_reduces_ms(measured_us("h100-sxm", 16_384)), unit="ms",
    ),
    Example(
        what="one 32 KB all-reduce on a healthy HGX B200",
        arithmetic="at most 6 us (quoted); measured",
        low=5.0, high=6.5, value=lambda: measured_us("b200-sxm", 32_768), unit="us",
    ),
    Example(
        what="NVL72 at TP=72, d_model 16384, 100 layers",
        arithmetic="2 x 100 x 10 us",
        low=2.0, high=2.0, value=lambda: all_reduces_ms(10.0, layers=100), unit="ms",
    ),
    Example(
        what="its share of a token beside 25 ms of compute",
        arithmetic="2 / (2 + 25)",
        low=7.0, high=8.0, value=lambda: 100 * 2.0 / 27.0, unit="%",
    ),
    Example(
        what="one sequence of 256k tokens, FP8",
        arithmetic="2 KB x 80 x 256k",
        low=41.0, high=43.0, value=lambda: kv_gb(TOKENS_256K), unit="GB",
    ),
    Example(
        what="16 users of 128k tokens",
        arithmetic="16 x 21 GB",
        low=335.0, high=344.0, value=lambda: USERS * kv_gb(TOKENS_128K), unit="GB",
    ),
    Example(
        what="their hot 16k tokens in HBM",
        arithmetic="16 x 2.6 GB",
        low=41.0, high=43.0, value=lambda: USERS * kv_gb(16 * KILO), unit="GB",
    ),
    Example(
        what="one full read of the hot tokens at 8 TB/s",
        arithmetic="42 GB / 8 TB/s",
        low=5.0, high=5.4, value=lambda: USERS * kv_gb(16 * KILO) * 1e12 / HBM, unit="ms",
    ),
    Example(
        what="their cold 112k tokens in Grace memory",
        arithmetic="16 x 18.4 GB",
        low=293.0, high=295.0, value=lambda: USERS * kv_gb(112 * KILO), unit="GB",
    ),
    Example(
        what="one full read of the cold tokens at 900 GB/s (both directions counted)",
        arithmetic="295 GB / 900 GB/s",
        low=325.0, high=330.0, value=lambda: USERS * kv_gb(112 * KILO) * 1e12 / C2C_BOTH, unit="ms",
    ),
    Example(
        what="the same at 450 GB/s (one direction)",
        arithmetic="295 GB / 450 GB/s",
        low=650.0, high=656.0, value=lambda: USERS * kv_gb(112 * KILO) * 1e12 / C2C_ONE_WAY, unit="ms",
    ),
    Example(
        what="the same at 370 GB/s (copies measured)",
        arithmetic="295 GB / 370 GB/s",
        low=790.0, high=800.0, value=lambda: USERS * kv_gb(112 * KILO) * 1e12 / GRACE_MEASURED, unit="ms",
    ),
    Example(
        what="one token on one B200, all stored weights read at 8 TB/s",
        arithmetic="44.8 GB / 8 TB/s",
        low=5.5, high=5.65, value=lambda: weights_gb(1) * 1e12 / HBM, unit="ms",
    ),
    Example(
        what="roofcast's floor, one B200 (8 TB/s), no embedding table, head in 4 bits",
        arithmetic="71.5e9 x 0.5625 B = 40.2 GB / 8 TB/s",
        low=5.0, high=5.05, value=lambda: floor_tpot_ms("b200-sxm"), unit="ms",
    ),
    Example(
        what="most tokens per second of one stream on one B200",
        arithmetic="1 / 5.02 ms (179 if all that is stored is read); 280 is quoted",
        low=175.0, high=200.0, value=lambda: 1e3 / floor_tpot_ms("b200-sxm"), unit="tok/s",
    ),
    Example(
        what="prefilling 8 x 32k tokens",
        arithmetic="2 x 70.2e9 x 262,144 = 36.8 (38 with the embeddings), + 11.3 of attention",
        low=38.0, high=50.0, value=lambda: prefill_pflop(8, 32_768), unit="PFLOP",
    ),
    Example(
        what="the same on 8 x B200 at dense FP4, attention on FP8 units",
        arithmetic="36.8 / 72 PFLOP/s + 11.3 / 36 PFLOP/s; 180 ms is quoted",
        low=500.0, high=900.0,
        value=lambda: float(
            floor(qwen(tp=8, num_gpus=8, isl=32_768, concurrency=8)).ttft_s[0] * 1e3
        ),
        unit="ms",
    ),
)  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.what)
def test_the_figure_comes_out(example: Example) -> None:
    assert example.low <= example.value() * (1 + 1e-9)
    assert example.value() <= example.high * (1 + 1e-9)


def test_the_pages_table_is_this_one(repo_root: Path, regenerate: bool) -> None:
    rows = ["| what | arithmetic | quoted or expected | roofcast |", "|---|---|---|---|"]
    for e in EXAMPLES:
        quoted = f"{e.low:,g}" if e.low == e.high else f"{e.low:,g} to {e.high:,g}"
        found = f"{e.value():,.0f}" if e.value() >= 1000 else f"{e.value():.4g}"
        rows.append(f"| {e.what} | {e.arithmetic} | {quoted} {e.unit} | {found} {e.unit} |")
    replace_or_compare(repo_root / "docs" / "physics.md", "worked examples", "\n".join(rows), regenerate)


def test_half_a_terabyte_of_weights_is_an_answer_with_numbers() -> None:
    """A dense model of 405e9 parameters in 16 bits: 812 GB over 8 x 85.5 GB."""
    r = qwen(model="llama-3.1-405b", gpu="h100-sxm", tp=8, num_gpus=8, weight_precision="bf16")
    fit = memory_fit(r)
    assert not fit.fits[0]
    assert fit.needed_bytes[0] / 1e9 == pytest.approx(101.5, abs=0.1)
    assert fit.available_bytes[0] / 1e9 == pytest.approx(78.2, abs=0.1)


def test_doubling_tensor_parallelism_beyond_the_kv_heads_doubles_the_cache_of_the_deployment() -> None:
    eight, sixteen = (memory_fit(qwen(tp=tp, num_gpus=tp, isl=1000)).sequence_bytes[0] * tp for tp in (8, 16))
    assert sixteen == 2 * eight
