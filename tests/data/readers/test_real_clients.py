"""Files written by the tools' own clients give rows with the figures of the requests in them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest

from roofcast.data.ingest import ingest
from roofcast.data.readers import recognise
from roofcast.data.store import BenchmarkStore

REAL = Path(__file__).parent / "real"
MODEL = "llama-3.1-8b"
SAID = {"gpu": "h100-sxm", "tp": 1, "weight_precision": "bf16"}
Rows = Callable[..., list[dict[str, Any]]]
Record = dict[str, Any]


@pytest.fixture
def rows(store: BenchmarkStore) -> Rows:
    """Ingest a file of the folder: its rows, all of which must be accepted."""

    def run(name: str, **said: Any) -> list[dict[str, Any]]:
        report = ingest([REAL / name], store=store.path, answers={**SAID, **said})
        fates = [row.fate for file in report.files for row in file.rows]
        assert set(fates) == {"accepted"}, report
        return list(store.load().to_dict("records"))

    return run


def documents(name: str) -> list[Record]:
    """Return the records of a file, one JSON document a line."""
    return [json.loads(line) for line in (REAL / name).read_text(encoding="utf-8").splitlines()]


def spread(column: str, values: list[float]) -> dict[str, float]:
    """Return the expected median and mean of a latency, in ms."""
    return {f"{column}_ms": median(values), f"{column}_mean_ms": fmean(values)}


def load_of(row: Record) -> tuple[str, float]:
    """Return a row's mode and the load that belongs to it."""
    return row["mode"], row["request_rate" if row["mode"] == "open-loop" else "concurrency"]


def holds(row: Record, expected: dict[str, float], rel: float = 1e-6) -> None:
    """Assert that a row has these figures."""
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=rel, nan_ok=True)


def details(run: Record) -> dict[str, float]:
    """Work out a run's figures from its requests: lengths in tokens, times in s, gaps between chunks in s."""
    times = [first + sum(gaps) for first, gaps in zip(run["ttfts"], run["itls"], strict=True)]
    tokens = run["output_lens"]
    assert [len(gaps) + 1 for gaps in run["itls"]] == tokens  # one token a chunk
    per_token = zip(times, run["ttfts"], tokens, strict=True)
    return {
        "isl": fmean(run["input_lens"]),
        "osl": fmean(tokens),
        "output_tok_s": sum(tokens) / run["duration"],
        "total_tok_s": (sum(tokens) + sum(run["input_lens"])) / run["duration"],
        "request_s": len(tokens) / run["duration"],
        **spread("ttft", [first * 1000 for first in run["ttfts"]]),
        **spread("tpot", [(time - first) / (n - 1) * 1000 for time, first, n in per_token]),
    }


@pytest.mark.parametrize(
    ("name", "tool", "number"),
    [
        ("vllm_bench_serve_0.33.0_closed.json", "vllm", 1),
        ("vllm_bench_serve_0.33.0_open.json", "vllm", 1),
        ("vllm_bench_serve_0.33.0_burst.json", "vllm", 1),
        ("sglang_bench_serving_0.5.23.jsonl", "sglang", 2),
        ("guidellm_0.8.1_concurrent.json", "guidellm", 1),
        ("guidellm_0.8.1_poisson.json", "guidellm", 1),
        ("aiperf_0.13.0_concurrency.json", "aiperf", 1),
        ("aiperf_0.13.0_rate.json", "aiperf", 1),
        ("aiperf_0.13.0_rate.csv", "aiperf", 1),
    ],
)
def test_a_client_s_file_is_recognised(name: str, tool: str, number: int) -> None:
    reading = recognise.read(REAL / name)
    assert (reading.tool, len(reading.drafts)) == (tool, number)


