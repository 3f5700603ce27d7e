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

from dataclasses import dataclass, replace
from typing import Any, TypeVar

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
_SWEEPS = 12
# Benchmark clients draw lengths from [0.8, 1] x nominal, so requests that started together end within this
# share of their duration, and send about this many requests per slot, the first of which arrive at once.
_SPREAD = 0.2
_WAVES = 10.0


Part = TypeVar("Part", Rates, Fabric)


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Calibrated coefficients of scheduling, shape (n,): see `baseline.Coefficients`.

    first_token_s [s] and first_token_per_token_s [s per prompt token]: handling beside the model; stall,
    queue, wave, opening, wait_steps, offline: factors [-] on the terms of `steady_state`.
    """

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
    """The serving model's answer per request, shape (n,): seconds, and rates over the whole deployment.

    stall_s is what other prompts add to each token, queue_s what a prompt waits, burst_s the time that all
    prompts in flight take when they arrive at once; stable is False where the asked rate cannot be kept up.
    """

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
    given = np.where(r.is_mode("offline"), np.minimum(given, most * r.replicas), given)
    in_all: FloatArray = np.maximum(given, 1.0) / r.replicas
    return in_all


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


def _open_loop_customers(
    r: Requests, rates: Rates, fabric: Fabric, prefill_s: FloatArray, context: FloatArray, most: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return requests in flight per replica at the asked rate, and whether that rate is sustainable."""
    layout = decode_layout(r)
    rate = np.where(np.isnan(r.request_rate), 0.0, r.request_rate) / r.replicas
    full = decode_step(r, layout, rates, fabric, most, context)
    limit = 1.0 / (prefill_s + r.osl * full.total / rates.accepted / most)
    customers = np.ones(len(r))
    for _ in range(_SWEEPS):
        step = decode_step(r, layout, rates, fabric, customers, context).total / rates.accepted
        busy = np.clip(1.0 - rate * prefill_s, 0.05, 1.0)
        customers = 0.5 * customers + 0.5 * np.clip(rate * (prefill_s + r.osl * step / busy), 1e-3, most)
        customers = np.maximum(customers, 1.0)
    return customers, rate < limit


