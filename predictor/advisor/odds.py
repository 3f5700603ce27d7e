"""Percentiles over requests: those of several kinds of requests together.

Each kind's times are taken as log-logistic through its median and percentile, which come from the queues
(features/percentiles.py). That the prediction itself may be off is another spread: the probability that a
limit holds is `probability` of training/model/intervals.py. Errors of TTFT and TPOT are nearly independent
there (rank correlation 0.13 to 0.18), so the probability that both limits hold is the product.
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
