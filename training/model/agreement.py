"""What makes the answers of one request, and of one deployment's requests, agree.

One request: in a closed loop the learned end-to-end time, which is throughput by Little's law, and ttft +
(osl - 1) x tpot are two answers to one question. Each is moved as far as its own error allows (reconciliation
by weighted least squares of the logarithms: Kuehn and Davidson 1961), until both are one.

One deployment: an endless offline run is the closed loop that serves most, and never serves less; what is
sent at a rate is served, up to the rate that the deployment sustains when more is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...data.columns import BOUNDS
from ...data.vocabulary import MODES
from ...features.baseline import Estimate
from ...features.facts import FloatArray, IntArray
from ...features.memory import memory_fit, most_at_once
from ...features.request import Requests
from ...features.serving import sent_at_a_rate
from .times import CORRECTED, MEAN, OF, PERCENTS, TAILED, TAILS, ByName, floor_seconds

# About how far each learned time is off, in log. A run's throughput is also that of its start and its end.
_OFF = {"tpot": 0.08, MEAN: 0.20, "e2e": 0.11}
# How far requests in flight over the rate may stay from the times, in log: a measured run starts and ends,
# which makes it longer by 2.6 % (median; 5 to 95 %: -1 to 12). Of what starts together hardly more than
# throughput was measured: it stays, and the times come within a third.
_RUN_APART, _ONCE_APART = (-0.02, 0.06), (-0.3, 0.3)
_ONCE_OFF = {"tpot": 0.10, MEAN: 0.08, "e2e": 0.02}
_ROUNDS = 2
_TAIL_BEYOND = 10.0  # of the mean end-to-end time: measured 99th percentiles of TTFT reach 6.4 of it
_FIRST = tuple(name for name in CORRECTED if OF[name] == "ttft")  # statistics of the first token
# What each percentile is never under, its bounds included: the one before it, the first the median.
_ABOVE = {
    f"{name}_p{percent}": f"{name}_p{before}" if before else name
    for name in TAILED
    for before, percent in zip((0, *PERCENTS), PERCENTS, strict=False)
}
# Numbers in flight tried for the closed loop that serves most, of what memory and the engine hold.
_FILLS = (1.0, 4.0, 64.0)
_NEAR = 0.3  # of the physics' limit: from here on a rate may be more than what was learned sustains
_OVERLOAD, _EDGE = 1e12, 0.99  # requests/s, more than anything sustains; of the limit, just stable


def log_times(r: Requests, low: Estimate, base_s: ByName, correction: ByName) -> dict[str, FloatArray]:
    """Return the log seconds of all times: corrected, in agreement, never under the floor.

    base_s: the baseline's `base_seconds`, shape (n,). e2e is requests in flight over requests per second:
    agreement keeps its ratio to mean ttft + (osl - 1) x tpot as the physics has it (`Estimate.last_s`), 1 in
    a closed loop, but for `_RUN_APART`. At a request rate, and in an endless run, it is learned for itself.
    Other statistics move with the one that is tied; a percentile is never under a lower one.
    """
    later = np.maximum(r.osl - 1.0, 0.0)
    once = r.is_mode("static-batch") | r.burst
    tied = (once | r.is_mode("closed-loop", "server")) & ~sent_at_a_rate(r)
    with np.errstate(all="ignore"):
        least = {name: np.log(time) for name, time in floor_seconds(low).items()}
        logs = {name: np.maximum(np.log(base_s[name]) + correction[name], least[name]) for name in CORRECTED}
        more = np.log(base_s["last"] / (base_s[MEAN] + later * base_s["tpot"]))
        least_apart, most_apart = (
            np.where(later > 0.0, np.where(once, of_once, of_run), 0.0)
            for of_once, of_run in zip(_ONCE_APART, _RUN_APART, strict=True)
        )
        more = more + np.clip(logs["e2e"] - more - _sum(logs, later), least_apart, most_apart)
        moved = _reconciled(
            logs, later, more, {k: np.where(once, _ONCE_OFF[k], off) for k, off in _OFF.items()}
        )
        moved = {name: np.maximum(moved[name], least[name]) for name in (MEAN, "tpot")}
        whole = _sum(moved, later) + more
        lift = np.maximum(least["e2e"] - whole, 0.0)
        by = {OF[name]: time + lift - logs[name] for name, time in moved.items()}
        by["e2e"] = whole + lift - logs["e2e"]
        logs = {name: logs[name] + np.where(tied, by[OF[name]], 0.0) for name in CORRECTED}
    for name in TAILED:
        logs[name] = np.maximum(logs[name], least[name])
    for name, lower in _ABOVE.items():
        logs[name] = np.maximum(logs[name], logs[lower])
    return logs


def _reconciled(
    logs: ByName, later: FloatArray, more: FloatArray, off: Mapping[str, FloatArray | float]
) -> dict[str, FloatArray]:
    """Return the tied times, each moved by its share, so that e2e is `more` over ttft + later x tpot."""
    moved = {name: logs[name] for name in off}
    for _ in range(_ROUNDS):
        share = np.exp(moved[MEAN] - _sum(moved, later))
        slope = {"tpot": share - 1.0, MEAN: -share, "e2e": np.ones(len(later))}
        gap = logs["e2e"] - more - _sum(moved, later)
        gap = gap + sum(slope[name] * (logs[name] - moved[name]) for name in (MEAN, "tpot"))
        pull = gap / sum((slope[name] * off[name]) ** 2 for name in off)
        moved = {name: logs[name] - pull * slope[name] * off[name] ** 2 for name in off}
    return moved


def _sum(logs: ByName, later: FloatArray) -> FloatArray:
    """Return the logarithm of mean ttft + later x tpot, shape (n,)."""
    return np.log(np.exp(logs[MEAN]) + later * np.exp(logs["tpot"]))


def with_rates(r: Requests, base: Estimate, low: Estimate, times: ByName) -> dict[str, FloatArray]:
    """Return the times with the throughput that they give by Little's law, and the bounds of each.

    times: by name in CORRECTED + "_ms" and BOUNDS, e2e as in `log_times`; what is returned under e2e is one
    request's mean time, mean ttft + (osl - 1) x tpot.
    """
    values = dict(times)
    rate = {k: base.concurrency * 1e3 / values[f"e2e_ms{k}"] for k in BOUNDS}
    apart = sent_at_a_rate(r) | r.is_mode("offline")
    # Of a static batch in turns the last request's time is known: the mean is less, by as much as in physics.
    last = np.where(r.is_mode("static-batch"), base.last_s / base.e2e_s, 1.0)
    for k in BOUNDS:
        alone = values[f"{MEAN}_ms{k}"] + values[f"tpot_ms{k}"] * (r.osl - 1.0)
        whole = np.where(apart, alone, values[f"e2e_ms{k}"] / last)
        values[f"e2e_ms{k}"] = np.maximum(whole, low.e2e_s * 1e3)
        # One token is all there is: the first is the last.
        for name in _FIRST:
            tail = values[f"{name}_ms{k}"] if name in TAILS else 0.0
            only = np.maximum(values[f"e2e_ms{k}"], tail)
            values[f"{name}_ms{k}"] = np.where(r.osl <= 1.0, only, values[f"{name}_ms{k}"])
        for name, lower in _ABOVE.items():
            values[f"{name}_ms{k}"] = np.maximum(values[f"{name}_ms{k}"], values[f"{lower}_ms{k}"])
    for name in _FIRST:
        # No median and no mean first token comes after the whole request, hardly any percentile far after it.
        last = values["e2e_ms_hi"] * (_TAIL_BEYOND if name in TAILS else 1.0)
        high = np.minimum(values[f"{name}_ms_hi"], last)
        values[f"{name}_ms_hi"] = np.maximum(high, values[f"{name}_ms"])
    sooner = np.maximum(values["e2e_ms_lo"], values[f"{MEAN}_ms_lo"])
    values["e2e_ms_lo"] = np.minimum(sooner, values["e2e_ms"])
    return values | _throughput(r, rate["_hi"], rate[""], rate["_lo"])


def _throughput(r: Requests, low: FloatArray, middle: FloatArray, high: FloatArray) -> dict[str, FloatArray]:
    """Return output and total tokens per second, with bounds, of requests per second."""
    rates = dict(zip(("_lo", "", "_hi"), (low, middle, high), strict=True))
    tokens = (("output_tok_s", r.osl), ("total_tok_s", r.isl + r.osl))
    return {f"{name}{k}": rates[k] * each for name, each in tokens for k in BOUNDS}


def endless(r: Requests) -> IntArray:
    """Return the rows of offline runs without an end."""
    return np.flatnonzero(r.valid & r.is_mode("offline") & ~r.burst)


def closed_loops(r: Requests, rows: IntArray) -> Requests:
    """Return the requests, and after them those rows as closed loops, once per entry of _FILLS."""
    if not len(rows):
        return r
    own = r.take(rows)
    most = most_at_once(own, memory_fit(own)) * own.replicas
    given = np.nan_to_num(own.concurrency, nan=np.inf)
    flying = [np.maximum(np.minimum(most * fill, given), 1.0) for fill in _FILLS]
    whole = r.take(np.concatenate([np.arange(len(r)), *[rows] * len(_FILLS)]))
    mode = np.concatenate([r.mode, np.full(len(rows) * len(_FILLS), MODES.index("closed-loop"))])
    return replace(whole, mode=mode, concurrency=np.concatenate([r.concurrency, *flying]))


def best(n: int, rows: IntArray, rate: FloatArray) -> IntArray:
    """Return which of the requests of `closed_loops` answers each of the n: the one of the highest rate."""
    tried = np.concatenate([rows[None], n + np.arange(len(rows) * len(_FILLS)).reshape(len(_FILLS), -1)])
    chosen = np.arange(n)
    chosen[rows] = np.take_along_axis(tried, np.nan_to_num(rate[tried]).argmax(axis=0)[None], axis=0)[0]
    return chosen


def near_limit(r: Requests, base: Estimate) -> IntArray:
    """Return the rows whose rate may be more than is sustained."""
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(base.feasible & sent_at_a_rate(r) & (r.request_rate > _NEAR * base.limit_s))


def at_the_limit(r: Requests, base: Estimate, rows: IntArray) -> Requests:
    """Return those rows overloaded, and after them just below the limit of the physics."""
    rate = np.concatenate([np.full(len(rows), _OVERLOAD), _EDGE * base.limit_s[rows]])
    return replace(r.take(np.concatenate([rows, rows])), request_rate=rate)


def chosen_by_rate(
    r: Requests, base: Estimate, rows: IntArray, sustained: FloatArray
) -> tuple[IntArray, FloatArray]:
    """Return which answer each request takes, of the own ones and those of `at_the_limit` after them, and at
    what rate that was.

    sustained: requests per second that the overloaded rows serve. Above it a row is answered as overloaded;
    below it, where only the physics says that it is, as if it stood just below the limit.
    """
    chosen, rate, m = np.arange(len(r)), r.request_rate.copy(), len(rows)
    over = r.request_rate[rows] >= sustained
    edge = ~over & ~base.stable[rows]
    chosen[rows[over]] = len(r) + np.flatnonzero(over)
    chosen[rows[edge]] = len(r) + m + np.flatnonzero(edge)
    rate[rows[over]], rate[rows[edge]] = _OVERLOAD, _EDGE * base.limit_s[rows[edge]]
    return chosen, rate


def served(
    r: Requests, values: ByName, rows: IntArray, limits: ByName, floor: Estimate
) -> dict[str, FloatArray]:
    """Return the answers with the rates that are served where requests are sent at a rate.

    r: as asked; rows: those that were answered at the limit too, limits: those answers, overloaded and then
    just below it. What is asked for is served, up to what is sustained; and nobody waits for a first token
    longer than who overloads.
    """
    asked, m = r.request_rate, len(rows)
    own = [values[f"output_tok_s{k}"] / r.osl for k in ("_lo", "", "_hi")]
    low, middle, high = (np.where(sent_at_a_rate(r) & ~np.isnan(rate), asked, rate) for rate in own)
    out = dict(values)
    if m:
        most = floor.limit_s[rows]
        rate = {k: np.minimum(limits[f"output_tok_s{k}"][:m] / r.osl[rows], most) for k in BOUNDS}
        low[rows], middle[rows] = (np.minimum(asked[rows], rate[k]) for k in ("_lo", ""))
        over = asked[rows] >= rate[""]
        high[rows] = np.minimum(asked[rows], np.where(over, rate["_hi"], asked[rows]))
        for k in BOUNDS:
            before = out[f"{MEAN}_ms{k}"][rows]
            for name in (f"{first}_ms{k}" for first in _FIRST):
                alone, longest = out[name][rows], np.maximum(limits[name][:m], limits[name][m:])
                out[name] = out[name].copy()
                out[name][rows] = np.where(over, longest, np.minimum(alone, longest))
            out[f"e2e_ms{k}"] = out[f"e2e_ms{k}"].copy()
            out[f"e2e_ms{k}"][rows] += out[f"{MEAN}_ms{k}"][rows] - before
    return out | _throughput(r, low, middle, high)


def no_more_than_asked(r: Requests, base: Estimate) -> Estimate:
    """Return the physics of requests that may have been answered at another rate, serving what is asked."""
    if not len(rows := np.flatnonzero(sent_at_a_rate(r))):
        return base
    rate = base.request_s.copy()
    rate[rows] = np.minimum(rate[rows], r.request_rate[rows])
    return replace(base, request_s=rate, output_tok_s=rate * r.osl, total_tok_s=rate * (r.isl + r.osl))
