"""What a workload meets on many deployments: each kind of request predicted, joined, held to the limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data.columns import BOUNDS
from ...features.baseline import baseline
from ...features.facts import FloatArray, IntArray
from ...features.percentiles import tpot_ratio, ttft_ratio
from ...features.request import Requests, normalise
from ...features.serving import sent_at_a_rate
from ...training.model.intervals import probability
from ...training.model.model import Model, answer
from ..predictor import CHUNK_ROWS, in_chunks
from .mixing import at_equal_load, in_one_queue, log_percentile, spread
from .recommendation import Reason
from .workload import Workload

if TYPE_CHECKING:
    import pandas as pd

TERMS = ("weights", "kv", "compute", "communication", "launch", "queue")
LIMITED = ("ttft", "tpot")
_FIGURES = ("output_tok_s", "ttft_ms", "tpot_ms")
_MIDDLE, _WIDE = 60.0, 90.0  # per cent
_DOUBT = np.array([[1.0], [0.5], [2.0]])  # of the physics' answers, by BOUNDS
_FULL = 1.001  # in flight over the batch: above, somebody waits for a slot


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """n deployments under one workload, by the last axis.

    tok_s: output and total rates, shape (2, 3, n) by BOUNDS; times_ms: by LIMITED at the workload's
    percentile, (2, 3, n). Shape (2, n) by LIMITED: room, the log factor left to the limit; held, its
    probability; floor_ms. Shape (n,): batch, the largest of TERMS, `fits` into memory, `served` (everybody
    has a slot, or the rate can be kept up), support.
    """

    tok_s: FloatArray
    times_ms: FloatArray
    room: FloatArray
    held: FloatArray
    floor_ms: FloatArray
    batch: FloatArray
    bottleneck: IntArray
    fits: NDArray[np.bool_]
    served: NDArray[np.bool_]
    support: NDArray[np.object_]

    @property
    def probability(self) -> FloatArray:
        """Probability that all limits hold; 0 where the model does not fit or somebody is left waiting."""
        return np.where(self.fits & self.served, self.held[0] * self.held[1], 0.0)

    def values(self, at: int) -> dict[str, Any]:
        """Return what a `Deployment` says of one of them."""
        values = np.concatenate([self.tok_s, self.times_ms])[..., at].tolist()
        figures = zip(("output_tok_s", "total_tok_s", "ttft_ms", "tpot_ms"), values, strict=True)
        return {
            **{name: dict(zip(BOUNDS, by_bound, strict=True)) for name, by_bound in figures},
            "probability": float(self.probability[at]), "batch": float(self.batch[at]),
            "held": dict(zip(LIMITED, self.held[:, at].tolist(), strict=True)),
            "bottleneck": TERMS[self.bottleneck[at]], "support": str(self.support[at]),
        }  # fmt: skip

    def missed(self, at: int, workload: Workload, confidence: float) -> Reason:
        """Return by how much one of them misses the limits, or how unsure it is."""
        if not self.fits[at]:
            return Reason("memory")
        if not self.served[at]:
            return Reason("no-slots", workload.load_text())
        room = zip(LIMITED, self.room[:, at].tolist(), strict=True)
        beyond = {name: math.expm1(-left) for name, left in room if left < 0}
        return Reason("misses", beyond) if beyond else Reason("unsure", self.probability[at], confidence)

    def nearest_limit(self, at: int, workload: Workload) -> Reason:
        """Return how one of them stands to the limit that it misses most, or keeps with the least room."""
        which = int(self.room[:, at].argmin())
        name, floor_ms = LIMITED[which], float(self.floor_ms[which, at])
        limit, value = getattr(workload, f"{name}_ms"), float(self.times_ms[which, 0, at])
        facts = {"limit": name.upper(), "term": TERMS[self.bottleneck[at]], "floor_ms": floor_ms}
        return Reason("floor" if floor_ms > limit else "slow", value, limit, facts)


def outcomes(
    model: Model, frame: pd.DataFrame, workload: Workload, load: FloatArray, physics: bool = False
) -> Outcomes:
    """Return what the workload meets on every deployment of a frame at these loads, shape (n,) each.

    physics: take the baseline's answers, thirty times as fast, within a factor of two.
    """
    parts: list[tuple[IntArray, Outcomes]] = []

    def work(rows: IntArray) -> None:
        parts.append((rows, _outcomes(model, frame.iloc[rows], workload, load[rows], physics)))

    in_chunks(frame, work, max(CHUNK_ROWS // len(workload.kinds), 1))
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    names = [f.name for f in fields(Outcomes)]
    joined = {n: np.concatenate([getattr(part, n) for _, part in parts], axis=-1) for n in names}
    return Outcomes(**{name: values[..., order] for name, values in joined.items()})


def _outcomes(
    model: Model, frame: pd.DataFrame, workload: Workload, load: FloatArray, physics: bool
) -> Outcomes:
    """Return the outcomes of one chunk: m kinds of requests one after the other, then joined."""
    kinds = workload.kinds
    shares, isl, osl = (np.array([getattr(k, name) for k in kinds]) for name in ("share", "isl", "osl"))
    r = _requests(frame, workload, load)
    mixed = len(kinds) > 1 and not workload.closed
    if mixed:
        r = at_equal_load(r, model.coefficients, shares)
    if physics:
        base = baseline(r, model.coefficients)
        middle = (base.output_tok_s, base.ttft_s * 1e3, base.tpot_s * 1e3)
        figures = np.stack([values * _DOUBT for values in middle])
        floor, support = np.zeros((2, len(r))), np.full(len(r), "far", dtype=object)
    else:
        found = answer(model, r)
        base, support = found.baseline, found.support.astype(object)
        figures = np.stack([[found.values[f"{name}{bound}"] for bound in BOUNDS] for name in _FIGURES])
        floor = np.stack([found.floor.ttft_s, found.floor.tpot_s]) * 1e3
    queued = in_one_queue(r, base, load, shares) if mixed else base
    if mixed:
        figures[1] *= queued.ttft_s / base.ttft_s

    def by_kind(values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(*values.shape[:-1], len(kinds), -1)

    # A median has no width: the 90th percentile gives it. Beyond that the first wave of a benchmark, whose
    # clients all arrive at once, would set the tail of a closed loop: users do not come like that.
    at = workload.percentile if workload.percentile > _MIDDLE else _WIDE
    first = min(at, _WIDE) if workload.closed else at
    widths = spread(ttft_ratio(r, queued, first), first), spread(tpot_ratio(r, base, at), at)
    rates, *times = by_kind(figures)
    with np.errstate(all="ignore"):
        request_s = 1.0 / (shares[:, None] / (rates / osl[:, None])).sum(axis=1)
        limits = [
            _limit(time, by_kind(width), workload, name, model.intervals[name].alpha)
            for name, time, width in zip(LIMITED, times, widths, strict=True)
        ]
    times_ms, room, held = (np.stack(values) for values in zip(*limits, strict=True))
    terms = np.nan_to_num(np.stack([base.terms[name] for name in TERMS])).argmax(axis=0)
    # At a rate the batch is what the rate makes it: prompts in prefill or in its queue are beside it.
    slots = sent_at_a_rate(r) | (base.concurrency <= base.batch * r.replicas * _FULL)
    main = int(shares.argmax())
    return Outcomes(
        tok_s=np.stack([request_s * (shares @ osl), request_s * (shares @ (isl + osl))]),
        times_ms=times_ms, room=room, held=held, floor_ms=by_kind(floor).max(axis=1),
        batch=by_kind(base.batch).min(axis=0), bottleneck=by_kind(terms)[main],
        fits=by_kind(base.feasible).min(axis=0), served=by_kind(base.stable & slots).min(axis=0),
        support=by_kind(support)[main],
    )  # fmt: skip


def _requests(frame: pd.DataFrame, workload: Workload, load: FloatArray) -> Requests:
    """Return every kind of request on all deployments at the whole load, kind by kind."""
    import pandas as pd

    mode, column = ("closed-loop", "concurrency") if workload.closed else ("open-loop", "request_rate")
    parts = [
        frame.assign(isl=kind.isl, osl=kind.osl, prefix_cached_frac=kind.cached, mode=mode, **{column: load})
        for kind in workload.kinds
    ]
    return normalise(pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0])


def _limit(
    time: FloatArray, width: FloatArray, workload: Workload, name: str, alpha: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return a time at the percentile by BOUNDS, its room to the limit and the probability that it holds.

    time: (3, m, n) medians by kind; width: (m, n) log-logistic scales over requests.
    """
    shares = np.array([kind.share for kind in workload.kinds])
    log = log_percentile(time[0].T, width.T, shares, workload.percentile)
    lower, upper = (np.log(time[1:] / time[0]) * shares[:, None]).sum(axis=1)
    room = np.log(getattr(workload, f"{name}_ms")) - log
    held = np.nan_to_num(probability(room, lower, upper, alpha))
    return np.exp(np.stack([log, log + lower, log + upper])), room, np.where(np.isinf(room), 1.0, held)
