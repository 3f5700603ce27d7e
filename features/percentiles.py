"""Percentiles of TTFT and TPOT over the requests of one run, from the queues behind their means.

First token, at a request rate: the M/D/1 wait has an exponential tail, P(wait > t) = busy x exp(-t x busy /
mean wait) (Kleinrock 1975, heavy traffic). It exists below the stability limit `busy < 1` alone. First token,
at a fixed number in flight: the wait behind other prompts is exponential, up to all of them in turn, and of
a run's requests, sent in about ten waves, the first wave arrives at once and waits evenly between nothing
and the whole burst. Who waits for a slot besides waits about as long as everyone: slots are given in turn.
Token: a request of osl tokens is stopped by a Poisson number of others' prefills, each of the same length, so
its mean time per token spreads by sqrt(stall x prefill / osl). A single gap between two tokens is a step, or
a step and one prefill where that step carries one.
What lengths and machines add is a log-normal factor (`SPREAD`), fitted to measured 90th and 99th percentiles.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from .baseline import Estimate
from .facts import FloatArray
from .request import Requests
from .serving import WAVES, asked_rate, sent_at_a_rate

# Standard deviation of the logarithm [-] of TTFT and TPOT beside the queues' own spread.
SPREAD = {"ttft": 0.10, "tpot": 0.03}
Share = float | FloatArray
_MIDDLE, _WIDE = 60.0, 90.0  # per cent
_STEPS = 40  # of bisection


def _normal(share: Share) -> Share:
    """Return the standard normal quantile of a share, or of each of an array."""
    shares, at = np.unique(share, return_inverse=True)
    return np.reshape(np.array([*map(NormalDist().inv_cdf, shares)])[at], np.shape(share))


def _demand(base: Estimate) -> FloatArray:
    """Return what one prompt costs the prefill stage [s]."""
    return np.where(base.batch > 1.0, base.burst_s / np.maximum(base.batch - 1.0, 1e-9), 0.0)


def _slot(r: Requests, base: Estimate) -> FloatArray:
    """Return the mean wait for a slot [s] where more are in flight than are held: by Little's law their share
    of a request's time."""
    held = np.minimum(base.batch * r.replicas / np.maximum(base.concurrency, 1e-12), 1.0)
    return np.clip((1.0 - held) * base.e2e_s, 0.0, base.terms["ttft_queue"])


def _wait(r: Requests, base: Estimate, share: Share) -> FloatArray:
    """Return the wait for the first token that `share` of the requests do not exceed [s]."""
    mean = base.terms["ttft_queue"]
    busy = np.clip(asked_rate(r) / r.replicas * _demand(base), 1e-6, 0.98)
    poisson = mean / busy * np.maximum(np.log(busy / (1.0 - share)), 0.0)
    late = np.maximum(1.0 - (1.0 - share) * WAVES, 0.0)
    slot = _slot(r, base)
    behind = mean - slot
    chance = np.minimum(-np.log(1.0 - share) * behind, np.maximum(base.burst_s, behind))
    closed = slot + np.maximum(chance, late * base.burst_s)
    # Above the stability limit the backlog grows evenly while requests are sent.
    swamped = np.where(base.stable, poisson, 2.0 * share * mean)
    # So does the wait of who comes together and is served in turn.
    return np.where(sent_at_a_rate(r), swamped, np.where(r.burst, 2.0 * share * mean, closed))


def ttft_ratio(r: Requests, base: Estimate, percentile: Share) -> FloatArray:
    """Return the `percentile` of TTFT over its median [-], shape (n,); 1 for a static batch.

    Percentiles of shape (k, 1) give (k, n), here and below.
    """
    share = percentile / 100.0
    own = np.maximum(base.ttft_s - base.terms["ttft_queue"], 1e-9)
    ratio = (own + _wait(r, base, share)) / (own + _wait(r, base, 0.5))
    spread = np.exp(SPREAD["ttft"] * _normal(share))
    return np.where(r.is_mode("static-batch"), 1.0, ratio * spread)


def tpot_ratio(r: Requests, base: Estimate, percentile: Share) -> FloatArray:
    """Return the `percentile` of requests' mean time per token over its median [-], shape (n,)."""
    stops = np.sqrt(base.terms["queue"] * _demand(base) / np.maximum(r.osl, 1.0))
    score = _normal(percentile / 100.0)
    ratio = (1.0 + score * stops / np.maximum(base.tpot_s, 1e-9)) * np.exp(SPREAD["tpot"] * score)
    return np.where(r.is_mode("static-batch"), 1.0, ratio)


def itl_ratio(r: Requests, base: Estimate, percentile: Share) -> FloatArray:
    """Return the `percentile` of single gaps between tokens over the mean time per token [-], shape (n,).

    A step carries a prefill, or a pass's worth of a long one, with probability 1 - exp(-passes per step).
    """
    demand = np.maximum(_demand(base) * np.minimum(1.0, r.settings.pass_tokens / r.isl), 1e-9)
    stall = base.terms["queue"]
    step = np.maximum(base.tpot_s - stall, 1e-9)
    stopped = -np.expm1(-stall / demand)
    gap = np.where(stopped > 1.0 - percentile / 100.0, step + demand, step)
    return np.asarray(gap / base.tpot_s * np.exp(SPREAD["tpot"] * _normal(percentile / 100.0)))


def users_spreads(
    r: Requests, base: Estimate, percent: float, queued: Estimate | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return the log-logistic scales of TTFT and TPOT over the requests of users, shape (n,) each.

    They run through the median and `percent`; a median has no width: there the 90th percentile gives it.
    Where a number is in flight, TTFT beyond the 90th is drawn from the 90th: further out the first wave of a
    benchmark, whose clients all arrive at once, sets the tail, and users do not come like that. queued: the
    estimates whose prompts wait behind those of other kinds too.
    """
    at = percent if percent > _MIDDLE else _WIDE
    first = np.where(sent_at_a_rate(r), at, min(at, _WIDE))
    return spread(ttft_ratio(r, queued or base, first), first), spread(tpot_ratio(r, base, at), at)


def spread(ratio: FloatArray, percent: Share) -> FloatArray:
    """Return the log-logistic scale [-] of times whose percentile is `ratio` medians."""
    return np.asarray(np.log(np.maximum(ratio, 1.0)) / np.log(percent / (100.0 - percent)))


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


def share_within(limit: FloatArray, median: FloatArray, scale: FloatArray) -> FloatArray:
    """Return the share of requests whose time is at most `limit`, of log-logistic times, shape (n,).

    >>> share_within(np.array([1.0, 2.0, np.inf]), np.ones(3), np.full(3, 0.5)).round(2).tolist()
    [0.5, 0.8, 1.0]
    """
    steps = (np.log(limit) - np.log(median)) / np.maximum(scale, 1e-6)
    return np.asarray(np.exp(-np.logaddexp(0.0, -steps)))
