"""One prediction: the answers with intervals, where the time goes, and the request as it was understood."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import catalogue
from ..data.columns import ANSWERS, BOUNDS, GOODPUT, LEARNED
from ..data.errors import BadRequest
from ..data.files import for_json
from ..data.vocabulary import ARRIVALS, ENGINES, MODES, PRECISIONS, SPECULATION, TIERS
from ..features.facts import FloatArray
from ..features.memory import uses_host
from ..features.percentiles import itl_ratio, share_within, tpot_ratio, ttft_ratio, users_spreads
from ..features.request import Requests
from ..features.serving import sent_at_a_rate
from ..features.settings import MAX_SEQUENCES, PASS_TOKENS, USABLE_SHARE
from ..training.model.model import Answers
from ..training.model.times import PERCENTS, floor_seconds

if TYPE_CHECKING:
    import pandas as pd

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
_NORMAL = NormalDist()
CURVE_PERCENTILES = (50.0, 90.0, 95.0, 99.0)
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


class Shown:
    """A result that a notebook draws as `show` prints it."""

    def _parts(self) -> Iterable[object]:
        return (self,)

    def _repr_html_(self) -> str:
        # What draws knows all results: found by name when a notebook asks, so that none of them loads it.
        return str(import_module("roofcast.predictor.show").page(*self._parts()))


@dataclass(frozen=True, kw_only=True)
class Remark:
    """One thing that an answer rests on or fails by: a code, what it is about by name, and the words."""

    code: str
    about: Mapping[str, Any]
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Prediction(Shown):
    """The answer to one request; every number is NaN where the request is infeasible.

    Rates [tok/s] are of the whole deployment, times [ms] per request; `_lo` and `_hi` bound the 90 %
    interval. TTFT and TPOT are medians over requests; beside them stand the mean of TTFT and the percentiles
    of both. `tok_s_per_gpu` counts output, `tok_s_per_user` is 1000 / TPOT; `goodput_request_s` are the
    requests per second that hold `ttft_limit_ms` and `tpot_limit_ms`, NaN where neither was asked for.
    `baseline` and `floor` hold the same answers of the calibrated physics and of the ideal roofline.
    `support` is "in", "near" or "far" from what was measured. `terms` splits TPOT and `ttft_terms` TTFT [ms]
    by TERMS: each sums to its answer. `percentiles[percent]` holds the times [ms] that so many % of the
    requests do not exceed: ttft_ms, tpot_ms (of requests' means) and itl_ms (of single gaps between two
    tokens); it is empty where the request is infeasible. `reason` says why it is, or which defaults were
    assumed, `notes` the same by code and value; `request` holds all values in use.
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
    ttft_mean_ms: float
    ttft_mean_ms_lo: float
    ttft_mean_ms_hi: float
    ttft_p90_ms: float
    ttft_p90_ms_lo: float
    ttft_p90_ms_hi: float
    ttft_p99_ms: float
    ttft_p99_ms_lo: float
    ttft_p99_ms_hi: float
    tpot_ms: float
    tpot_ms_lo: float
    tpot_ms_hi: float
    tpot_p90_ms: float
    tpot_p90_ms_lo: float
    tpot_p90_ms_hi: float
    tpot_p99_ms: float
    tpot_p99_ms_lo: float
    tpot_p99_ms_hi: float
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
    notes: tuple[Remark, ...]
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
        flat["notes"] = " ".join(":".join(filter(None, (n.code, n.about.get("column")))) for n in self.notes)
        for prefix, suffix, values in (
            ("baseline_", "", self.baseline), ("floor_", "", self.floor),
            ("tpot_", "_ms", self.terms), ("ttft_", "_ms", self.ttft_terms),
        ):  # fmt: skip
            flat |= {f"{prefix}{name}{suffix}": value for name, value in values.items()}
        for percent, times in self.percentiles.items():
            flat |= {f"{name.removesuffix('_ms')}_p{percent:g}_ms": time for name, time in times.items()}
        plain: dict[str, Any] = for_json(flat)
        return plain

    def to_frame(self) -> pd.DataFrame:
        """Return a frame of one row: `to_dict`."""
        import pandas as pd

        return pd.DataFrame([self.to_dict()])

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


