"""Every tool's file of one run gives the run's row, whatever its units and definitions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from roofcast.data.ingest import ingest
from roofcast.data.store import BenchmarkStore

from .conftest import ANSWERS, MODEL, OUTPUT_TOK_S, REQUESTS_S, TOTAL_TOK_S, Changes, ReadRows, TakeIn

from .conftest import only_report, only_row, sample, without  # isort: skip

NAN = math.nan
DATED = {"date": "2026-07-01"}
SGLANG = {"gpu": "h100-sxm", "weight_precision": "bf16", **DATED}
CLOSED = {**ANSWERS, "mode": "closed-loop"}
MLPERF = {"model": "llama-3.1-8b", "isl": 1024, "weight_precision": "bf16", "date": "2026-07"}
SPEEDS = {"output_throughput": 8695.0, "request_throughput": 34.0, "total_token_throughput": 43480.0}
NO_TPOT = {f"{name}_tpot_ms": None for name in ("mean", "median", "p90", "p95", "p99")}
STRATEGY = "benchmarks.0.config.strategy"
HALF = {"tput_per_gpu": TOTAL_TOK_S / 2, "output_tput_per_gpu": OUTPUT_TOK_S / 2}
POOLS = {
    "is_multinode": True, "disagg": True, "num_prefill_gpu": 2, "num_decode_gpu": 4, "prefill_tp": 1,
    "prefill_ep": 1, "prefill_dp_attention": "false", "prefill_num_workers": 2, "decode_tp": 4,
    "decode_ep": 1, "decode_dp_attention": "true", "decode_num_workers": 1,
    "tput_per_gpu": TOTAL_TOK_S / 6, "output_tput_per_gpu": OUTPUT_TOK_S / 4,
}  # fmt: skip
OPEN = {"mode": "open-loop", "request_rate": 3.5}


def served(**states: Any) -> dict[str, Any]:
    """Changes of what SGLang's server states of itself."""
    return {f"server_info.{name}": value for name, value in states.items()}


def said(**terms: Any) -> str:
    """The column `stated` of a row whose tool says so."""
    return json.dumps({"model": MODEL, **terms})


@pytest.mark.parametrize(
    ("tool", "answers"),
    [
        ("vllm", ANSWERS),
        ("sglang", {**ANSWERS, "engine": "sglang"}),
        ("aiperf", ANSWERS),
        ("aiperf.csv", {**CLOSED, "model": "llama-3.1-8b", "concurrency": 8}),
        ("guidellm", ANSWERS),
        ("trtllm", {**CLOSED, "engine": "trtllm"}),
        ("trtllm.log", {**CLOSED, "engine": "trtllm"}),
        ("inferencex", ANSWERS),
    ],
)
def test_every_tool_s_file_of_one_run_gives_the_same_row(
    tool: str, answers: dict[str, Any], store: BenchmarkStore, take_in: TakeIn
) -> None:
    assert take_in(sample(tool), answers).counts["accepted"] == 1
    row = only_row(store)
    texts = {
        "model": "llama-3.1-8b", "gpu": "h100-sxm", "engine": answers["engine"], "mode": "closed-loop",
        "weight_precision": "bf16", "spec_decode": "none", "date": "2026-07-01", "ttft_stat": "p50",
        "tpot_stat": "p50", "tpot_kind": "tpot",
    }  # fmt: skip
    assert {name: row[name] for name in texts} == texts
    numbers = {
        "num_gpus": 1, "tp": 1, "replicas": 1, "isl": 1024, "osl": 256, "concurrency": 8, "ttft_ms": 58.0,
        "ttft_mean_ms": 60.0, "ttft_p99_ms": 90.0, "tpot_ms": 8.9, "tpot_mean_ms": 9.0,
        "output_tok_s": OUTPUT_TOK_S, "total_tok_s": TOTAL_TOK_S, "request_s": REQUESTS_S,
    }  # fmt: skip
    assert {name: row[name] for name in numbers} == pytest.approx(numbers, rel=2e-3)
    assert math.isnan(row["e2e_ms"]) or row["e2e_ms"] == pytest.approx(2355.0)


