"""The tables of docs/chapter.md and docs/advise.md.

What the chapter behind this project says, beside physics, prediction and measurement.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from roofcast.data import catalogue
from roofcast.data.store import BenchmarkStore
from roofcast.features.baseline import floor
from roofcast.features.collectives import all_reduce_s, fabric_arrays
from roofcast.features.memory import memory_fit, prefix_load_s
from roofcast.features.request import Requests, normalise
from roofcast.features.work import distinct_experts, kv_bytes_stored
from roofcast.predictor import Predictor
from roofcast.predictor.advisor import Advisor, Recommendation, Workload
from roofcast.predictor.audit import audit

from ..markdown import markdown_table
from .test_worked_examples import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ("figure", "chapter", "physics", "roofcast", "measured", "verdict")
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
    "Qwen2.5-72B, one user, low latency": ("b200", {**CHAT, "users": 1, "ttft_ms": 1000, "tpot_ms": 20}),
    "Qwen2.5-72B, chat for hundreds": ("hgx-b200", BUSY_CHAT),
    "Qwen2.5-72B, many users at 128k": (
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


@cache
def predictor() -> Predictor:
    """Return the shipped predictor."""
    return Predictor.load()


@cache
def rows() -> pd.DataFrame:
    """Return the shipped benchmark table."""
    return BenchmarkStore(None).load()


@cache
def recommended(workload: str) -> Recommendation:
    """Return what is recommended for one of WORKLOADS on the chapter's ladder: only the numbers are read."""
    return Advisor(predictor()).recommend(Workload(**WORKLOADS[workload][1], platforms=LADDER))


def ask(**columns: Any) -> Requests:
    """Return one request, which must be valid."""
    r = normalise({name: [value] for name, value in columns.items()})
    if not r.valid[0]:
        raise ValueError(r.reason[0])
    return r


def number(value: float, unit: str = "") -> str:
    """Write a number to three digits, with its unit."""
    return f"{value:,.0f} {unit}".strip() if value >= 100 else f"{value:.3g} {unit}".strip()


def worked(what: str) -> str:
    """Return a worked example's value."""
    (example,) = (example for example in EXAMPLES if example.what == what)
    return number(example.value(), example.unit)


def predicted(answer: str, unit: str, **columns: Any) -> str:
    """Return a predicted figure with its interval."""
    p = predictor().predict(**columns)
    value, low, high = (getattr(p, answer + bound) for bound in ("", "_lo", "_hi"))
    return f"{number(value, unit)} ({number(low)} to {number(high)})"


def modelled_us(gpu: str, size: float, group: float, domain: float = 8.0) -> float:
    """Return the all-reduce of the engines' best kernels [us]."""
    spec = catalogue.gpu(gpu)
    fabric = fabric_arrays(
        link=[spec.link], link_bandwidth=spec.link_bandwidth, domain=domain, nic_bandwidth=50e9
    )
    return float(all_reduce_s(size, group, fabric)[0]) * 1e6


def measured_us(platform: str, size: int) -> str:
    """Return the measured range over eight GPUs, engines' kernels and NCCL."""
    found = tomllib.loads((ROOT / "data" / "kernels.toml").read_text(encoding="utf-8"))["small_all_reduces"]
    of = {row["library"]: row for row in found if (row["platform"], row["bytes"]) == (platform, size)}
    return f"{of['engine']['low']:.1f} to {of['engine']['high']:.1f} us, NCCL {of['nccl']['median']:.0f}"


def collectives() -> str:
    """Return section C."""
    late = predictor().model.coefficients.entries["collective_latency"].value
    lines: list[Line] = [
        ["all-reduce of a token", "16 KB", worked("one decode all-reduce"), "same", None, "holds"],
        ["all-reduced per token", "2.56 MB", worked("all-reduced per token"), "same", None, "holds"],
    ]
    for name, quoted, verdict in (
        ("B200", 4.0, "faster than measured"),
        ("H100", 10.0, "twice the measured"),
    ):
        gpu = f"{name.lower()}-sxm"
        best, wire = modelled_us(gpu, 16_384, 8), 16_384 / catalogue.gpu(gpu).link_bandwidth * 1e6
        seen, slow = measured_us(f"HGX {name}", 16_384), late * best
        lines += [
            [f"16 KB, 8 x {name}", f"{quoted:g} us", f"{wire:.2f} us", f"{best:.1f}, serving {slow:.1f} us",
             seen, verdict],
            ["160 of them", f"{0.16 * quoted:g} ms", f"{0.16 * wire:.4f} ms",
             f"{0.16 * best:.2f}, serving {0.16 * slow:.2f} ms", None, verdict],
        ]  # fmt: skip
    rack, box = modelled_us("gb200", 32_768, 72, 72.0), modelled_us("b200-sxm", 32_768, 8)
    share = worked("its share of a token beside 25 ms of compute")
    ours = 100 * 0.2 * rack / (25 + 0.2 * rack)
    lines += [
        ["32 KB, HGX B200", "at most 6 us", "0.04 us", f"{box:.1f} us", measured_us("HGX B200", 32_768),
         "the best kernels"],
        ["32 KB, NVL72", "10 us", "0.04 us", f"{rack:.1f} us", None, "plausible"],
        ["200 of them", "2 ms, 7 % of 27", share, f"{0.2 * rack:.1f} ms, {ours:.0f} %", None, "plausible"],
    ]  # fmt: skip
    return markdown_table(COLUMNS, lines)


