"""Serving steady state: from step times to TTFT, TPOT and throughput, by mode.

In every mode with a known number in flight the three obey Little's law: requests in flight = request rate x
time in the system, with e2e = ttft + (osl - 1) x tpot.

closed loop    N requests in flight per replica share one engine: TPOT = step + stall x prefill work of the
               others per output token; TTFT = prefill + waiting behind other prompts (a closed queue, solved
               by Schweitzer's mean-value approximation) + waiting for a slot when N exceeds the KV memory
static batch   all prompts are prefilled together, then decode in step
offline        the batch is as large as memory and the engine allow; throughput = batch x osl / engine time
open loop      N follows from the request rate by Little's law; unstable above the offline rate
disaggregated  prefill workers are a queue of their own, decode steps are not stalled, the KV cache is shipped
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from .facts import Arrays, BoolArray, FloatArray
from .memory import prefix_load_s
from .request import Requests
from .roofline import StepTime, System, decode_step, prefill_time
from .work import kv_bytes_stored

_SWEEPS = 6
# Benchmark clients draw lengths from [0.8, 1] x nominal, so requests that started together end within this
# share of their duration, and send about this many requests per slot, the first of which arrive at once.
_SPREAD = 0.2
WAVES = 10.0
_MOST_BUSY = 0.98
_TERMS = ("weights", "kv", "compute", "communication", "launch", "host")


@dataclass(frozen=True, kw_only=True)
class Estimate(Arrays):
    """What floor or baseline answer, shape (n,): seconds, rates of the whole deployment, bytes per GPU.

    burst_s is the time that all prompts in flight take when they arrive at once; stable is False where the
    asked rate cannot be kept up. `terms` holds seconds per output token (weights, kv, compute, communication,
    launch, host, queue) and, prefixed ttft_, seconds until the first token. Infeasible or invalid rows are
    NaN.
    """

    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray
    output_tok_s: FloatArray
    total_tok_s: FloatArray
    request_s: FloatArray
    concurrency: FloatArray
    batch: FloatArray
    burst_s: FloatArray
    max_batch: FloatArray
    bytes_needed: FloatArray
    bytes_available: FloatArray
    feasible: BoolArray
    stable: BoolArray
    terms: Mapping[str, FloatArray]


def _queue_wait(
    demand: FloatArray, delay: FloatArray, customers: FloatArray, factor: FloatArray
) -> FloatArray:
    """Return the mean wait [s] at one station of `demand` [s] in a closed loop with `delay` [s] elsewhere.

    Schweitzer's approximation of mean-value analysis (Schweitzer 1979; Bard 1979): an arrival finds
    (N - 1) / N of the mean queue, whose length `factor` scales. The time at the station is then
    R = demand x (1 + factor x (N - 1) x R / (R + delay)), a quadratic equation with one positive root.
    """
    excess = demand * (1.0 + factor * (customers - 1.0)) - delay
    response = (excess + np.sqrt(excess * excess + 4.0 * demand * delay)) / 2.0
    return np.maximum(response - demand, 0.0)


def _open_loop_customers(s: System, alone: StepTime) -> tuple[FloatArray, FloatArray]:
    """Return requests in flight per replica at the asked rate, and the rate that can be sustained [1/s].

    Little's law: customers = rate x (prefill + osl x step / (1 - prefill's share of the time)).
    """
    r, rates, most, context = s.r, s.rates, s.most, s.context
    rate = asked_rate(r) / r.replicas
    each = np.where(r.disagg, 0.0, rates.stall * alone.each)
    full = decode_step(s, most, context)
    limit = 1.0 / (each + r.osl * full.total / rates.accepted / most)
    workers = np.where(r.disagg, r.prefill_workers / r.replicas, 1.0)
    limit = np.minimum(limit, workers / alone.each)
    free = np.maximum(1.0 - rate * each, 0.02)

    def excess(customers: FloatArray, step: StepTime | None = None) -> FloatArray:
        """Return by how much more requests would be in flight than the batch that serves them has."""
        step = step or decode_step(s, customers, context)
        return rate * (alone.total + r.osl * step.total / rates.accepted / free) - customers

    customers = _root(excess, np.ones(len(r)), most, excess(most, full))
    return np.where(rate < limit, customers, most), limit


def _root(
    function: Callable[[FloatArray], FloatArray], low: FloatArray, high: FloatArray, at_high: FloatArray
) -> FloatArray:
    """Return where each of n falling functions crosses zero between low and high, or the end nearest to it.

    False position, the weight of an end that stays twice halved (Illinois; Dowell and Jarratt 1971).
    """
    at_low = function(low)
    inside = (at_low > 0.0) & (at_high < 0.0)
    found = np.where(at_low > 0.0, high, low)
    last = np.zeros(len(low))
    for _ in range(_SWEEPS):
        chord = np.where(inside, at_low - at_high, 1.0)
        found = np.where(inside, (high * at_low - low * at_high) / chord, found)
        here = function(found)
        side = np.sign(here)
        at_low = np.where(side > 0.0, here, np.where(last < 0.0, at_low / 2.0, at_low))
        at_high = np.where(side > 0.0, np.where(last > 0.0, at_high / 2.0, at_high), here)
        low, high, last = np.where(side > 0.0, found, low), np.where(side > 0.0, high, found), side
    return found


def _customers(s: System, alone: StepTime) -> tuple[FloatArray, FloatArray]:
    """Return the requests in flight per replica (offline: what fits) and the rate that can last [1/s]."""
    r, most = s.r, s.most * s.r.replicas
    given = np.where(np.isnan(r.concurrency), most, r.concurrency)
    given = np.where(r.is_mode("offline"), np.minimum(given, most), given)
    customers = np.maximum(np.maximum(given, 1.0) / r.replicas, 1e-3)
    limit = np.full(len(r), np.inf)
    rows = np.flatnonzero(sent_at_a_rate(r))
    if len(rows):
        customers[rows], limit[rows] = _open_loop_customers(s.take(rows), alone.take(rows))
    return customers, limit


def sent_at_a_rate(r: Requests) -> BoolArray:
    """Return where a request rate, not a number in flight, sets the load."""
    return r.is_mode("open-loop", "server") & ~np.isnan(r.request_rate)


def asked_rate(r: Requests) -> FloatArray:
    """Return the requests per second that are sent to the whole deployment, 0 where a number is in flight."""
    return np.where(sent_at_a_rate(r), r.request_rate, 0.0)


def _prompt_demand(r: Requests, alone: StepTime, tpot: FloatArray, batch: FloatArray) -> FloatArray:
    """Return what a prompt costs a busy prefill stage [s]: its own work and its share of a pass's overhead.

    Prompts that wait are prefilled in one pass, as many as its token budget holds. Beside decode steps at
    most one pass starts per step: 1 + batch / osl prompts share it.
    """
    overhead = alone.total / r.pp - alone.each
    between = np.where(r.disagg, tpot * r.prefill_workers / r.replicas / np.maximum(alone.total, 1e-9), 1.0)
    waiting = 1.0 + batch / (r.osl * np.maximum(between, 1e-9))
    room = np.maximum(r.settings.pass_tokens / r.isl, 1.0)
    return alone.each + np.maximum(overhead, 0.0) / np.minimum(waiting, room)


def _prompt_wait(
    s: System, demand_s: FloatArray, tpot: FloatArray, batch: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return a prompt's mean wait behind others, what the opening adds, and all prompts' time in turn [s].

    In a closed loop the steady queue + the excess of prompts that arrive together (slots freed at about the
    same time) + the opening burst, which only a mean over all requests sees. At a request rate Poisson
    arrivals at one server of fixed service: the M/D/1 queue, rho x demand / (2 (1 - rho)) (Pollaczek 1930).
    """
    r, rates = s.r, s.rates
    demand = demand_s * np.where(r.disagg, r.replicas / r.prefill_workers, 1.0)
    wait = _queue_wait(demand, r.osl * tpot, np.maximum(batch, 1.0), rates.queue)
    burst = np.maximum(batch - 1.0, 0.0) * demand
    together = np.where(r.disagg, rates.disagg_burst, 1.0)
    excess = together * rates.wave * np.maximum(burst - _SPREAD * r.osl * tpot, 0.0) / 2.0
    wait = np.minimum(wait + excess, burst)
    by_rate = sent_at_a_rate(r)
    opening = np.where(r.mean_ttft & ~by_rate, together * rates.opening * burst / (2.0 * WAVES), 0.0)
    if by_rate.any():
        busy = np.minimum(asked_rate(r) / r.replicas * demand, _MOST_BUSY)
        wait = np.where(by_rate, busy * demand / (2.0 * (1.0 - busy)), wait)
    return wait, opening, burst


