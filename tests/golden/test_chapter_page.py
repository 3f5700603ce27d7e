"""docs/chapter.md: what the chapter behind this project says, beside physics, prediction and measurement.

`pytest --regenerate` rewrites the tables. The arithmetic is that of `test_worked_examples`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data import catalogue
from roofcast.data.store import BenchmarkStore
from roofcast.features.baseline import baseline, floor
from roofcast.features.collectives import all_reduce_s, fabric_arrays
from roofcast.features.memory import memory_fit, prefix_load_s
from roofcast.features.percentiles import itl_ratio, tpot_ratio
from roofcast.features.request import Requests, normalise
from roofcast.features.work import distinct_experts, kv_bytes_stored
from roofcast.predictor import Predictor
from roofcast.predictor.audit import audit

from ..markdown import markdown_table
from .conftest import replace_or_compare
from .test_worked_examples import EXAMPLES

REPO = Path(__file__).resolve().parents[2]
QWEN = {"model": "qwen2.5-72b", "engine": "trtllm", "weight_precision": "fp4", "kv_precision": "fp8"}
BOX: dict[str, Any] = {**QWEN, "platform": "hgx-b200"}
LONG: dict[str, Any] = {
    **QWEN, "engine": "vllm", "platform": "gb200-superchip", "tp": 2, "concurrency": 16, "isl": 127_000,
    "osl": 1000,
}  # fmt: skip
LIKE_QWEN = ("qwen2.5-72b", "qwen2-72b", "llama-3.3-70b", "llama-3.1-70b", "llama-3-70b")
VALUE_OF = {example.what: example for example in EXAMPLES}
COLUMNS = ("figure", "the chapter says", "physics says", "roofcast says", "measured", "verdict")
NONE = "none"


@cache
def predictor() -> Predictor:
    return Predictor.load()


@cache
def rows() -> pd.DataFrame:
    return BenchmarkStore(None).load()


def ask(**columns: Any) -> Requests:
    r = normalise({name: [value] for name, value in columns.items()})
    assert r.valid[0], r.reason[0]
    return r


def number(value: float, unit: str = "") -> str:
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def worked(what: str) -> str:
    """Return a worked example's value."""
    return number(VALUE_OF[what].value(), VALUE_OF[what].unit)


def predicted(answer: str, unit: str, **columns: Any) -> str:
    p = predictor().predict(**columns)
    value, low, high = (getattr(p, answer + bound) for bound in ("", "_lo", "_hi"))
    return f"{number(value, unit)} ({number(low)} to {number(high)})"


# -------------------------------------------------------------------------------------------- collectives


def modelled_us(gpu: str, size: float, group: float, domain: float = 8.0) -> float:
    """Return the all-reduce of the engines' best kernels [us]."""
    spec = catalogue.gpu(gpu)
    fabric = fabric_arrays(
        link=[spec.link], link_bandwidth=spec.link_bandwidth, domain=domain, nic_bandwidth=50e9
    )
    return float(all_reduce_s(size, group, fabric)[0]) * 1e6


def measured_us(platform: str, size: int) -> str:
    """Return the measured range over eight GPUs, engines' kernels and NCCL."""
    found = tomllib.loads((REPO / "data" / "kernels.toml").read_text(encoding="utf-8"))["small_all_reduces"]
    of = {row["library"]: row for row in found if (row["platform"], row["bytes"]) == (platform, size)}
    engine, nccl = of["engine"], of["nccl"]
    versions = f"{engine['low']:.1f} to {engine['high']:.1f} us in {engine['rows']} engine versions"
    return f"{versions}, NCCL {nccl['median']:.0f}"