CLAIMED = {
    "single stream, tok/s": ("tok_s_per_user", "tpot_ms", 1, 1024, (450, 620)),
    "batch 32, tok/s": ("output_tok_s", "output_tok_s", 32, 1024, (9500, 14_000)),
    "batch 128, tok/s": ("output_tok_s", "output_tok_s", 128, 1024, (22_000, 32_000)),
    "TTFT of 2k, ms": ("ttft_ms", "ttft_ms", 1, 2048, (15, 12)),
    "TTFT of 8 x 32k, ms": ("ttft_ms", "ttft_ms", 8, 32_768, (280, 180)),
}


def nearest(answer: str, tp: int, concurrency: float, isl: float) -> str | None:
    """Return the nearest measured row of a dense model of about 70B parameters in FP4 on as many B200."""
    found = rows()
    here = found["model"].isin(LIKE_QWEN) & (found["gpu"] == "b200-sxm") & (found["tp"] == tp)
    here &= (found["weight_precision"] == "fp4") & (found["mode"] == "closed-loop") & found[answer].notna()
    part = found[here & (found["num_gpus"] == tp) & (found["spec_decode"] != "mtp")]
    if part.empty:
        return None
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
    for what, (figure, measured_as, batch, isl, values) in CLAIMED.items():
        mode = "static-batch" if figure == "ttft_ms" else "closed-loop"
        for tp, value in zip((4, 8), values, strict=True):
            load = {"tp": tp, "num_gpus": tp, "concurrency": batch, "isl": isl, "osl": 1024, "mode": mode}
            lines.append(claim(f"{what}, TP={tp}", figure, value, measured_as, **BOX, **load))
    alone = {**QWEN, "platform": "b200", "tp": 1, "concurrency": 1, "isl": 1024, "osl": 1024}
    lines.append(claim("single stream, tok/s, one B200", "tok_s_per_user", 280, "tpot_ms", **alone))
    return markdown_table(COLUMNS, [*lines, boxes_replaced(), tail_of_a_token()])


def boxes_replaced() -> Line:
    """Return how many boxes of eight H100 (FP8) one of eight B200 (FP4) replaces, offline, 1k in and out."""
    load = {"num_gpus": 8, "isl": 1024, "osl": 1024, "mode": "offline"}
    new = predictor().predict(**BOX, **load, tp=1)
    old = predictor().predict(**(QWEN | {"weight_precision": "fp8", "platform": "hgx-h100"}), **load, tp=2)
    ratio = new.output_tok_s / old.output_tok_s
    spread = np.hypot(*(np.log(p.output_tok_s_hi / p.output_tok_s_lo) / 2 for p in (new, old)))
    bound, calibrated = (
        getattr(new, level)["output_tok_s"] / getattr(old, level)["output_tok_s"]
        for level in ("floor", "baseline")
    )
    offline = rows().query(
        "model == 'llama-2-70b' and mode == 'offline' and num_gpus == 8 and 222 < isl < 223"
    )
    ours, theirs = (offline["output_tok_s"][offline["gpu"] == gpu] for gpu in ("b200-sxm", "h100-sxm"))
    seen = f"{ours.median() / theirs.median():.1f}, best {ours.max() / theirs.max():.1f} (MLPerf)"
    high = ratio * np.exp(spread)
    verdict = "plausible" if 4 <= ratio <= 6 else "its lower end" if ratio < 4 <= high else "suspicious"
    return ["HGX H100 that it replaces", "4 to 6", f"{bound:.1f}; {calibrated:.1f}",
            f"{ratio:.1f} ({ratio / np.exp(spread):.1f} to {high:.1f})", seen, verdict]  # fmt: skip


