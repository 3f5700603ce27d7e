"""What a workload meets on many deployments: each kind of request predicted, joined, held to the limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data.columns import BOUNDS
from ...features.baseline import Estimate, baseline
from ...features.facts import FloatArray, IntArray
from ...features.percentiles import tpot_ratio, ttft_ratio
from ...features.request import Requests, normalise
from ...features.serving import sent_at_a_rate
from ...training.model.model import Answers, Model, answer
from ..predictor import CHUNK_ROWS, in_chunks
from .mixing import at_equal_load, in_one_queue
from .odds import log_percentile, probability, spread
from .workload import Workload

if TYPE_CHECKING:
    import pandas as pd

TERMS = ("weights", "kv", "compute", "communication", "launch", "queue")
LIMITED = ("ttft", "tpot")
_FIRST = tuple(f"ttft_ms{bound}" for bound in BOUNDS)
_MIDDLE, _WIDE = 60.0, 90.0  # per cent
_DOUBT = 2.0
_FULL = 1.001  # in flight over the batch: above, somebody waits for a slot


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """n deployments under one workload, shape (n,) each.

    output_tok_s and total_tok_s [tok/s], `ttft_ms` and `tpot_ms` [ms] at the workload's percentile, each by
    "", "_lo", "_hi"; room: log factor left to the limit, by ttft and tpot; held: probability of each limit;
    fits: into memory; served: everybody has a slot, or the rate can be kept up.
    """

    output_tok_s: Mapping[str, FloatArray]
    total_tok_s: Mapping[str, FloatArray]
    ttft_ms: Mapping[str, FloatArray]
    tpot_ms: Mapping[str, FloatArray]
    room: Mapping[str, FloatArray]
    held: Mapping[str, FloatArray]
    floor_ms: Mapping[str, FloatArray]
    batch: FloatArray
    bottleneck: IntArray
    fits: NDArray[np.bool_]
    served: NDArray[np.bool_]
    support: NDArray[np.object_]

    @property
    def probability(self) -> FloatArray:
        """Probability that all limits hold; 0 where the model does not fit or somebody is left waiting."""
        both = self.held["ttft"] * self.held["tpot"]
        return np.where(self.fits & self.served, both, 0.0)

    def row(self, place: int) -> dict[str, Any]:
        """Return one deployment's values by name."""
        return {
            name: {k: float(array[place]) for k, array in value.items()}
            if isinstance(value, Mapping)
            else np.asarray(value[place]).item()
            for name, value in vars(self).items()
        }


