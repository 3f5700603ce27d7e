"""One prediction: five answers with intervals, where the time goes, and the request as it was understood."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data import catalogue
from ..data.columns import ANSWERS, BOUNDS
from ..data.errors import BadRequest
from ..data.files import for_json
from ..data.vocabulary import ENGINES, MODES, PRECISIONS, SPECULATION, TIERS
from ..features.facts import FloatArray
from ..features.memory import uses_host
from ..features.percentiles import itl_ratio, tpot_ratio, ttft_ratio
from ..features.request import Requests
from ..training.model.model import Answers

BOUNDED = tuple(f"{name}{bound}" for name in ANSWERS for bound in BOUNDS)
NUMBERS = (
    *BOUNDED,
    *(f"baseline_{name}" for name in ANSWERS),
    *(f"floor_{name}" for name in ANSWERS),
)
# The physics of one output token and of the first one, and what the learned model adds or takes.
TERMS = (
    "weights", "kv", "compute", "communication", "host_memory", "launch_scheduler", "queue",
    "learned_correction",
)  # fmt: skip
_PHYSICS = {"launch_scheduler": "launch", "host_memory": "host"}  # what the baseline calls them
PERCENTILES = (90, 99)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer to one request; every number is NaN where the request is infeasible.

    Rates [tok/s] are of the whole deployment, times [ms] per request; `_lo` and `_hi` bound the 90 %
    interval. `baseline` and `floor` hold the five answers of the calibrated physics and of the ideal
    roofline. `support` is "in", "near" or "far" from what was measured. `terms` splits TPOT and `ttft_terms`
    TTFT [ms] by TERMS: each sums to its answer. `percentiles[percent]` holds the times [ms] that so many % of
    the requests do not exceed: ttft_ms, tpot_ms (of requests' means) and itl_ms (of single gaps between two
    tokens), from the queues of `features.percentiles`; it is empty where the request is infeasible. `reason`
    says why it is, or which defaults were assumed; `request` holds all values in use.
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
        flat: dict[str, Any] = for_json(
            {
                **self.request,
                **{name: getattr(self, name) for name in BOUNDED},
                **{f"baseline_{name}": value for name, value in self.baseline.items()},
                **{f"floor_{name}": value for name, value in self.floor.items()},
                **{f"tpot_{name}_ms": value for name, value in self.terms.items()},
                **{f"ttft_{name}_ms": value for name, value in self.ttft_terms.items()},
                **{
                    f"{name.removesuffix('_ms')}_p{percent:g}_ms": value
                    for percent, times in self.percentiles.items()
                    for name, value in times.items()
                },
                **{name: getattr(self, name) for name in ("bottleneck", "bottleneck_share")},
                **{name: getattr(self, name) for name in ("support", "feasible", "reason")},
            }
        )
        return flat

    def __str__(self) -> str:
        if not self.feasible:
            return f"infeasible: {self.reason}"
        parts = (
            f"output {self.output_tok_s:,.0f} tok/s "
            f"({self.output_tok_s_lo:,.0f} to {self.output_tok_s_hi:,.0f})",
            f"TPOT {self.tpot_ms:.2f} ms ({self.tpot_ms_lo:.2f} to {self.tpot_ms_hi:.2f})",
            f"TTFT {self.ttft_ms:.0f} ms ({self.ttft_ms_lo:.0f} to {self.ttft_ms_hi:.0f})",
            f"bottleneck {self.bottleneck} ({self.bottleneck_share:.0%})",
            f"support {self.support}",
        )
        return ", ".join(parts)


def prediction_of(r: Requests, answers: Answers, reason: str, percents: Sequence[float]) -> Prediction:
    """Return the first request's prediction, with its times at these percentiles [%].

    Raises BadRequest for a percentile outside 0 to 100 (exclusive).
    """
    for percent in percents:
        if not 0.0 < percent < 100.0:
            raise BadRequest("percentiles", percent, "numbers above 0 and below 100")
    numbers = {name: float(values[0]) for name, values in numbers_of(answers).items()}
    base, feasible = answers.baseline, bool(answers.baseline.feasible[0])
    terms = {
        prefix: {name: float(base.terms[prefix + _PHYSICS.get(name, name)][0]) * 1e3 for name in TERMS[:-1]}
        for prefix in ("", "ttft_")
    }
    for prefix, name in (("", "tpot_ms"), ("ttft_", "ttft_ms")):
        terms[prefix]["learned_correction"] = numbers[name] - numbers[f"baseline_{name}"]
    return Prediction(
        **{name: numbers[name] for name in BOUNDED},
        baseline={name: numbers[f"baseline_{name}"] for name in ANSWERS},
        floor={name: numbers[f"floor_{name}"] for name in ANSWERS},
        support=str(answers.support[0]),
        feasible=feasible,
        reason=reason,
        terms=terms[""],
        ttft_terms=terms["ttft_"],
        percentiles={
            percent: {
                "ttft_ms": numbers["ttft_ms"] * float(ttft_ratio(r, base, percent)[0]),
                "tpot_ms": numbers["tpot_ms"] * float(tpot_ratio(r, base, percent)[0]),
                "itl_ms": numbers["tpot_ms"] * float(itl_ratio(r, base, percent)[0]),
            }
            for percent in percents
            if feasible
        },
        request=_understood(r, answers),
    )


def numbers_of(answers: Answers) -> dict[str, FloatArray]:
    """Return the arrays of NUMBERS by name, shape (n,) each, in ms and tok/s."""
    numbers = {name: answers.values[name] for name in BOUNDED}
    for level, estimate in (("baseline", answers.baseline), ("floor", answers.floor)):
        for name in ANSWERS:
            time = name.removesuffix("_ms")
            values: FloatArray = getattr(estimate, name if time == name else f"{time}_s")
            numbers[f"{level}_{name}"] = values if time == name else values * 1e3
    return numbers


def _understood(r: Requests, answers: Answers) -> dict[str, Any]:
    """Return the first request with every default filled in, under the names of REQUEST_COLUMNS."""
    months, disagg, prefill_gpus = int(r.months[0]), bool(r.disagg[0]), int(r.prefill_gpus[0])
    request: dict[str, Any] = {
        "model": list(catalogue.models())[r.model.codes[0]],
        "gpu": list(catalogue.gpus())[r.gpu.codes[0]],
        "num_gpus": int(r.num_gpus[0]),
        "engine": ENGINES.names[r.engine[0]],
        "date": f"{2025 + months // 12}-{months % 12 + 1:02d}",
        "weight_precision": PRECISIONS.names[r.weight_precision[0]],
        "kv_precision": PRECISIONS.names[r.kv_precision[0]],
        **{name: int(getattr(r, name)[0]) for name in ("tp", "pp", "ep", "dp", "replicas")},
        "disagg": disagg,
        "spec_decode": SPECULATION.names[r.spec_decode[0]],
        "mode": MODES.names[r.mode[0]],
        **{name: float(getattr(r, name)[0]) for name in ("isl", "osl")},
        "concurrency": float(answers.baseline.concurrency[0]),
        "request_rate": float(r.request_rate[0]),
        "prefix_cached_frac": float(r.prefix_cached_frac[0]),
    }
    if uses_host(r)[0]:
        request |= {
            "kv_hot_tokens": float(r.kv_hot_tokens[0]),
            "kv_reread_every": float(r.kv_reread_every[0]),
            "prefix_tier": TIERS.names[int(r.prefix_on_host[0])],
            "experts_resident_frac": float(r.experts_resident_frac[0]),
            "host_bandwidth_gb_s": float(r.host_bandwidth[0] / 1e9),
            "host_memory_gb": float(r.host_bytes[0] / 1e9),
        }
    if disagg:
        request |= {"prefill_gpus": prefill_gpus, "decode_gpus": request["num_gpus"] - prefill_gpus}
    return request
