"""docs/physics.md shows what ships: coefficients, what tensor parallelism costs, measured percentiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from roofcast.data.store import BenchmarkStore
from roofcast.features.baseline import baseline, floor
from roofcast.features.coefficients import ENGINE_KINDS, Coefficients
from roofcast.features.facts import ARCHITECTURES
from roofcast.features.memory import memory_fit
from roofcast.features.percentiles import tpot_ratio, ttft_ratio
from roofcast.features.request import normalise
from roofcast.features.work import decode_layout, kv_bytes_stored, kv_share

from .conftest import replace_or_compare

Entries = Mapping[str, Mapping[str, Any]]


def shipped() -> Entries:
    text = files("roofcast.predictor").joinpath("bundle", "coefficients.json").read_text("utf-8")
    found: Entries = json.loads(text)
    return found


def shown(entry: Mapping[str, Any]) -> str:
    return f"{entry['value']:.3g} ± {entry['standard_error']:.2g}"


def by_kind(entries: Entries, kinds: Sequence[str]) -> str:
    """Return a table with a row per coefficient and a column per architecture or engine."""
    names = dict.fromkeys(name.rpartition(".")[0] for name in sorted(entries) if name.endswith(kinds[0]))
    lines = ["| coefficient | unit | " + " | ".join(kinds) + " |", "|---|---|" + "---|" * len(kinds)]
    for name in names:
        cells = [shown(entries[f"{name}.{kind}"]) for kind in kinds]
        lines.append(f"| `{name}` | {entries[f'{name}.{kinds[0]}']['unit']} | " + " | ".join(cells) + " |")
    rows = [f"{entries[f'{next(iter(names))}.{kind}']['rows']:,}" for kind in kinds]
    return "\n".join([*lines, "| rows it was fitted to | | " + " | ".join(rows) + " |"])


def for_all(entries: Entries) -> str:
    """Return the table of the coefficients that hold everywhere."""
    lines = ["| coefficient | unit | value |", "|---|---|---|"]
    alone = {name: entry for name, entry in sorted(entries.items()) if "." not in name}
    return "\n".join([*lines, *(f"| `{n}` | {e['unit']} | {shown(e)} |" for n, e in alone.items())])


def test_the_page_shows_the_shipped_coefficients(repo_root: Path, regenerate: bool) -> None:
    entries = shipped()
    tables = (by_kind(entries, ARCHITECTURES), by_kind(entries, ENGINE_KINDS), for_all(entries))
    replace_or_compare(repo_root / "docs" / "physics.md", "coefficients", "\n\n".join(tables), regenerate)


def test_no_shipped_coefficient_lies_outside_its_bounds() -> None:
    for name, entry in shipped().items():
        assert entry["low"] - 1e-9 <= entry["value"] <= entry["high"] + 1e-9, name


def by_degree() -> str:
    """Return a table with a row per tensor-parallel degree of Qwen2.5-72B, long prompts, in one rack."""
    degrees = (1, 2, 4, 8, 16, 32, 64)
    n, given = len(degrees), {"model": "qwen2.5-72b", "platform": "gb200-nvl72", "engine": "trtllm",
                              "weight_precision": "fp4", "kv_precision": "fp8", "mode": "offline",
                              "isl": 32_768, "osl": 1024}  # fmt: skip
    r = normalise({k: [v] * n for k, v in given.items()} | {"tp": list(degrees), "num_gpus": list(degrees)})
    each = kv_bytes_stored(r, np.ones(n)) * kv_share(r, decode_layout(r))
    batch = memory_fit(r).max_batch / r.tp
    low, base = floor(r), baseline(r, Coefficients.from_dict(shipped()))
    lines = [
        "| TP | KV heads per GPU | copies of each | KV bytes per token and GPU | sequences per GPU "
        "| tok/s per GPU, floor | calibrated |",
        "|---|---|---|---|---|---|---|",
    ]
    for i, tp in enumerate(degrees):
        rates = f"{low.output_tok_s[i] / tp:,.0f} | {base.output_tok_s[i] / tp:,.0f}"
        lines.append(
            f"| {tp} | {max(8 // tp, 1)} | {max(tp // 8, 1)} | {each[i]:,.0f} | {batch[i]:.1f} | {rates} |"
        )
    return "\n".join(lines)


def test_the_page_shows_what_tensor_parallelism_costs(repo_root: Path, regenerate: bool) -> None:
    replace_or_compare(repo_root / "docs" / "physics.md", "parallelism", by_degree(), regenerate)


def measured_tails() -> str:
    """Return a table of measured and predicted percentiles over the median, by mode."""
    found = BenchmarkStore(None).load()
    coefficients = Coefficients.from_dict(shipped())
    lines = [
        "| mode | of | percentile | rows | measured / median | predicted / median | median error |",
        "|---|---|---|---|---|---|---|",
    ]
    for mode in ("closed-loop", "open-loop", "server"):
        for metric, ratio in (("ttft", ttft_ratio), ("tpot", tpot_ratio)):
            for percentile in (90, 99):
                column = f"{metric}_p{percentile}_ms"
                here = (found["mode"] == mode) & (found["ttft_stat"] == "p50")
                rows = found[here & found[column].notna() & found[f"{metric}_ms"].notna()]
                r = normalise(rows)
                ours = ratio(r, baseline(r, coefficients), percentile)
                seen = (rows[column] / rows[f"{metric}_ms"]).to_numpy(dtype=np.float64)
                error = np.nanmedian(np.abs(np.log(ours / seen)))
                lines.append(
                    f"| {mode} | {metric.upper()} | {percentile} | {np.isfinite(ours).sum():,} "
                    f"| {np.nanmedian(seen):.2f} | {np.nanmedian(ours):.2f} | {100 * np.expm1(error):.0f} % |"
                )
    return "\n".join(lines)


def test_the_page_shows_how_well_percentiles_are_met(repo_root: Path, regenerate: bool) -> None:
    replace_or_compare(repo_root / "docs" / "physics.md", "percentiles", measured_tails(), regenerate)
