"""Serving steady state: from step times to TTFT, TPOT and throughput, by mode.

In every mode with a known number in flight the three obey Little's law: requests in flight = request rate x
time in the system, with e2e = ttft + (osl - 1) x tpot.

closed loop  N requests in flight per replica share one engine: TPOT = step + stall x prefill work of the
             others per output token; TTFT = prefill + waiting behind other prompts (a closed queue, solved by
             Schweitzer's mean-value approximation) + waiting for a slot when N exceeds what the KV memory holds
static batch all prompts are prefilled together, then decode in step
offline      the batch is as large as memory and the engine allow; throughput = batch x osl / (its engine time)
open loop    N follows from the request rate by Little's law; unstable above the offline rate
disaggregated prefill workers are a queue of their own, decode steps are not stalled, the KV cache is shipped
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .collectives import Fabric
from .facts import FloatArray
from .memory import MemoryFit
from .request import Requests
from .roofline import Rates, StepTime, decode_step, prefill_time
from .work import decode_layout, kv_bytes_stored, prefill_layout

# Sequences an engine schedules at once unless told otherwise (vLLM v1 max_num_seqs on 80 GB cards: 1024;
# TensorRT-LLM max_batch_size 2048; SGLang is bounded by memory).
MAX_SEQUENCES = 1024.0
_SWEEPS = 6
# Benchmark clients draw lengths from [0.8, 1] x nominal, so requests that started together end within this
# share of their duration, and send about this many requests per slot, the first of which arrive at once.
_SPREAD = 0.2
_WAVES = 10.0


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Calibrated coefficients of scheduling, shape (n,): see `baseline.Coefficients`."""

    first_token_s: FloatArray
    first_token_per_token_s: FloatArray
    stall: FloatArray
    queue: FloatArray
    wave: FloatArray
    opening: FloatArray
    wait_steps: FloatArray
    offline: FloatArray


@dataclass(frozen=True, kw_only=True)
class Steady:
    """The answer of the serving model per request, seconds and rates over the whole deployment, shape (n,)."""

    ttft_s: FloatArray
    tpot_s: FloatArray
    e2e_s: FloatArray
    request_s: FloatArray
    concurrency: FloatArray
    batch: FloatArray
    stall_s: FloatArray
    queue_s: FloatArray
    burst_s: FloatArray
    prefill: StepTime
    decode: StepTime
    stable: NDArray[np.bool_]


def in_flight(r: Requests, fit: MemoryFit) -> FloatArray:
    """Return the requests in flight per replica [-]; offline, what memory and the engine hold at once."""
    most = np.minimum(fit.max_batch, MAX_SEQUENCES * r.dp)
    given = np.where(np.isnan(r.concurrency), most * r.replicas, r.concurrency)
    offline = np.where(r.is_mode("offline"), np.minimum(given, most * r.replicas), given)
    return np.maximum(np.maximum(offline, given * 0.0 + 1.0) / r.replicas, 1.0 / r.replicas)


def _queue_wait(demand: FloatArray, delay: FloatArray, customers: FloatArray) -> FloatArray:
    """Return the mean wait [s] at one station of `demand` [s] in a closed loop with `delay` [s] elsewhere.

    Schweitzer's approximation of mean-value analysis (Schweitzer 1979; Bard 1979), fixed-point iterated.
    """
    response = demand
    for _ in range(_SWEEPS):
        rate = customers / (response + delay)
        response = demand * (1.0 + np.minimum(rate * response, customers) * (customers - 1.0) / customers)
    return np.maximum(response - demand, 0.0)


