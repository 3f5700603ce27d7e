"""Percentiles over requests, and the probability that a limit holds.

Two spreads are kept apart. Requests differ among themselves: their percentiles come from the queues
(features/percentiles.py), and to join several kinds of requests each kind's times are taken as log-logistic
through its median and percentile. And the prediction itself may be off: the log error is taken as logistic on
either side, through the bounds of the conformal interval, which miss alpha / 2 each:

    P(error > x) = 1 / (1 + exp(k x / hi)),  P(error < -x) = 1 / (1 + exp(k x / lo)),  k = log(2 / alpha - 1)

Held-out errors over their interval follow that law more closely than the normal or the Laplace one; what was
promised stands beside what was kept in docs/accuracy.md, under "As advice". Errors of TTFT and TPOT are
nearly independent there (rank correlation 0.13 to 0.18), so the probability that both limits hold is the
product.
"""

from __future__ import annotations

import numpy as np

from ...features.facts import FloatArray

_STEPS = 40


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


def probability(room: FloatArray, lower: FloatArray, upper: FloatArray, alpha: float) -> FloatArray:
    """Return the probability that the log error stays under `room`, shape (n,).

    lower < 0 < upper: log bounds of the interval around the prediction that misses alpha / 2 on each side.

    >>> probability(np.array([-0.5, 0.0, 0.5]), np.full(3, -0.5), np.full(3, 0.5), 0.1).round(2).tolist()
    [0.05, 0.5, 0.95]
    """
    width = np.maximum(np.where(room < 0, -lower, upper), 1e-9)
    steps = np.log(2.0 / alpha - 1.0) * np.abs(room) / width
    tail = np.exp(-np.logaddexp(0.0, steps))
    return np.asarray(np.where(room < 0, tail, 1.0 - tail))
