"""Why a request is infeasible, or what its answer rests on: the text of `reason`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data import catalogue
from ..data.files import for_json
from ..features.baseline import Estimate
from ..features.coefficients import Coefficients
from ..features.facts import ARCHITECTURES
from ..features.memory import memory_fit, uses_host
from ..features.request import Requests
from ..features.work import decode_layout, kv_bytes_stored, kv_share
from ..training.model.model import Answers
from ..training.model.support import NEW_SOURCE
from .prediction import Remark

# Tensor-parallel degrees tried when a model does not fit.
_DEGREES = (2, 4, 8, 16, 32, 64)
_TOO_LARGE = (
    "does not fit: needs {needed:.1f} GB per GPU (weights {weights:.1f}, KV of one sequence {kv:.1f}), "
    "{available:.1f} GB available; "
)
_COPIES = ", {held:,.0f} MB per sequence and GPU instead of {least:,.0f}"
_BORROWED = "{gpu} was never measured: its coefficients are those of {lender}, "
# By code; the values' names are those that a note of this code comes with.
TEXTS = {
    "unstable": "overloaded: request_rate {asked:g}/s is above what this deployment sustains (about "
    "{limit:.3g}/s), so that TTFT grows as long as requests come; shown is that of a short run",
    "too-large": _TOO_LARGE + "fits from tp={tp}",
    "too-large-for-all": _TOO_LARGE + f"no tp up to {_DEGREES[-1]} fits",
    "host-too-small": "does not fit: needs {held:.1f} GB of host memory per GPU, {room:.1f} GB available",
    "host-memory": "host memory holds {held:.1f} GB per GPU for one sequence and weights (of {room:.0f} "
    "GB), read at {rate:.0f} GB/s: {token:.3g} ms per token, {first:.3g} ms of the first; the tier that "
    "limits is {tier}",
    "head-copies": "tp passes the {heads:g} KV heads: each is held by {copies:.3g} GPUs" + _COPIES,
    "latent-copies": "the latent KV is held whole by each of {group:g} GPUs" + _COPIES,
    "borrowed": _BORROWED + "fitted to {rows:,} rows of other GPUs",
    "borrowed-priors": _BORROWED + "priors that no row has moved",
}
# Of n rows: a code for all or for each, and values of shape (n,) by the names in its text.
Notes: TypeAlias = tuple[Iterable[str] | str, dict[str, Any]]


def reasons(r: Requests, answers: Answers, coefficients: Coefficients) -> NDArray[np.object_]:
    """Return one text per request, shape (n,): why it is infeasible, else what it rests on, else ''.

    An answer rests on what was assumed, on coefficients borrowed for a GPU that was never measured, and on a
    tensor-parallel degree past the KV heads.
    """
    out = r.reason
    for row, code, about in _of_answers(r, answers, coefficients):
        text = TEXTS[code].format(**about)
        out[row] = f"{text}; {out[row]}" if out[row] else text
    return out


def remarks(r: Requests, answers: Answers, coefficients: Coefficients) -> tuple[Remark, ...]:
    """Return what `reasons` says of the first request, one by one."""
    first = [
        Remark(code=code, about=for_json(about), text=TEXTS[code].format(**about))
        for row, code, about in _of_answers(r, answers, coefficients) if row == 0
    ]  # fmt: skip
    rest = [
        Remark(
            code=note.code, text=str(note),
            about=for_json({k: v for k, v in vars(note).items() if k != "code" and v not in (None, "")}),
        ) for note in r.notes.of(0)
    ]  # fmt: skip
    return (*first[::-1], *rest)


def _of_answers(
    r: Requests, answers: Answers, coefficients: Coefficients
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield row, code and values by name of what the answers themselves show; the last comes first."""
    base, on_host = answers.baseline, uses_host(r)
    unmeasured = r.valid & ((answers.stratum == "gpu") | (answers.stratum == "gpu" + NEW_SOURCE)) & ~on_host
    unstable, served = base.feasible & ~base.stable, answers.values["output_tok_s"] / r.osl
    for where, noted in (
        (unmeasured, lambda r, _: _borrowed_coefficients(r, coefficients)),
        (base.feasible & (r.tp > r.dp * r.model.n_kv_heads), _kv_copies),
        (base.feasible & on_host, _host_memory),
        (r.valid & ~base.feasible, _out_of_memory),
        (unstable, lambda r, _: ("unstable", {"asked": r.request_rate, "limit": served[unstable]})),
    ):
        rows = np.flatnonzero(where)
        if len(rows):
            codes, values = noted(r.take(rows), base.take(rows))
            codes = [codes] * len(rows) if isinstance(codes, str) else codes
            for row, code, *one in zip(rows, codes, *values.values(), strict=True):
                yield int(row), code, dict(zip(values, one, strict=True))


