"""Serving steady state: from step times to TTFT, TPOT and throughput, by mode.

In every mode with a known number in flight the three obey Little's law: requests in flight = request rate x
time in the system, with e2e = ttft + (osl - 1) x tpot.

closed loop    N requests in flight per replica share one engine: TPOT = step + stall x prefill work of the
               others per output token; TTFT = prefill + waiting behind other prompts (a closed queue, solved
               by Schweitzer's mean-value approximation) + waiting for a slot when N exceeds the KV memory
static batch   all prompts are prefilled together, then decode in step
offline        the batch is as large as memory and the engine allow; throughput = batch x osl / engine time
burst          N prompts come together and are prefilled in turn, in waves of what memory holds: the k-th
               first token waits for k prompts; throughput = N x osl / the time until the last is done
open loop      N follows from the request rate by Little's law; unstable above the offline rate
disaggregated  prefill workers are a queue of their own, decode steps are not stalled, the KV cache is shipped
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..data.vocabulary import ARRIVALS
from .facts import Arrays, BoolArray, FloatArray
from .memory import prefix_load_s
from .request import Requests
from .roofline import StepTime, System, decode_step, prefill_time
from .work import kv_bytes_stored

_SWEEPS = 6
_NEWTON = 8
_LEAST_IN_FLIGHT = 1e-9  # of a replica, above 0 for what is divided by it
# Benchmark clients send about this many requests per slot, the first of which arrive at once.
WAVES = 10.0
# Requests that started together end within this share of their duration where lengths are not said to vary
# otherwise: clients commonly draw them from [0.8, 1] of the lengths asked for.
_SPREAD = 0.2
_MOST_BUSY = 0.98
CONSTANT = ARRIVALS.index("constant")
_TERMS = ("weights", "kv", "compute", "communication", "launch", "host")


@dataclass(frozen=True, kw_only=True)
class Estimate(Arrays):
    """What floor or baseline answer, shape (n,): seconds, rates of the whole deployment, bytes per GPU.

    ttft_s is the median over requests, ttft_mean_s their mean, which the opening burst of a run raises.
    last_s is the end-to-end time of the last of those that start together, elsewhere that of each; burst_s
    the time that all prompts in flight take when they arrive at once; limit_s the requests per second that
    can last, stable is False where more are asked for. `terms` holds seconds per output token (weights, kv,
    compute, communication, launch, host, queue) and, prefixed ttft_, seconds until the first token.
    Infeasible or invalid rows are NaN.
    """

    ttft_s: FloatArray
    ttft_mean_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray
    last_s: FloatArray
    output_tok_s: FloatArray
    total_tok_s: FloatArray
    request_s: FloatArray
    limit_s: FloatArray
    concurrency: FloatArray
    batch: FloatArray
    burst_s: FloatArray
    max_batch: FloatArray
    bytes_needed: FloatArray
    bytes_available: FloatArray
    feasible: BoolArray
    stable: BoolArray
    terms: Mapping[str, FloatArray]

    @property
    def cycle_s(self) -> FloatArray:
        """Requests in flight over requests per second [s]: by Little's law the mean end-to-end time.

        Of requests that start together and are not followed, the time until the last is done.
        """
        return np.asarray(self.concurrency / self.request_s)


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
    given = np.where(r.is_mode("offline") & ~r.burst, np.minimum(given, most), given)
    customers = np.maximum(np.maximum(given, 1.0) / r.replicas, _LEAST_IN_FLIGHT)
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
    between = np.where(r.disagg, tpot * r.prefill_workers / r.replicas / np.maximum(alone.total, 1e-9), 1.0)
    waiting = 1.0 + batch / (r.osl * np.maximum(between, 1e-9))
    return alone.each + _overhead_s(r, alone) / np.minimum(waiting, _most_shared(r))


def _overhead_s(r: Requests, alone: StepTime) -> FloatArray:
    """Return what a pass of prompts costs beside their own work [s]."""
    return np.maximum(alone.total / r.pp - alone.each, 0.0)


def _most_shared(r: Requests) -> FloatArray:
    """Return the prompts that one pass takes at most."""
    return np.maximum(r.settings.pass_tokens / r.isl, 1.0)


def _sharing(own: FloatArray, overhead: FloatArray) -> FloatArray:
    """Return the prompts that share a pass where as many are taken as wait, at least 1.

    own, overhead: the share of the time that prompts' own work and a pass of each alone would take. An
    arrival joins those that wait, n = 1 + busy^2 / (2 (1 - busy)) with busy = own + overhead / n, a cubic
    equation: Newton's steps from above its largest root.
    """
    left = np.maximum(1.0 - own, 1.0 - _MOST_BUSY)
    n = 1.0 + (1.0 + overhead) * 2.0 / left
    for _ in range(_NEWTON):
        value = 2.0 * n * (n - 1.0) * (left * n - overhead) - (own * n + overhead) ** 2
        slope = 2.0 * (3.0 * left * n * n - 2.0 * (left + overhead) * n + overhead)
        n = n - value / np.maximum(slope - 2.0 * own * (own * n + overhead), 1e-9)
    return np.maximum(n, 1.0)


def _prompt_wait(
    s: System, alone: StepTime, demand_s: FloatArray, tpot: FloatArray, batch: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return a prompt's mean wait behind others, what the opening adds, and all prompts' time in turn [s].

    In a closed loop the steady queue + the excess of prompts that arrive together (slots freed at about the
    same time) + the opening burst, which only a mean over all requests sees. At a request rate Poisson
    arrivals at one server of fixed service: the M/D/1 queue, rho x demand / (2 (1 - rho)) (Pollaczek 1930);
    who comes at even distances waits for nobody. Of a burst the mean prompt waits for half of the others.
    """
    r, rates = s.r, s.rates
    demand = demand_s * np.where(r.disagg, r.replicas / r.prefill_workers, 1.0)
    wait = _queue_wait(demand, r.osl * tpot, np.maximum(batch, 1.0), rates.queue)
    burst = np.maximum(batch - 1.0, 0.0) * demand
    together = np.where(r.disagg, rates.disagg_burst, 1.0)
    apart = np.where(np.isnan(r.spread), _SPREAD, r.spread) * r.osl * tpot
    excess = together * rates.wave * np.maximum(burst - apart, 0.0) / 2.0
    wait = np.minimum(wait + excess, burst)
    wait = np.where(r.burst, np.where(rates.perfect_overlap, 0.0, burst / 2.0), wait)
    by_rate = sent_at_a_rate(r)
    opening = np.minimum(together * rates.opening * burst / (2.0 * WAVES), np.maximum(burst - wait, 0.0))
    opening = np.where(by_rate | r.burst, 0.0, opening)
    if by_rate.any():
        rate = asked_rate(r) / r.replicas * (demand / np.maximum(demand_s, 1e-12))
        shared = np.minimum(_sharing(rate * alone.each, rate * _overhead_s(r, alone)), _most_shared(r))
        shared = np.minimum(demand, demand * (alone.each + _overhead_s(r, alone) / shared) / demand_s)
        busy = np.minimum(asked_rate(r) / r.replicas * shared, _MOST_BUSY)
        spread = np.where(r.arrival == CONSTANT, 0.0, busy * shared / (2.0 * (1.0 - busy)))
        wait = np.where(by_rate, spread, wait)
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
    wait, opening, burst = _prompt_wait(s, alone, demand, per_token + stall, batch)
    # Each other request is prefilled once in a request's time: while it waits, or while it decodes.
    ahead = np.where(by_rate, 0.0, np.minimum(wait / np.maximum(burst, 1e-12), 1.0))
    stall = np.where(r.burst, _burst_stall(r, stall, demand), stall * (1.0 - ahead))
    tpot = per_token + stall
    wait, opening = (np.where(static, 0.0, each) for each in (wait, opening))
    first = _first_token_s(s, per_token * rates.accepted)
    alone_e2e = first + prefill.total + wait + opening + (r.osl - 1.0) * tpot
    # What starts together is done when its last request is: in a burst, the prompt that waited for all.
    last = np.where(r.burst, first + prefill.total + burst + (r.osl - 1.0) * per_token, alone_e2e)
    once = static | r.burst
    queued = _slot_wait(r, customers, batch, np.where(once, last, alone_e2e + tpot))
    queued = np.where(stable, queued, rates.backlog / 2.0 / np.maximum(limit * r.replicas, 1e-9))
    total = np.where(offline & ~once, batch, customers) * r.replicas
    # No server answers more prompts than it can compute: who is in flight waits at least that long.
    prompts = np.where(r.disagg, r.prefill_workers, r.replicas) / np.maximum(alone.each, 1e-12)
    short = np.maximum(total / prompts - (alone_e2e + queued), 0.0)
    wait = wait + np.where(once | by_rate | rates.perfect_overlap, 0.0, short)
    ttft = first + prefill.total + wait + queued
    e2e = ttft + opening + (r.osl - 1.0) * tpot
    last = np.where(once, last + 2.0 * queued, e2e)
    cycle = last * np.where(offline, rates.offline, 1.0)  # a measured offline run starts and ends
    total = np.where(by_rate & stable, asked_rate(r) * e2e, total)
    served = np.where(stable, total / cycle, np.minimum(limit, 1e9) * r.replicas)
    # The floor's prompts wait for nobody, yet even it answers no more of them than that.
    served = np.where(rates.perfect_overlap, np.minimum(served, prompts), served)
    ttft, tpot, e2e = _least(s, ttft, tpot, e2e, np.where(once | offline | by_rate, 0.0, total / served))
    usable = r.valid & s.fit.fits
    concurrency = np.where(stable, total, served * e2e)
    ttft, tpot, e2e, served = (np.where(usable, answer, np.nan) for answer in (ttft, tpot, e2e, served))
    limit = np.where(usable, limit * r.replicas, np.nan)
    terms = {name: getattr(step, name) / rates.accepted for name in _TERMS} | {"queue": stall}
    terms |= {f"ttft_{name}": getattr(prefill, name) for name in _TERMS} | {"ttft_queue": wait + queued}
    beside = np.maximum(ttft - prefill.total - (wait + queued), 0.0)  # handling, transfer, a step's end
    terms["ttft_launch"] = beside + prefill.launch
    return Estimate(
        ttft_s=ttft, ttft_mean_s=ttft + opening, tpot_s=tpot, e2e_s=e2e, last_s=last, request_s=served,
        limit_s=limit, output_tok_s=served * r.osl, total_tok_s=served * (r.isl + r.osl),
        concurrency=concurrency, batch=batch, burst_s=burst,
        max_batch=s.fit.max_batch, bytes_needed=s.fit.needed_bytes, bytes_available=s.fit.available_bytes,
        feasible=usable, stable=stable, terms=terms,
    )  # fmt: skip


