"""SGLang's `python -m sglang.bench_serving`: one JSON object per line and run, `Infinity` written as such.

Source of the format: sgl-project/sglang, python/sglang/bench_serving.py in 0.4 (no model, no server_info),
python/sglang/benchmark/serving.py in 0.5.23 (run against a mock server).
"""

from __future__ import annotations

from collections.abc import Iterator

from .draft import (
    Draft,
    Fields,
    at,
    engine,
    itl_for_tpot,
    load,
    loose,
    plain,
    precision,
    refuse,
    remark,
    statistics,
    take,
)
from .records import Record
from .vllm import ITL, lengths, speculation

# As in vLLM's client, from which it came: ms, per request; TPOT after the first token. Unlike there the input
# tokens, and total_throughput with them, are as the client planned them; the server's count is in the
# requests' details alone (--output-details: input_lens), and may differ where prompts are random ids.
FIELDS: Fields = {
    "request_throughput": ("req_tput", 1.0),
    "output_throughput": ("output_tput", 1.0),  # tokens/s as the server counted them, not retokenised
    "total_throughput": ("total_tput", 1.0),
    **statistics("{}_ttft_ms", "ttft"),
    **statistics("{}_tpot_ms", "tpot"),
    **statistics("{}_e2e_latency_ms", "e2e"),
    "cache_report.cache_hit_rate_pct": ("prefix_cached_frac", 0.01),
}
# What the server said of itself.
SERVER: Fields = {
    "server_info.tp_size": ("tp", 1.0),
    "server_info.pp_size": ("pp", 1.0),
    "server_info.ep_size": ("ep", 1.0),
    "server_info.dp_size": ("dp", 1.0),
}
SPECULATION = {"eagle": "eagle", "eagle3": "eagle3", "nextn": "mtp", "mtp": "mtp", "standalone": "draft"}
SHARED_PREFIX = "generated-shared-prefix"


def knows(record: Record) -> bool:
    """Whether a record is a result of this client."""
    return {"backend", "dataset_name", "random_input_len", "total_output_tokens"} <= record.keys()


def rows(record: Record) -> Iterator[Draft]:
    """Yield the one row of a run."""
    draft: Draft = {"model_raw": plain(at(record, "server_info.model_path"))}
    draft["engine"] = engine(record["backend"])
    draft["engine_version"] = plain(at(record, "server_info.version"))
    draft["weight_precision"] = precision(at(record, "server_info.quantization"))
    draft["kv_precision"] = precision(at(record, "server_info.kv_cache_dtype"))
    take(draft, record, FIELDS)
    take(draft, record, SERVER)
    # Data parallel without attention dp is copies of the server.
    draft["dp_means"] = "inside" if at(record, "server_info.enable_dp_attention") else "replicas"
    if plain(at(record, "server_info.disaggregation_mode")) not in ("", "null"):
        draft["disagg"] = 1.0
    lengths(draft, record)
    _data(draft, record)
    accepted = loose(record.get("accept_length"))
    speculation(draft, accepted)
    algorithm = plain(at(record, "server_info.speculative_algorithm")).lower()
    if algorithm in SPECULATION:
        draft["spec_decode"] = SPECULATION[algorithm]
    itl_for_tpot(draft, record, ITL, speculative=accepted > 1)
    if record.get("request_rate") == "trace":
        refuse(draft, "replays the arrival times of a trace: no steady rate")
    load(draft, rate=loose(record.get("request_rate")), cap=loose(record.get("max_concurrency")))
    yield draft


def _data(draft: Draft, record: Record) -> None:
    """Lengths of --dataset-name random are uniform from range_ratio x the nominal length up to it."""
    name = plain(record["dataset_name"])
    spread = loose(record.get("random_range_ratio"))
    draft["length_kind"] = "dataset"
    if name.startswith("random"):
        draft["length_kind"] = "fixed" if spread == 1 else "uniform"
    elif name == SHARED_PREFIX:
        draft.update(length_kind="fixed")
        draft.setdefault("prefix_cached_frac", "?")
    remark(draft, f"data set {name}")