CASES: dict[str, tuple[str, Changes, dict[str, Any], dict[str, Any]]] = {
    "vLLM: neither a rate nor a cap is a burst of all requests": (
        "vllm", {"max_concurrency": None}, ANSWERS,
        {"mode": "offline", "concurrency": 80, "ttft_ms": 58.0, "remarks": []},
    ),
    "vLLM: so are all requests within the cap": (
        "vllm", {"max_concurrency": 80, **SPEEDS}, ANSWERS, {"mode": "offline", "concurrency": 80}),
    "vLLM: a rate is an open loop": (
        "vllm", {"request_rate": 3.5, "max_concurrency": None}, ANSWERS,
        {**OPEN, "ttft_ms": 58.0, "remarks": []},
    ),
    "vLLM: a rate below a cap is an open loop": (
        "vllm", {"request_rate": 3.5, "max_concurrency": 64}, ANSWERS, OPEN),
    "vLLM: a rate held at the cap is a closed loop": (
        "vllm", {"request_rate": 50.0}, ANSWERS,
        {"mode": "closed-loop", "concurrency": 8, "remarks": ["held-at-cap"]},
    ),
    "vLLM: a rate that was not served counts half": (
        "vllm", {"request_rate": 9.0, "max_concurrency": None}, ANSWERS,
        {"mode": "open-loop", "request_rate": 9.0, "weight": 0.5, "remarks": ["fewer-served"]},
    ),
    "vLLM: latencies between chunks stand in for TPOT, by their mean": (
        "vllm", NO_TPOT, ANSWERS, {"tpot_kind": "itl", "tpot_ms": 9.0}),
    "vLLM: but not with speculation": (
        "vllm", {**NO_TPOT, "spec_decode_acceptance_length": 3.0}, {**ANSWERS, "spec_decode": "mtp"},
        {"tpot_ms": NAN, "spec_decode": "mtp", "remarks": ["tokens-per-step"]},
    ),
    "vLLM: a backend of one engine names it": (
        "vllm", {"backend": "tensorrt-llm"}, without("engine"), {"engine": "trtllm"}),
    "SGLang: what the server states of itself is used": (
        "sglang", served(tp_size=4, dp_size=2, quantization="fp8", version="0.5.9"),
        {"gpu": "h100-sxm", **DATED},
        {"tp": 4, "dp": 1, "replicas": 2, "num_gpus": 8, "weight_precision": "fp8",
         "engine_version": "0.5.9"},
    ),
    "SGLang: attention data parallel lies inside tp": (
        "sglang", served(tp_size=8, dp_size=8, enable_dp_attention=True), SGLANG,
        {"tp": 8, "dp": 8, "replicas": 1, "num_gpus": 8},
    ),
    "SGLang: a range of lengths is uniform": (
        "sglang", {"random_range_ratio": 0.5}, SGLANG,
        {"length_kind": "uniform", "prefix_cached_frac": NAN,
         "stated": said(num_gpus=None, length_spread="0.5-1")},
    ),
    "SGLang: a data set's lengths are its own": (
        "sglang", {"dataset_name": "sharegpt"}, SGLANG, {"length_kind": "dataset"}),
    "SGLang: a shared prefix has the hit rate that the server counted": (
        "sglang", {"dataset_name": "generated-shared-prefix", "cache_report": {"cache_hit_rate_pct": 40.0}},
        SGLANG, {"length_kind": "fixed", "prefix_cached_frac": 0.4},
    ),
    "aiperf: units are read, not assumed": (
        "aiperf",
        {"time_to_first_token": {"unit": "us", "avg": 60e3, "p50": 58e3},
         "inter_token_latency": {"unit": "sec", "avg": 9e-3, "p50": 8.9e-3}},
        ANSWERS, {"ttft_ms": 58.0, "tpot_ms": 8.9},
    ),
    "genai-perf: its stimulus is the load": (
        "aiperf",
        {"input_config": {"perf_analyzer": {"stimulus": {"request_rate": 3.5}}, "model_names": [MODEL]}},
        ANSWERS, {**OPEN, "model": "llama-3.1-8b"},
    ),
    "guidellm: a Poisson rate below its cap is an open loop": (
        "guidellm", {STRATEGY: {"type_": "poisson", "rate": 3.5, "max_concurrency": 512}}, ANSWERS, OPEN),
    "guidellm: a constant rate is an open loop": (
        "guidellm", {STRATEGY: {"type_": "constant", "rate": 3.5}}, ANSWERS, OPEN),
    "guidellm: throughput without a cap is a burst": (
        "guidellm", {STRATEGY: {"type_": "throughput", "max_concurrency": None}}, ANSWERS,
        {"mode": "offline"},
    ),
    "guidellm: the layout before 0.4 is read": (
        "guidellm",
        {"benchmarks.0.config": None, "benchmarks.0.worker": {"backend_model": MODEL},
         "benchmarks.0.args": {"strategy": {"type_": "concurrent", "streams": 8}}},
        ANSWERS, {"concurrency": 8, "model": "llama-3.1-8b"},
    ),
    "trtllm-bench: an offline run has no TTFT and no requests in flight": (
        "trtllm", {}, {**DATED, "mode": "offline"}, {"ttft_ms": NAN, "concurrency": NAN}),
    "InferenceX: figures per GPU become the system's": (
        "inferencex", {"tp": 2, **HALF, "hw": "h100-cw", "dp_attention": "true"}, DATED,
        {"output_tok_s": OUTPUT_TOK_S, "gpu": "h100-sxm", "num_gpus": 2, "dp": 2, "length_kind": "uniform",
         "stated": said(isl=1024 / 0.9, osl=256 / 0.9, length_spread="0.8-1")},
    ),
    "InferenceX: the output of separate pools is per decode GPU": (
        "inferencex", POOLS, DATED,
        {"output_tok_s": OUTPUT_TOK_S, "total_tok_s": TOTAL_TOK_S, "disagg": 1, "num_gpus": 6,
         "prefill_gpus": 2, "decode_gpus": 4, "prefill_tp": 1, "decode_tp": 4, "decode_dp": 4},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_tool_s_words_come_to_mean_what_ours_do(case: str, read_rows: ReadRows) -> None:
    tool, changes, answers, wanted = CASES[case]
    (row,) = read_rows(sample(tool, changes), answers)
    assert row["codes"] == []
    numbers = {name: value for name, value in wanted.items() if isinstance(value, int | float)}
    assert {name: row[name] for name in numbers} == pytest.approx(numbers, nan_ok=True)
    rest = {name: value for name, value in wanted.items() if name not in numbers}
    assert {name: row[name] for name in rest} == rest


@pytest.mark.parametrize(
    ("tool", "changes", "code"),
    [
        ("vllm", {"completed": 60}, "failed-requests"),
        ("vllm", {"ramp_up_strategy": "linear"}, "rate-changed"),
        ("vllm", {"total_input_sequences": 80}, "embedding"),
        ("vllm", {"mean_ttft_ms": "fast"}, "not-a-number"),
        ("vllm", {"output_throughput": math.inf}, "infinite"),
        ("vllm", {"mean_tpot_ms": -9.0, "median_tpot_ms": -8.9}, "range"),
        ("vllm", {"model_id": "acme/none-7b"}, "name-to-say"),
        ("sglang", {"request_rate": "trace"}, "trace"),
        ("aiperf", {"time_to_first_token.unit": "weeks"}, "unit"),
        ("aiperf", {"was_cancelled": True}, "cut-short"),
        ("guidellm", {STRATEGY: {"type_": "sweep"}}, "load-kind"),
        ("inferencex", {**POOLS, "num_prefill_gpu": 0, "num_decode_gpu": 0}, "pools-unknown"),
        ("mlperf.txt", {"VALID": "INVALID"}, "not-valid"),
        ("mlperf.txt", {"PerformanceOnly": "AccuracyOnly"}, "accuracy-run"),
        ("mlperf.txt", {"Server": "SingleStream"}, "scenario"),
    ],
)
def test_a_run_that_cannot_be_taken_says_why(
    tool: str, changes: Changes, code: str, read_rows: ReadRows
) -> None:
    more = {"mlperf.txt": {"model": "llama-3.1-8b", "isl": 1024}, "sglang": {"engine": "sglang"}}
    (row,) = read_rows(sample(tool, changes), {**ANSWERS, **more.get(tool, {})})
    assert code in row["codes"]


@pytest.mark.parametrize(
    ("tool", "changes", "answers", "flags"),
    [
        ("vllm", {"date": None}, {}, "--gpu --engine --date --weight-precision --tp"),
        ("vllm", {"backend": "openai"}, without("engine"), "--engine"),
        ("vllm", {"backend": "vllm"}, without("engine"), "--engine"),
        ("vllm", {"spec_decode_acceptance_length": 2.4}, ANSWERS, "--spec-decode"),
        ("sglang", {"dataset_name": "generated-shared-prefix"}, SGLANG, "--prefix-cached-frac"),
        ("trtllm", {}, DATED, "--mode"),
    ],
)
def test_what_a_file_leaves_open_is_asked_for_by_flag_and_nothing_is_stored(
    tool: str, changes: Changes, answers: Changes, flags: str, store: BenchmarkStore, take_in: TakeIn
) -> None:
    (report,) = take_in(sample(tool, changes), answers).files
    assert report.missing == tuple(flags.split())
    assert all(flag in report.problem for flag in report.missing)
    assert store.load().empty


def test_several_results_in_a_file_give_a_row_each_with_its_line(take_in: TakeIn) -> None:
    twice = sample("trtllm.log") + sample("trtllm.log", {"8.9000": "8.8000"})
    heads = [number for number, line in enumerate(twice.splitlines(), 1) if line == "= PYTORCH BACKEND"]
    listed = f"[\n{sample('inferencex')},\n{sample('inferencex', mean_tpot=0.0091)}\n]"
    for text, lines in ((twice, heads), (listed, [2, 3])):
        rows = take_in(text, {**DATED, "mode": "closed-loop"}).files[0].rows
        assert [(row.line, row.fate) for row in rows] == [(line, "accepted") for line in lines]


def test_mlperf_s_summary_is_read_with_its_system(store: BenchmarkStore, tmp_path: Path) -> None:
    run = tmp_path / "results/ONE-H100/llama/Server/performance/run_1"
    run.mkdir(parents=True)
    (run / "mlperf_log_summary.txt").write_text(sample("mlperf.txt"))
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems/ONE-H100.json").write_text(sample("mlperf_system"))
    report = ingest([run / "mlperf_log_summary.txt"], store=store.path, answers=MLPERF)
    assert report.counts["accepted"] == 1, report
    row = only_row(store)
    texts = {"gpu": "h100-sxm", "engine": "vllm", "engine_version": "0.19.0", "mode": "server"}
    assert {name: row[name] for name in texts} == texts
    numbers = {"num_gpus": 1, "ttft_ms": 58.0, "tpot_ms": 8.9, "osl": 256, "request_rate": 1.01 * REQUESTS_S}
    assert {name: row[name] for name in numbers} == pytest.approx(numbers, rel=1e-4)


def test_an_mlperf_system_may_be_given_beside_the_summary(store: BenchmarkStore, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(sample("mlperf.txt", {": Server": ": Offline"}))
    (tmp_path / "b.json").write_text(sample("mlperf_system"))
    report = ingest([tmp_path / "a.txt", tmp_path / "b.json"], store=store.path, answers=MLPERF)
    assert report.counts["accepted"] == 1
    assert math.isnan(only_row(store)["tpot_ms"])


def test_a_row_of_the_shared_files_comes_back_from_its_raw_form(
    shared_root: Path, store: BenchmarkStore, take_in: TakeIn
) -> None:
    raw = pd.read_csv(shared_root / "benchmarks/inferencex.csv", low_memory=False)
    row = raw[raw["source"] == "inferencex-app-fixtures"].iloc[0]
    latencies = {
        f"{theirs}_{name}": row[f"{name}_{ours}_ms"] / 1000
        for name in ("ttft", "tpot")
        for theirs, ours in (("mean", "mean"), ("median", "p50"), ("p99", "p99"))
    }
    document = {
        "hw": row.gpu, "conc": float(row.concurrency), "framework": row.engine, "image": row.engine_version,
        "model": "deepseek-ai/DeepSeek-R1-0528", "precision": row.weight_precision, "spec_decoding": "none",
        **{name: float(row[name]) for name in ("isl", "osl", "tp", "ep")}, **latencies,
        "tput_per_gpu": row.total_tput / row.num_gpus, "output_tput_per_gpu": row.output_tput / row.num_gpus,
    }  # fmt: skip
    assert only_report(take_in(json.dumps(document), {"date": row.date})) == ("accepted", "")
    shipped = BenchmarkStore(BenchmarkStore().path).load()
    same = shipped[shipped["row_id"] == row.row_id].iloc[0]
    found = only_row(store)
    assert found["config_group"] == same["config_group"]
    names = ["output_tok_s", "ttft_ms", "tpot_ms", "isl", "osl", "tp", "num_gpus", "replicas"]
    assert [found[name] for name in names] == pytest.approx([same[name] for name in names], rel=1e-6)
