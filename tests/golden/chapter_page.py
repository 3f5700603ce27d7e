"""The tables of docs/chapter.md and docs/advise.md: the chapter beside physics, prediction, measurement."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from roofcast.data import catalogue
from roofcast.data.store import BenchmarkStore
from roofcast.features.baseline import floor
from roofcast.features.collectives import all_reduce_s, fabric_arrays
from roofcast.features.memory import memory_fit
from roofcast.features.request import Requests, normalise
from roofcast.features.work import distinct_experts, kv_bytes_stored
from roofcast.predictor import Predictor
from roofcast.predictor.advisor import Advisor, Recommendation, Workload
from roofcast.predictor.audit import audit

from ..markdown import markdown_table
from .test_worked_examples import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("figure", "chapter", "physics", "roofcast", "verdict")
MEASURED = (*COLUMNS[:-1], "measured", "verdict")
QWEN = {"model": "qwen2.5-72b", "engine": "trtllm", "weight_precision": "fp4", "kv_precision": "fp8"}
BOX: dict[str, Any] = {**QWEN, "platform": "hgx-b200"}
SUPERCHIP: dict[str, Any] = {**QWEN, "platform": "gb200-superchip", "tp": 2}
LONG: dict[str, Any] = {**SUPERCHIP, "engine": "vllm", "concurrency": 16, "isl": 127_000, "osl": 1000}
LIKE_QWEN = ("qwen2.5-72b", "qwen2-72b", "llama-3.3-70b", "llama-3.1-70b", "llama-3-70b")
LADDER = ("b200", "hgx-b200", "gb200-superchip", "gb200-nvl72")
CHAT: dict[str, Any] = {"model": "qwen2.5-72b", "isl": 2048, "osl": 512}
BUSY_CHAT: dict[str, Any] = {**CHAT, "users": 300, "tpot_ms": 30}
# What is served in the chapter's words, the platform it names, and numbers that say the same.
WORKLOADS: dict[str, tuple[str, dict[str, Any]]] = {
    "one user, low latency": ("b200", {**CHAT, "users": 1, "ttft_ms": 1000, "tpot_ms": 20}),
    "chat for hundreds": ("hgx-b200", BUSY_CHAT),
    "many users at 128k": (
        "gb200-superchip", {"model": "qwen2.5-72b", "users": 16, "isl": 1024, "osl": 512, "context": 131072},
    ),
    "Qwen-MoE, small": ("gb200-superchip", {**CHAT, "model": "qwen3-30b-a3b", "users": 50, "tpot_ms": 30}),
    "Qwen-MoE, large": ("gb200-nvl72", {**CHAT, "model": "qwen3-235b-a22b", "users": 1000, "tpot_ms": 30}),
    "dense, 300 G and more": ("gb200-nvl72", {**CHAT, "model": "llama-3.1-405b", "users": 100}),
    "mixture of about 1 T": ("gb200-nvl72", {**CHAT, "model": "kimi-k2", "users": 1000}),
    "dense, about 1 T": ("gb200-nvl72", {**CHAT, "model": "1t", "users": 50}),
    "very many long contexts": (
        "gb200-nvl72",
        {"model": "qwen2.5-72b", "users": 10_000, "isl": 1024, "osl": 512, "context": 32768},
    ),
}  # fmt: skip
Line = list[str | None]


predictor = cache(Predictor.load)


@cache
def recommended(workload: str) -> Recommendation:
    """Return what is recommended for one of WORKLOADS on the chapter's ladder."""
    return Advisor(predictor()).recommend(Workload(**WORKLOADS[workload][1], platforms=LADDER))


def ask(**columns: Any) -> Requests:
    """Return one request, which must be valid."""
    r = normalise({name: [value] for name, value in columns.items()})
    assert r.valid[0], r.reason[0]
    return r


def number(value: float, unit: str = "") -> str:
    """Write a number to three digits, with its unit."""
    return f"{value:,.0f} {unit}".strip() if value >= 100 else f"{value:.3g} {unit}".strip()


