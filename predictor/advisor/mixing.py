"""Several kinds of requests on one deployment: how much they load it together, and their percentiles.

Each kind comes at its share of the rate. What a deployment sustains of one kind alone, limit_k [1/s], is what
a request takes of it: 1 / limit_k of its time, for prefill and decode at the largest batch alike. The times
add up, so the mix loads it to

    load = sum over k of rate x share_k / limit_k        (below 1: the rate can be kept up)

and kind k is answered as if alone at load x limit_k, where batch and prefill are about as full. Prompts wait
behind those of all kinds alike: the M/G/1 queue, sum of rate_k d_k^2 / (2 (1 - sum of rate_k d_k)) (Pollaczek
1930; Khinchine 1932), d_k the time that a prompt takes.

Each kind's times are log-logistic through its median and percentile, which come from the queues
(features/percentiles.py). That the prediction itself may be off is another spread: the probability that a
limit holds is `probability` of training/model/intervals.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...features.baseline import Estimate, baseline
from ...features.coefficients import Coefficients
from ...features.facts import FloatArray
from ...features.request import Requests

_OVERLOAD = 1e12  # requests/s, more than anything sustains: the baseline answers with what it does
_MOST_BUSY = 0.98  # as features/serving.py caps one kind's
_STEPS = 40  # of bisection


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


def spread(ratio: FloatArray, percent: float) -> FloatArray:
    """Return the log-logistic scale [-] of times whose `percent` is `ratio` medians."""
    scale: FloatArray = np.log(np.maximum(ratio, 1.0)) / _logit(percent)
    return scale


def log_percentile(medians: FloatArray, scales: FloatArray, shares: FloatArray, percent: float) -> FloatArray:
    """Return the logarithm of the percentile over requests of m kinds, shape (n,).

    medians, scales: (n, m) by kind of request; shares: (m,), together 1. One kind: median x (q / (1 -
    q))^scale; more: the t with sum shares x F((t - log median) / scale) = q, by bisection.

    >>> kind = np.array([[100.0]]), spread(np.array([[1.85]]), 90.0)
    >>> np.exp(log_percentile(*kind, np.ones(1), 90.0)).round(0).tolist()
    [185.0]
    """
    ends = np.log(medians) + scales * _logit(percent)
    low: FloatArray = ends.min(axis=1)
    high: FloatArray = ends.max(axis=1)
    if medians.shape[1] == 1:
        return low
    logs, widths = np.log(medians), np.maximum(scales, 1e-6)
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        below = (shares / (1.0 + np.exp(-(middle[:, None] - logs) / widths))).sum(axis=1) < percent / 100.0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high


def _logit(percent: float) -> float:
    return float(np.log(percent / (100.0 - percent)))
