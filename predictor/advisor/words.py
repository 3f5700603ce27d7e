"""The advisor's sentences: why one was chosen, what the others miss, what limits the closest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...features.memory import MemoryFit
from ...features.request import Requests
from .outcomes import LIMITED, TERMS, Outcomes
from .recommendation import Deployment
from .workload import Workload


def load_words(workload: Workload, load: float | None = None) -> str:
    """Return a load in words: "20 users", "3.5 requests/s"."""
    value = workload.load if load is None else load
    number = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return f"{number} {'user' if workload.unit == 'users' and value == 1 else workload.unit}"


def reason_words(d: Deployment, ranked: Sequence[Deployment], workload: Workload) -> str:
    """Return in one sentence why a deployment stands where it stands."""
    way = f"{d.what} at {d.weight_precision.upper()} ({d.layout}){_tier_words(d)}"
    fits = f"{way} holds the limits for {load_words(workload)}"
    if d.platform != ranked[0].platform:
        return f"{fits} with probability {d.probability:.2f}, at {d.cost_ratio:.2f} times the cost"
    if len(ranked) == 1:
        return f"{fits}, and no other platform does"
    after = ranked[1]
    return f"{fits}; {after.what}, the next, costs {after.cost_ratio:.2f} times as much"


def _tier_words(d: Deployment) -> str:
    if "experts_resident_frac" in d.tier:
        return f" with {1.0 - d.tier['experts_resident_frac']:.0%} of the experts in Grace"
    if "kv_hot_tokens" in d.tier:
        hot, every = d.tier["kv_hot_tokens"], d.tier["kv_reread_every"]
        return (
            f" with the KV beyond {hot:g} tokens in Grace, read every {every:g} tokens (may change quality),"
        )
    return ""


def fit_words(r: Requests, fit: MemoryFit) -> str:
    """Return why none of a platform's configurations fits: the numbers of the one that comes nearest."""
    if not r.valid.any():
        return f"cannot be started: {r.reason[0]}"
    over = np.where(r.valid, fit.needed_bytes / fit.available_bytes, np.inf)
    place = int(over.argmin())
    needed, available = fit.needed_bytes[place] / 1e9, fit.available_bytes[place] / 1e9
    return (
        f"does not fit: at best {needed:,.1f} GB per GPU of {available:,.1f} GB available (tp{r.tp[place]:g})"
    )


def miss_words(found: Outcomes, place: int, workload: Workload, confidence: float) -> str:
    """Return by how much the best of a platform misses the limits, or how unsure it is."""
    if not found.fits[place]:
        return "does not fit into memory"
    if not found.served[place]:
        return f"no room or speed for {load_words(workload)}, however many"
    missed = {name: -float(found.room[name][place]) for name in LIMITED if found.room[name][place] < 0}
    if missed:
        words = (f"{name.upper()} by {math.expm1(by):.0%}" for name, by in missed.items())
        return f"misses {' and '.join(words)} at its best"
    return (
        f"holds the limits with probability {found.probability[place]:.2f} only, {confidence:g} is asked for"
    )


def closest_words(found: Outcomes, place: int, workload: Workload) -> str:
    """Return what stands between the closest deployment and the limits."""
    name = min(LIMITED, key=lambda n: found.room[n][place])
    limit, floor = getattr(workload, f"{name}_ms"), float(found.floor_ms[name][place])
    got = float(getattr(found, f"{name}_ms")[""][place])
    most = TERMS[int(found.bottleneck[place])]
    words = f"{name.upper()} of {got:,.4g} ms against {limit:,.4g} ms, limited by {most}"
    if floor > limit:
        return f"{words}: its floor, which nothing beats, is {floor:,.3g} ms"
    return words


def budget_words(d: Deployment, workload: Workload) -> str:
    """Return by how much the cheapest of a platform that holds the limits passes the budget."""
    if workload.budget_usd is not None and not d.cost.purchase_usd <= workload.budget_usd:
        return f"{d.what} for ${d.cost.purchase_usd:,.0f} passes the budget of ${workload.budget_usd:,.0f}"
    budget = workload.budget_usd_per_hour or math.nan
    return f"{d.what} at ${d.cost.usd_per_hour:,.2f} per hour passes the budget of ${budget:,.2f}"