def worked(what: str) -> str:
    """Return a worked example's value."""
    return next(number(example.value(), example.unit) for example in EXAMPLES if example.what == what)


def collectives() -> str:
    """Return section C."""
    late = predictor().model.coefficients.entries["collective_latency"].value
    kernels = tomllib.loads((ROOT / "data" / "kernels.toml").read_text(encoding="utf-8"))["small_all_reduces"]
    lines: list[Line] = [
        ["all-reduced per token", "2.56 MB", worked("all-reduced per token"), "same", None, "holds"]
    ]
    for what, gpu, size, group, quoted, verdict in (
        ("16 KB, 8 x B200", "b200-sxm", 16_384, 8, "4 us", "faster than measured"),
        ("16 KB, 8 x H100", "h100-sxm", 16_384, 8, "10 us", "twice the measured"),
        ("32 KB, NVL72", "gb200", 32_768, 72, "10 us", "plausible"),
    ):
        spec, (platform, here) = catalogue.gpu(gpu), (f"HGX {gpu[:4].upper()}", group == 8)
        links = {"link": [spec.link], "link_bandwidth": spec.link_bandwidth}
        fabric = fabric_arrays(**links, domain=group, nic_bandwidth=50e9)
        best = float(all_reduce_s(size, group, fabric)[0]) * 1e6
        of = {k["library"]: k for k in kernels if here and (k["platform"], k["bytes"]) == (platform, size)}
        seen = "{engine[low]:.1f} to {engine[high]:.1f} us, NCCL {nccl[median]:.0f}"
        lines.append([what, quoted, f"{size / spec.link_bandwidth * 1e6:.2f} us",
                      f"{best:.1f}, serving {late * best:.1f} us", seen.format(**of) if of else None,
                      verdict])  # fmt: skip
    return markdown_table(MEASURED, lines)


# Of one HGX B200 at TP=8: the figure, the measured column beside it, requests, tokens in, what is claimed.
CLAIMED = {
    "single stream, tok/s": ("tok_s_per_user", "tpot_ms", 1, 1024, 620),
    "batch 128, tok/s": ("output_tok_s", "output_tok_s", 128, 1024, 32_000),
    "TTFT of 2k, ms": ("ttft_ms", "ttft_ms", 1, 2048, 12),
    "TTFT of 8 x 32k, ms": ("ttft_ms", "ttft_ms", 8, 32_768, 180),
}


def nearest(answer: str, tp: int, concurrency: float, isl: float) -> str | None:
    """Return the nearest measured row of a dense model of about 70B parameters in FP4 on as many B200."""
    rows = BenchmarkStore(None).load()
    here = rows["model"].isin(LIKE_QWEN) & (rows["gpu"] == "b200-sxm") & (rows["tp"] == tp)
    here &= (rows["weight_precision"] == "fp4") & (rows["mode"] == "closed-loop") & rows[answer].notna()
    part = rows[here & (rows["num_gpus"] == tp) & (rows["spec_decode"] != "mtp")]
    away = np.abs(np.log(part["concurrency"] / concurrency)) + 0.3 * np.abs(np.log(part["isl"] / isl))
    row = part.loc[away.idxmin()]
    value = 1e3 / row[answer] if answer == "tpot_ms" else row[answer]
    return f"{number(value)} ({row['concurrency']:.0f} x {row['isl']:,.0f})"


def claim(what: str, figure: str, value: float, measured_as: str, **columns: Any) -> Line:
    """Return a line of section D: the figure against floor, baseline, prediction, rows and audit."""
    single = figure == "tok_s_per_user"
    answer = "tpot_ms" if single else figure
    p = predictor().predict(**columns)

    def show(ms_or_rate: float) -> str:
        return number(1e3 / ms_or_rate if single else ms_or_rate)

    low, high = sorted((getattr(p, f"{answer}_lo"), getattr(p, f"{answer}_hi")), reverse=single)
    verdict = audit(predictor(), **columns, **{figure: value})[0].verdict
    return [
        what, number(value), f"{show(p.floor[answer])}; {show(p.baseline[answer])}",
        f"{show(getattr(p, answer))} ({show(low)} to {show(high)})",
        nearest(measured_as, columns["tp"], columns["concurrency"], columns["isl"]),
        f"**{verdict}**" if verdict == "impossible" else verdict,
    ]  # fmt: skip


