"""Why an answer is what it is: the correction in plain words, the nearest measured rows, what would move it,
and two configurations term by term.

    answer = baseline x exp(weight x correction)

The correction is a sum over features (TreeSHAP, LightGBM's own contributions), gathered here into a few
groups, and of what the trees left of the same set-up's measured rows. Elasticities are the baseline's:
d log(answer) / d log(fact), one fact scaled at a time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.columns import ANSWERS, FIGURES
from ..data.files import for_json
from ..data.hardware import resolve_hardware
from ..features.baseline import baseline, floor_and_baseline
from ..features.coefficients import Coefficients
from ..features.frame import feature_matrix
from ..features.measured import MeasuredFabric
from ..features.request import Requests
from ..training.model.model import Answers, Model, near_residuals
from ..training.model.times import LEARNED
from ..training.model.trees import Trees
from .neighbours import Neighbour, nearest
from .prediction import TERMS, Prediction, Shown

if TYPE_CHECKING:
    import pandas as pd

_STEP = 1.1  # each fact is scaled by this much, one at a time
# The features by what they speak of; the first pattern that matches names the group.
_GROUPS = (
    ("load and queueing", r"concurrency|batch|in_flight|queue|burst|stall|rate|^mode$"),
    ("layout on GPUs", r"^(log_)?(tp|pp|ep|dp|replicas|num_gpus|domain)$|per_gpu|disagg|prefill_[tws]"),
    ("engine and its age", r"^engine|months|launch|^statistic|^log_over_median"),
    ("precision and speculation", r"precision|spec_decode"),
    ("prompt and answer lengths", r"isl|osl|length_spread|context|prefix"),
    ("the model's shape", r"^model_|moe|expert|mla|linear|sliding|sparse|active_share|log_active"),
    ("the GPU", r"^gpu_|architecture"),
    ("the physics' own times", r"^log_(tpot|ttft|e2e|floor|prefill|weights|kv|compute|communication)|share_"),
)  # fmt: skip
_AVERAGE = "on average"
_SIBLINGS = "this set-up's measured rows"
_RATES: dict[str, tuple[str, ...]] = {
    "memory bandwidth": ("bandwidth",), "compute peak": ("peak_",),
    "link bandwidth": ("link_bandwidth", "pcie_bandwidth"),
}  # fmt: skip
_SECONDS = dict(
    zip(FIGURES, ("tpot_s", "ttft_s", "output_tok_s", "ttft_mean_s"), strict=True)
)  # as the baseline has them
_OVERHEAD = "launch and scheduler overhead"
_LOADS = (("concurrency",) * 2, ("request rate", "request_rate"), ("tokens in", "isl"), ("tokens out", "osl"))
# Terms that a chip with faster memory and processors leaves as they are.
_FIXED = ("communication", "launch_scheduler")


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What was learned of one time: factor = exp(weight x raw) on the baseline.

    `groups` holds the factor that each group of features, or the set-up's own rows, is worth (their product,
    with that of "on average", is `factor`), `features` the three that moved it most; both with the weight.
    """

    raw: float
    weight: float
    factor: float
    groups: Mapping[str, float]
    features: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Explanation(Shown):
    """One prediction explained; see the fields' own classes.

    `corrections` by name in tpot, ttft, e2e; `sensitivity[fact][answer]` the elasticity of the baseline: what
    1 % more of the fact changes [%]; `sentences` the whole in words, the most telling first.
    """

    prediction: Prediction
    corrections: Mapping[str, Correction]
    sensitivity: Mapping[str, Mapping[str, float]]
    neighbours: tuple[Neighbour, ...]
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        plain: dict[str, Any] = for_json(asdict(self))
        return plain | {"prediction": self.prediction.to_dict()}

    def to_frame(self) -> pd.DataFrame:
        """Return where the time goes: a row per term, columns `tpot_ms` and `ttft_ms` [ms]."""
        import pandas as pd

        terms = {"tpot_ms": self.prediction.terms, "ttft_ms": self.prediction.ttft_terms}
        return pd.DataFrame(terms, index=pd.Index(TERMS, name="term"))


