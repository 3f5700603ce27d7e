"""What a workload meets on many deployments: each kind of request predicted, joined, held to the limits.

Each kind comes at its share of the rate. What a deployment sustains of one kind alone, limit_k [1/s], is what
a request takes of it: 1 / limit_k of its time. The times add up, so the mix loads it to

    load = sum over k of rate x share_k / limit_k        (below 1: the rate can be kept up)

and kind k is answered as if alone at load x limit_k, where batch and prefill are about as full. Prompts wait
behind those of all kinds alike: the M/G/1 queue, sum of rate_k d_k^2 / (2 (1 - sum of rate_k d_k)) (Pollaczek
1930; Khinchine 1932), d_k the time that a prompt takes. Each kind's times are log-logistic through its median
and the percentile of its queues (features/percentiles.py); that the prediction itself may be off is another
spread: the probability that a limit holds (training/model/intervals.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data.columns import BOUNDS
from ...features.baseline import Estimate, baseline
from ...features.coefficients import Coefficients
from ...features.facts import FloatArray, IntArray
from ...features.percentiles import spread, tpot_ratio, ttft_ratio
from ...features.request import Requests, normalise
from ...features.serving import sent_at_a_rate
from ...training.model.intervals import probability
from ...training.model.model import Answers, Model, answer
from ..predictor import CHUNK_ROWS, in_chunks
from .recommendation import Reason
from .workload import Workload

if TYPE_CHECKING:
    import pandas as pd

TERMS = ("weights", "kv", "compute", "communication", "launch", "queue")
LIMITED = ("ttft", "tpot")
FIGURES = ("output_tok_s", "ttft_ms", "tpot_ms")
_MIDDLE, _WIDE = 60.0, 90.0  # per cent
_DOUBT = np.array([[1.0], [0.5], [2.0]])  # of the physics' answers, by BOUNDS
_FULL = 1.001  # in flight over the batch: above, somebody waits for a slot
_OVERLOAD = 1e12  # requests/s, more than anything sustains: the baseline answers with what it does
_MOST_BUSY = 0.98  # as features/serving.py caps one kind's
_STEPS = 40  # of bisection


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


def of_physics(base: Estimate) -> FloatArray:
    """Return the baseline's FIGURES, shape (3, n)."""
    return np.stack([base.output_tok_s, base.ttft_s * 1e3, base.tpot_s * 1e3])


def of_answers(answers: Answers) -> FloatArray:
    """Return answered FIGURES by BOUNDS, shape (3, 3, n)."""
    return np.stack([[answers.values[f"{name}{bound}"] for bound in BOUNDS] for name in FIGURES])


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
        figures = of_physics(base)[:, None] * _DOUBT
        floor, support = np.zeros((2, len(r))), np.full(len(r), "far", dtype=object)
    else:
        found = answer(model, r)
        base, support = found.baseline, found.support.astype(object)
        figures = of_answers(found)
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
    limits = []
    with np.errstate(all="ignore"):
        request_s = 1.0 / (shares[:, None] / (rates / osl[:, None])).sum(axis=1)
        for name, time, width in zip(LIMITED, times, map(by_kind, widths), strict=True):
            log = log_percentile(time[0].T, width.T, shares, workload.percentile)
            lower, upper = (np.log(time[1:] / time[0]) * shares[:, None]).sum(axis=1)
            room = np.log(getattr(workload, f"{name}_ms")) - log
            held = np.nan_to_num(probability(room, lower, upper, model.intervals[name].alpha))
            held = np.where(np.isinf(room), 1.0, held)
            limits.append((np.exp(np.stack([log, log + lower, log + upper])), room, held))
    times_ms, rooms, helds = (np.stack(values) for values in zip(*limits, strict=True))
    terms = np.nan_to_num(np.stack([base.terms[name] for name in TERMS])).argmax(axis=0)
    # At a rate the batch is what the rate makes it: prompts in prefill or in its queue are beside it.
    slots = sent_at_a_rate(r) | (base.concurrency <= base.batch * r.replicas * _FULL)
    main = int(shares.argmax())
    return Outcomes(
        tok_s=np.stack([request_s * (shares @ osl), request_s * (shares @ (isl + osl))]),
        times_ms=times_ms, room=rooms, held=helds, floor_ms=by_kind(floor).max(axis=1),
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


def at_equal_load(r: Requests, coefficients: Coefficients, shares: FloatArray) -> Requests:
    """Return the requests, each at the rate at which it alone loads its deployment as the mix does.

    r: kind by kind, m x n rows at the rate of the whole mix; shares: (m,), together 1.
    """
    limit = baseline(replace(r, request_rate=np.full(len(r), _OVERLOAD)), coefficients).request_s
    each = limit.reshape(len(shares), -1)
    load = (r.request_rate.reshape(each.shape) * shares[:, None] / each).sum(axis=0)
    rate = (load * each).ravel()
    return replace(r, request_rate=np.where(np.isfinite(rate), rate, r.request_rate))


def in_one_queue(r: Requests, base: Estimate, rate: FloatArray, shares: FloatArray) -> Estimate:
    """Return the estimates with the wait for the first token behind prompts of all kinds.

    r, base: kind by kind, m x n rows at equal load; rate: of the whole mix [1/s], shape (n,). A prompt's time
    d is read off the wait of its kind alone, rate d^2 / (2 (1 - rate d)).
    """
    shape = (len(shares), -1)
    alone, wait = (r.request_rate / r.replicas).reshape(shape), base.terms["ttft_queue"].reshape(shape)
    with np.errstate(invalid="ignore"):
        each = np.sqrt(wait * wait + 2.0 * wait / alone) - wait
        own = rate * shares[:, None] / r.replicas.reshape(shape)
        busy = np.minimum((own * each).sum(axis=0), _MOST_BUSY)
        together = (own * each * each).sum(axis=0) / (2.0 * (1.0 - busy))
    whole = np.where(base.stable.reshape(shape), together, wait).ravel()
    # The tail of the wait is that of the busy share of the mix: so much would one prompt have to take.
    demand = (np.broadcast_to(busy, wait.shape) / alone).ravel()
    return replace(
        base, ttft_s=base.ttft_s - base.terms["ttft_queue"] + whole,
        burst_s=np.maximum(base.batch - 1.0, 0.0) * demand, terms={**base.terms, "ttft_queue": whole},
    )  # fmt: skip


def log_percentile(medians: FloatArray, scales: FloatArray, shares: FloatArray, percent: float) -> FloatArray:
    """Return the logarithm of the percentile over requests of m kinds, shape (n,).

    medians, scales: (n, m) by kind of request; shares: (m,), together 1. One kind: median x (q / (1 -
    q))^scale; more: the t with sum shares x F((t - log median) / scale) = q, by bisection.

    >>> kind = np.array([[100.0]]), spread(np.array([[1.85]]), 90.0)
    >>> np.exp(log_percentile(*kind, np.ones(1), 90.0)).round(0).tolist()
    [185.0]
    """
    logs, widths = np.log(medians), np.maximum(scales, 1e-6)
    ends = logs + scales * np.log(percent / (100.0 - percent))
    low, high = np.asarray(ends.min(axis=1)), np.asarray(ends.max(axis=1))
    if medians.shape[1] == 1:
        return low
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        below = (shares / (1.0 + np.exp(-(middle[:, None] - logs) / widths))).sum(axis=1) < percent / 100.0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high
