"""One prediction: the answers with intervals, where the time goes, and the request as it was understood."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import catalogue
from ..data.columns import ANSWERS, BOUNDS, GOODPUT, LEARNED
from ..data.errors import BadRequest
from ..data.files import for_json
from ..data.vocabulary import ARRIVALS, ENGINES, MODES, PRECISIONS, SPECULATION, TIERS
from ..features.facts import FloatArray
from ..features.memory import uses_host
from ..features.percentiles import itl_ratio, share_within, spread, tpot_ratio, ttft_ratio
from ..features.request import Requests
from ..features.serving import sent_at_a_rate
from ..training.model.model import Answers

BOUNDED = tuple(f"{name}{bound}" for name in ANSWERS for bound in BOUNDS)
_GOODPUT = tuple(f"{GOODPUT}{bound}" for bound in BOUNDS)
NUMBERS = (
    *BOUNDED,
    *(f"{level}_{name}" for level in ("baseline", "floor") for name in ANSWERS),
    *_GOODPUT,
)
# The physics of one output token and of the first one, and what the learned model adds or takes.
TERMS = (
    "weights", "kv", "compute", "communication", "host_memory", "launch_scheduler", "queue",
    "learned_correction",
)  # fmt: skip
_PHYSICS = {"launch_scheduler": "launch", "host_memory": "host"}  # what the baseline calls them
PERCENTILES = (90, 99)
_WIDE = 90.0  # the percentile that gives a distribution its width
# Which bound of a rate follows from which of a time.
_TURNED = (("", ""), ("_lo", "_hi"), ("_hi", "_lo"))
_DERIVED = (*(("", turned) for turned in _TURNED), ("baseline_", ("", "")), ("floor_", ("", "")))
# The times at a percentile: each the ratio to one of the answers.
_RATIOS = (
    ("ttft_ms", "ttft_ms", ttft_ratio),
    ("tpot_ms", "tpot_ms", tpot_ratio),
    ("itl_ms", "tpot_ms", itl_ratio),
)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer to one request; every number is NaN where the request is infeasible.

    Rates [tok/s] are of the whole deployment, times [ms] per request; `_lo` and `_hi` bound the 90 %
    interval. `tok_s_per_gpu` counts output, `tok_s_per_user` is 1000 / TPOT; `goodput_request_s` are the
    requests per second that hold `ttft_limit_ms` and `tpot_limit_ms`, NaN where neither was asked for.
    `baseline` and `floor` hold the answers of the calibrated physics and of the ideal roofline. `support` is
    "in", "near" or "far" from what was measured. `terms` splits TPOT and `ttft_terms` TTFT [ms] by TERMS:
    each sums to its answer. `percentiles[percent]` holds the times [ms] that so many % of the requests do not
    exceed: ttft_ms, tpot_ms (of requests' means) and itl_ms (of single gaps between two tokens), from the
    queues of `features.percentiles`; it is empty where the request is infeasible. `reason` says why it is, or
    which defaults were assumed; `request` holds all values in use.
    """

    output_tok_s: float
    output_tok_s_lo: float
    output_tok_s_hi: float
    total_tok_s: float
    total_tok_s_lo: float
    total_tok_s_hi: float
    ttft_ms: float
    ttft_ms_lo: float
    ttft_ms_hi: float
    tpot_ms: float
    tpot_ms_lo: float
    tpot_ms_hi: float
    e2e_ms: float
    e2e_ms_lo: float
    e2e_ms_hi: float
    request_s: float
    request_s_lo: float
    request_s_hi: float
    tok_s_per_gpu: float
    tok_s_per_gpu_lo: float
    tok_s_per_gpu_hi: float
    tok_s_per_user: float
    tok_s_per_user_lo: float
    tok_s_per_user_hi: float
    goodput_request_s: float
    goodput_request_s_lo: float
    goodput_request_s_hi: float
    baseline: Mapping[str, float]
    floor: Mapping[str, float]
    support: str
    feasible: bool
    reason: str
    terms: Mapping[str, float]
    ttft_terms: Mapping[str, float]
    percentiles: Mapping[float, Mapping[str, float]]
    request: Mapping[str, Any]

    @property
    def bottleneck(self) -> str:
        """The largest physical term of TPOT; "memory capacity" where the request is infeasible."""
        return max(TERMS[:-1], key=lambda name: self.terms[name]) if self.feasible else "memory capacity"

    @property
    def bottleneck_share(self) -> float:
        """The bottleneck's share of the baseline's TPOT [-]; NaN where the request is infeasible."""
        return self.terms[self.bottleneck] / self.baseline["tpot_ms"] if self.feasible else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return everything as one flat mapping fit for JSON: numbers, text, booleans, None for no number."""
        names = (*BOUNDED, *_GOODPUT, "bottleneck", "bottleneck_share", "support", "feasible", "reason")
        flat = dict(self.request) | {name: getattr(self, name) for name in names}
        for prefix, suffix, values in (
            ("baseline_", "", self.baseline), ("floor_", "", self.floor),
            ("tpot_", "_ms", self.terms), ("ttft_", "_ms", self.ttft_terms),
        ):  # fmt: skip
            flat |= {f"{prefix}{name}{suffix}": value for name, value in values.items()}
        for percent, times in self.percentiles.items():
            flat |= {f"{name.removesuffix('_ms')}_p{percent:g}_ms": time for name, time in times.items()}
        plain: dict[str, Any] = for_json(flat)
        return plain

    def __str__(self) -> str:
        if not self.feasible:
            return f"infeasible: {self.reason}"
        return (
            f"output {self.output_tok_s:,.0f} tok/s "
            f"({self.output_tok_s_lo:,.0f} to {self.output_tok_s_hi:,.0f}), "
            f"TPOT {self.tpot_ms:.2f} ms ({self.tpot_ms_lo:.2f} to {self.tpot_ms_hi:.2f}), "
            f"TTFT {self.ttft_ms:.0f} ms ({self.ttft_ms_lo:.0f} to {self.ttft_ms_hi:.0f}), "
            f"bottleneck {self.bottleneck} ({self.bottleneck_share:.0%}), support {self.support}"
        )


def prediction_of(r: Requests, answers: Answers, reason: str, percents: Sequence[float]) -> Prediction:
    """Return the first request's prediction, with its times at these percentiles [%].

    Raises BadRequest for a percentile outside 0 to 100 (exclusive).
    """
    for percent in percents:
        if not 0.0 < percent < 100.0:
            raise BadRequest("percentiles", percent, "numbers above 0 and below 100")
    numbers = {name: float(values[0]) for name, values in numbers_of(answers).items()}
    base, feasible = answers.baseline, bool(answers.baseline.feasible[0])
    terms: dict[str, dict[str, float]] = {}
    for prefix, answer in (("", "tpot_ms"), ("ttft_", "ttft_ms")):
        physics = {k: float(base.terms[prefix + _PHYSICS.get(k, k)][0]) * 1e3 for k in TERMS[:-1]}
        terms[answer] = physics | {TERMS[-1]: numbers[answer] - numbers[f"baseline_{answer}"]}
    percentiles: dict[float, dict[str, float]] = {}
    if feasible:
        asked = np.array(percents, dtype=np.float64)[:, None]
        times = {
            name: numbers[of] * ratio(answers.requests, base, asked)[:, 0] for name, of, ratio in _RATIOS
        }
        percentiles = {p: {k: float(v[i]) for k, v in times.items()} for i, p in enumerate(percents)}
    return Prediction(
        **{name: numbers[name] for name in (*BOUNDED, *_GOODPUT)},
        baseline={name: numbers[f"baseline_{name}"] for name in ANSWERS},
        floor={name: numbers[f"floor_{name}"] for name in ANSWERS},
        support=str(answers.support[0]), feasible=feasible, reason=reason, terms=terms["tpot_ms"],
        ttft_terms=terms["ttft_ms"], percentiles=percentiles, request=_understood(r, answers),
    )  # fmt: skip


def numbers_of(answers: Answers) -> dict[str, FloatArray]:
    """Return the arrays of NUMBERS by name, shape (n,) each, in ms and tok/s."""
    r = answers.requests
    numbers = {f"{name}{k}": answers.values[f"{name}{k}"] for name in LEARNED for k in BOUNDS}
    for level, estimate in (("baseline", answers.baseline), ("floor", answers.floor)):
        for name in LEARNED:
            seconds = name.replace("_ms", "_s")
            numbers[f"{level}_{name}"] = getattr(estimate, seconds) * (1.0 if seconds == name else 1e3)
    for before, (after, other) in _DERIVED:
        output = numbers[f"{before}output_tok_s{after}"]
        numbers[f"{before}request_s{after}"] = output / r.osl
        numbers[f"{before}tok_s_per_gpu{after}"] = output / r.num_gpus
        numbers[f"{before}tok_s_per_user{after}"] = 1e3 / numbers[f"{before}tpot_ms{other}"]
    return numbers | _goodput(answers, numbers)


def _goodput(answers: Answers, numbers: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the requests per second that hold both limits, with bounds; NaN where none was asked for.

    Times are log-logistic through their median and 90th percentile; that both limits hold is taken as
    independent.
    """
    r, base = answers.requests, answers.baseline
    found = {name: np.full(len(r), np.nan) for name in _GOODPUT}
    rows = np.flatnonzero(np.isfinite(r.ttft_limit_s) | np.isfinite(r.tpot_limit_s))
    if len(rows):
        part, physics = r.take(rows), base.take(rows)
        token = np.where(part.osl > 1.0, part.tpot_limit_s, np.inf)  # one token alone has no time per token
        limited = (("ttft_ms", part.ttft_limit_s, ttft_ratio), ("tpot_ms", token, tpot_ratio))
        scales = [spread(ratio(part, physics, _WIDE), _WIDE) for _, _, ratio in limited]
        for here, there in _TURNED:
            good = numbers[f"request_s{here}"][rows]
            for (name, limit, _), scale in zip(limited, scales, strict=True):
                good = good * share_within(limit * 1e3, numbers[f"{name}{there}"][rows], scale)
            found[f"{GOODPUT}{here}"][rows] = good
    return found