def section_c() -> str:
    late = predictor().model.coefficients.entries["collective_latency"].value
    lines = [
        [
            "one all-reduce per token, batch 1",
            "16 KB",
            worked("one decode all-reduce"),
            "the same",
            NONE,
            "holds",
        ],
        ["all-reduced per token", "2.56 MB", worked("all-reduced per token"), "the same", NONE, "holds"],
    ]
    for name, said, verdict in (
        ("B200", 4.0, "faster than measured"),
        ("H100", 10.0, "twice what was measured"),
    ):
        gpu = f"{name.lower()}-sxm"
        best, wire = modelled_us(gpu, 16_384, 8), 16_384 / catalogue.gpu(gpu).link_bandwidth * 1e6
        seen = measured_us(f"HGX {name}", 16_384)
        lines += [
            [f"16 KB over 8 x {name}", f"{said:g} us", f"{wire:.2f} us on the wire, without latency",
             f"{best:.1f} us alone, {late * best:.1f} us while serving", seen, verdict],
            [f"160 of them, TP=8, {name}", f"{0.16 * said:g} ms per token",
             f"{0.16 * wire:.4f} ms on the wire",
             f"{0.16 * best:.2f} ms alone, {0.16 * late * best:.2f} ms while serving", NONE, verdict],
        ]  # fmt: skip
    rack, box = modelled_us("gb200", 32_768, 72, 72.0), modelled_us("b200-sxm", 32_768, 8)
    share = 100 * 0.2 * rack / (25 + 0.2 * rack)
    lines += [
        ["32 KB on a healthy HGX B200", "at most 6 us", "0.04 us on the wire", f"{box:.1f} us alone",
         measured_us("HGX B200", 32_768), "holds for the best kernels"],
        ["32 KB over 72 GPUs of an NVL72", "10 us", "0.04 us on the wire", f"{rack:.1f} us alone",
         NONE + " this small", "plausible"],
        ["200 of them (100 layers)", "2 ms, 7 % of 27",
         worked("its share of a token beside 25 ms of compute"), f"{0.2 * rack:.1f} ms, {share:.0f} %",
         NONE, "plausible"],
    ]  # fmt: skip
    return markdown_table(COLUMNS, lines)


# ------------------------------------------------------------------------------------------------ section D


def nearest(answer: str, tp: int, concurrency: float, isl: float) -> str:
    """Return the nearest measured row of a dense model of about 70B parameters in FP4 on as many B200."""
    found = rows()
    here = found["model"].isin(LIKE_QWEN) & (found["gpu"] == "b200-sxm") & (found["tp"] == tp)
    here &= (found["weight_precision"] == "fp4") & (found["mode"] == "closed-loop") & found[answer].notna()
    part = found[here & (found["num_gpus"] == tp) & (found["spec_decode"] != "mtp")]
    if part.empty:
        return NONE
    away = np.abs(np.log(part["concurrency"] / concurrency)) + 0.3 * np.abs(np.log(part["isl"] / isl))
    row = part.loc[away.idxmin()]
    single = answer == "tpot_ms"
    value = number(1e3 / row[answer], "tok/s per user") if single else number(
        row[answer], "ms" if answer.endswith("_ms") else "tok/s"
    )  # fmt: skip
    return (
        f"{value} ({row['model']}, {row['concurrency']:.0f} in flight, {row['isl']:,.0f} in, "
        f"{row['osl']:,.0f} out: {row['source']}, {row['date']})"
    )


def claim(what: str, figure: str, value: float, measured_as: str, **columns: Any) -> list[str]:
    """Return a line of section D: the figure against floor, baseline, prediction, rows and audit."""
    single = figure == "tok_s_per_user"
    answer, unit = "tpot_ms" if single else figure, "ms" if figure.endswith("_ms") else "tok/s"
    p = predictor().predict(**columns)

    def show(ms_or_rate: float) -> str:
        return number(1e3 / ms_or_rate if single else ms_or_rate)

    low, high = sorted((getattr(p, f"{answer}_lo"), getattr(p, f"{answer}_hi")), reverse=single)
    bound = "at least" if figure.endswith("_ms") else "at most"
    finding = audit(predictor(), **columns, **{figure: value})[0]
    verdict = f"**{finding.verdict}**" if finding.verdict == "impossible" else finding.verdict
    return [
        what, number(value, unit), f"{bound} {show(p.floor[answer])}; calibrated {show(p.baseline[answer])}",
        f"{show(getattr(p, answer))} ({show(low)} to {show(high)})",
        nearest(measured_as, columns["tp"], columns["concurrency"], columns["isl"]), verdict,
    ]  # fmt: skip


