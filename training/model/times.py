"""The times that are learned and answered: TPOT, TTFT and end to end, and other statistics of the first two.

TTFT and TPOT are medians over a run's requests. A mean TTFT and the 90th and 99th percentiles start from the
baseline's own (opening burst, queues' tails): the mean is learned by the trees of the median, which are told
what is asked, the percentiles by trees of what they lie over the median.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...features.baseline import Estimate
from ...features.facts import FloatArray
from ...features.percentiles import tpot_ratio, ttft_ratio
from ...features.request import Requests

ByName = Mapping[str, FloatArray]  # arrays (n,) by name in CORRECTED
LEARNED = ("tpot", "ttft", "e2e")  # with trees and an expected size of their errors
PERCENTS = (90, 99)
_RATIOS = {"ttft": ttft_ratio, "tpot": tpot_ratio}
TAILED = tuple(_RATIOS)
# Name of each percentile: of which time it is, and how statistics are called.
TAILS = {f"{name}_p{percent}": (name, f"p{percent}") for name in TAILED for percent in PERCENTS}
MEAN = "ttft_mean"
CORRECTED = (*LEARNED, MEAN, *TAILS)
# The learned time that each time is a statistic of: they share floors and the expected size of errors.
OF = {name: name for name in LEARNED} | {MEAN: "ttft"} | {name: of for name, (of, _) in TAILS.items()}
TAIL = "-tail"
TREES = (*LEARNED, *(name + TAIL for name in TAILED))  # all that trees are grown for


def base_seconds(r: Requests, base: Estimate) -> dict[str, FloatArray]:
    """Return the baseline's seconds by name in CORRECTED, shape (n,), and its `last_s` under "last".

    e2e is requests in flight over requests per second, as a measured throughput gives it.
    """
    out = {name: getattr(base, f"{name}_s") for name in ("tpot", "ttft", MEAN)} | {"e2e": base.cycle_s}
    out["last"] = base.last_s
    asked = np.array(PERCENTS, dtype=np.float64)[:, None]
    for name, ratio in _RATIOS.items():
        over = np.maximum(ratio(r, base, asked), 1.0)
        out |= {f"{name}_p{percent}": out[name] * over[i] for i, percent in enumerate(PERCENTS)}
    return out


def floor_seconds(low: Estimate) -> dict[str, FloatArray]:
    """Return the floor's seconds by name in CORRECTED, shape (n,)."""
    least = {"tpot": low.tpot_s, "ttft": low.ttft_s, "e2e": low.cycle_s}
    return {name: least[OF[name]] for name in CORRECTED}


def log_over(seconds: ByName, name: str) -> FloatArray:
    """Return the logarithm of a statistic over the time that it is one of, shape (n,)."""
    with np.errstate(all="ignore"):
        return np.asarray(np.log(seconds[name] / seconds[OF[name]]))
