"""Every tool's file of one run gives the run's row, whatever its units and definitions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from roofcast.data.readers.ingest import ingest
from roofcast.data.store import BenchmarkStore

from .conftest import TakeIn, fates, only_row

ENGINE = {"sglang": "sglang", "trtllm": "trtllm", "trtllm_log": "trtllm"}


@pytest.mark.parametrize(
    "tool", ["vllm", "sglang", "aiperf", "aiperf_csv", "guidellm", "trtllm", "trtllm_log", "inferencex"]
)
def test_every_tool_s_file_of_one_run_gives_the_same_row(
    tool: str, build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    said = {**build.ANSWERS, "engine": ENGINE.get(tool, "vllm")}
    if tool == "aiperf_csv":
        said |= {"model": "llama-3.1-8b", "concurrency": 8}
    if tool.startswith("trtllm") or tool == "aiperf_csv":
        said["mode"] = "closed-loop"
    report = take_in(getattr(build, tool)(), said)
    assert [fate for fate, _ in fates(report)] == ["accepted"]
    row = only_row(store)
    wanted = {
        "model": "llama-3.1-8b", "gpu": "h100-sxm", "engine": said["engine"], "mode": "closed-loop",
        "weight_precision": "bf16", "spec_decode": "none", "date": "2026-07-01", "ttft_stat": "p50",
        "tpot_stat": "p50", "tpot_kind": "tpot",
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    numbers = {"num_gpus": 1, "tp": 1, "replicas": 1, "isl": 1024, "osl": 256, "concurrency": 8}
    assert {name: row[name] for name in numbers} == pytest.approx(numbers)
    figures = {
        "ttft_ms": 58.0,
        "ttft_mean_ms": 60.0,
        "ttft_p99_ms": 90.0,
        "tpot_ms": 8.9,
        "tpot_mean_ms": 9.0,
    }
    figures |= {"output_tok_s": build.OUTPUT_TOK_S, "total_tok_s": build.TOTAL_TOK_S}
    figures |= {"request_s": build.REQUESTS_S}
    assert {name: row[name] for name in figures} == pytest.approx(figures, rel=2e-3)
    assert math.isnan(row["e2e_ms"]) or row["e2e_ms"] == pytest.approx(2355.0)


@pytest.mark.parametrize(
    ("settings", "mode", "load", "stated"),
    [
        ({"max_concurrency": None}, "offline", math.nan, "all requests at once"),
        ({"max_concurrency": 80}, "static-batch", 80.0, ""),
        ({"request_rate": 3.5, "max_concurrency": None}, "open-loop", 3.5, ""),
        ({"request_rate": 3.5, "max_concurrency": 64}, "open-loop", 3.5, ""),
        ({"request_rate": 50.0, "max_concurrency": 8}, "closed-loop", 8.0, "held at the cap"),
        ({"request_rate": 9.0, "max_concurrency": None}, "open-loop", 9.0, "served fewer"),
    ],
)
def test_the_client_s_settings_decide_the_mode(
    settings: dict[str, Any],
    mode: str,
    load: float,
    stated: str,
    build: SimpleNamespace,
    store: BenchmarkStore,
    take_in: TakeIn,
) -> None:
    speeds = {"output_throughput": 8695.0, "request_throughput": 34.0, "total_token_throughput": 43480.0}
    report = take_in(build.vllm(**settings, **(speeds if mode == "static-batch" else {})))
    assert [fate for fate, _ in fates(report)] == ["accepted"], fates(report)
    row = only_row(store)
    assert row["mode"] == mode
    given = row["request_rate"] if mode == "open-loop" else row["concurrency"]
    assert given == pytest.approx(load, nan_ok=True)
    assert stated in row["notes"]
    assert math.isnan(row["ttft_ms"]) == (mode == "offline")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"completed": 60}, "only 60 of 80 requests completed"),
        ({"ramp_up_strategy": "linear"}, "the request rate changed"),
        ({"total_input_sequences": 80}, "an embedding benchmark"),
        ({"mean_ttft_ms": "fast"}, "mean_ttft_ms: 'fast' is no number"),
        ({"output_throughput": float("inf")}, "output_throughput: infinite"),
        ({"mean_tpot_ms": -9.0, "median_tpot_ms": -8.9}, "tpot_ms out of range"),
        ({"model_id": "acme/none-7b"}, "unknown model 'acme/none-7b'"),
    ],
)
def test_a_vllm_run_that_cannot_be_taken_says_why(
    changes: dict[str, Any], reason: str, build: SimpleNamespace, take_in: TakeIn
) -> None:
    ((fate, why),) = fates(take_in(build.vllm(**changes)))
    assert fate == "quarantined"
    assert reason in why


def test_an_api_shared_by_engines_names_none(build: SimpleNamespace, take_in: TakeIn) -> None:
    said = {name: value for name, value in build.ANSWERS.items() if name != "engine"}
    for backend in ("openai", "vllm"):
        assert take_in(build.vllm(backend=backend), said).files[0].missing == ("--engine",)
    assert take_in(build.vllm(backend="tensorrt-llm"), said).counts["accepted"] == 1


def test_speculation_that_a_file_shows_must_be_named(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    run = build.vllm(spec_decode_acceptance_length=2.4)
    assert take_in(run).files[0].missing == ("--spec-decode",)
    take_in(run, {**build.ANSWERS, "spec_decode": "eagle"})
    assert only_row(store)["spec_decode"] == "eagle"


def test_latencies_between_chunks_stand_in_for_tpot_only_without_speculation(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    run = {name: value for name, value in build.vllm().items() if "tpot" not in name}
    take_in(run)
    assert only_row(store)["tpot_kind"] == "itl"
    assert only_row(store)["tpot_ms"] == 9.0  # the mean: the median leaves out stalled steps
    take_in(
        {**run, "max_concurrency": 9, "spec_decode_acceptance_length": 3.0},
        {**build.ANSWERS, "spec_decode": "mtp"},
    )
    assert store.load()["tpot_ms"].isna().sum() == 1


def test_what_sglang_s_server_says_of_itself_is_used(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    run = build.sglang()
    run["server_info"] |= {"tp_size": 4, "dp_size": 2, "quantization": "fp8", "version": "0.5.9"}
    take_in(run, {"gpu": "h100-sxm", "date": "2026-07-01"})
    row = only_row(store)
    assert (row["tp"], row["dp"], row["replicas"], row["num_gpus"]) == (4, 1, 2, 8)
    assert (row["weight_precision"], row["engine_version"]) == ("fp8", "0.5.9")


def test_attention_data_parallel_lies_inside_tp(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    run = build.sglang()
    run["server_info"] |= {"tp_size": 8, "dp_size": 8, "enable_dp_attention": True}
    take_in(run, {"gpu": "h100-sxm", "date": "2026-07-01", "weight_precision": "bf16"})
    assert tuple(store.load().loc[0, ["tp", "dp", "replicas", "num_gpus"]]) == (8, 8, 1, 8)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"dataset_name": "random", "random_range_ratio": 0.5}, "uniform"),
        ({"dataset_name": "sharegpt"}, "dataset"),
        ({"dataset_name": "generated-shared-prefix", "cache_report": {"cache_hit_rate_pct": 40.0}}, "fixed"),
    ],
)
def test_sglang_s_data_set_decides_the_kind_of_lengths(
    data: dict[str, Any], kind: str, build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    take_in(build.sglang(**data), {"gpu": "h100-sxm", "date": "2026-07-01", "weight_precision": "bf16"})
    row = only_row(store)
    assert row["length_kind"] == kind
    assert row["prefix_cached_frac"] == pytest.approx(0.4 if kind == "fixed" else math.nan, nan_ok=True)


def test_a_shared_prefix_without_a_hit_rate_is_asked_for(build: SimpleNamespace, take_in: TakeIn) -> None:
    report = take_in(
        build.sglang(dataset_name="generated-shared-prefix"), {**build.ANSWERS, "engine": "sglang"}
    )
    assert report.files[0].missing == ("--prefix-cached-frac",)


def test_aiperf_s_units_are_read_not_assumed(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    take_in(build.aiperf(unit="ns", scale=1e6))
    assert only_row(store)["ttft_ms"] == pytest.approx(58.0)
    ((fate, reason),) = fates(take_in(build.aiperf(unit="weeks")))
    assert (fate, "unknown unit 'weeks'" in reason) == ("quarantined", True)


def test_genai_perf_s_stimulus_is_the_load(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    said = {"perf_analyzer": {"stimulus": {"request_rate": 3.5}}, "model_names": [build.MODEL]}
    take_in(build.aiperf(input_config=said))
    assert (only_row(store)["mode"], only_row(store)["request_rate"]) == ("open-loop", 3.5)


def test_a_run_cut_short_is_refused(build: SimpleNamespace, take_in: TakeIn) -> None:
    ((fate, reason),) = fates(take_in(build.aiperf(was_cancelled=True)))
    assert (fate, reason) == ("quarantined", "the run was cut short")


@pytest.mark.parametrize(
    ("strategy", "mode"),
    [
        ({"type_": "poisson", "rate": 3.5, "max_concurrency": 512}, "open-loop"),
        ({"type_": "throughput", "max_concurrency": None}, "offline"),
        ({"type_": "constant", "rate": 3.5}, "open-loop"),
    ],
)
def test_guidellm_s_strategy_is_the_load(
    strategy: dict[str, Any], mode: str, build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    take_in(build.guidellm(strategy))
    assert only_row(store)["mode"] == mode


def test_guidellm_s_earlier_layout_is_read(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    report = build.guidellm()
    (benchmark,) = report["benchmarks"]
    config = benchmark.pop("config")
    report["benchmarks"] = [{**benchmark, "args": config, "worker": {"backend_model": build.MODEL}}]
    take_in(report)
    assert only_row(store)["concurrency"] == 8


def test_trtllm_bench_leaves_the_mode_to_be_said(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    assert take_in(build.trtllm(), {"date": "2026-07-01"}).files[0].missing == ("--mode",)
    take_in(build.trtllm(), {"date": "2026-07-01", "mode": "offline"})
    row = only_row(store)
    assert math.isnan(row["ttft_ms"])
    assert math.isnan(row["concurrency"])


def test_a_log_of_several_reports_gives_a_row_each(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    twice = build.trtllm_log() + build.trtllm_log().replace("8.9000", "8.8000")
    report = take_in(twice, {"date": "2026-07-01", "mode": "closed-loop"}, name="bench.log")
    heads = [number for number, line in enumerate(twice.splitlines(), 1) if line == "= PYTORCH BACKEND"]
    assert [row.line for row in report.files[0].rows] == heads
    assert report.counts["accepted"] == 2


def test_inferencex_s_figures_per_gpu_become_the_system_s(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    run = build.inferencex(
        tp=2, tput_per_gpu=build.TOTAL_TOK_S / 2, output_tput_per_gpu=build.OUTPUT_TOK_S / 2
    )
    take_in({**run, "hw": "h100-cw", "dp_attention": "true"}, {"date": "2026-07-01"})
    row = only_row(store)
    assert row["output_tok_s"] == pytest.approx(build.OUTPUT_TOK_S)
    assert (row["gpu"], row["num_gpus"], row["dp"], row["length_kind"]) == ("h100-sxm", 2, 2, "uniform")


def test_inferencex_divides_the_output_of_separate_pools_by_the_decode_gpus(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    pools = {
        "is_multinode": True, "disagg": True, "num_prefill_gpu": 2, "num_decode_gpu": 4, "prefill_tp": 1,
        "prefill_ep": 1, "prefill_dp_attention": "false", "prefill_num_workers": 2, "decode_tp": 4,
        "decode_ep": 1, "decode_dp_attention": "true", "decode_num_workers": 1,
        "tput_per_gpu": build.TOTAL_TOK_S / 6, "output_tput_per_gpu": build.OUTPUT_TOK_S / 4,
    }  # fmt: skip
    take_in(build.inferencex(**pools), {"date": "2026-07-01"})
    row = only_row(store)
    assert row["output_tok_s"] == pytest.approx(build.OUTPUT_TOK_S)
    assert row["total_tok_s"] == pytest.approx(build.TOTAL_TOK_S)
    layout = ["disagg", "num_gpus", "prefill_gpus", "decode_gpus", "prefill_tp", "decode_tp", "decode_dp"]
    assert [row[name] for name in layout] == [1, 6, 2, 4, 1, 4, 4]


def test_a_list_of_results_gives_a_row_each_with_its_line(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    runs = (
        "[\n"
        + json.dumps(build.inferencex())
        + ",\n"
        + json.dumps(build.inferencex(mean_tpot=0.0091))
        + "\n]"
    )
    report = take_in(runs, {"date": "2026-07-01"})
    assert [(row.line, row.fate) for row in report.files[0].rows] == [(2, "accepted"), (3, "accepted")]


def test_mlperf_s_summary_is_read_with_its_system(
    build: SimpleNamespace, store: BenchmarkStore, tmp_path: Path
) -> None:
    run = tmp_path / "results/ONE-H100/llama/Server/performance/run_1"
    run.mkdir(parents=True)
    (run / "mlperf_log_summary.txt").write_text(build.mlperf())
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems/ONE-H100.json").write_text(json.dumps(build.mlperf_system()))
    said = {"model": "llama-3.1-8b", "isl": 1024, "weight_precision": "bf16", "date": "2026-07"}
    report = ingest([run / "mlperf_log_summary.txt"], store=store.path, answers=said)
    assert report.counts["accepted"] == 1, report
    row = only_row(store)
    assert (row["gpu"], row["num_gpus"], row["engine"], row["engine_version"]) == (
        "h100-sxm", 1, "vllm", "0.19.0",
    )  # fmt: skip
    assert (row["mode"], row["ttft_ms"], row["tpot_ms"]) == ("server", 58.0, 8.9)
    assert row["osl"] == pytest.approx(256, rel=1e-4)
    assert row["request_rate"] == pytest.approx(1.01 * build.REQUESTS_S, rel=1e-4)


def test_an_mlperf_system_may_be_given_beside_the_summary(
    build: SimpleNamespace, store: BenchmarkStore, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(build.mlperf("Offline"))
    (tmp_path / "b.json").write_text(json.dumps(build.mlperf_system()))
    said = {"model": "llama-3.1-8b", "isl": 1024, "weight_precision": "bf16", "date": "2026-07"}
    report = ingest([tmp_path / "a.txt", tmp_path / "b.json"], store=store.path, answers=said)
    assert report.counts["accepted"] == 1
    assert math.isnan(only_row(store)["tpot_ms"])


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"result": "INVALID"}, "the result is INVALID"),
        ({"mode": "AccuracyOnly"}, "not a performance run"),
        ({"scenario": "SingleStream"}, "neither Server nor Offline"),
    ],
)
def test_mlperf_runs_that_do_not_count_are_refused(
    how: dict[str, str], reason: str, build: SimpleNamespace, take_in: TakeIn
) -> None:
    ((fate, why),) = fates(take_in(build.mlperf(**how), {}, name="mlperf_log_summary.txt"))
    assert (fate, reason in why) == ("quarantined", True)


def test_a_row_of_the_shared_files_comes_back_from_its_raw_form(
    shared_root: Path, build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    raw = pd.read_csv(shared_root / "benchmarks/inferencex.csv", low_memory=False)
    row = raw[raw["source"] == "inferencex-app-fixtures"].iloc[0]
    per_gpu = {
        "tput_per_gpu": row.total_tput / row.num_gpus,
        "output_tput_per_gpu": row.output_tput / row.num_gpus,
    }
    latencies = {
        f"{'median' if s == 'p50' else s}_{name}": row[f"{name}_{s}_ms"] / 1000
        for name in ("ttft", "tpot")
        for s in ("mean", "p50", "p99")
    }
    document = {
        "hw": row.gpu, "conc": float(row.concurrency), "framework": row.engine, "image": row.engine_version,
        "model": "deepseek-ai/DeepSeek-R1-0528", "precision": row.weight_precision, "spec_decoding": "none",
        **{name: float(row[name]) for name in ("isl", "osl", "tp", "ep")}, **per_gpu, **latencies,
    }  # fmt: skip
    take_in(document, {"date": row.date})
    shipped = BenchmarkStore(BenchmarkStore().path).load()
    same = shipped[shipped["row_id"] == row.row_id].iloc[0]
    assert only_row(store)["config_group"] == same["config_group"]
    names = ["output_tok_s", "ttft_ms", "tpot_ms", "isl", "osl", "tp", "num_gpus", "replicas"]
    for name in names:
        assert only_row(store)[name] == pytest.approx(same[name], rel=1e-6), name
