"""The keywords of `predict`, `explain`, `curve` and `audit`, for editors and type checkers.

Written from the table of columns by `python -m tests.docs.pages`; a test compares.
"""

from __future__ import annotations

from typing import TypedDict


class Configuration(TypedDict, total=False):
    """What is asked about, but its load; None, or nothing, means the default of a column."""

    model: str | None  # Model: a name, checkpoint id, size or config.json
    gpu: str | None  # GPU: b200-sxm, H100 80GB, 8xMI300X, p5.48xlarge
    platform: str | None  # Platform name, such as hgx-b200, instead of gpu
    num_gpus: int | None  # GPUs of the whole deployment
    num_nodes: int | None  # Machines of the whole deployment
    engine: str | None  # vllm, trtllm, sglang, ..
    engine_version: str | None  # Version of the engine
    date: str | None  # Age of the software, YYYY-MM
    weight_precision: str | None  # bf16, fp8, fp4, int8, int4
    kv_precision: str | None  # Precision of the KV cache, as above
    layout: str | None  # Where no degree is given: best of those that fit, or given (tp to 8)
    tp: int | None  # Tensor-parallel degree
    pp: int | None  # Pipeline-parallel degree
    ep: int | None  # Expert-parallel degree, or true: all GPUs of a copy
    dp: int | None  # Attention-data-parallel degree
    disagg: bool | None  # Prefill and decode on separate GPUs
    prefill_gpus: int | None  # GPUs that prefill, with disagg
    decode_gpus: int | None  # GPUs that decode, with disagg
    spec_decode: str | None  # Speculation: none, mtp, eagle, draft
    mode: str | None  # static-batch, closed-loop, open-loop, offline, server
    isl: float | None  # Tokens in per request
    osl: float | None  # Tokens out per request
    length_spread: str | None  # How lengths vary about isl and osl: fixed, dataset (they are means), a ...
    arrival: str | None  # steady, burst, poisson, constant: how requests come
    prefix_cached_frac: float | None  # Share of the prompt found in a cache
    ttft_limit_ms: float | None  # Limit of TTFT for goodput
    tpot_limit_ms: float | None  # Limit of TPOT for goodput
    source: str | None  # Who measures: a source of the table, or any other name for wider intervals
    accept_length: float | None  # Tokens per step under speculation, with the verified one
    accept_rate: float | None  # Share of the draft tokens that is accepted, instead
    draft_tokens: int | None  # Tokens drafted per step
    max_num_seqs: int | None  # Sequences that one engine schedules at once
    max_num_batched_tokens: int | None  # Prompt tokens of one pass
    gpu_memory_utilization: float | None  # Share of the GPU memory to fill
    enforce_eager: bool | None  # Launch every kernel by itself: no CUDA graphs
    prefix_caching: str | None  # on or off; the share that it finds is prefix_cached_frac
    cpu_offload_gb: float | None  # Weights per GPU in host memory, read at every step
    kv_hot_tokens: float | None  # Tokens per sequence whose KV stays in HBM; the rest in host memory
    kv_reread_every: int | None  # Steps between reads of the cold KV: 1 every step, 0 never
    prefix_tier: str | None  # Where cached prefixes lie: hbm or host
    experts_resident_frac: float | None  # Share of the experts in HBM; the rest in host memory
    host_bandwidth_gb_s: float | None  # One-way rate to host memory per GPU
    host_memory_gb: float | None  # Host memory per GPU
    prefill_tp: int | None
    prefill_ep: int | None
    prefill_dp: int | None
    prefill_workers: int | None
    decode_tp: int | None
    decode_ep: int | None
    decode_dp: int | None
    decode_workers: int | None


class Request(Configuration, total=False):
    """A configuration and its load."""

    concurrency: float | None  # Requests in flight, all replicas together
    request_rate: float | None  # Requests per second (open loop)


class Claim(Request, total=False):
    """A request and the figures claimed for it."""

    output_tok_s: float | None  # output tokens per second, the whole deployment
    total_tok_s: float | None  # tokens per second, in and out, the whole deployment
    request_s: float | None  # requests per second, the whole deployment
    ttft_ms: float | None  # time to first token, in ms
    tpot_ms: float | None  # time per output token after the first, in ms
    ttft_mean_ms: float | None  # mean time to first token, in ms
    ttft_p90_ms: float | None  # 90th percentile of TTFT, in ms
    ttft_p99_ms: float | None  # 99th percentile of TTFT, in ms
    tpot_p90_ms: float | None  # 90th percentile of TPOT, in ms
    tpot_p99_ms: float | None  # 99th percentile of TPOT, in ms
    e2e_ms: float | None  # time of a whole request, in ms
    tok_s_per_user: float | None  # tokens per second of one stream: 1000 / TPOT
    tok_s_per_gpu: float | None  # output tokens per second and GPU
    total_tok_s_per_gpu: float | None  # tokens per second and GPU, in and out