def expected_figures() -> str:
    """Return section D."""
    lines = []
    for what, (figure, measured_as, batch, isl, value) in CLAIMED.items():
        mode = "static-batch" if figure == "ttft_ms" else "closed-loop"
        load = {"tp": 8, "num_gpus": 8, "concurrency": batch, "isl": isl, "osl": 1024, "mode": mode}
        lines.append(claim(what, figure, value, measured_as, **BOX, **load))
    alone = {**QWEN, "platform": "b200", "tp": 1, "concurrency": 1, "isl": 1024, "osl": 1024}
    lines.append(claim("single stream, one B200", "tok_s_per_user", 280, "tpot_ms", **alone))
    chat = {**BOX, "tp": 8, "num_gpus": 8, "isl": 2048, "osl": 512}
    few, many = (predictor().predict(**chat, concurrency=load) for load in (32, 256))
    mean, gap = (many.percentiles[99][name] for name in ("tpot_ms", "itl_ms"))
    fewer = "of fewer users" if few.percentiles[99]["tpot_ms"] < 30 else "suspicious"
    tail = ["p99 per token, 256 in flight, ms", "under 30", f"{many.floor['tpot_ms']:.1f}",
            f"mean {mean:.0f}, gaps {gap:.0f}", None, "plausible" if gap < 30 else fewer]  # fmt: skip
    return markdown_table(MEASURED, [*lines, tail])


def warm_tier() -> str:
    """Return section F."""
    cold_only = {**LONG, "kv_hot_tokens": 16_000}

    def least_ms(every: int, **columns: Any) -> tuple[float, float]:
        bound = floor(ask(**cold_only, kv_reread_every=every, **columns))
        return float(bound.terms["host"][0]) * 1e3, float(bound.tpot_s[0]) * 1e3

    hot = memory_fit(ask(**cold_only))
    fit = f"{memory_fit(ask(**LONG)).max_batch[0]:.0f} fit HBM, {hot.max_batch[0]:.0f} with 16k hot"
    lines: list[Line] = [
        ["16 users of 128k", "336 GB", worked("16 users of 128k tokens"), fit, "holds"],
    ]
    for rate, quoted, verdict in ((900, "330 ms", "**impossible**"), (370, "800 ms", "holds")):
        ours = number(least_ms(1, host_bandwidth_gb_s=rate / 2)[0], "ms")
        lines.append([f"cold read at {rate} GB/s", quoted, ours, None, verdict])
    for every, often in ((1, "every step"), (16, "16 steps")):
        p = predictor().predict(**cold_only, kv_reread_every=every)
        ours = f"{number(p.tpot_ms, 'ms')} ({number(p.tpot_ms_lo)} to {number(p.tpot_ms_hi)})"
        lines.append([f"TPOT, cold read {often}", None, number(least_ms(every)[1], "ms"), ours, "holds"])
    r = ask(**(SUPERCHIP | {"model": "deepseek-r1"}), concurrency=32, experts_resident_frac=0.1)
    m, stream = r.model, number(float(floor(r).terms["host"][0]) * 1e3, "ms to stream")
    touched = distinct_experts(m.n_experts, m.experts_per_token, np.array([1.0, 32.0])) / m.n_experts
    shares = f"{touched[0]:.1%}, of 32 tokens {touched[1]:.0%}"
    experts: Line = ["experts, deepseek-r1", "10 %", shares, stream, "of one token"]
    return markdown_table(COLUMNS, [*lines, prefix(0.9), prefix(0.99), experts])