@dataclass(frozen=True, kw_only=True)
class Comparison(Shown):
    """Two predictions: `differs` the values (first, second) that are not equal, `ratios` first over second of
    the answers, `terms` and `ttft_terms` first minus second [ms], `reason` the largest cause in words.
    """

    first: Prediction
    second: Prediction
    differs: Mapping[str, tuple[Any, Any]]
    ratios: Mapping[str, float]
    terms: Mapping[str, float]
    ttft_terms: Mapping[str, float]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        plain: dict[str, Any] = for_json(asdict(self))
        return plain | {"first": self.first.to_dict(), "second": self.second.to_dict()}


def explain(
    prediction: Prediction, model: Model, r: Requests, answers: Answers, fabric: MeasuredFabric | None
) -> Explanation:
    """Explain a feasible prediction by what it was made of; `Predictor.explain` is the door.

    Raises BadStore where the benchmark table cannot be read.
    """
    corrections, sensitivity = _corrections(model, answers), sensitivities(r, model.coefficients, fabric)
    return Explanation(
        prediction=prediction, corrections=corrections, sensitivity=sensitivity, neighbours=nearest(r),
        sentences=tuple(_sentences(prediction, corrections["tpot"], sensitivity)),
    )  # fmt: skip


def _corrections(model: Model, answers: Answers) -> dict[str, Correction]:
    r = answers.requests
    # The trees were asked about a healthy fabric, whatever was measured on this machine.
    low, base = floor_and_baseline(r, model.coefficients)
    matrix, features = feature_matrix(r, low, base)
    added, near = near_residuals(model.residuals, r, base)
    out = {}
    for name in LEARNED:
        booster: Any = model.boosters[name]
        trees = booster if isinstance(booster, Trees) else Trees(booster.model_to_string())
        parts = trees.contributions(matrix)[0]
        raw, applied = float(parts.sum() + added[name][0]), float(answers.correction[name][0])
        weight = applied / raw if raw else 0.0
        groups = {_AVERAGE: float(parts[-1])}
        for group, part in zip(map(group_of, features), map(float, parts), strict=False):
            groups[group] = groups.get(group, 0.0) + part
        if near[name][0] > 0.0:
            groups[_SIBLINGS] = float(added[name][0])
        groups = {k: math.exp(weight * v) for k, v in sorted(groups.items(), key=lambda g: -abs(g[1]))}
        most = {features[i]: math.exp(weight * parts[i]) for i in np.argsort(-np.abs(parts[:-1]))[:3]}
        out[name] = Correction(
            raw=raw, weight=weight, factor=math.exp(applied), groups=groups, features=most
        )  # fmt: skip
    return out


def group_of(feature: str) -> str:
    """Return the group of a feature of the frame, in plain words."""
    return next((group for group, pattern in _GROUPS if re.search(pattern, feature)), "other")


def sensitivities(
    r: Requests, coefficients: Coefficients, fabric: MeasuredFabric | None = None
) -> dict[str, dict[str, float]]:
    """Return d log(answer) / d log(fact) of the first request's baseline, by fact and by name in FIGURES.

    Facts: memory bandwidth, compute peak, link bandwidth, launch and scheduler overhead, load and lengths.
    """
    changed = {}
    for fact, prefixes in _RATES.items():
        columns = {k: v * (_STEP if k.startswith(prefixes) else 1.0) for k, v in r.gpu.columns.items()}
        nic = r.nic_bandwidth * (_STEP if "link_bandwidth" in prefixes else 1.0)
        changed[fact] = replace(r, gpu=replace(r.gpu, columns=columns), nic_bandwidth=nic), coefficients
    slower = {
        name: replace(entry, value=entry.value * (_STEP if entry.unit[:2] in ("us", "ms") else 1.0))
        for name, entry in coefficients.entries.items()
    }
    changed[_OVERHEAD] = r, Coefficients(entries=slower)
    for fact, column in _LOADS:
        more: dict[str, Any] = {column: getattr(r, column) * _STEP}
        if np.isfinite(more[column][0]):
            changed[fact] = replace(r, **more), coefficients
    before, out = baseline(r, coefficients, fabric), {}
    for fact, (requests, entries) in changed.items():
        after = baseline(requests, entries, fabric)
        with np.errstate(all="ignore"):
            ratios = {k: getattr(after, of)[0] / getattr(before, of)[0] for k, of in _SECONDS.items()}
            out[fact] = {name: float(np.log(ratio) / math.log(_STEP)) for name, ratio in ratios.items()}
    return out