CLAIMED = {
    "single stream, tok/s": ("tok_s_per_user", "tpot_ms", 1, 1024, (450, 620)),
    "batch 32, all together, tok/s": ("output_tok_s", "output_tok_s", 32, 1024, (9500, 14_000)),
    "batch 128, all together, tok/s": ("output_tok_s", "output_tok_s", 128, 1024, (22_000, 32_000)),
    "TTFT, prompt of 2k, batch 1": ("ttft_ms", "ttft_ms", 1, 2048, (15, 12)),
    "TTFT, prompts of 32k, batch 8": ("ttft_ms", "ttft_ms", 8, 32_768, (280, 180)),
}


def section_d() -> str:
    lines = []
    for what, (figure, measured_as, batch, isl, values) in CLAIMED.items():
        mode = "static-batch" if figure == "ttft_ms" else "closed-loop"
        for tp, value in zip((4, 8), values, strict=True):
            load = {"tp": tp, "num_gpus": tp, "concurrency": batch, "isl": isl, "osl": 1024, "mode": mode}
            lines.append(claim(f"{what}, TP={tp}", figure, value, measured_as, **BOX, **load))
    alone = {**QWEN, "platform": "b200", "tp": 1, "concurrency": 1, "isl": 1024, "osl": 1024}
    lines.append(claim("single stream, one B200", "tok_s_per_user", 280, "tpot_ms", **alone))
    return markdown_table(COLUMNS, [*lines, boxes_replaced(), tail_of_a_token()])


def mlperf(gpu: str) -> pd.Series[float]:
    found = rows()
    here = (found["model"] == "llama-2-70b") & (found["gpu"] == gpu) & (found["mode"] == "offline")
    rates: pd.Series[float] = found[here & (found["num_gpus"] == 8) & (found["isl"].round(1) == 222.3)][
        "output_tok_s"
    ]
    return rates


def boxes_replaced() -> list[str]:
    """Return how many boxes of eight H100 (FP8) one of eight B200 (FP4) replaces, offline, 1k in and out."""
    load = {"num_gpus": 8, "isl": 1024, "osl": 1024, "mode": "offline"}
    new = predictor().predict(**BOX, **load, tp=1)
    old = predictor().predict(**(QWEN | {"weight_precision": "fp8", "platform": "hgx-h100"}), **load, tp=2)
    ratio = new.output_tok_s / old.output_tok_s
    spread = np.hypot(*(np.log(p.output_tok_s_hi / p.output_tok_s_lo) / 2 for p in (new, old)))
    bound = new.floor["output_tok_s"] / old.floor["output_tok_s"]
    ours, theirs = mlperf("b200-sxm"), mlperf("h100-sxm")
    seen = (
        f"{ours.median() / theirs.median():.1f} (medians of {len(ours)} and {len(theirs)} MLPerf offline "
        f"submissions of Llama 2 70B; best against best {ours.max() / theirs.max():.1f})"
    )
    high = ratio * np.exp(spread)
    verdict = "plausible" if 4 <= ratio <= 6 else "its lower end only" if ratio < 4 <= high else "suspicious"
    calibrated = new.baseline["output_tok_s"] / old.baseline["output_tok_s"]
    return ["HGX H100 boxes that one HGX B200 replaces", "4 to 6",
            f"{bound:.1f} between the floors; calibrated {calibrated:.1f}",
            f"{ratio:.1f} ({ratio / np.exp(spread):.1f} to {high:.1f})", seen, verdict]  # fmt: skip


