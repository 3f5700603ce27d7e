"""`vllm bench serve --save-result`, and benchmark_serving.py from which it came.

Source of the format: vllm-project/vllm, vllm/benchmarks/serve.py in 0.33 (run against a mock server) and
0.11, benchmarks/benchmark_serving.py before. One JSON object per run; --append-result writes one per line.
"""

from __future__ import annotations

from collections.abc import Iterator

from .base import Draft, Fields, Record, fill, has, refuse, statistics
from .runs import completed, lengths, load, tokens_per_step

# Over the requests that completed; latencies in ms, per request, by the client's clock; TPOT is (end to end -
# TTFT) / (tokens - 1): after the first token. Throughputs are of the whole server, over the run's duration.
FIELDS: Fields = {
    "model_id": "model_raw",
    "date": "date",
    "request_throughput": "req_tput",  # requests/s
    "output_throughput": "output_tput",  # tokens/s generated
    "total_token_throughput": "total_tput",  # tokens/s in and out
    **statistics("{}_ttft_ms", "ttft"),
    **statistics("{}_tpot_ms", "tpot"),
    **statistics("{}_e2el_ms", "e2e"),
    # What people note with --metadata KEY=VALUE, as the scripts around this client do.
    "gpu": "gpu",
    "weight_precision": "weight_precision",
    "precision": "weight_precision",
    "engine_version": "engine_version",
    "version": "engine_version",
    **{name: name for name in ("tp", "pp", "ep", "dp", "num_gpus", "num_nodes")},
}
# APIs that one engine alone serves; "openai" and "vllm" are asked of any engine's server.
BACKENDS = ("sglang", "tensorrt-llm", "tgi", "lmdeploy", "deepspeed-mii")
REFUSED = {"total_input_sequences": "embedding", "ramp_up_strategy": "rate-changed"}

knows = has("model_id", "num_prompts", "completed", "duration", "backend")


def rows(record: Record) -> Iterator[Draft]:
    """Yield the one row of a run."""
    draft: Draft = {}
    if record["backend"] in BACKENDS:
        fill(draft, record, {"backend": "engine"})
    fill(draft, record, FIELDS)
    lengths(draft, record)
    completed(draft, record["completed"], record["num_prompts"])
    tokens_per_step(draft, record, record.get("spec_decode_acceptance_length"))
    for name, code in REFUSED.items():
        if record.get(name):
            refuse(draft, code)
    rate, cap = record.get("request_rate"), record.get("max_concurrency")
    load(draft, rate=rate, cap=cap, requests=record["num_prompts"])
    yield draft