def tail_of_a_token() -> Line:
    """Return the line of the 99th percentile per token: of requests' means, and of single gaps."""
    tails = {}
    for load in (32, 64, 128, 256, 512, 1024):
        p = predictor().predict(**BOX, tp=8, num_gpus=8, concurrency=load, isl=2048, osl=512)
        tails[load] = p.percentiles[99]["tpot_ms"], p.percentiles[99]["itl_ms"], p.floor["tpot_ms"]
    most, most_gaps = (max((n for n, t in tails.items() if t[kind] < 30.0), default=0) for kind in (0, 1))
    mean, gap, low = tails[256]
    reach = f"to {most} in flight" if most else "never"
    return ["p99 per token, 256 in flight, ms", "under 30", f"{low:.1f}",
            f"mean {mean:.0f} (holds {reach}), gaps {gap:.0f} ({'hold' if most_gaps else 'never'})", None,
            "plausible" if gap < 30 else "of fewer users" if most else "suspicious"]  # fmt: skip


READS = (
    ("900 GB/s", "330 ms", 450.0, "**impossible**",
     "one full read of the cold tokens at 900 GB/s (both directions counted)"),
    ("450 GB/s", "655 ms", 225.0, "**impossible**", "the same at 450 GB/s (one direction)"),
    ("370 GB/s", "about 800 ms", 185.0, "holds", "the same at 370 GB/s (copies measured)"),
)  # fmt: skip


def warm_tier() -> str:
    """Return section F."""
    cold_only = {**LONG, "kv_hot_tokens": 16_000}

    def read_ms(**columns: Any) -> float:
        return float(floor(ask(**cold_only, kv_reread_every=1, **columns)).terms["host"][0]) * 1e3

    hot = memory_fit(ask(**cold_only))
    warm = f"{worked('their hot 16k tokens in HBM')}, {worked('one full read of the hot tokens at 8 TB/s')}"
    usable = f"{hot.available_host_bytes[0] * 2 / 1e9:.0f} GB usable"
    fit = f"{memory_fit(ask(**LONG)).max_batch[0]:.0f} users fit HBM"
    one, cold = worked("one sequence of 256k tokens, FP8"), worked("their cold 112k tokens in Grace memory")
    lines: list[Line] = [
        ["256k tokens, FP8", "41 to 43 GB", one, "same", None, "holds"],
        ["16 users of 128k", "336 GB", worked("16 users of 128k tokens"), fit, None, "holds"],
        ["hot 16k of each", "42 GB, 5 ms", warm, f"{hot.max_batch[0]:.0f} users fit", None, "holds"],
        ["cold 112k of each", "295 GB", cold, usable, None, "holds"],
    ]
    copied = "359 to 377 GB/s"
    for rate, quoted, each, verdict, example in READS:
        ours = number(read_ms(host_bandwidth_gb_s=each), "ms")
        lines.append([f"cold read at {rate}", quoted, worked(example), ours, copied, verdict])
    own = read_ms()
    share = predictor().model.coefficients.entries["host_bandwidth"].value
    ours = number(own / share, "ms")
    lines.append(["at 389 GB/s, the memory's", None, number(own, "ms"), ours, copied, "in use"])
    for every, often in ((1, "every step"), (16, "16 steps"), (0, "never")):
        asked = {**cold_only, "kv_reread_every": every}
        least = number(float(floor(ask(**asked)).tpot_s[0]) * 1e3, "ms")
        lines.append(
            [f"TPOT, cold read {often}", None, least, predicted("tpot_ms", "ms", **asked), None, "holds"]
        )
    models = ("mixtral-8x7b", "qwen3-235b-a22b", "deepseek-r1")
    return markdown_table(COLUMNS, [*lines, prefix(0.9), prefix(0.99), *map(experts, models)])


def prefix(cached: float) -> Line:
    """Return the line of a prompt of 32k tokens of which the share `cached` lies in Grace."""
    question = {**SUPERCHIP, "isl": 32_000, "osl": 100, "concurrency": 1}
    asked = {**question, "prefix_cached_frac": cached, "prefix_tier": "host"}
    whole, hit = (float(floor(ask(**q)).ttft_s[0]) for q in (question, asked))
    load = float(prefix_load_s(ask(**asked))[0])
    first, later = (predictor().predict(**q) for q in (question, asked))
    bound, factor = whole / hit, first.ttft_ms / later.ttft_ms
    verdict = "**impossible**" if bound < 10 else "its lower end" if factor < 20 else "plausible"
    loaded = f"{bound:.0f} x ({load * 1e3:.0f} ms to load)"
    return [f"TTFT, {cached:.0%} of 32k in Grace", "10 to 100 x", loaded, f"{factor:.1f} x", None, verdict]


