"""Why a request is infeasible, or what its answer rests on: the text of `reason`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..data import catalogue
from ..features.baseline import Estimate
from ..features.coefficients import Coefficients
from ..features.facts import ARCHITECTURES
from ..features.memory import memory_fit, uses_host
from ..features.request import Requests
from ..features.work import decode_layout, kv_bytes_stored, kv_share
from ..training.model.model import Answers
from ..training.model.support import NEW_SOURCE

# Tensor-parallel degrees tried when a model does not fit.
_DEGREES = (2, 4, 8, 16, 32, 64)


def reasons(r: Requests, answers: Answers, coefficients: Coefficients) -> NDArray[np.object_]:
    """Return one text per request, shape (n,): why it is infeasible, else what it rests on, else ''.

    An answer rests on what was assumed, on coefficients borrowed for a GPU that was never measured, and on a
    tensor-parallel degree past the KV heads.
    """
    out, base = r.reason, answers.baseline

    def put_first(where: NDArray[np.bool_], notes: Callable[[NDArray[np.intp]], list[str]]) -> None:
        rows = np.flatnonzero(where)
        if len(rows):
            out[rows] = [f"{a}; {b}" if b else a for a, b in zip(notes(rows), out[rows], strict=True)]

    unmeasured = r.valid & np.isin(answers.stratum, ("gpu", "gpu" + NEW_SOURCE)) & ~uses_host(r)
    put_first(unmeasured, lambda rows: _borrowed_coefficients(r.take(rows), coefficients))
    put_first(base.feasible & (r.tp > r.dp * r.model.n_kv_heads), lambda rows: _kv_copies(r.take(rows)))
    put_first(base.feasible & uses_host(r), lambda rows: _host_memory(r.take(rows), base.take(rows)))
    put_first(r.valid & ~base.feasible, lambda rows: _out_of_memory(r.take(rows)))
    put_first(
        base.feasible & ~base.stable,
        lambda rows: [
            f"request_rate {asked:g}/s is above what this deployment sustains (about {limit:.3g}/s)"
            for asked, limit in zip(r.request_rate[rows], base.request_s[rows], strict=True)
        ],
    )
    return out


def _borrowed_coefficients(r: Requests, coefficients: Coefficients) -> list[str]:
    """Return, for GPUs that training never saw, whose coefficients are in use and how many rows they have."""
    names, notes = list(catalogue.gpus()), []
    for gpu, code in zip(r.gpu.codes, r.gpu.architecture.astype(np.int64), strict=True):
        architecture = ARCHITECTURES[code]
        rows = coefficients.entries[f"weight_bandwidth.{architecture}"].rows
        lender = "rarer architectures" if architecture == "other" else f"architecture {architecture}"
        fitted = f"fitted to {rows:,} rows of other GPUs" if rows else "priors that no row has moved"
        notes.append(f"{names[gpu]} was never measured: its coefficients are those of {lender}, {fitted}")
    return notes


def _kv_copies(r: Requests) -> list[str]:
    """Return, for groups of GPUs with fewer KV heads than members, how often KV is held and what that costs.

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


def _host_memory(r: Requests, base: Estimate) -> list[str]:
    """Return what lies in host memory, what its link adds, and which of HBM, host memory and link limits."""
    fit = memory_fit(r)
    host, first, weights, kv = (base.terms[k] * 1e3 for k in ("host", "ttft_host", "weights", "kv"))
    size = np.where(fit.host_limits, "host memory, by its size", "HBM, by its bandwidth or size")
    figures = zip(
        fit.needed_host_bytes / 1e9, fit.available_host_bytes / 1e9, r.host_bandwidth / 1e9, host, first,
        np.where(host > weights + kv, "the host link", size), strict=True,
    )  # fmt: skip
    return [
        f"host memory holds {held:.1f} GB per GPU for one sequence and its experts (of {room:.0f} GB), read "
        f"at {rate:.0f} GB/s: {token:.3g} ms per token, {ttft:.3g} ms of the first; the tier that limits is "
        f"{tier}"
        for held, room, rate, token, ttft, tier in figures
    ]


def _out_of_memory(r: Requests) -> list[str]:
    """Return, for requests that do not fit, the bytes needed and available per GPU and the degree that fits.

    The degree is the smallest of _DEGREES that divides the heads and fits, 0 where none does.
    """
    degrees, one = np.zeros(len(r), dtype=np.int64), np.ones(len(r))
    for degree in _DEGREES:
        tp = one * degree
        wider = replace(r, tp=tp, prefill_tp=tp, dp=one, prefill_dp=one, num_gpus=tp * r.pp, replicas=one)
        fits = memory_fit(wider).fits & (r.model.n_heads % degree == 0) & (tp > r.tp)
        degrees = np.where((degrees == 0) & fits, degree, degrees)
    fit = memory_fit(r)
    rows = zip(
        fit.needed_host_bytes / 1e9, fit.available_host_bytes / 1e9, fit.needed_bytes / 1e9,
        fit.weight_bytes / 1e9, fit.sequence_bytes / 1e9, fit.available_bytes / 1e9, degrees, strict=True,
    )  # fmt: skip
    return [
        f"does not fit: needs {held:.1f} GB of host memory per GPU, {room:.1f} GB available"
        if held > room
        else f"does not fit: needs {needed:.1f} GB per GPU (weights {weights:.1f}, KV of one sequence "
        f"{kv:.1f}), {available:.1f} GB available; " + (f"fits from tp={tp}" if tp else "no tp up to 64 fits")
        for held, room, needed, weights, kv, available, tp in rows
    ]