def _first_token_s(s: System, step_s: FloatArray) -> FloatArray:
    """Return what a first token costs beside prefill and queue [s]: handling, KV transfer, a step's end."""
    r, rates = s.r, s.rates
    way = np.where(r.num_gpus <= r.domain, np.maximum(r.gpu.link_bandwidth, r.nic_bandwidth), r.nic_bandwidth)
    transfer = np.where(r.disagg, kv_bytes_stored(r, r.isl) / (way * r.prefill_tp), 0.0)
    first = rates.first_token_s + rates.first_token_per_token_s * r.isl
    first = first + transfer + np.where(r.disagg, rates.handoff_s, 0.0)
    # Prompts sent at a rate arrive anywhere in a step; in a closed loop they come together, at its end.
    steps = np.where(sent_at_a_rate(r), np.minimum(rates.wait_steps, 0.5), rates.wait_steps)
    steps = np.where(r.disagg | r.is_mode("static-batch"), 0.0, steps)
    return first + steps * step_s


def steady_state(s: System) -> Estimate:
    """Solve all modes at once for n requests."""
    r, rates = s.r, s.rates
    static, offline, by_rate = r.is_mode("static-batch"), r.is_mode("offline"), sent_at_a_rate(r)
    fresh = np.maximum(r.isl * (1.0 - r.prefix_cached_frac), 1.0)
    alone = _with_prefix(s, prefill_time(s, fresh))
    customers, limit = _customers(s, alone)
    stable = ~by_rate | (asked_rate(r) < limit * r.replicas)
    batch = np.maximum(np.minimum(customers, s.most), np.minimum(customers, 1.0))
    prefill, rows = alone, np.flatnonzero(static)
    if len(rows):  # the whole batch is prefilled together
        prefill = alone.put(rows, prefill_time(s.take(rows), fresh[rows], batch[rows]))
    step = _separate_decode(s, alone, decode_step(s, np.maximum(batch, 1.0), s.context), batch)
    per_token = step.total / rates.accepted
    demand = _prompt_demand(r, alone, per_token, batch)
    passes = rates.passes * np.maximum(demand - alone.each, 0.0)
    stall = np.maximum(batch - 1.0, 0.0) * (rates.stall * alone.each + passes) / r.osl
    stall = np.where(r.disagg | static, 0.0, stall)
    wait, opening, burst = _prompt_wait(s, demand, per_token + stall, batch)
    # Each other request is prefilled once in a request's time: while it waits, or while it decodes.
    ahead = np.where(by_rate, 0.0, np.minimum(wait / np.maximum(burst, 1e-12), 1.0))
    stall = stall * (1.0 - ahead)
    tpot = per_token + stall
    wait = np.where(static, 0.0, wait + opening)
    first = _first_token_s(s, per_token * rates.accepted)
    alone_e2e = first + prefill.total + wait + (r.osl - 1.0) * tpot
    queued = _slot_wait(r, customers, batch, alone_e2e + tpot, alone_e2e)
    queued = np.where(stable, queued, rates.backlog / 2.0 / np.maximum(limit * r.replicas, 1e-9))
    # The end-to-end time of a static batch is that of its last request: the time the whole batch takes.
    e2e = np.where(offline, rates.offline, 1.0) * (alone_e2e + np.where(static, 2.0 * queued, queued))
    total = np.where(offline, batch, customers) * r.replicas
    total = np.where(by_rate & stable, asked_rate(r) * e2e, total)
    served = np.where(stable, total / e2e, np.minimum(limit, 1e9) * r.replicas)
    # The floor's prompts wait for nobody, yet no server answers more of them than it can compute.
    prompts = np.where(r.disagg, r.prefill_workers, r.replicas) / np.maximum(alone.each, 1e-12)
    served = np.where(rates.perfect_overlap, np.minimum(served, prompts), served)
    ttft = first + prefill.total + wait + queued
    usable = r.valid & s.fit.fits
    concurrency = np.where(stable, total, served * e2e)
    ttft, tpot, e2e, served = (np.where(usable, answer, np.nan) for answer in (ttft, tpot, e2e, served))
    terms = {name: getattr(step, name) / rates.accepted for name in _TERMS} | {"queue": stall}
    terms |= {f"ttft_{name}": getattr(prefill, name) for name in _TERMS} | {"ttft_queue": wait + queued}
    beside = np.maximum(ttft - prefill.total - (wait + queued), 0.0)  # handling, transfer, a step's end
    terms["ttft_launch"] = beside + prefill.launch
    return Estimate(
        ttft_s=ttft, tpot_s=tpot, e2e_s=e2e, request_s=served, output_tok_s=served * r.osl,
        total_tok_s=served * (r.isl + r.osl), concurrency=concurrency, batch=batch, burst_s=burst,
        max_batch=s.fit.max_batch, bytes_needed=s.fit.needed_bytes, bytes_available=s.fit.available_bytes,
        feasible=usable, stable=stable, terms=terms,
    )  # fmt: skip


