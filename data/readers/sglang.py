"""SGLang's `python -m sglang.bench_serving`: one JSON object per line and run, `Infinity` written as such.

Source of the format: sgl-project/sglang, python/sglang/bench_serving.py in 0.4 (no model, no server_info),
python/sglang/benchmark/serving.py in 0.5.23 (run against a mock server).
"""

from __future__ import annotations

from collections.abc import Iterator

from .base import ASK, Draft, Fields, at, fill, load, plain, refuse, remark, setting, statistics
from .records import Record
from .vllm import lengths, tokens_per_step

# As in vLLM's client, from which it came: ms, per request; TPOT after the first token. Unlike there the input
# tokens, and total_throughput with them, are as the client planned them; the server's count is in the
# requests' details alone (--output-details: input_lens), and may differ where prompts are random ids.
FIELDS: Fields = {
    "backend": "engine",
    "request_throughput": "req_tput",
    "output_throughput": "output_tput",  # tokens/s as the server counted them, not retokenised
    "total_throughput": "total_tput",
    **statistics("{}_ttft_ms", "ttft"),
    **statistics("{}_tpot_ms", "tpot"),
    **statistics("{}_e2e_latency_ms", "e2e"),
    "cache_report.cache_hit_rate_pct": ("prefix_cached_frac", 0.01),
    # What the server states of itself.
    "server_info.model_path": "model_raw",
    "server_info.version": "engine_version",
    "server_info.quantization": "weight_precision",
    "server_info.kv_cache_dtype": "kv_precision",
    **{f"server_info.{name}_size": name for name in ("tp", "pp", "ep", "dp")},
}
SPECULATION = {"eagle": "eagle", "eagle3": "eagle3", "nextn": "mtp", "mtp": "mtp", "standalone": "draft"}
SHARED_PREFIX = "generated-shared-prefix"


def knows(record: Record) -> bool:
    """Whether a record is a result of this client."""
    return {"backend", "dataset_name", "random_input_len", "total_output_tokens"} <= record.keys()


def rows(record: Record) -> Iterator[Draft]:
    """Yield the one row of a run."""
    algorithm = plain(at(record, "server_info.speculative_algorithm")).lower()
    draft: Draft = {"spec_decode": SPECULATION.get(algorithm, "")}
    fill(draft, record, FIELDS)
    # Data parallel without attention dp is copies of the server.
    draft["dp_means"] = "inside" if at(record, "server_info.enable_dp_attention") else "replicas"
    if plain(at(record, "server_info.disaggregation_mode")) not in ("", "null"):
        draft["disagg"] = 1.0
    lengths(draft, record)
    _data_set(draft, record)
    tokens_per_step(draft, record, setting(record.get("accept_length")))
    if record.get("request_rate") == "trace":
        refuse(draft, "trace")
    load(draft, rate=setting(record.get("request_rate")), cap=setting(record.get("max_concurrency")))
    yield draft


def _data_set(draft: Draft, record: Record) -> None:
    """Lengths of --dataset-name random are uniform from range_ratio x the nominal length up to it."""
    name = plain(record["dataset_name"])
    draft["length_kind"] = "dataset"
    if name.startswith("random"):
        draft["length_kind"] = "fixed" if setting(record.get("random_range_ratio")) == 1 else "uniform"
    elif name == SHARED_PREFIX:
        draft["length_kind"] = "fixed"
        draft.setdefault("prefix_cached_frac", ASK)
    remark(draft, "data-set", value=name)
