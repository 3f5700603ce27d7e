"""What an answer says in words: why a request is infeasible, where its time goes, how it was understood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data import catalogue
from ..data.vocabulary import ENGINES, MODES, PRECISIONS, SPECULATION, TIERS
from ..features.coefficients import Coefficients
from ..features.facts import ARCHITECTURES, FloatArray
from ..features.memory import memory_fit, uses_host
from ..features.request import Requests
from ..features.work import decode_layout, kv_bytes_stored, kv_share
from ..training.model.model import Answers
from .prediction import TERMS

# Tensor-parallel degrees tried when a model does not fit.
_DEGREES = (2, 4, 8, 16, 32, 64)
_PHYSICS = {"launch_scheduler": "launch", "host_memory": "host"}


def reasons(r: Requests, answers: Answers, coefficients: Coefficients) -> NDArray[np.object_]:
    """Return one text per request, shape (n,): why it is infeasible, else what it rests on, else ''.

    An answer rests on what was assumed, on coefficients borrowed for a GPU that was never measured, and on a
    tensor-parallel degree past the KV heads.
    """
    out, base = r.reason.copy(), answers.baseline

    def put_first(where: NDArray[np.bool_], say: Callable[[NDArray[np.intp]], list[str]]) -> None:
        rows = np.flatnonzero(where)
        if len(rows):
            out[rows] = [f"{a}; {b}" if b else a for a, b in zip(say(rows), out[rows], strict=True)]

    def terms(rows: NDArray[np.intp]) -> dict[str, FloatArray]:
        return {name: base.terms[name][rows] for name in ("host", "ttft_host", "weights", "kv")}

    strange = r.valid & np.char.startswith(answers.stratum, "gpu") & ~uses_host(r)
    put_first(strange, lambda rows: borrowed_words(r.take(rows), coefficients))
    put_first(base.feasible & (r.tp > r.dp * r.model.n_kv_heads), lambda rows: copies_words(r.take(rows)))
    put_first(base.feasible & uses_host(r), lambda rows: tier_words(r.take(rows), terms(rows)))
    put_first(r.valid & ~base.feasible, lambda rows: _memory_words(r.take(rows)))
    put_first(
        base.feasible & ~base.stable,
        lambda rows: [
            f"request_rate {asked:g}/s is above what this deployment sustains (about {limit:.3g}/s)"
            for asked, limit in zip(r.request_rate[rows], base.request_s[rows], strict=True)
        ],
    )
    return out


def borrowed_words(r: Requests, coefficients: Coefficients) -> list[str]:
    """Say, for GPUs that training never saw, whose coefficients are in use and how many rows they rest on."""
    names = list(catalogue.gpus())
    rows = {arch: coefficients.entries[f"weight_bandwidth.{arch}"].rows for arch in ARCHITECTURES}
    words = []
    for gpu, code in zip(r.gpu.codes, r.gpu.architecture.astype(np.int64), strict=True):
        arch = ARCHITECTURES[code]
        kin = "rarer architectures" if arch == "other" else f"architecture {arch}"
        words.append(
            f"{names[gpu]} was never measured: its coefficients are those of {kin}, "
            + (
                f"fitted to {rows[arch]:,} rows of other GPUs"
                if rows[arch]
                else "priors that no row has moved"
            )
        )
    return words


def copies_words(r: Requests) -> list[str]:
    """Say, for groups of GPUs with fewer KV heads than members, how often KV is held and what that costs.

    Copies = GPUs that share a sequence / KV heads; Qwen2.5-72B at tp 16 holds each of its 8 heads twice.
    """
    layout = decode_layout(r)
    whole = kv_bytes_stored(r, r.isl + r.osl) / layout.pp / 1e6
    rows = zip(
        layout.attention_tp, r.model.n_kv_heads, r.model.is_mla > 0, whole * kv_share(r, layout),
        whole / layout.attention_tp, strict=True,
    )  # fmt: skip
    return [
        (f"the latent KV is held whole by each of {group:g} GPUs" if latent else
         f"tp passes the {heads:g} KV heads: each is held by {group / heads:.3g} GPUs")
        + f", {held:,.0f} MB per sequence and GPU instead of {least:,.0f}"
        for group, heads, latent, held, least in rows
    ]  # fmt: skip


def tier_words(r: Requests, terms: Mapping[str, FloatArray]) -> list[str]:
    """Say what lies in host memory, what its link adds, and which tier limits: HBM, host memory or link."""
    fit = memory_fit(r)
    rows = zip(
        fit.needed_host_bytes / 1e9, fit.available_host_bytes / 1e9, r.host_bandwidth / 1e9,
        terms["host"] * 1e3, terms["ttft_host"] * 1e3, (terms["weights"] + terms["kv"]) * 1e3,
        fit.host_limits, strict=True,
    )  # fmt: skip
    return [
        f"host memory holds {held:.1f} GB per GPU for one sequence and its experts (of {room:.0f} GB), read "
        f"at {rate:.0f} GB/s: {token:.3g} ms per token, {first:.3g} ms of the first; the tier that limits is "
        + (
            "the host link"
            if token > hbm
            else ("host memory, by its size" if by_size else "HBM, by its bandwidth or size")
        )
        for held, room, rate, token, first, hbm, by_size in rows
    ]


def _memory_words(r: Requests) -> list[str]:
    """Say, for requests that do not fit, the bytes needed and available per GPU and the degree that fits."""
    fit = memory_fit(r)
    rows = zip(
        fit.needed_host_bytes / 1e9, fit.available_host_bytes / 1e9, fit.needed_bytes / 1e9,
        fit.weight_bytes / 1e9, fit.sequence_bytes / 1e9, fit.available_bytes / 1e9, _fitting_degree(r),
        strict=True,
    )  # fmt: skip
    return [
        f"does not fit: needs {held:.1f} GB of host memory per GPU, {room:.1f} GB available"
        if held > room
        else f"does not fit: needs {needed:.1f} GB per GPU (weights {weights:.1f}, KV of one sequence "
        f"{kv:.1f}), {available:.1f} GB available; " + (f"fits from tp={tp}" if tp else "no tp up to 64 fits")
        for held, room, needed, weights, kv, available, tp in rows
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
    if uses_host(r)[0]:
        request |= {
            "kv_hot_tokens": float(r.kv_hot_tokens[0]),
            "kv_reread_every": float(r.kv_reread_every[0]),
            "prefix_tier": TIERS[int(r.prefix_on_host[0])],
            "experts_resident_frac": float(r.experts_resident_frac[0]),
            "host_bandwidth_gb_s": float(r.host_bandwidth[0] / 1e9),
            "host_memory_gb": float(r.host_bytes[0] / 1e9),
        }
    if request["disagg"]:
        request |= {
            "prefill_gpus": int(r.prefill_gpus[0]),
            "decode_gpus": request["num_gpus"] - int(r.prefill_gpus[0]),
        }
    return request