def prefix(cached: float) -> Line:
    """Return the line of a prompt of 32k tokens of which the share `cached` lies in Grace."""
    question = {**SUPERCHIP, "isl": 32_000, "osl": 100, "concurrency": 1}
    asked = {**question, "prefix_cached_frac": cached, "prefix_tier": "host"}
    whole, hit = (float(floor(ask(**q)).ttft_s[0]) for q in (question, asked))
    first, later = (predictor().predict(**q) for q in (question, asked))
    bound, factor = f"{whole / hit:.0f} x", first.ttft_ms / later.ttft_ms
    verdict = "**impossible**" if whole / hit < 10 else "its lower end" if factor < 20 else "plausible"
    return [f"TTFT, {cached:.0%} of 32k in Grace", "10 to 100 x", bound, f"{factor:.1f} x", verdict]


def rack() -> str:
    """Return section G."""
    lines: list[Line] = []
    for kv, quoted in (("bf16", 320), ("fp8", 210)):
        asked = {**QWEN, "kv_precision": kv, "platform": "gb200-nvl72", "tp": 4, "isl": 32_000, "osl": 768}
        r = ask(**asked, mode="offline")
        stored = float(kv_bytes_stored(r, np.array([32_768.0]))[0]) / 1e8  # TB of ten thousand
        racks = 1e4 / (float(memory_fit(r).max_batch[0]) * 18)
        lines.append([f"KV, 10,000 x 32k, {kv.upper()}", f"{quoted} TB", f"{stored:,.0f} TB",
                      f"{racks:.1f} racks", f"**wrong**, {quoted / stored:.1f} x"])  # fmt: skip
    slower = catalogue.gpu("gb200").memory_bandwidth / catalogue.platform("gb200-nvl72").link_bandwidth
    wide = {"tp": 64, "num_gpus": 64, "ep": 64, "dp": 64, "weight_precision": "fp8"}
    large = memory_fit(ask(model="kimi-k2", platform="gb200-nvl72", **wide)).weight_bytes[0] / 1e9
    return markdown_table(COLUMNS, [
        *lines,
        ["any HBM at NVLink speed", "yes", f"{slower:.0f} x slower", "847 GB/s measured", "holds"],
        ["1T parameters", "TP=72", "divides no heads", f"Kimi K2 on 64: {large:.0f} GB", "experts spread"],
    ])  # fmt: skip


def platforms() -> str:
    """Return section H."""
    lines = []
    for name, (chapter, asked) in WORKLOADS.items():
        best, w = recommended(name).ranked[0], Workload(**asked)
        length = f", {w.context / 1024:.0f}k" if w.context else ""
        agree = chapter if best.platform == chapter else f"**{chapter}**"
        lines.append([
            name, f"{w.load_text()}{length}, {w.tpot_ms:g} ms", agree,
            f"{best.what}, {best.weight_precision} {best.layout}",
        ])  # fmt: skip
    return markdown_table(("workload", "load, TPOT", "chapter", "roofcast"), lines)


def replaced() -> str:
    """Return how many boxes one replaces under the limits of a busy chat."""
    lines = []
    for platform, instead in (("hgx-b200", "hgx-h100"), ("hgx-b300", "hgx-b200")):
        ratio = Advisor(predictor()).replaces(platform, instead, Workload(**BUSY_CHAT))
        lines.append([f"one {platform}", instead, f"{ratio.value:.1f}", f"{ratio.lo:.1f} to {ratio.hi:.1f}"])
    return markdown_table(("", "replaces", "boxes", "90 % interval"), lines)


TABLES: Mapping[tuple[str, str], Callable[[], str]] = {
    ("chapter.md", "collectives"): collectives,
    ("chapter.md", "expected figures"): expected_figures,
    ("chapter.md", "warm tier"): warm_tier,
    ("chapter.md", "rack"): rack,
    ("chapter.md", "platforms"): platforms,
    ("advise.md", "replaces"): replaced,
}