def _separate_decode(s: System, alone: StepTime, step: StepTime, batch: FloatArray) -> StepTime:
    """Return the decode steps where prefill has its own GPUs: requests in prefill are not in the batch.

    Of a request's time the share osl x tpot / (first token + osl x tpot) is spent in the decode pool.
    """
    rows = np.flatnonzero(s.r.disagg)
    if not len(rows):
        return step
    part, prefill, inside, held = s.take(rows), alone.take(rows), step.take(rows), batch[rows]
    for _ in range(2):
        tpot = inside.total / part.rates.accepted
        demand = _prompt_demand(part.r, prefill, tpot, held)
        wait, opening, _ = _prompt_wait(part, demand, tpot, held)
        first = _first_token_s(part, inside.total) + prefill.total + wait + opening
        busy = held * part.r.osl * tpot / (first + part.r.osl * tpot)
        inside = decode_step(part, np.maximum(busy, 1.0), part.context)
    return step.put(rows, inside)


def _with_prefix(s: System, fresh: StepTime) -> StepTime:
    """Return the prefill of prompts whose cached prefix lies in host memory: loaded, or computed again.

    The engine does what is faster, so that a hit never costs more than a miss.
    """
    rows = np.flatnonzero(s.r.prefix_on_host & (s.r.prefix_cached_frac > 0.0))
    if not len(rows):
        return fresh
    part, hit = s.take(rows), fresh.take(rows)
    whole = prefill_time(part, part.r.isl)
    load = prefix_load_s(part.r, part.rates.host_bandwidth)
    longest = np.where(part.rates.perfect_overlap, np.maximum(hit.total, load), hit.total + load)
    loaded = replace(hit, host=hit.host + load, total=longest)
    better = np.flatnonzero(loaded.total < whole.total)
    return fresh.put(rows, whole.put(better, loaded.take(better)))


def _slot_wait(
    r: Requests, customers: FloatArray, batch: FloatArray, slot_s: FloatArray, batch_s: FloatArray
) -> FloatArray:
    """Return the mean wait for a slot [s] where more requests are in flight than the memory holds.

    A freed slot is taken at once: by Little's law the wait is (customers - batch) x slot_s / batch. Of a
    static batch the last waits (customers / batch - 1) x batch_s, the mean request half of that.
    """
    steady = np.maximum(customers - batch, 0.0) / (batch / slot_s)
    once = np.maximum(customers / np.maximum(batch, 1.0) - 1.0, 0.0) / 2.0 * batch_s
    waiting = np.where(r.is_mode("static-batch"), once, steady)
    return np.where(sent_at_a_rate(r) | r.is_mode("offline"), 0.0, waiting)