def _burst_stall(r: Requests, stall: FloatArray, demand: FloatArray) -> FloatArray:
    """Return the mean stall per token [s] of a burst, of the whole prefill's `stall` per token [s].

    The k-th of n prompts decodes beside the prefill of the n - k after it, on average half of them; a token
    waits for one pass at most: the mean of min(u x stall, pass) over u from 0 to 1.
    """
    one = demand * r.settings.pass_tokens / r.isl
    return np.where(stall <= one, stall / 2.0, one - one * one / np.maximum(2.0 * stall, 1e-12))


def _least(
    s: System, ttft: FloatArray, tpot: FloatArray, e2e: FloatArray, cycle: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the times, and of a floor what is sure of them.

    Requests in flight cannot end sooner than the rate lets them (`cycle`, by Little's law). Separate pools
    may decode few at a time, where prompts come slowly: one token takes what it takes alone.
    """
    ideal, r = s.rates.perfect_overlap, s.r
    rows = np.flatnonzero(ideal & r.disagg)
    if len(rows):
        part = s.take(rows)
        tpot = tpot.copy()
        tpot[rows] = decode_step(part, np.ones(len(rows)), part.context).total / part.rates.accepted
        e2e = np.where(ideal & r.disagg, ttft + (r.osl - 1.0) * tpot, e2e)
    e2e = np.where(ideal, np.maximum(e2e, cycle), e2e)
    return np.where(ideal & (r.osl <= 1.0), e2e, ttft), tpot, e2e


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
        wait, opening, _ = _prompt_wait(part, prefill, demand, tpot, held)
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


def _slot_wait(r: Requests, customers: FloatArray, batch: FloatArray, slot_s: FloatArray) -> FloatArray:
    """Return the mean wait for a slot [s], held for slot_s, where memory holds fewer than are in flight.

    A freed slot is taken at once: by Little's law the wait is (customers - batch) x slot_s / batch. Of what
    starts together the last waits (customers / batch - 1) x slot_s, the mean request half of that.
    """
    steady = np.maximum(customers - batch, 0.0) / (batch / slot_s)
    once = np.maximum(customers / np.maximum(batch, 1.0) - 1.0, 0.0) / 2.0 * slot_s
    waiting = np.where(r.is_mode("static-batch") | r.burst, once, steady)
    return np.where(sent_at_a_rate(r) | (r.is_mode("offline") & ~r.burst), 0.0, waiting)
