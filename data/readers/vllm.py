"""`vllm bench serve --save-result`, and benchmark_serving.py from which it came.

Source of the format: vllm-project/vllm, vllm/benchmarks/serve.py in 0.33 (run against a mock server) and
0.11, benchmarks/benchmark_serving.py before. One JSON object per run; --append-result writes one per line.
"""

from __future__ import annotations

from collections.abc import Iterator

from .base import (
    AS_NAMED,
    ASK,
    Draft,
    Fields,
    completed,
    fill,
    load,
    plain,
    refuse,
    remark,
    setting,
    statistics,
)  # fmt: skip
from .records import Record

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
# Between two chunks of the stream, over all chunks of all requests.
ITL = statistics("{}_itl_ms", "tpot", names={"mean": "mean", "median": "p50"})
# APIs that one engine alone serves; "openai" and "vllm" are asked of any engine's server.
BACKENDS = ("sglang", "tensorrt-llm", "tgi", "lmdeploy", "deepspeed-mii")


def knows(record: Record) -> bool:
    """Whether a record is a result of this client."""
    return {"model_id", "num_prompts", "completed", "duration", "backend"} <= record.keys()


def rows(record: Record) -> Iterator[Draft]:
    """Yield the one row of a run."""
    draft: Draft = {}
    if plain(record["backend"]) in BACKENDS:
        draft["engine"] = AS_NAMED["engine"](record["backend"])
    fill(draft, record, FIELDS)
    lengths(draft, record)
    requests = setting(record["num_prompts"])
    completed(draft, setting(record["completed"]), requests)
    tokens_per_step(draft, record, setting(record.get("spec_decode_acceptance_length")))
    if "total_input_sequences" in record:
        refuse(draft, "embedding")
    if record.get("ramp_up_strategy"):
        refuse(draft, "rate-changed")
    rate, cap = setting(record.get("request_rate")), setting(record.get("max_concurrency"))
    load(draft, rate=rate, cap=cap, requests=requests)
    yield draft


def lengths(draft: Draft, record: Record) -> None:
    """Fill isl and osl: the run's tokens over the requests that completed."""
    good = setting(record.get("completed"))
    if good > 0:
        fill(draft, record, {f"total_{way}_tokens": (f"{way[0]}sl", 1 / good) for way in ("input", "output")})


def tokens_per_step(draft: Draft, record: Record, accepted: float) -> None:
    """Mark a run with speculative decoding, whose kind no client knows; else let ITL stand in for TPOT.

    The mean of inter-token latencies is the mean TPOT, unless speculation sends several tokens at a time:
    then it is a time per step, which is none.
    """
    if accepted > 1:
        draft["spec_decode"] = draft.get("spec_decode") or ASK
        remark(draft, "tokens-per-step", value=accepted)
    elif not any(name.startswith("tpot_") for name in draft):
        fill(draft, record, ITL)
        draft.update(tpot_mean_is="itl", tpot_p50_is="itl")
