"""SGLang's `python -m sglang.bench_serving`: one JSON object per line and run, `Infinity` written as such.

Source of the format: sgl-project/sglang, python/sglang/bench_serving.py in 0.4 (no model, no server_info),
python/sglang/benchmark/serving.py in 0.5.23 (run against a mock server).
"""

from __future__ import annotations

from collections.abc import Iterator

from .base import ASK, Draft, Fields, Record, at, fill, has, plain, refuse, remark, setting, statistics
from .runs import lengths, load, tokens_per_step

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

knows = has("backend", "dataset_name", "random_input_len", "total_output_tokens")


def rows(record: Record) -> Iterator[Draft]:
    """Yield the one row of a run."""
    server = record.get("server_info")
    draft: Draft = {"spec_decode": SPECULATION.get(plain(at(server, "speculative_algorithm")).lower(), "")}
    fill(draft, record, FIELDS)
    # Data parallel without attention dp is copies of the server.
    draft["dp_means"] = "inside" if at(server, "enable_dp_attention") else "replicas"
    if plain(at(server, "disaggregation_mode")) not in ("", "null"):
        draft["disagg"] = 1.0
    lengths(draft, record)
    # Lengths of --dataset-name random are uniform from range_ratio x the nominal length up to it.
    name, ratio = plain(record["dataset_name"]), setting(record.get("random_range_ratio"))
    shared = name == "generated-shared-prefix"
    draft["length_kind"] = "fixed" if shared or ratio == 1 else "uniform"
    if shared:
        draft.setdefault("prefix_cached_frac", ASK)
    elif not name.startswith("random"):
        draft["length_kind"] = "dataset"
    else:
        fill(draft, record, {"random_input_len": "isl_nominal", "random_output_len": "osl_nominal"})
        draft["length_spread"] = f"{ratio:g}-1" if ratio < 1 else ""
    remark(draft, "data-set", value=name)
    tokens_per_step(draft, record, record.get("accept_length"))
    if record.get("request_rate") == "trace":
        refuse(draft, "trace")
    load(draft, rate=record.get("request_rate"), cap=record.get("max_concurrency"))
    yield draft