def _open_loop_customers(
    r: Requests, rates: Rates, fabric: Fabric, prefill_s: FloatArray, context: FloatArray, most: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return requests in flight per replica at the asked rate, and whether that rate is sustainable."""
    layout = decode_layout(r)
    rate = np.where(np.isnan(r.request_rate), 0.0, r.request_rate) / r.replicas
    full = decode_step(r, layout, rates, fabric, most, context)
    limit = 1.0 / (prefill_s + r.osl * full.total / rates.accepted / most)
    customers = np.ones(len(r))
    for _ in range(2 * _SWEEPS):
        step = decode_step(r, layout, rates, fabric, customers, context).total / rates.accepted
        busy = np.clip(1.0 - rate * prefill_s, 0.05, 1.0)
        customers = 0.5 * customers + 0.5 * np.clip(rate * (prefill_s + r.osl * step / busy), 1e-3, most)
        customers = np.maximum(customers, 1.0)
    return customers, rate < limit


def steady_state(r: Requests, rates: Rates, behaviour: Behaviour, fit: MemoryFit, fabric: Fabric) -> Steady:
    """Solve all modes at once for n requests."""
    layout = decode_layout(r)
    context = r.isl + r.osl / 2.0
    fresh = np.maximum(r.isl * (1.0 - r.prefix_cached_frac), 1.0)
    prefill = prefill_time(r, prefill_layout(r), rates, fabric, fresh)
    work_s = prefill.total
    most = np.minimum(fit.max_batch, MAX_SEQUENCES * r.dp)
    customers = np.maximum(in_flight(r, fit), 1e-3)
    stable = np.ones(len(r), dtype=bool)
    by_rate = r.is_mode("open-loop", "server") & ~np.isnan(r.request_rate)
    if by_rate.any():
        rows = np.flatnonzero(by_rate)
        part, part_rates = r.take(rows), _take(rates, rows)
        found, ok = _open_loop_customers(
            part, part_rates, _take_fabric(fabric, rows), work_s[rows], context[rows], most[rows]
        )
        customers, stable = customers.copy(), stable.copy()
        customers[rows], stable[rows] = found, ok
    static = r.is_mode("static-batch")
    batch = np.clip(customers, np.minimum(1.0, customers), np.where(static, np.inf, most))
    batch = np.maximum(np.minimum(batch, most), np.minimum(customers, 1.0))
    step = decode_step(r, layout, rates, fabric, np.maximum(batch, 1.0), context)
    per_token = step.total / rates.accepted
    others = np.maximum(batch - 1.0, 0.0) * work_s / r.osl
    stall = np.where(r.disagg | static, 0.0, behaviour.stall * others)
    tpot = per_token + stall
    shared = np.where(r.disagg, r.replicas / r.prefill_workers, 1.0)
    demand = work_s * shared
    wait = behaviour.queue * _queue_wait(demand, r.osl * tpot, np.maximum(batch, 1.0))
    burst = np.maximum(batch - 1.0, 0.0) * demand
    wait = wait + behaviour.wave * np.maximum(burst - _SPREAD * r.osl * tpot, 0.0) / 2.0
    wait = wait + np.where(r.mean_ttft, behaviour.opening * burst / (2.0 * _WAVES), 0.0)
    wait = np.where(static, np.maximum(batch - 1.0, 0.0) * work_s, wait)
    transfer = np.where(r.disagg, kv_bytes_stored(r, r.isl) / (r.nic_bandwidth * r.prefill_tp), 0.0)
    first = behaviour.first_token_s + behaviour.first_token_per_token_s * r.isl + transfer
    first = first + behaviour.wait_steps * np.where(r.disagg | static, 0.0, per_token * rates.accepted)
    served = batch / (work_s + wait + first + r.osl * tpot)
    overflow = np.where(static, 0.0, np.maximum(customers - batch, 0.0) / served)
    overflow = np.where(by_rate | r.is_mode("offline"), 0.0, overflow)
    waves = np.where(static, np.ceil(customers / np.maximum(batch, 1.0)), 1.0)
    ttft = (first + work_s + wait + overflow) * np.where(static, (1.0 + waves) / 2.0, 1.0)
    e2e = waves * (first + work_s + wait) + overflow + (r.osl - 1.0) * tpot * waves
    total = np.where(r.is_mode("offline"), batch, customers) * r.replicas
    e2e = np.where(r.is_mode("offline"), behaviour.offline, 1.0) * e2e
    requests = np.where(by_rate & stable, np.where(by_rate, r.request_rate, 0.0), total / e2e)
    return Steady(
        ttft_s=ttft, tpot_s=tpot, e2e_s=e2e, request_s=requests, concurrency=total, batch=batch,
        stall_s=stall, queue_s=wait + overflow, burst_s=burst, prefill=prefill, decode=step, stable=stable,
    )  # fmt: skip


def _take(rates: Rates, rows: NDArray[np.int64]) -> Rates:
    parts = {k: v[rows] if isinstance(v, np.ndarray) else v for k, v in vars(rates).items()}
    return Rates(**parts)


def _take_fabric(fabric: Fabric, rows: NDArray[np.int64]) -> Fabric:
    parts = {k: v[rows] if isinstance(v, np.ndarray) else v for k, v in vars(fabric).items()}
    return Fabric(**parts)
