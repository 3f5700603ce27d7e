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
STATED = {"gpu": "h100-sxm", "tp": 1, "weight_precision": "bf16"}
Record = dict[str, Any]
Rows = Callable[..., list[Record]]


@pytest.fixture
def rows(store: BenchmarkStore) -> Rows:
    """Ingest a file of the folder: its rows, all of which must be accepted."""

    def run(name: str, **answers: Any) -> list[Record]:
        report = ingest([REAL / name], store=store.path, answers={**STATED, **answers})
        assert {row.fate for file in report.files for row in file.rows} == {"accepted"}, report
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


def holds(row: Record, rel: float = 1e-6, /, **expected: float) -> None:
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


def totals(run: Record) -> dict[str, float]:
    """Work out a run's lengths and rates from its totals."""
    return {
        "isl": run["total_input_tokens"] / run["completed"],
        "osl": run["total_output_tokens"] / run["completed"],
        "output_tok_s": run["total_output_tokens"] / run["duration"],
        "request_s": run["completed"] / run["duration"],
    }


@pytest.mark.parametrize("path", sorted(REAL.glob("*[!s].[cj]s*")), ids=lambda path: path.name)
def test_a_client_s_file_is_recognised(path: Path) -> None:
    reading = recognise.read(path)
    assert path.name.startswith(reading.tool)
    assert len(reading.drafts) == (2 if reading.tool == "sglang" else 1)


def test_vllm_s_figures_are_those_of_its_requests(rows: Rows) -> None:
    name = "vllm_bench_serve_0.33.0_closed.json"
    (run,) = documents(name)
    (row,) = rows(name, engine="vllm")
    assert (row["model"], row["gpu"], row["tp"]) == (MODEL, "h100-sxm", 1)
    assert load_of(row) == ("closed-loop", run["max_concurrency"])
    assert row["date"] == f"{run['date'][:4]}-{run['date'][4:6]}-{run['date'][6:8]}"
    holds(row, **details(run), e2e_ms=fmean(run["latencies"]) * 1000)


def test_vllm_s_metadata_answers_for_gpu_and_tp(store: BenchmarkStore) -> None:
    answers = {"engine": "vllm", "weight_precision": "bf16"}
    report = ingest([REAL / "vllm_bench_serve_0.33.0_closed.json"], store=store.path, answers=answers)
    assert report.counts["accepted"] == 1


def test_vllm_s_request_rate_is_an_open_loop(rows: Rows) -> None:
    name = "vllm_bench_serve_0.33.0_open.json"
    (run,) = documents(name)
    (row,) = rows(name, engine="vllm")
    assert load_of(row) == ("open-loop", run["request_rate"])
    holds(row, **totals(run), ttft_ms=run["median_ttft_ms"], tpot_ms=run["median_tpot_ms"])


def test_vllm_s_burst_keeps_no_ttft(rows: Rows) -> None:
    name = "vllm_bench_serve_0.33.0_burst.json"
    (run,) = documents(name)
    (row,) = rows(name, engine="vllm")
    assert row["mode"] == "offline"
    holds(row, **totals(run), ttft_ms=math.nan, tpot_ms=run["median_tpot_ms"])


def test_sglang_s_figures_are_those_of_its_requests(rows: Rows) -> None:
    name = "sglang_bench_serving_0.5.23.jsonl"
    closed, rate = documents(name)
    first, second = sorted(rows(name, model=MODEL, date="2026-11-25"), key=lambda row: str(row["mode"]))
    assert load_of(first) == ("closed-loop", closed["max_concurrency"])
    assert (first["engine"], first["engine_version"], first["length_kind"]) == ("sglang", "0.5.23", "fixed")
    planned = closed["total_input_tokens"]  # the client's own count: the server counted input_lens
    total = (planned + sum(closed["output_lens"])) / closed["duration"]
    holds(first, 3e-3, **{**details(closed), "isl": planned / closed["completed"], "total_tok_s": total})
    assert load_of(second) == ("open-loop", rate["request_rate"])
    assert (second["engine"], second["length_kind"]) == ("vllm", "uniform")
    holds(second, **{name: value for name, value in totals(rate).items() if name in ("isl", "osl")})


def test_a_server_that_sglang_s_client_cannot_ask_leaves_model_and_tp_open(
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
    tokens = [one["output_tokens"] for one in requests]
    first = [one["time_to_first_token_ms"] for one in requests]
    whole = [1000 * one["request_latency"] for one in requests]
    holds(
        row,
        1e-2,
        isl=fmean(one["prompt_tokens"] for one in requests),
        osl=fmean(tokens),
        output_tok_s=sum(tokens) / benchmark["duration"],
        request_s=len(requests) / benchmark["duration"],
        **spread("ttft", first),
        **spread("tpot", [(w - f) / (n - 1) for w, f, n in zip(whole, first, tokens, strict=True)]),
    )
    holds(row, e2e_ms=fmean(whole))
    strategy = benchmark["config"]["strategy"]
    if kind == "concurrent":
        assert load_of(row) == ("closed-loop", strategy["streams"])
    else:  # arrivals above the rate asked for are the load
        assert strategy["rate"] == 6.0
        assert load_of(row) == ("open-loop", pytest.approx(row["request_s"]))
        assert row["request_rate"] > 8
        assert (row["notes"], row["weight"]) == ("more requests came than the 6/s asked for", 0.5)


def test_aiperf_s_figures_are_those_of_its_requests(rows: Rows) -> None:
    requests = documents("aiperf_0.13.0_concurrency_requests.jsonl")
    (row,) = rows("aiperf_0.13.0_concurrency.json", engine="vllm")
    assert (row["model"], *load_of(row), row["date"]) == (MODEL, "closed-loop", 4, "2026-11-25")
    first, whole, tokens, inputs = (
        [one["metrics"][name]["value"] for one in requests]
        for name in (
            "time_to_first_token",
            "request_latency",
            "output_sequence_length",
            "input_sequence_length",
        )
    )
    times = [one["metadata"] for one in requests]
    began, ended = min(t["request_start_ns"] for t in times), max(t["request_end_ns"] for t in times)
    holds(
        row,
        isl=fmean(inputs),
        osl=fmean(tokens),
        e2e_ms=fmean(whole),
        **spread("ttft", first),
        **spread("tpot", [(w - f) / (n - 1) for w, f, n in zip(whole, first, tokens, strict=True)]),
    )
    rates = {"output_tok_s": sum(tokens), "total_tok_s": sum(tokens) + sum(inputs)}
    holds(row, 1e-2, **{name: total / (ended - began) * 1e9 for name, total in rates.items()})


def test_aiperf_s_csv_holds_the_same_as_its_json(rows: Rows) -> None:
    (first,) = rows("aiperf_0.13.0_rate.json", engine="vllm")
    assert load_of(first) == ("open-loop", 8)
    (draft,) = recognise.read(REAL / "aiperf_0.13.0_rate.csv").drafts
    names = {"isl": "isl", "osl": "osl", "ttft_ms": "ttft_p50_ms", "ttft_mean_ms": "ttft_mean_ms",
             "tpot_ms": "tpot_p50_ms", "output_tok_s": "output_tput", "request_s": "req_tput",
             "e2e_ms": "e2e_mean_ms"}  # fmt: skip
    holds(first, 2e-3, **{ours: draft[theirs] for ours, theirs in names.items()})