def _understood(r: Requests, answers: Answers) -> dict[str, Any]:
    """Return the first request with every default filled in, under the names of REQUEST_COLUMNS."""

    def of(kind: Callable[[Any], Any], *names: str) -> dict[str, Any]:
        return {name: kind(getattr(r, name)[0]) for name in names}

    months = int(r.months[0])
    served = answers.values["output_tok_s"] / r.osl * answers.values["e2e_ms"] / 1e3
    in_flight = np.where(sent_at_a_rate(r), served, answers.baseline.concurrency)
    request: dict[str, Any] = {
        "model": list(catalogue.models())[r.model.codes[0]],
        "gpu": list(catalogue.gpus())[r.gpu.codes[0]],
        **of(int, "num_gpus"),
        **of(ENGINES.__getitem__, "engine"),
        "date": f"{2025 + months // 12}-{months % 12 + 1:02d}",
        **of(PRECISIONS.__getitem__, "weight_precision", "kv_precision"),
        **of(int, "tp", "pp", "ep", "dp", "replicas"),
        **of(bool, "disagg"),
        **of(SPECULATION.__getitem__, "spec_decode"),
        **of(MODES.__getitem__, "mode"),
        **of(ARRIVALS.__getitem__, "arrival"),
        **of(float, "isl", "osl"),
        "concurrency": float(in_flight[0]),
        **of(float, "request_rate", "prefix_cached_frac"),
    }
    limits = {f"{name}_limit_ms": float(getattr(r, f"{name}_limit_s")[0] * 1e3) for name in ("ttft", "tpot")}
    request |= {name: limit for name, limit in limits.items() if math.isfinite(limit)}
    if uses_host(r)[0]:
        request |= of(float, "kv_hot_tokens", "kv_reread_every")
        request["prefix_tier"] = TIERS[int(r.prefix_on_host[0])]
        request |= of(float, "experts_resident_frac")
        request["host_bandwidth_gb_s"] = float(r.host_bandwidth[0] / 1e9)
        request["host_memory_gb"] = float(r.host_bytes[0] / 1e9)
    if request["disagg"]:
        request |= of(int, "prefill_gpus")
        request["decode_gpus"] = request["num_gpus"] - request["prefill_gpus"]
    return request
