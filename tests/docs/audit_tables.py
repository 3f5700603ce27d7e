"""The tables of docs/audit.md: what the audit says of projections and of the shipped table."""

from __future__ import annotations

import numpy as np

from roofcast.data.store import BenchmarkStore
from roofcast.predictor import Predictor
from roofcast.predictor.audit import MARGIN, OUTSIDE, audit, audit_frame

from ..markdown import markdown_table

SETUP = {"model": "qwen2.5-72b", "gpu": "b200-sxm", "engine": "trtllm"}
SETUP |= {"weight_precision": "fp4", "kv_precision": "fp8"}
STREAM, LONG = {"concurrency": 1}, {"concurrency": 8, "isl": 32768, "mode": "static-batch"}
PROJECTIONS = [
    ("one stream, tok/s", STREAM, "tok_s_per_user", {1: 280, 4: 450, 8: 620}),
    ("batch 32, tok/s", {"concurrency": 32}, "output_tok_s", {4: 9500, 8: 14000}),
    ("batch 128, tok/s", {"concurrency": 128}, "output_tok_s", {4: 22000, 8: 32000}),
    ("first token of 2k alone, ms", {**STREAM, "isl": 2048}, "ttft_ms", {4: 15, 8: 12}),
    ("first token of 8 x 32k, ms", LONG, "ttft_ms", {4: 280, 8: 180}),
]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def projections() -> str:
    """Return the audit of commonly quoted figures."""
    predictor, rows = Predictor.load(), []
    for words, load, figure, claims in PROJECTIONS:
        for tp, value in claims.items():
            (f,) = audit(predictor, **SETUP, **load, tp=tp, num_gpus=tp, **{figure: value})
            interval = f"{_number(f.predicted)} ({_number(f.predicted_lo)} to {_number(f.predicted_hi)})"
            shown = [f"{value:,}", _number(f.bound), interval, f"{f.ratio:.2f}", f.verdict]
            rows.append([words, str(tp), *shown])
    heads = ["", "TP", "projected", "floor", "roofcast (90 %)", "times the floor's time", "verdict"]
    return markdown_table(heads, rows)


def thresholds() -> str:
    """Return how the table's own rows lie beside the thresholds in use."""
    found = audit_frame(Predictor.load(), BenchmarkStore().load())
    rows = []
    for figure in MARGIN:
        part = [f for f in found if f.figure == figure]
        counts = [sum(f.verdict == v for f in part) for v in ("impossible", "suspicious")]
        beyond = [max(f.predicted_lo / f.claimed, f.claimed / f.predicted_hi) for f in part]
        nearer, outside = np.nanquantile([f.ratio for f in part], 0.01), np.nanquantile(beyond, 0.99)
        shown = [f"{nearer:.2f}", f"{MARGIN[figure]:g}", f"{outside:.2f}", f"{OUTSIDE[figure]:g}"]
        rows.append([f"`{figure}`", f"{len(part):,}", *map(str, counts), *shown])
    heads = ["figure", "rows", "impossible", "suspicious", "nearer", "in use", "outside", "in use"]
    return markdown_table(heads, rows)