def tail(in_flight: float) -> tuple[float, float, float]:
    """Return median TPOT, 99th percentile of requests' mean and of single gaps [ms], 2k in and 512 out."""
    load = {**BOX, "tp": 8, "num_gpus": 8, "concurrency": in_flight, "isl": 2048, "osl": 512}
    r, p = ask(**load), predictor().predict(**load)
    base = baseline(r, predictor().model.coefficients)
    mean, gap = (p.tpot_ms * float(ratio(r, base, 99)[0]) for ratio in (tpot_ratio, itl_ratio))
    return p.tpot_ms, mean, gap


def tail_of_a_token() -> list[str]:
    loads = (32, 64, 128, 256, 512, 1024)
    most = [max((n for n in loads if tail(n)[kind] < 30.0), default=0) for kind in (1, 2)]
    middle, mean, gap = tail(256)
    low = predictor().predict(**BOX, tp=8, num_gpus=8, concurrency=256, isl=2048, osl=512).floor["tpot_ms"]
    reach = [f"up to {n} in flight" if n else f"at none of {loads[0]} to {loads[-1]}" for n in most]
    return ["99th percentile per token, chat at scale (256 in flight, 2k in, 512 out, TP=8)", "under 30 ms",
            f"median of at least {low:.1f} ms",
            f"{mean:.0f} ms of a request's mean (median {middle:.0f}), under 30 {reach[0]}; "
            f"{gap:.0f} ms of single gaps, under 30 {reach[1]}", NONE + " at this load",
            "plausible" if gap < 30 else "of fewer users" if most[0] else "suspicious"]  # fmt: skip


# ------------------------------------------------------------------------------------------------ section F


def host_ms(**columns: Any) -> float:
    return float(floor(ask(**LONG, kv_hot_tokens=16_000, **columns)).terms["host"][0]) * 1e3


def prefix(cached: float) -> list[str]:
    """Return the line of a prompt of 32k tokens of which the share `cached` lies in Grace."""
    question = {**QWEN, "platform": "gb200-superchip", "tp": 2, "isl": 32_000, "osl": 100, "concurrency": 1}
    asked = {**question, "prefix_cached_frac": cached, "prefix_tier": "host"}
    whole, hit = (floor(ask(**q)).ttft_s for q in (question, asked))
    fresh = floor(ask(**question, prefix_cached_frac=cached)).ttft_s
    load, compute = float(prefix_load_s(ask(**asked))[0]), float(whole[0] - fresh[0])
    first, later = (predictor().predict(**q) for q in (question, asked))
    bound, factor = float(whole[0] / hit[0]), first.ttft_ms / later.ttft_ms
    calibrated = first.baseline["ttft_ms"] / later.baseline["ttft_ms"]
    verdict = "**impossible**" if bound < 10 else "its lower end only" if factor < 20 else "plausible"
    return [f"TTFT with {cached:.0%} of 32k tokens in Grace", "10 to 100 times lower",
            f"at most {bound:.0f} times: {load * 1e3:.0f} ms to load, at least "
            f"{compute * 1e3:,.0f} to compute; pays above {load / compute:.0%} hits",
            f"{factor:.1f} times, calibrated {calibrated:.1f}", NONE, verdict]  # fmt: skip


