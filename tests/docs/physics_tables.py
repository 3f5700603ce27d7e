"""The tables of docs/physics.md, of what ships: coefficients, layouts, percentiles and worked examples."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from roofcast.data.store import BenchmarkStore
from roofcast.features.baseline import baseline, floor
from roofcast.features.coefficients import ENGINE_KINDS, Coefficients
from roofcast.features.facts import ARCHITECTURES
from roofcast.features.memory import memory_fit
from roofcast.features.percentiles import tpot_ratio, ttft_ratio
from roofcast.features.request import normalise
from roofcast.features.work import decode_layout, kv_bytes_stored, kv_share

from ..golden.test_worked_examples import EXAMPLES
from ..markdown import markdown_table

ROOT = Path(__file__).resolve().parents[2]
Entry = Mapping[str, Any]
# Why a coefficient leaves the range of the kernels; a new outlier needs its reason here.
EXPLAINED = {
    ("weight_bandwidth", "below"): "hundreds of short kernels, at whose start and end the memory idles; one "
    "value for all precisions, most rows of 4 and 8 bits",
    ("kv_bandwidth", "below"): "unequal sequences in scattered pages, and what a step does per sequence",
    ("compute", "below"): "a prompt's matrices are cut by tensor parallelism; normalising, quantising and "
    "routing land here",
    ("attention_compute", "below"): "chunks of a prompt read the cache of earlier ones again",
    ("attention_compute", "above"): "8-bit kernels reach a third of a doubled peak; engines multiply in 16 "
    "where that is faster",
    ("collective_latency", "above"): "GPUs reach a collective at different times and wait for the last",
}  # fmt: skip
ROWS = 300  # that an engine's column rests on at least
# The worked examples on the page; the tests hold all of them.
SHOWN = (
    "KV per token and layer, FP8",
    "their time as measured, 8 x B200, engine kernels",
    "the same at 370 GB/s (copies measured)",
    "most tokens per second of one stream on one B200",
)  # fmt: skip


@cache
def shipped() -> Mapping[str, Entry]:
    """Return the shipped coefficients."""
    return dict(json.loads((ROOT / "predictor" / "bundle" / "coefficients.json").read_text("utf-8")))


@cache
def kernels() -> Sequence[Entry]:
    """Return what was measured on its own."""
    return list(tomllib.loads((ROOT / "data" / "kernels.toml").read_text("utf-8"))["kernels"])


def with_error(entry: Entry) -> str:
    """Return a value with the standard error of its last digits in brackets: 0.356 ± 0.052 is 0.356(52)."""
    value, error = entry["value"], entry["standard_error"]
    if not error > 0:
        return f"{value:.3g}"
    places = 1 - math.floor(math.log10(error))  # two digits of the error
    digits = round(round(error, places) * 10.0 ** max(places, 0))
    return f"{round(value, places):,.{max(places, 0)}f}({digits})"


def _by_kind(kinds: Sequence[str], what: str) -> str:
    entries = shipped()
    names = dict.fromkeys(name.rpartition(".")[0] for name in sorted(entries) if name.endswith(kinds[0]))
    rows = [[f"`{name}`", *(with_error(entries[f"{name}.{kind}"]) for kind in kinds)] for name in names]
    fitted = [f"{entries[f'{next(iter(names))}.{kind}']['rows']:,}" for kind in kinds]
    return markdown_table([what, *kinds], [*rows, ["rows", *fitted]])


def coefficients() -> str:
    """Return the coefficients by architecture, by engine, and those that hold everywhere."""
    alone = [(f"`{name}`", with_error(c)) for name, c in sorted(shipped().items()) if "." not in name]
    names, values = zip(*alone, strict=True)
    engines = [kind for kind in ENGINE_KINDS if shipped()[f"stall.{kind}"]["rows"] >= ROWS]
    kinds = (_by_kind(ARCHITECTURES, "of a GPU"), _by_kind(engines, "of an engine"))
    return "\n\n".join([*kinds, markdown_table(names, [values])])


def verdict(entry: Entry, measured: Entry) -> str:
    """Return whether two standard errors round the fitted value reach the range of the kernels."""
    reach = 2 * entry["standard_error"] if np.isfinite(entry["standard_error"]) else 0.0
    if entry["value"] + reach < measured["low"]:
        return "below"
    return "above" if entry["value"] - reach > measured["high"] else "agrees"


def reason(name: str, found: str) -> str:
    """Return why a coefficient lies outside its kernels' range."""
    kind = name.split(".")[0].split("_bf")[0].split("_fp")[0]
    return EXPLAINED[kind, found]