def test_vllm_s_figures_are_those_of_its_requests(rows: Rows) -> None:
    name = "vllm_bench_serve_0.33.0_closed.json"
    (run,) = documents(name)
    (row,) = rows(name, engine="vllm")
    assert (row["model"], row["gpu"], row["tp"]) == (MODEL, "h100-sxm", 1)
    assert load_of(row) == ("closed-loop", run["max_concurrency"])
    assert row["date"] == f"{run['date'][:4]}-{run['date'][4:6]}-{run['date'][6:8]}"
    holds(row, details(run))
    assert row["e2e_ms"] == pytest.approx(fmean(run["latencies"]) * 1000)


def test_vllm_s_metadata_answers_for_gpu_and_tp(store: BenchmarkStore) -> None:
    said = {"engine": "vllm", "weight_precision": "bf16"}
    name = "vllm_bench_serve_0.33.0_closed.json"
    assert ingest([REAL / name], store=store.path, answers=said).counts["accepted"] == 1


def test_vllm_s_request_rate_is_an_open_loop(rows: Rows) -> None:
    name = "vllm_bench_serve_0.33.0_open.json"
    (run,) = documents(name)
    (row,) = rows(name, engine="vllm")
    assert load_of(row) == ("open-loop", run["request_rate"])
    holds(
        row,
        {
            "isl": run["total_input_tokens"] / run["completed"],
            "osl": run["total_output_tokens"] / run["completed"],
            "output_tok_s": run["total_output_tokens"] / run["duration"],
            "request_s": run["completed"] / run["duration"],
            "ttft_ms": run["median_ttft_ms"],
            "tpot_ms": run["median_tpot_ms"],
        },
    )


def test_vllm_s_burst_keeps_no_ttft(rows: Rows) -> None:
    name = "vllm_bench_serve_0.33.0_burst.json"
    (run,) = documents(name)
    (row,) = rows(name, engine="vllm")
    assert row["mode"] == "offline"
    holds(row, {"ttft_ms": math.nan, "tpot_ms": run["median_tpot_ms"]})
    holds(row, {"output_tok_s": run["total_output_tokens"] / run["duration"]})


def test_sglang_s_figures_are_those_of_its_requests(rows: Rows) -> None:
    name = "sglang_bench_serving_0.5.23.jsonl"
    closed, rate = documents(name)
    first, second = sorted(rows(name, model=MODEL, date="2026-11-25"), key=lambda row: row["mode"])
    assert load_of(first) == ("closed-loop", closed["max_concurrency"])
    assert (first["engine"], first["engine_version"], first["length_kind"]) == ("sglang", "0.5.23", "fixed")
    planned = closed["total_input_tokens"]  # the client's own count: the server counted input_lens
    sent = {"isl": planned / closed["completed"]}
    sent["total_tok_s"] = (planned + sum(closed["output_lens"])) / closed["duration"]
    holds(first, details(closed) | sent, rel=3e-3)
    assert load_of(second) == ("open-loop", rate["request_rate"])
    assert (second["engine"], second["length_kind"]) == ("vllm", "uniform")
    lengths = {"isl": rate["total_input_tokens"], "osl": rate["total_output_tokens"]}
    holds(second, {name: total / rate["completed"] for name, total in lengths.items()})


def test_a_server_that_sglang_s_client_cannot_ask_leaves_model_and_tp_to_be_said(
    store: BenchmarkStore, tmp_path: Path
) -> None:
    line = (REAL / "sglang_bench_serving_0.5.23.jsonl").read_text(encoding="utf-8").splitlines()[1]
    (tmp_path / "a.jsonl").write_text(line, encoding="utf-8")
    report = ingest([tmp_path / "a.jsonl"], store=store.path)
    assert report.files[0].missing == ("--gpu", "--model", "--date", "--weight-precision", "--tp")