def experts(name: str) -> Line:
    """Return what a step of 1 and of 32 tokens touches, and what streaming nine tenths of it costs."""
    r = ask(
        model=name, platform="gb200-superchip", tp=2, weight_precision="fp4", concurrency=32,
        experts_resident_frac=0.1,
    )  # fmt: skip
    m = r.model
    touched = distinct_experts(m.n_experts, m.experts_per_token, np.array([1.0, 32.0])) / m.n_experts
    stream = number(float(floor(r).terms["host"][0]) * 1e3, "ms")
    return [f"experts, {name}", "10 %", f"{touched[0]:.1%}, of 32 tokens {touched[1]:.0%}",
            f"{stream} to stream", None, "of one token"]  # fmt: skip


def rack() -> str:
    """Return section G."""
    lines: list[Line] = []
    for kv, quoted in (("bf16", 320), ("fp8", 210)):
        r = ask(
            **(QWEN | {"kv_precision": kv}), platform="gb200-nvl72", tp=4, isl=32_000, osl=768, mode="offline"
        )
        size = float(kv_bytes_stored(r, np.array([32_768.0]))[0]) / 1e9
        racks = 1e4 / (float(memory_fit(r).max_batch[0]) * 18)
        lines.append([f"KV, 10,000 x 32k, {kv.upper()}", f"{quoted} TB", f"{10 * size:,.0f} TB",
                      f"{racks:.1f} racks", None, f"**wrong**, {quoted / (10 * size):.1f} x"])  # fmt: skip
    spec, nvl72 = catalogue.gpu("gb200"), catalogue.platform("gb200-nvl72")
    offline = {**QWEN, "platform": "gb200-nvl72", "isl": 1024, "osl": 1024, "mode": "offline", "tp": 1}
    one, all_of_it = (predictor().predict(**offline, num_gpus=n).output_tok_s for n in (1, 72))
    batch = memory_fit(ask(**offline)).max_batch[0]
    wide = {"tp": 64, "num_gpus": 64, "ep": 64, "dp": 64, "weight_precision": "fp8"}
    large = memory_fit(ask(model="kimi-k2", platform="gb200-nvl72", **wide)).weight_bytes[0] / 1e9
    memory = f"{72 * spec.memory_bytes / 1e12:.1f} TB"
    slower = f"{spec.memory_bandwidth / nvl72.link_bandwidth:.0f} x slower"
    lines += [
        ["HBM", "13.8 TB, 576 TB/s", memory, "same", None, "holds"],
        ["any HBM at NVLink speed", "yes", slower, "unused", "847 GB/s", "holds"],
        ["1T parameters", "TP=72", "divides no heads", f"Kimi K2 on 64: {large:.0f} GB each", None,
         "experts spread"],
        ["batch 2,048", "fits", f"{batch:,.0f} per GPU", number(all_of_it, "tok/s"), None, "plausible"],
        ["one copy of 72B", "wastes 71", "44.5 of 199 GB", number(one, "tok/s"), None, "holds"],
    ]  # fmt: skip
    return markdown_table(COLUMNS, lines)


def platforms() -> str:
    """Return section H."""
    lines = []
    for name, (chapter, asked) in WORKLOADS.items():
        answer, w = recommended(name), Workload(**asked)
        best, after = answer.ranked[0], next(iter(answer.ranked[1:]), None)
        length = f"{w.context / 1024:.0f}k" if w.context else f"{w.isl:g}/{w.osl:g}"
        setup = f"{best.weight_precision} {best.layout}"
        lines.append([
            name, f"{w.load_text()}, {length}, {w.tpot_ms:g} ms", chapter, f"{best.what}, {setup}",
            f"${best.cost.usd_per_hour:,.2f}, {best.probability:.0%}",
            f"{after.what} ({after.cost_ratio:.2f} x)" if after else None,
            "yes" if best.platform == chapter else "**no**",
        ])  # fmt: skip
    header = ("workload", "load, lengths, TPOT", "chapter", "roofcast", "$/h, limits hold", "next", "agree")
    return markdown_table(header, lines)


def replaced() -> str:
    """Return how many boxes one replaces under the limits of a busy chat."""
    lines = []
    for platform, instead in (("hgx-b200", "hgx-h100"), ("hgx-b200", "hgx-h200"), ("hgx-b300", "hgx-b200")):
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
