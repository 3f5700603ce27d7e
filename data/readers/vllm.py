"""`vllm bench serve --save-result`, and benchmark_serving.py from which it came.

Source of the format: vllm-project/vllm, vllm/benchmarks/serve.py in 0.33 (run against a mock server) and
0.11, benchmarks/benchmark_serving.py before. One JSON object per run; --append-result writes one per line.
"""

from __future__ import annotations

from collections.abc import Iterator

from .draft import (
    Draft,
    Fields,
    done,
    engine,
    gpu,
    itl_for_tpot,
    load,
    loose,
    plain,
    precision,
    refuse,
    remark,
    statistics,
    take,
    when,
)
from .records import Record

# Over the requests that completed; latencies in ms, per request, by the client's clock; TPOT is (end to end -
# TTFT) / (tokens - 1): after the first token. Throughputs are of the whole server, over the run's duration.
FIELDS: Fields = {
    "request_throughput": ("req_tput", 1.0),  # requests/s
    "output_throughput": ("output_tput", 1.0),  # tokens/s generated
    "total_token_throughput": ("total_tput", 1.0),  # tokens/s in and out
    **statistics("{}_ttft_ms", "ttft"),
    **statistics("{}_tpot_ms", "tpot"),
    **statistics("{}_e2el_ms", "e2e"),
}
# Between two chunks of the stream, over all chunks of all requests.
ITL = statistics("{}_itl_ms", "tpot", names={"mean": "mean", "median": "p50"})
# Requests and tokens of the run: means come from dividing by the first.
COMPLETED, TOKENS_IN, TOKENS_OUT = "completed", "total_input_tokens", "total_output_tokens"
# What people note with --metadata KEY=VALUE, as the scripts around this client do.
METADATA: Fields = {name: (name, 1.0) for name in ("tp", "pp", "ep", "dp", "num_gpus", "num_nodes")}
# APIs that one engine alone serves; "openai" and "vllm" are asked of any engine's server.
BACKENDS = ("sglang", "tensorrt-llm", "tgi", "lmdeploy", "deepspeed-mii")


def knows(record: Record) -> bool:
    """Whether a record is a result of this client."""
    return {"model_id", "num_prompts", COMPLETED, "duration"} <= record.keys() and "backend" in record


def rows(record: Record) -> Iterator[Draft]:
    """Yield the one row of a run."""
    draft: Draft = {"model_raw": plain(record["model_id"]), "date": when(record.get("date"))}
    backend = plain(record["backend"])
    draft["engine"] = engine(backend) if backend in BACKENDS else ""
    take(draft, record, FIELDS)
    take(draft, record, METADATA)
    draft["gpu"] = gpu(record.get("gpu"))
    draft["weight_precision"] = precision(record.get("weight_precision") or record.get("precision"))
    draft["engine_version"] = plain(record.get("engine_version") or record.get("version"))
    lengths(draft, record)
    done(draft, loose(record[COMPLETED]), loose(record["num_prompts"]))
    accepted = loose(record.get("spec_decode_acceptance_length"))
    speculation(draft, accepted)
    itl_for_tpot(draft, record, ITL, speculative=accepted > 1)
    if "total_input_sequences" in record:
        refuse(draft, "an embedding benchmark: it generates no tokens")
    if record.get("ramp_up_strategy"):
        refuse(draft, "the request rate changed during the run")
    load(
        draft,
        rate=loose(record.get("request_rate")),
        cap=loose(record.get("max_concurrency")),
        requests=loose(record["num_prompts"]),
    )
    yield draft


def lengths(draft: Draft, record: Record) -> None:
    """Fill isl and osl: the means over the requests that completed."""
    completed = loose(record.get(COMPLETED))
    if completed > 0:
        take(draft, record, {TOKENS_IN: ("isl", 1 / completed), TOKENS_OUT: ("osl", 1 / completed)})


def speculation(draft: Draft, accepted: float) -> None:
    """Mark a run with speculative decoding, whose kind no client knows, by its tokens per step."""
    if accepted > 1:
        draft["spec_decode"] = "?"
        remark(draft, f"{accepted:.2f} tokens per step")