@pytest.mark.parametrize("kind", ["concurrent", "poisson"])
def test_guidellm_s_figures_are_those_of_its_requests(kind: str, rows: Rows) -> None:
    name = f"guidellm_0.8.1_{kind}.json"
    ((benchmark,),) = (document["benchmarks"] for document in documents(name))
    requests = benchmark["requests"]["successful"]
    (row,) = rows(name, engine="vllm")
    tokens = sum(one["output_tokens"] for one in requests)
    after_first = [
        (1000 * one["request_latency"] - one["time_to_first_token_ms"]) / (one["output_tokens"] - 1)
        for one in requests
    ]
    holds(
        row,
        {
            "isl": fmean(one["prompt_tokens"] for one in requests),
            "osl": tokens / len(requests),
            "output_tok_s": tokens / benchmark["duration"],
            "request_s": len(requests) / benchmark["duration"],
            **spread("ttft", [one["time_to_first_token_ms"] for one in requests]),
            **spread("tpot", after_first),
        },
        rel=1e-2,
    )
    assert row["e2e_ms"] == pytest.approx(1000 * fmean(one["request_latency"] for one in requests))
    if kind == "concurrent":
        assert load_of(row) == ("closed-loop", benchmark["config"]["strategy"]["streams"])


def test_arrivals_above_the_rate_asked_for_are_the_load(rows: Rows) -> None:
    name = "guidellm_0.8.1_poisson.json"
    ((benchmark,),) = (document["benchmarks"] for document in documents(name))
    (row,) = rows(name, engine="vllm")
    assert benchmark["config"]["strategy"]["rate"] == 6.0
    assert load_of(row) == ("open-loop", pytest.approx(row["request_s"]))
    assert row["request_rate"] > 8
    assert row["notes"] == "more requests came than the 6/s asked for"
    assert row["weight"] == 0.5


def test_aiperf_s_figures_are_those_of_its_requests(rows: Rows) -> None:
    name = "aiperf_0.13.0_concurrency.json"
    requests = [one["metrics"] for one in documents("aiperf_0.13.0_concurrency_requests.jsonl")]
    times = [one["metadata"] for one in documents("aiperf_0.13.0_concurrency_requests.jsonl")]
    (row,) = rows(name, engine="vllm")
    assert (row["model"], *load_of(row)) == (MODEL, "closed-loop", 4)
    assert row["date"] == "2026-11-25"
    first = [one["time_to_first_token"]["value"] for one in requests]
    whole = [one["request_latency"]["value"] for one in requests]
    tokens = [one["output_sequence_length"]["value"] for one in requests]
    after_first = [(w - f) / (n - 1) for w, f, n in zip(whole, first, tokens, strict=True)]
    ends = [one["request_end_ns"] for one in times]
    duration = (max(ends) - min(one["request_start_ns"] for one in times)) / 1e9
    inputs = [one["input_sequence_length"]["value"] for one in requests]
    lengths = {"isl": fmean(inputs), "osl": fmean(tokens), "e2e_ms": fmean(whole)}
    holds(row, {**lengths, **spread("ttft", first), **spread("tpot", after_first)})
    totals = {"output_tok_s": sum(tokens), "total_tok_s": sum(tokens) + sum(inputs)}
    holds(row, {name: total / duration for name, total in totals.items()}, rel=1e-2)


def test_aiperf_s_csv_tells_the_same_as_its_json(rows: Rows, store: BenchmarkStore) -> None:
    (first,) = rows("aiperf_0.13.0_rate.json", engine="vllm")
    assert load_of(first) == ("open-loop", 8)
    (reading,) = recognise.read(REAL / "aiperf_0.13.0_rate.csv").drafts
    names = {"isl": "isl", "osl": "osl", "ttft_ms": "ttft_p50_ms", "ttft_mean_ms": "ttft_mean_ms",
             "tpot_ms": "tpot_p50_ms", "output_tok_s": "output_tput", "request_s": "req_tput",
             "e2e_ms": "e2e_mean_ms"}  # fmt: skip
    assert {ours: reading[raw] for ours, raw in names.items()} == pytest.approx(
        {ours: first[ours] for ours in names}, rel=2e-3
    )
