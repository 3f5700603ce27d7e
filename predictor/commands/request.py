"""The options that describe one configuration and claims about it: declared once, shared by commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer

from .shared import Count, Number, Text

Option = tuple[Any, str]
REQUEST: dict[str, Option] = {
    "model": (Text, "Model: a catalogue name, alias or Hugging Face id."),
    "gpu": (Text, "GPU name, such as b200-sxm."),
    "platform": (Text, "Platform name, such as hgx-b200, instead of --gpu."),
    "num_gpus": (Count, "GPUs of the whole deployment."),
    "num_nodes": (Count, "Machines of the whole deployment."),
    "engine": (Text, "vllm, trtllm, sglang, ... [default: vllm]"),
    "engine_version": (Text, "Version of the engine."),
    "date": (Text, "Age of the software, YYYY-MM [default: the newest]"),
    "weight_precision": (Text, "bf16, fp8, fp4, int8, int4"),
    "kv_precision": (Text, "Precision of the KV cache, as above."),
    "tp": (Count, "Tensor-parallel degree [default: the GPUs, to 8]"),
    "pp": (Count, "Pipeline-parallel degree [default: 1]"),
    "ep": (Count, "Expert-parallel degree [default: 1]"),
    "dp": (Count, "Attention-data-parallel degree [default: 1]"),
    "disagg": (bool, "Prefill and decode on separate GPUs."),
    "prefill_gpus": (Count, "GPUs that prefill, with --disagg."),
    "decode_gpus": (Count, "GPUs that decode, with --disagg."),
    "spec_decode": (Text, "Speculation: none, mtp, eagle, draft."),
    "mode": (Text, "static-batch, closed-loop, open-loop, offline, server."),
    "isl": (Number, "Tokens in per request [default: 1024]"),
    "osl": (Number, "Tokens out per request [default: 1024]"),
    "concurrency": (Number, "Requests in flight, all replicas together."),
    "request_rate": (Number, "Requests per second (open loop)."),
    "prefix_cached_frac": (Number, "Share of the prompt found in a cache."),
    "source": (Text, "Who measures: a source of the table, or any other name for wider intervals."),
    "kv_hot_tokens": (Number, "Tokens per sequence whose KV stays in HBM; the rest in host memory."),
    "kv_reread_every": (Count, "Steps between reads of the cold KV: 1 every step, 0 never [default: 1]"),
    "prefix_tier": (Text, "Where cached prefixes lie: hbm or host [default: hbm]"),
    "experts_resident_frac": (Number, "Share of the experts in HBM; the rest in host memory."),
    "host_bandwidth_gb_s": (Number, "One-way rate to host memory per GPU [default: the platform's]"),
    "host_memory_gb": (Number, "Host memory per GPU [default: the platform's]"),
}
CLAIM: dict[str, Option] = {
    "tpot_ms": (Number, "Claimed time per output token after the first, in ms."),
    "tok_s_per_user": (Number, "Claimed tokens per second of one stream: 1000 / TPOT."),
    "ttft_ms": (Number, "Claimed time to first token, in ms."),
    "e2e_ms": (Number, "Claimed time of a whole request, in ms."),
    "output_tok_s": (Number, "Claimed output tokens per second, the whole deployment."),
    "output_tok_s_per_gpu": (Number, "The same per GPU."),
    "request_s": (Number, "Claimed requests per second, the whole deployment."),
    "total_tok_s": (Number, "Claimed tokens per second, in and out, the whole deployment."),
    "total_tok_s_per_gpu": (Number, "The same per GPU."),
}


def takes(options: Mapping[str, Option]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options before its own; its first argument maps those that were given."""

    def give(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        @wraps(command)
        def run(**values: Any) -> None:
            asked = {name: values.pop(name) for name in options}
            command({k: v for k, v in asked.items() if v is not None and v is not False}, **values)

        shared = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if kind is bool else None,
                annotation=Annotated[kind, _option(name, kind, words)],
            )
            for name, (kind, words) in options.items()
        ]
        # An argument comes before the options in any case; all are passed by name.
        named = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        parameters = [*shared, *named]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return give


def _option(name: str, kind: Any, words: str) -> Any:
    # A switch has one name: without it typer adds a --no- twin.
    return typer.Option(f"--{name}", help=words) if kind is bool else typer.Option(help=words)