def section_f() -> str:
    copies = "359 to 377 GB/s copied on GB300, of 389 to 396"
    hot = memory_fit(ask(**LONG, kv_hot_tokens=16_000))
    warm = f"{worked('their hot 16k tokens in HBM')}, {worked('one full read of the hot tokens at 8 TB/s')}"
    lines = [
        ["256k tokens of one sequence, FP8", "41 to 43 GB", worked("one sequence of 256k tokens, FP8"),
         "the same", NONE, "holds"],
        ["16 users of 128k", "336 GB", worked("16 users of 128k tokens"),
         f"{memory_fit(ask(**LONG)).max_batch[0]:.0f} fit two GPUs without spilling", NONE, "holds"],
        ["their hot 16k tokens", "42 GB, 5 ms per read", warm, f"{hot.max_batch[0]:.0f} users fit", NONE,
         "holds"],
        ["their cold 112k tokens", "295 GB", worked("their cold 112k tokens in Grace memory"),
         f"fit: {hot.available_host_bytes[0] * 2 / 1e9:.0f} of 480 GB are usable", NONE, "holds"],
    ]  # fmt: skip
    for (rate, said, each, verdict), example in zip(READS, READ_EXAMPLES, strict=True):
        value = number(host_ms(kv_reread_every=1, host_bandwidth_gb_s=each), "ms")
        lines.append([f"one read of them at {rate}", said, worked(example),
                      f"{value} (`host_bandwidth_gb_s={each:g}` per GPU)", copies, verdict])  # fmt: skip
    rate, own = predictor().model.coefficients.entries["host_bandwidth"].value, host_ms(kv_reread_every=1)
    lines.append(["the same at the datasheet's one-way rate", NONE, number(own, "ms") + " at 389 GB/s",
                  f"{number(own / rate, 'ms')} at {rate:.2f} of it", copies, "in use"])  # fmt: skip
    for every, said in ((1, "not at every step"), (16, "every 16 tokens or so"), (0, "or a sliding window")):
        question = {**LONG, "kv_hot_tokens": 16_000, "kv_reread_every": every}
        least = number(float(floor(ask(**question)).tpot_s[0]) * 1e3, "ms")
        often = {1: "at every step", 16: "every 16 steps", 0: "never"}[every]
        lines.append([f"TPOT, cold tokens read {often}", said, f"at least {least}",
                      predicted("tpot_ms", "ms", **question), NONE, "holds"])  # fmt: skip
    models = ("mixtral-8x7b", "qwen3-235b-a22b", "deepseek-r1")
    return markdown_table(COLUMNS, [*lines, prefix(0.9), prefix(0.99), *map(experts, models)])


READS = (
    ("900 GB/s", "330 ms", 450.0, "**impossible**: 450 go one way"),
    ("450 GB/s", "655 ms", 225.0, "**impossible**: the memory gives 389"),
    ("the measured 370 GB/s", "about 800 ms", 185.0, "holds"),
)
READ_EXAMPLES = (
    "one full read of the cold tokens at 900 GB/s (both directions counted)",
    "the same at 450 GB/s (one direction)",
    "the same at 370 GB/s (copies measured)",
)


def experts(name: str) -> list[str]:
    """Return what a step of 1 and of 32 tokens touches, and what streaming nine tenths of it costs."""
    pair = {"platform": "gb200-superchip", "tp": 2, "weight_precision": "fp4"}
    r = ask(model=name, **pair, concurrency=32, experts_resident_frac=0.1)
    m = r.model
    touched = (distinct_experts(m.n_experts, m.experts_per_token, np.array([n])) for n in (1.0, 32.0))
    share = [float((found / m.n_experts)[0]) for found in touched]
    stream = number(float(floor(r).terms["host"][0]) * 1e3, "ms")
    return [f"experts of {name}", "about 10 % active per token",
            f"{share[0]:.1%} for one token, {share[1]:.0%} for 32",
            f"at least {stream} per step of 32 to stream what a tenth in HBM misses (FP4)", NONE,
            "of one token, not of a batch"]  # fmt: skip


# ------------------------------------------------------------------------------------------------ section G


def rack_users(kv: str) -> tuple[float, float]:
    """Return TB of KV cache for 10,000 users of 32k tokens, and the users that 18 replicas of TP=4 hold."""
    r = ask(
        **(QWEN | {"kv_precision": kv}), platform="gb200-nvl72", tp=4, isl=32_000, osl=768, mode="offline"
    )
    size = float(kv_bytes_stored(r, np.array([32_768.0]))[0])
    return 1e4 * size / 1e12, float(memory_fit(r).max_batch[0]) * 18