def prediction_of(
    r: Requests, answers: Answers, notes: tuple[Remark, ...], percents: Sequence[float]
) -> Prediction:
    """Return the first request's prediction, with its times at these percentiles [%].

    Raises BadRequest for a percentile outside 1 to 100 (exclusive).
    """
    try:
        numbers_given = [float(percent) for percent in percents]
    except (TypeError, ValueError):
        raise BadRequest("percentiles", percents, "numbers, such as (50, 95)") from None
    for percent in numbers_given:
        if not 1.0 <= percent < 100.0:
            meant = f" (nearest: {100.0 * percent:g})" if 0.0 < percent < 1.0 else ""
            raise BadRequest("percentiles", percent, f"per cent, from 1 to below 100{meant}")
    numbers = {name: float(values[0]) for name, values in numbers_of(answers).items()}
    base, feasible = answers.baseline, bool(answers.baseline.feasible[0])
    terms: dict[str, dict[str, float]] = {}
    for prefix, answer in (("", "tpot_ms"), ("ttft_", "ttft_ms")):
        physics = {k: float(base.terms[prefix + _PHYSICS.get(k, k)][0]) * 1e3 for k in TERMS[:-1]}
        terms[answer] = physics | {TERMS[-1]: numbers[answer] - numbers[f"baseline_{answer}"]}
    times = times_at(answers.requests, answers, percents) if feasible and len(percents) else {}
    percentiles = {p: {k: float(v[i, 0]) for k, v in times.items()} for i, p in enumerate(percents) if times}
    return Prediction(
        **{name: numbers[name] for name in (*BOUNDED, *_GOODPUT)},
        baseline={name: numbers[f"baseline_{name}"] for name in ANSWERS},
        floor={name: numbers[f"floor_{name}"] for name in ANSWERS},
        support=str(answers.support[0]), feasible=feasible, notes=notes,
        reason="; ".join(map(str, notes)), terms=terms["tpot_ms"],
        ttft_terms=terms["ttft_ms"], percentiles=percentiles, request=_understood(r, answers),
    )  # fmt: skip


def times_at(r: Requests, answers: Answers, percents: Sequence[float]) -> dict[str, FloatArray]:
    """Return the times [ms] that so many % of the requests do not exceed, by name, (percents, n) each.

    r: the requests that the answers' baseline answers. Between the answered percentiles what was learned of
    them goes with the normal quantile; beyond, it stays.
    """
    scores = [0.0, *(_NORMAL.inv_cdf(p / 100.0) for p in PERCENTS)]
    at = [_NORMAL.inv_cdf(p / 100.0) for p in percents]
    share = np.stack([np.interp(at, scores, known) for known in ([0.0, 1.0, 0.0], [0.0, 0.0, 1.0])], axis=1)
    order = np.argsort(percents)  # more of the requests never take less
    asked = list(dict.fromkeys((*percents, *PERCENTS)))
    every, times = np.array(asked, dtype=np.float64)[:, None], {}
    places = [asked.index(percent) for percent in percents]
    for name, of, ratio in _RATIOS:
        over, middle = ratio(r, answers.baseline, every), answers.values[of]
        learned = np.zeros((len(PERCENTS), len(middle)))
        with np.errstate(all="ignore"):
            for i, percent in enumerate(PERCENTS):
                tail = answers.values.get(f"{name.removesuffix('_ms')}_p{percent}_ms")
                if tail is not None:
                    learned[i] = np.log(tail / middle / over[asked.index(percent)])
            times[name] = middle * over[places] * np.exp(share @ np.nan_to_num(learned))
        times[name][order] = np.maximum.accumulate(times[name][order])
    return times


def numbers_of(answers: Answers) -> dict[str, FloatArray]:
    """Return the arrays of NUMBERS by name, shape (n,) each, in ms and tok/s."""
    r = answers.requests
    numbers = {f"{name}{k}": answers.values[f"{name}{k}"] for name in LEARNED for k in BOUNDS}
    low, base = answers.floor, answers.baseline
    # What is learned as end-to-end time is that of the rate; one request's own may be less.
    levels = (
        ("baseline", base, {**answers.base_s, "e2e": base.e2e_s}),
        ("floor", low, {**floor_seconds(low), "e2e": low.e2e_s}),
    )
    for level, estimate, seconds in levels:
        for name in LEARNED:
            of = name.removesuffix("_ms")
            numbers[f"{level}_{name}"] = seconds[of] * 1e3 if of in seconds else getattr(estimate, name)
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
        limited = (("ttft_ms", part.ttft_limit_s), ("tpot_ms", token))
        scales = users_spreads(part, physics, _WIDE)
        for here, there in _TURNED:
            good = numbers[f"request_s{here}"][rows]
            for (name, limit), scale in zip(limited, scales, strict=True):
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
    request |= {name: value for name, (value, usual) in _settings(r).items() if value != usual}
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


def _settings(r: Requests) -> dict[str, tuple[Any, Any]]:
    """Return the first request's engine settings under their columns' names, each with what engines do."""
    s = r.settings
    speculates, accepted = bool(r.spec_decode[0]), float(s.accepted[0])
    return {
        "accept_length": (accepted if speculates and accepted == accepted else None, None),
        "draft_tokens": (float(s.drafted[0]) if speculates else None, None),
        "max_num_seqs": (float(s.max_sequences[0]), MAX_SEQUENCES),
        "max_num_batched_tokens": (float(s.pass_tokens[0]), PASS_TOKENS),
        "gpu_memory_utilization": (float(s.memory_share[0]), USABLE_SHARE),
        "enforce_eager": (bool(s.eager[0]), False),
        "cpu_offload_gb": (float(s.offloaded_bytes[0] / 2.0**30), 0.0),
    }