def _sentences(
    p: Prediction, correction: Correction, sensitivity: Mapping[str, Mapping[str, float]]
) -> list[str]:
    group = next((k for k in correction.groups if k != _AVERAGE), _AVERAGE)
    sentences = [
        f"{p.bottleneck.replace('_', ' ')} is the largest term of a token: {p.terms[p.bottleneck]:.3g} ms, "
        f"{p.bottleneck_share:.0%} of the baseline's time.",
        f"TPOT: the floor is {p.floor['tpot_ms']:.3g} ms, the baseline {p.baseline['tpot_ms']:.3g} ms, "
        f"the answer {p.tpot_ms:.3g} ms: what was learned multiplies by {correction.factor:.2f}, at a weight "
        f"of {correction.weight:.2f}; most of it by {group} (x {correction.groups[group]:.2f}); agreement "
        f"with TTFT and throughput by {p.tpot_ms / p.baseline['tpot_ms'] / correction.factor:.2f}.",
    ]
    for name, answer in (("tpot_ms", "time per token"), ("output_tok_s", "throughput")):
        fact = max((*_RATES, _OVERHEAD), key=lambda fact: abs(sensitivity[fact][name]))
        change = _percent(_STEP ** sensitivity[fact][name])
        sentences.append(f"What moves {answer} most: 10 % more {fact} changes it by {change}.")
    return sentences + ([f"Note: {p.reason}."] if p.reason else [])


def with_changes(request: Mapping[str, Any], changes: Mapping[str, Any], first: Prediction) -> dict[str, Any]:
    """Return a request with changes, for `compare`: another GPU replaces the platform, keeping its number of
    GPUs; another platform replaces the GPU and the number that was given.
    """
    replaced = {"gpu", "num_gpus"} if "platform" in changes else set()
    given = resolve_hardware(str(request["gpu"])) if request.get("gpu") else None
    if "gpu" in changes and (given is None or given.platform or given.num_gpus):
        replaced, request = {"platform"}, {"num_gpus": first.request["num_gpus"], **request}
    return {name: value for name, value in request.items() if name not in replaced} | dict(changes)


def compare(first: Prediction, second: Prediction) -> Comparison:
    """Return two predictions term by term, and the largest reason for their difference in words."""
    pairs = {k: (value, second.request.get(k)) for k, value in first.request.items()}
    # Two absent request rates are NaN each: no difference.
    differs = {k: (a, b) for k, (a, b) in pairs.items() if a != b and not (a != a and b != b)}
    names = [
        " ".join(str(pair[i]) if k == "gpu" else f"{k}={pair[i]}" for k, pair in differs.items()) or "this"
        for i in (0, 1)
    ]
    unfit = [f"{name} {p.reason}" for name, p in zip(names, (first, second), strict=True) if not p.feasible]
    return Comparison(
        first=first, second=second, differs=differs,
        ratios={name: getattr(first, name) / getattr(second, name) for name in ANSWERS},
        terms={name: first.terms[name] - second.terms[name] for name in TERMS},
        ttft_terms={name: first.ttft_terms[name] - second.ttft_terms[name] for name in TERMS},
        reason="; ".join(unfit) or _largest_reason(first, second, *names),
    )  # fmt: skip


def _largest_reason(a: Prediction, b: Prediction, here: str, there: str) -> str:
    """Return how the times compare, which term makes the difference and which works against it.

    Of the time per token where that fills the first request, else of the time to the first token.
    """
    decodes = a.tpot_ms * (a.request["osl"] - 1) >= a.ttft_ms
    answer, label = ("tpot_ms", "a token after the first") if decodes else ("ttft_ms", "the first token")
    mine, theirs = (p.terms if decodes else p.ttft_terms for p in (a, b))
    total, other = getattr(a, answer), getattr(b, answer)
    sign, gaps = 1.0 if total >= other else -1.0, {name: mine[name] - theirs[name] for name in TERMS}
    order = sorted(gaps, key=lambda name: sign * gaps[name])
    most, least = (f"{k.replace('_', ' ')} ({gaps[k]:+.3g} ms)" for k in (order[-1], order[0]))
    against = f", against {least}" if sign * gaps[order[0]] < 0 else ""
    fixed = sum(mine[name] for name in _FIXED) / a.baseline[answer]
    return (
        f"{label} takes {total:.3g} ms on {here} and {other:.3g} ms on {there} ({_percent(total / other)}): "
        f"most of it {most}{against}; {fixed:.0%} of the baseline's time on {here} is communication, launch "
        "and scheduler, which no faster chip shortens"
    )


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.2g} %"