def _customers(
    r: Requests, rates: Rates, fabric: Fabric, fit: MemoryFit, prefill_s: FloatArray, most: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return requests in flight per replica [-] in every mode, and whether that state can last."""
    customers = np.maximum(in_flight(r, fit), 1e-3)
    stable = np.ones(len(r), dtype=bool)
    rows = np.flatnonzero(_by_rate(r))
    if len(rows):
        customers[rows], stable[rows] = _open_loop_customers(
            r.take(rows),
            _take(rates, rows),
            _take(fabric, rows),
            prefill_s[rows],
            _context(r)[rows],
            most[rows],
        )
    return customers, stable


def _by_rate(r: Requests) -> NDArray[np.bool_]:
    """Return where a request rate, not a number in flight, sets the load."""
    by_rate: NDArray[np.bool_] = r.is_mode("open-loop", "server") & ~np.isnan(r.request_rate)
    return by_rate


def _context(r: Requests) -> FloatArray:
    """Return the mean context [tokens] of a sequence that is being decoded."""
    return r.isl + r.osl / 2.0


def _prompt_wait(
    r: Requests, behaviour: Behaviour, prefill_s: FloatArray, tpot: FloatArray, batch: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the mean wait of a prompt behind others [s], and the time all prompts in flight take [s].

    Steady queue + the excess of prompts that arrive together (slots freed at about the same time) + the
    opening burst, which only a mean over all requests sees.
    """
    demand = prefill_s * np.where(r.disagg, r.replicas / r.prefill_workers, 1.0)
    wait = _queue_wait(demand, r.osl * tpot, np.maximum(batch, 1.0), behaviour.queue)
    burst = np.maximum(batch - 1.0, 0.0) * demand
    wait = wait + behaviour.wave * np.maximum(burst - _SPREAD * r.osl * tpot, 0.0) / 2.0
    return wait + np.where(r.mean_ttft, behaviour.opening * burst / (2.0 * _WAVES), 0.0), burst


def _first_token_s(r: Requests, behaviour: Behaviour, step_s: FloatArray) -> FloatArray:
    """Return what a first token costs beside prefill and queue [s]: handling, KV transfer, a step's end."""
    way = np.where(r.num_gpus <= r.domain, np.maximum(r.gpu.link_bandwidth, r.nic_bandwidth), r.nic_bandwidth)
    transfer = np.where(r.disagg, kv_bytes_stored(r, r.isl) / (way * r.prefill_tp), 0.0)
    first = behaviour.first_token_s + behaviour.first_token_per_token_s * r.isl + transfer
    return first + behaviour.wait_steps * np.where(r.disagg | r.is_mode("static-batch"), 0.0, step_s)


def steady_state(r: Requests, rates: Rates, behaviour: Behaviour, fit: MemoryFit, fabric: Fabric) -> Steady:
    """Solve all modes at once for n requests."""
    static, offline, by_rate = r.is_mode("static-batch"), r.is_mode("offline"), _by_rate(r)
    fresh = np.maximum(r.isl * (1.0 - r.prefix_cached_frac), 1.0)
    alone = prefill_time(r, prefill_layout(r), rates, fabric, fresh)
    most = np.minimum(fit.max_batch, MAX_SEQUENCES * r.dp)
    customers, stable = _customers(r, rates, fabric, fit, alone.total, most)
    batch = np.maximum(np.minimum(customers, most), np.minimum(customers, 1.0))
    prefill = _together(r, rates, fabric, alone, fresh, batch)
    step = decode_step(r, decode_layout(r), rates, fabric, np.maximum(batch, 1.0), _context(r))
    per_token = step.total / rates.accepted
    others = np.maximum(batch - 1.0, 0.0) * alone.total / r.osl
    stall = np.where(r.disagg | static, 0.0, behaviour.stall * others)
    tpot = per_token + stall
    wait, burst = _prompt_wait(r, behaviour, alone.total, tpot, batch)
    wait = np.where(static, 0.0, wait)
    first = _first_token_s(r, behaviour, per_token * rates.accepted)
    alone_e2e = first + prefill.total + wait + (r.osl - 1.0) * tpot
    queued = _slot_wait(r, customers, batch, alone_e2e + tpot, alone_e2e)
    # The end-to-end time of a static batch is that of its last request: the time the whole batch takes.
    e2e = np.where(offline, behaviour.offline, 1.0) * (alone_e2e + np.where(static, 2.0 * queued, queued))
    total = np.where(offline, batch, customers) * r.replicas
    total = np.where(by_rate & stable, np.where(by_rate, r.request_rate, 0.0) * e2e, total)
    return Steady(
        ttft_s=first + prefill.total + wait + queued, tpot_s=tpot, e2e_s=e2e, request_s=total / e2e,
        concurrency=total, batch=batch, stall_s=stall, queue_s=wait + queued, burst_s=burst,
        prefill=prefill, decode=step, stable=stable,
    )  # fmt: skip


def _together(
    r: Requests, rates: Rates, fabric: Fabric, alone: StepTime, fresh: FloatArray, batch: FloatArray
) -> StepTime:
    """Return the prefill that a request lives through: its own prompt's, or its whole static batch's."""
    rows = np.flatnonzero(r.is_mode("static-batch"))
    if not len(rows):
        return alone
    part = r.take(rows)
    whole = prefill_time(
        part, prefill_layout(part), _take(rates, rows), _take(fabric, rows), fresh[rows], batch[rows]
    )
    joined = {name: values.copy() for name, values in vars(alone).items()}
    for name, values in vars(whole).items():
        joined[name][rows] = values
    return StepTime(**joined)


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
    return np.where(_by_rate(r) | r.is_mode("offline"), 0.0, waiting)


def _take(parts: Part, rows: NDArray[np.int64]) -> Part:
    """Return the same coefficients for a subset of rows."""
    arrays: dict[str, Any] = {k: v[rows] for k, v in vars(parts).items() if isinstance(v, np.ndarray)}
    return replace(parts, **arrays)