def agreement() -> str:
    """Return the coefficients that disagree with kernels measured on their own, and count the others."""
    outside: dict[str, list[str]] = {}
    for measured in kernels():
        name, entry = measured["coefficient"], shipped()[measured["coefficient"]]
        found = verdict(entry, measured)
        if found != "agrees":
            spread = f"{measured['low']:.3g} to {measured['high']:.3g}"
            text = f"`{name}` {with_error(entry)} ({measured['precision']}: {spread})"
            outside.setdefault(f"{found}: {reason(name, found)}", []).append(text)
    agree = len(kernels()) - sum(map(len, outside.values()))
    lines = [f"{agree} of {len(kernels())} agree. The others, with the range of their kernels:", ""]
    return "\n".join(lines + [f"- {', '.join(these)} {why}." for why, these in outside.items()])


def parallelism() -> str:
    """Return a row per tensor-parallel degree of Qwen2.5-72B, long prompts, in one rack."""
    degrees = (1, 2, 4, 8, 16, 32, 64)
    given = {"model": "qwen2.5-72b", "platform": "gb200-nvl72", "engine": "trtllm",
                              "weight_precision": "fp4",
             "kv_precision": "fp8", "mode": "offline", "isl": 32_768, "osl": 1024}  # fmt: skip
    r = normalise(pd.DataFrame([{**given, "tp": n, "num_gpus": n} for n in degrees]))
    each = kv_bytes_stored(r, np.ones(len(degrees))) * kv_share(r, decode_layout(r))
    batch = memory_fit(r).max_batch / r.tp
    low, base = floor(r), baseline(r, Coefficients.from_dict(shipped()))
    rows = {
        "KV bytes per token and GPU": [f"{x:,.0f}" for x in each],
        "sequences per GPU": [f"{x:.1f}" for x in batch],
        "tok/s per GPU, floor": [f"{x:,.0f}" for x in low.output_tok_s / r.tp],
        "tok/s per GPU, calibrated": [f"{x:,.0f}" for x in base.output_tok_s / r.tp],
    }
    return markdown_table(["TP", *map(str, degrees)], [[name, *cells] for name, cells in rows.items()])


def percentiles() -> str:
    """Return measured and predicted percentiles over the median, by mode."""
    found, rows = BenchmarkStore(None).load(), []
    for mode in ("closed-loop", "open-loop", "server"):
        for metric, ratio in (("ttft", ttft_ratio), ("tpot", tpot_ratio)):
            cells = [f"{mode}, {metric.upper()}"]
            for percentile in (90, 99):
                column = f"{metric}_p{percentile}_ms"
                here = (found["mode"] == mode) & (found["ttft_stat"] == "p50")
                part = found[here & found[column].notna() & found[f"{metric}_ms"].notna()]
                r = normalise(part)
                ours = ratio(r, baseline(r, Coefficients.from_dict(shipped())), percentile)
                seen = (part[column] / part[f"{metric}_ms"]).to_numpy(dtype=np.float64)
                error = 100 * np.expm1(np.nanmedian(np.abs(np.log(ours / seen))))
                ratios = [f"{np.nanmedian(x):.2f}" for x in (seen, ours)]
                cells += [f"{np.isfinite(ours).sum():,}", *ratios, f"{error:.0f}%"]
            rows.append(cells)
    heads = [f"{words}{p}" for p in (90, 99) for words in ("rows, p", "measured p", "predicted p", "error p")]
    return markdown_table(["", *heads], rows)


def worked_examples() -> str:
    """Return the examples of SHOWN with their arithmetic."""
    rows = []
    for e in sorted((e for e in EXAMPLES if e.what in SHOWN), key=lambda e: SHOWN.index(e.what)):
        quoted = f"{e.low:,g}" if e.low == e.high else f"{e.low:,g} to {e.high:,g}"
        found = f"{e.value():,.0f}" if e.value() >= 1000 else f"{e.value():.4g}"
        rows.append([e.what, e.arithmetic, quoted, f"{found} {e.unit}"])
    return markdown_table(["what", "arithmetic", "expected", "roofcast"], rows)
