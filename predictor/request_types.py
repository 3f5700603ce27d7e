"""The keywords of `predict`, `explain` and `audit`, so that editors and type checkers know them.

Written from the table of columns by `python -m tests.docs.pages`; a test compares.
"""

from __future__ import annotations

from typing import TypedDict


class Request(TypedDict, total=False):
    """What is asked about one configuration; None, or nothing, means the default of a column."""

    model: str | None  # Model: a catalogue name, alias or Hugging Face id
    gpu: str | None  # GPU name, such as b200-sxm
    platform: str | None  # Platform name, such as hgx-b200, instead of gpu
    num_gpus: int | None  # GPUs of the whole deployment
    num_nodes: int | None  # Machines of the whole deployment
    engine: str | None  # vllm, trtllm, sglang, ..
    engine_version: str | None  # Version of the engine
    date: str | None  # Age of the software, YYYY-MM
    weight_precision: str | None  # bf16, fp8, fp4, int8, int4
    kv_precision: str | None  # Precision of the KV cache, as above
    tp: int | None  # Tensor-parallel degree
    pp: int | None  # Pipeline-parallel degree
    ep: int | None  # Expert-parallel degree
    dp: int | None  # Attention-data-parallel degree
    disagg: bool | None  # Prefill and decode on separate GPUs
    prefill_gpus: int | None  # GPUs that prefill, with disagg
    decode_gpus: int | None  # GPUs that decode, with disagg
    spec_decode: str | None  # Speculation: none, mtp, eagle, draft
    mode: str | None  # static-batch, closed-loop, open-loop, offline, server
    isl: float | None  # Tokens in per request
    osl: float | None  # Tokens out per request
    concurrency: float | None  # Requests in flight, all replicas together
    request_rate: float | None  # Requests per second (open loop)
    prefix_cached_frac: float | None  # Share of the prompt found in a cache
    source: str | None  # Who measures: a source of the table, or any other name for wider intervals
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


class Claim(Request, total=False):
    """A request and the figures claimed for it."""

    output_tok_s: float | None  # output tokens per second, the whole deployment
    total_tok_s: float | None  # tokens per second, in and out, the whole deployment
    request_s: float | None  # requests per second, the whole deployment
    ttft_ms: float | None  # time to first token, in ms
    tpot_ms: float | None  # time per output token after the first, in ms
    e2e_ms: float | None  # time of a whole request, in ms
    tok_s_per_user: float | None  # tokens per second of one stream: 1000 / TPOT
    output_tok_s_per_gpu: float | None  # output tokens per second and GPU
    total_tok_s_per_gpu: float | None  # tokens per second and GPU, in and out