def _borrowed_coefficients(r: Requests, coefficients: Coefficients) -> Notes:
    """For GPUs that training never saw: whose coefficients are in use and how many rows they have."""
    lenders = [ARCHITECTURES[int(code)] for code in r.gpu.architecture]
    rows = [coefficients.entries[f"weight_bandwidth.{lender}"].rows for lender in lenders]
    return ["borrowed" if fitted else "borrowed-priors" for fitted in rows], {
        "gpu": [list(catalogue.gpus())[code] for code in r.gpu.codes],
        "lender": ["rarer architectures" if k == "other" else f"architecture {k}" for k in lenders],
        "rows": rows,
    }


def _kv_copies(r: Requests, _: Estimate) -> Notes:
    """For groups of GPUs with fewer KV heads than members: how often KV is held and what that costs.

    Copies = GPUs that share a sequence / KV heads; Qwen2.5-72B at tp 16 holds each of its 8 heads twice.
    """
    layout = decode_layout(r)
    whole = kv_bytes_stored(r, r.isl + r.osl) / layout.pp / 1e6
    group, heads = layout.attention_tp, r.model.n_kv_heads
    values = {"group": group, "heads": heads, "copies": group / heads}
    values |= {"held": whole * kv_share(r, layout), "least": whole / group}
    return np.where(r.model.is_mla > 0, "latent-copies", "head-copies"), values


def _host_memory(r: Requests, base: Estimate) -> Notes:
    """What lies in host memory, what its link adds, and which of HBM, host memory and link limits."""
    fit = memory_fit(r)
    token, first, weights, kv = (base.terms[k] * 1e3 for k in ("host", "ttft_host", "weights", "kv"))
    size = np.where(fit.host_limits, "host memory, by its size", "HBM, by its bandwidth or size")
    return "host-memory", {
        "held": fit.needed_host_bytes / 1e9, "room": fit.available_host_bytes / 1e9,
        "rate": r.host_bandwidth / 1e9, "token": token, "first": first,
        "tier": np.where(token > weights + kv, "the host link", size),
    }  # fmt: skip


def _out_of_memory(r: Requests, _: Estimate) -> Notes:
    """For requests that do not fit: the bytes needed and available per GPU and the degree that fits.

    The degree is the smallest of _DEGREES that divides the heads and fits, 0 where none does.
    """
    degrees, one = np.zeros(len(r), dtype=np.int64), np.ones(len(r))
    for degree in _DEGREES:
        tp = one * degree
        wider = replace(r, tp=tp, prefill_tp=tp, dp=one, prefill_dp=one, num_gpus=tp * r.pp, replicas=one)
        fits = memory_fit(wider).fits & (r.model.n_heads % degree == 0) & (tp > r.tp)
        degrees = np.where((degrees == 0) & fits, degree, degrees)
    fit = memory_fit(r)
    host_too_small = fit.needed_host_bytes > fit.available_host_bytes
    codes = np.where(degrees > 0, "too-large", "too-large-for-all")
    return np.where(host_too_small, "host-too-small", codes), {
        "held": fit.needed_host_bytes / 1e9, "room": fit.available_host_bytes / 1e9,
        "needed": fit.needed_bytes / 1e9, "weights": fit.weight_bytes / 1e9,
        "kv": fit.sequence_bytes / 1e9, "available": fit.available_bytes / 1e9, "tp": degrees,
    }  # fmt: skip
