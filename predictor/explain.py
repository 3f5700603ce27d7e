"""What an answer says in words: why a request is infeasible, where its time goes, how it was understood."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import catalogue
from ..features.facts import PRECISIONS
from ..features.memory import memory_fit
from ..features.request import ENGINES, MODES, SPECULATION, Requests
from .model import Answers
from .prediction import TERMS

# Tensor-parallel degrees tried when a model does not fit.
_DEGREES = (2, 4, 8, 16, 32, 64)
_PHYSICS = {"launch_scheduler": "launch"}


def reasons(r: Requests, answers: Answers) -> NDArray[np.object_]:
    """Return one text per request, shape (n,): why it is infeasible, else what was assumed, else ''."""
    out = r.reason.copy()
    tight = np.flatnonzero(r.valid & ~answers.baseline.feasible)
    if len(tight):
        out[tight] = _joined(_memory_words(r.take(tight)), out[tight])
    swamped = np.flatnonzero(answers.baseline.feasible & ~answers.baseline.stable)
    if len(swamped):
        most = answers.baseline.request_s[swamped]
        words = [
            f"request_rate {asked:g}/s is above what this deployment sustains (about {limit:.3g}/s)"
            for asked, limit in zip(r.request_rate[swamped], most, strict=True)
        ]
        out[swamped] = _joined(words, out[swamped])
    return out


def _joined(first: list[str], then: NDArray[np.object_]) -> list[str]:
    return [f"{a}; {b}" if b else a for a, b in zip(first, then, strict=True)]


def _memory_words(r: Requests) -> list[str]:
    """Say, for requests that do not fit, the bytes needed and available per GPU and the degree that fits."""
    fit = memory_fit(r)
    degree = _fitting_degree(r)
    rows = zip(
        fit.needed_bytes / 1e9, fit.weight_bytes / 1e9, fit.sequence_bytes / 1e9, fit.available_bytes / 1e9,
        degree, strict=True,
    )  # fmt: skip
    return [
        f"does not fit: needs {needed:.1f} GB per GPU (weights {weights:.1f}, KV of one sequence {kv:.1f}), "
        f"{available:.1f} GB available; " + (f"fits from tp={tp}" if tp else "no tp up to 64 fits")
        for needed, weights, kv, available, tp in rows
    ]


def _fitting_degree(r: Requests) -> NDArray[np.int64]:
    """Return the smallest of _DEGREES, dividing the heads, at which each request fits; 0 where none does."""
    found = np.zeros(len(r), dtype=np.int64)
    one = np.ones(len(r))
    for degree in _DEGREES:
        wide = one * degree
        wider = replace(
            r, tp=wide, prefill_tp=wide, dp=one, prefill_dp=one, num_gpus=wide * r.pp, replicas=one
        )
        fits = memory_fit(wider).fits & (r.model.n_heads % degree == 0) & (wide > r.tp)
        found = np.where((found == 0) & fits, degree, found)
    return found


def terms_ms(answers: Answers) -> tuple[dict[str, float], dict[str, float]]:
    """Return the terms of the first request's TPOT and TTFT [ms] by TERMS; each sums to its answer."""
    base = answers.baseline
    terms = {name: float(base.terms[_PHYSICS.get(name, name)][0]) * 1e3 for name in TERMS[:-1]}
    first = {name: float(base.terms[f"ttft_{_PHYSICS.get(name, name)}"][0]) * 1e3 for name in TERMS[:-1]}
    terms["learned_correction"] = float(answers.values["tpot_ms"][0]) - float(base.tpot_s[0]) * 1e3
    first["learned_correction"] = float(answers.values["ttft_ms"][0]) - float(base.ttft_s[0]) * 1e3
    return terms, first


def understood(r: Requests, answers: Answers) -> dict[str, Any]:
    """Return the first request with every default filled in, under the names of REQUEST_COLUMNS."""
    model = list(catalogue.models())[r.model.codes[0]]
    gpu = list(catalogue.gpus())[r.gpu.codes[0]]
    months = int(r.months[0])
    request: dict[str, Any] = {
        "model": model,
        "gpu": gpu,
        "num_gpus": int(r.num_gpus[0]),
        "engine": ENGINES[r.engine[0]],
        "date": f"{2025 + months // 12}-{months % 12 + 1:02d}",
        "weight_precision": PRECISIONS[r.weight_precision[0]],
        "kv_precision": PRECISIONS[r.kv_precision[0]],
        **{name: int(getattr(r, name)[0]) for name in ("tp", "pp", "ep", "dp", "replicas")},
        "disagg": bool(r.disagg[0]),
        "spec_decode": SPECULATION[r.spec_decode[0]],
        "mode": MODES[r.mode[0]],
        **{name: float(getattr(r, name)[0]) for name in ("isl", "osl")},
        "concurrency": float(answers.baseline.concurrency[0]),
        "request_rate": float(r.request_rate[0]),
        "prefix_cached_frac": float(r.prefix_cached_frac[0]),
    }
    if request["disagg"]:
        request |= {
            "prefill_gpus": int(r.prefill_gpus[0]),
            "decode_gpus": request["num_gpus"] - int(r.prefill_gpus[0]),
        }
    return request
