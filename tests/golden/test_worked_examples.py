"""The worked examples of the documents: arithmetic in words, figure quoted, and what roofcast computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from roofcast.data import catalogue
from roofcast.features.baseline import floor
from roofcast.features.collectives import all_reduce_s, fabric_arrays
from roofcast.features.request import Requests
from roofcast.features.work import decode_layout, kv_bytes_stored, prefill_work, stored_weight_bytes

from ..features.questions import ask, one

USERS, HOT, COLD = 16, 16_000, 112_000  # tokens of each user
MESSAGE, ALL_REDUCES = 8192 * 2.0, 2 * 80  # B, of one token


class Example(NamedTuple):
    """One figure: `low` to `high` is what is quoted (rounded), `value` what roofcast computes, in `unit`."""

    what: str
    arithmetic: str
    low: float
    high: float
    unit: str
    value: Callable[[], float]


def qwen(**columns: Any) -> Requests:
    """Return a request for Qwen2.5-72B with FP4 weights and an FP8 cache."""
    given = {"model": "qwen2.5-72b", "gpu": "b200-sxm", "tp": 1, "weight_precision": "fp4",
             "kv_precision": "fp8", "mode": "static-batch", "concurrency": 1, "isl": 1, "osl": 2}  # fmt: skip
    return ask(**(given | columns))


def weights_gb(tp: int) -> float:
    r = qwen(tp=tp, num_gpus=tp)
    return float(stored_weight_bytes(r, decode_layout(r))[0]) / 1e9


def kv_gb(tokens: float, users: int = 1) -> float:
    return users * float(kv_bytes_stored(qwen(), one(tokens))[0]) / 1e9


def read_ms(tokens: float, rate: float) -> float:
    """Return how long sixteen users' tokens take at a rate [B/s]."""
    return kv_gb(tokens, USERS) * 1e12 / rate


def measured_us(gpu: str, size: float) -> float:
    """Return what the fitted table of serving engines' kernels gives on eight GPUs [us]."""
    spec = catalogue.gpu(gpu)
    fabric = fabric_arrays(link=[spec.link], link_bandwidth=spec.link_bandwidth, domain=8, nic_bandwidth=50e9)
    return float(all_reduce_s(size, 8, fabric)[0]) * 1e6


def prefill_pflop(prompts: float, tokens: float) -> float:
    r = qwen(isl=tokens)
    work = prefill_work(r, decode_layout(r), one(tokens), one(0), one(prompts))
    return float(work.linear_flops[0] + work.attention_flops[0]) / 1e15


def floor_ms(name: str, **columns: Any) -> float:
    return float(getattr(floor(qwen(**columns)), name)[0]) * 1e3


EXAMPLES = (
    Example("Qwen2.5-72B weights in FP4", "70.2e9 x 0.5625 B + 2.49e9 embedding and head x 2 B",
        44.0, 45.0, "GB", lambda: weights_gb(1)),
    Example("the same, per GPU at TP=8", "44.5 GB / 8", 5.5, 5.65, "GB", lambda: weights_gb(8)),
    Example("KV per token and layer, FP8", "2 x 8 heads x 128 x 1 B",
        2048, 2048, "B", lambda: kv_gb(1) * 1e9 / 80),
    Example("one decode all-reduce", "8192 x 2 B", 16_000, 16_384, "B", lambda: MESSAGE),
    Example("all-reduced per token", "2 x 80 layers x 16 KB",
        2.56, 2.63, "MB", lambda: ALL_REDUCES * MESSAGE / 1e6),
    Example("their time as measured, 8 x B200, engine kernels", "2 x 80 x 5.3 us (best version)",
        0.8, 1.3, "ms", lambda: ALL_REDUCES * measured_us("b200-sxm", MESSAGE) / 1e3),
    Example("their time as measured, 8 x H100, engine kernels", "2 x 80 x 3.6 us (best version)",
        0.5, 0.85, "ms", lambda: ALL_REDUCES * measured_us("h100-sxm", MESSAGE) / 1e3),
    Example("one 32 KB all-reduce on a healthy HGX B200", "at most 6 us (quoted); measured",
        5.0, 6.5, "us", lambda: measured_us("b200-sxm", 32_768)),
    Example("its share of a token beside 25 ms of compute", "2 / (2 + 25)", 7.0, 8.0, "%", lambda: 200 / 27),
    Example("one sequence of 256k tokens, FP8", "2 KB x 80 x 256k", 41.0, 43.0, "GB", lambda: kv_gb(256_000)),
    Example("16 users of 128k tokens", "16 x 21 GB", 335.0, 344.0, "GB", lambda: kv_gb(128_000, USERS)),
    Example("their hot 16k tokens in HBM", "16 x 2.6 GB", 41.0, 43.0, "GB", lambda: kv_gb(HOT, USERS)),
    Example("one full read of the hot tokens at 8 TB/s", "42 GB / 8 TB/s",
        5.0, 5.4, "ms", lambda: read_ms(HOT, 8e12)),
    Example("their cold 112k tokens in Grace memory", "16 x 18.4 GB",
        293.0, 295.0, "GB", lambda: kv_gb(COLD, USERS)),
    Example("one full read of the cold tokens at 900 GB/s (both directions counted)", "295 GB / 900 GB/s",
        325.0, 330.0, "ms", lambda: read_ms(COLD, 900e9)),
    Example("the same at 450 GB/s (one direction)", "295 GB / 450 GB/s",
        650.0, 656.0, "ms", lambda: read_ms(COLD, 450e9)),
    Example("the same at 370 GB/s (copies measured)", "295 GB / 370 GB/s",
        790.0, 800.0, "ms", lambda: read_ms(COLD, 370e9)),
    Example("roofcast's floor, one B200 (8 TB/s), no embedding table, head in 4 bits",
        "71.5e9 x 0.5625 B = 40.2 GB / 8 TB/s", 5.0, 5.05, "ms", lambda: floor_ms("tpot_s")),
    Example("most tokens per second of one stream on one B200",
        "1 / 5.02 ms (179 if all that is stored is read); 280 is quoted",
        175.0, 200.0, "tok/s", lambda: 1e3 / floor_ms("tpot_s")),
    Example("prefilling 8 x 32k tokens",
        "2 x 70.2e9 x 262,144 = 36.8 (38 with the embeddings), + 11.3 of attention",
        38.0, 50.0, "PFLOP", lambda: prefill_pflop(8, 32_768)),
    Example("the same on 8 x B200 at dense FP4, attention on FP8 units",
        "36.8 / 72 PFLOP/s + 11.3 / 36 PFLOP/s; 180 ms is quoted",
        500.0, 900.0, "ms", lambda: floor_ms("ttft_s", tp=8, num_gpus=8, isl=32_768, concurrency=8)),
)  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.what)
def test_the_figure_comes_out(example: Example) -> None:
    assert example.low * (1 - 1e-9) <= example.value() <= example.high * (1 + 1e-9)