def outcomes(
    model: Model, frame: pd.DataFrame, workload: Workload, load: FloatArray, physics: bool = False
) -> Outcomes:
    """Return what the workload meets on every deployment of a frame at these loads, shape (n,) each.

    physics: take the baseline's answers, thirty times as fast, within a factor of `_DOUBT`.
    """
    shape = (len(frame), len(workload.kinds))
    values: dict[str, NDArray[Any]] = {}

    def work(rows: IntArray) -> None:
        found = _values(model, frame.iloc[rows], workload, load[rows], physics)
        for name, value in found.items():
            # Kind by kind, (m, n), turned to (n, m).
            turned = value.reshape(shape[1], -1).T
            values.setdefault(name, np.empty(shape, dtype=value.dtype))[rows] = turned

    in_chunks(frame, work, max(CHUNK_ROWS // shape[1], 1))
    return _joined(values, model, workload)


def _requests(frame: pd.DataFrame, workload: Workload, load: FloatArray) -> Requests:
    """Return every kind of request on all deployments at the whole load, kind by kind."""
    import pandas as pd

    mode, column = ("closed-loop", "concurrency") if workload.closed else ("open-loop", "request_rate")
    parts = [
        frame.assign(isl=kind.isl, osl=kind.osl, prefix_cached_frac=kind.cached, mode=mode, **{column: load})
        for kind in workload.kinds
    ]
    return normalise(pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0])


def _values(
    model: Model, frame: pd.DataFrame, workload: Workload, load: FloatArray, physics: bool
) -> dict[str, NDArray[Any]]:
    """Return what the kinds of requests meet on n deployments, kind by kind, shape (m x n,) each."""
    r = _requests(frame, workload, load)
    shares = np.array([kind.share for kind in workload.kinds])
    mixed = len(shares) > 1 and not workload.closed
    if mixed:
        r = at_equal_load(r, model.coefficients, shares)
    if physics:
        base = baseline(r, model.coefficients)
        found = _physics(base)
    else:
        answers = answer(model, r)
        found, base = _learned(answers), answers.baseline
    queued = in_one_queue(r, base, load, shares) if mixed else base
    if mixed:
        found |= {name: found[name] * queued.ttft_s / base.ttft_s for name in _FIRST}
    return found | _common(base, queued, r, workload.percentile)


def _learned(answers: Answers) -> dict[str, NDArray[Any]]:
    """Return answers with their bounds, floors and support."""
    names = [f"{name}{bound}" for name in ("output_tok_s", "ttft_ms", "tpot_ms") for bound in BOUNDS]
    out: dict[str, NDArray[Any]] = {name: answers.values[name] for name in names}
    floors = {f"floor_{name}": getattr(answers.floor, f"{name}_s") * 1e3 for name in LIMITED}
    return out | floors | {"support": answers.support.astype(object)}


def _physics(base: Estimate) -> dict[str, NDArray[Any]]:
    """Return the baseline's answers in place of the learned ones."""
    middle = {"output_tok_s": base.output_tok_s, "ttft_ms": base.ttft_s * 1e3, "tpot_ms": base.tpot_s * 1e3}
    factors = dict(zip(BOUNDS, (1.0, 1.0 / _DOUBT, _DOUBT), strict=True))
    out = {f"{name}{bound}": values * factors[bound] for name, values in middle.items() for bound in BOUNDS}
    nothing = {f"floor_{name}": np.zeros(len(base.batch)) for name in LIMITED}
    return {**out, **nothing, "support": np.full(len(base.batch), "far", dtype=object)}


def _common(base: Estimate, queued: Estimate, r: Requests, percentile: float) -> dict[str, NDArray[Any]]:
    """Return what the physics says in both cases: widths over requests, slots, bytes, the bottleneck.

    queued: the same with the wait for the first token behind prompts of all kinds.
    """
    # A median has no width: the 90th percentile gives it. Beyond that the first wave of a benchmark, whose
    # clients all arrive at once, would set the tail of a closed loop: users do not come like that.
    at = percentile if percentile > _MIDDLE else _WIDE
    first = min(at, _WIDE) if r.is_mode("closed-loop").all() else at
    terms = np.stack([base.terms[name] for name in TERMS])
    return {
        "scale_ttft": spread(ttft_ratio(r, queued, first), first),
        "scale_tpot": spread(tpot_ratio(r, base, at), at),
        "batch": base.batch,
        "bottleneck": np.nan_to_num(terms).argmax(axis=0),
        "fits": base.feasible,
        # At a rate the batch is what the rate makes it: prompts in prefill or in its queue are beside it.
        "served": base.stable & (sent_at_a_rate(r) | (base.concurrency <= base.batch * r.replicas * _FULL)),
    }


def _joined(v: Mapping[str, NDArray[Any]], model: Model, workload: Workload) -> Outcomes:
    kinds = workload.kinds
    shares = np.array([kind.share for kind in kinds])
    osl, tokens = np.array([k.osl for k in kinds]), np.array([k.isl + k.osl for k in kinds])
    with np.errstate(all="ignore"):
        rate = {b: 1.0 / (shares / (v[f"output_tok_s{b}"] / osl)).sum(axis=1) for b in BOUNDS}
        times: dict[str, dict[str, FloatArray]] = {}
        room, held = {}, {}
        for name in LIMITED:
            middle = v[f"{name}_ms"]
            log = log_percentile(middle, v[f"scale_{name}"], shares, workload.percentile)
            lower, upper = ((np.log(v[f"{name}_ms{b}"] / middle) * shares).sum(axis=1) for b in BOUNDS[1:])
            times[name] = {"": np.exp(log), "_lo": np.exp(log + lower), "_hi": np.exp(log + upper)}
            room[name] = np.log(getattr(workload, f"{name}_ms")) - log
            held[name] = np.nan_to_num(probability(room[name], lower, upper, model.intervals[name].alpha))
            held[name] = np.where(np.isinf(room[name]), 1.0, held[name])
    return Outcomes(
        output_tok_s={b: x * (shares @ osl) for b, x in rate.items()},
        total_tok_s={b: x * (shares @ tokens) for b, x in rate.items()},
        ttft_ms=times["ttft"], tpot_ms=times["tpot"], room=room, held=held,
        floor_ms={name: v[f"floor_{name}"].max(axis=1) for name in LIMITED},
        batch=v["batch"].min(axis=1), bottleneck=v["bottleneck"][:, int(shares.argmax())],
        fits=np.asarray(v["fits"].all(axis=1)), served=np.asarray(v["served"].all(axis=1)),
        support=v["support"][:, int(shares.argmax())],
    )  # fmt: skip