def section_g() -> str:
    lines = []
    for kv, said in (("bf16", 320), ("fp8", 210)):
        size, users = rack_users(kv)
        lines.append([f"KV of 10,000 users of 32k, {'FP16' if kv == 'bf16' else 'FP8'}", f"{said} TB",
                      f"{size:,.0f} TB ({size / 10:.2f} GB each)",
                      f"one rack holds {users:,.0f} users: {1e4 / users:.1f} racks", NONE,
                      f"**wrong** by a factor of {said / size:.1f}"])  # fmt: skip
    spec, rack = catalogue.gpu("gb200"), catalogue.platform("gb200-nvl72")
    offline = {**QWEN, "platform": "gb200-nvl72", "isl": 1024, "osl": 1024, "mode": "offline"}
    one = predictor().predict(**offline, tp=1, num_gpus=1)
    all_of_it = predictor().predict(**offline, tp=1, num_gpus=72)
    batch = memory_fit(ask(**offline, tp=1)).max_batch[0]
    spread = {"tp": 64, "num_gpus": 64, "ep": 64, "dp": 64, "weight_precision": "fp8"}
    fit = memory_fit(ask(model="kimi-k2", platform="gb200-nvl72", **spread))
    rest = f"{number(one.output_tok_s, 'tok/s')}, of {number(all_of_it.output_tok_s)} with 72 copies"
    memory = f"{72 * spec.memory_bytes / 1e12:.1f} TB by the driver, 72 x 8 TB/s"
    slower = f"{spec.memory_bandwidth / rack.link_bandwidth:.0f} times slower than its own HBM"
    link = f"{rack.link_bandwidth / 1e9:.0f} GB/s one way: {slower}"
    large = (
        f"Kimi K2 on 64 GPUs: {fit.weight_bytes[0] / 1e9:.0f} GB each, {fit.max_batch[0]:,.0f} of 2k tokens"
    )
    lines += [
        ["HBM of the rack", "13.8 TB, 576 TB/s", memory, "the same", NONE, "holds"],
        ["any GPU reads any HBM at NVLink speed", "yes", link, "not used by engines",
         "847 GB/s of bus bandwidth over 72 GPUs (nccl-tests)", "holds"],
        ["1T parameters over the rack", "TP=72", "72 divides no common count of heads",
         large, NONE, "experts and attention spread, not TP=72"],
        ["batch 2,048 and more", "fits", f"{batch:,.0f} sequences of 2k on each of 72 GPUs",
         predicted("output_tok_s", "tok/s", **offline, tp=1, num_gpus=72), NONE, "plausible"],
        ["one copy of Qwen2.5-72B", "wastes 71 GPUs", "44.5 of 199 GB on one GPU", rest, NONE, "holds"],
    ]  # fmt: skip
    return markdown_table(COLUMNS, lines)


SECTIONS: Mapping[str, Callable[[], str]] = {
    "collectives": section_c, "expected figures": section_d, "warm tier": section_f, "rack": section_g,
}  # fmt: skip


@pytest.mark.parametrize("name", SECTIONS)
def test_the_page_shows_the_chapters_figures_beside_ours(name: str, regenerate: bool) -> None:
    replace_or_compare(REPO / "docs" / "chapter.md", name, SECTIONS[name](), regenerate)


def test_the_figures_that_no_machine_reaches_are_called_impossible() -> None:
    """One B200 reads 40 GB per token at 8 TB/s: 199 tok/s, not 280; 8 x 32k tokens are 0.8 s, not 180 ms."""
    found = section_d().splitlines()
    for start in ("| single stream, one B200", "| TTFT, prompts of 32k, batch 8, TP=8"):
        assert "**impossible**" in next(line for line in found if line.startswith(start))
