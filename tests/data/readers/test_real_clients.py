"""Files written by the tools' own clients give rows with the figures of the requests in them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
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
VLLM, SGLANG = "vllm_bench_serve_0.33.0_{}.json", "sglang_bench_serving_0.5.23.jsonl"
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


def figures(requests: Iterable[tuple[float, ...]], seconds: float) -> Record:
    """Work out a run from its requests: tokens in and out, ms to the first and to the last token."""
    inputs, tokens, first, whole = zip(*requests, strict=True)
    per_token = [(w - f) / (n - 1) for w, f, n in zip(whole, first, tokens, strict=True)]
    spread = {"ttft": first, "tpot": per_token}
    return {
        "isl": fmean(inputs), "osl": fmean(tokens), "e2e_ms": fmean(whole),
        "output_tok_s": sum(tokens) / seconds, "total_tok_s": (sum(inputs) + sum(tokens)) / seconds,
        "request_s": len(tokens) / seconds,
        **{f"{name}_ms": median(values) for name, values in spread.items()},
        **{f"{name}_mean_ms": fmean(values) for name, values in spread.items()},
    }  # fmt: skip


def of_gaps(run: Record, inputs: Iterable[float]) -> Record:
    """Work out a run of vLLM's client or its kin, which keeps the gaps between chunks, one token each."""
    assert [len(gaps) + 1 for gaps in run["itls"]] == run["output_lens"]
    first = [1000 * one for one in run["ttfts"]]
    whole = [f + 1000 * sum(gaps) for f, gaps in zip(first, run["itls"], strict=True)]
    return figures(zip(inputs, run["output_lens"], first, whole, strict=True), run["duration"])


def of_totals(run: Record) -> Record:
    """Work out lengths and rates from a run's totals; medians are the client's own."""
    tokens = {f"{way[0]}sl": run[f"total_{way}_tokens"] / run["completed"] for way in ("input", "output")}
    rates = {"output_tok_s": run["total_output_tokens"], "request_s": run["completed"]}
    medians = {f"{name}_ms": run[f"median_{name}_ms"] for name in ("ttft", "tpot")}
    return {**tokens, **medians, **{name: total / run["duration"] for name, total in rates.items()}}


def of_guidellm(benchmark: Record) -> Record:
    names = ("prompt_tokens", "output_tokens", "time_to_first_token_ms")
    requests = benchmark["requests"]["successful"]
    each = [(*(one[name] for name in names), 1000 * one["request_latency"]) for one in requests]
    found = figures(each, benchmark["duration"])
    return {name: value for name, value in found.items() if name != "total_tok_s"}


def of_aiperf(requests: list[Record]) -> Record:
    names = ("input_sequence_length", "output_sequence_length", "time_to_first_token", "request_latency")
    each = [tuple(one["metrics"][name]["value"] for name in names) for one in requests]
    times = [one["metadata"] for one in requests]
    began, ended = min(t["request_start_ns"] for t in times), max(t["request_end_ns"] for t in times)
    return figures(each, (ended - began) / 1e9)


def holds(row: Record, load: tuple[str, float], rel: float, expected: Record) -> None:
    """Assert that a row has this mode with its load, and these figures."""
    stated = {"open-loop": "request_rate"}.get(row["mode"], "concurrency")
    assert (row["mode"], row[stated]) == (load[0], pytest.approx(load[1], nan_ok=True))
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=rel, nan_ok=True)


@pytest.mark.parametrize("path", sorted(REAL.glob("*[!s].[cj]s*")), ids=lambda path: path.name)
def test_a_client_s_file_is_recognised(path: Path) -> None:
    reading = recognise.read(path)
    assert path.name.startswith(reading.tool)
    assert len(reading.drafts) == (2 if reading.tool == "sglang" else 1)


@pytest.mark.parametrize("kind", ["closed", "open", "burst"])
def test_vllm_s_figures_are_those_of_its_requests(kind: str, rows: Rows) -> None:
    (run,) = documents(VLLM.format(kind))
    (row,) = rows(VLLM.format(kind), engine="vllm")
    date = f"{run['date'][:4]}-{run['date'][4:6]}-{run['date'][6:8]}"
    assert (row["model"], row["gpu"], row["tp"], row["date"]) == (MODEL, "h100-sxm", 1, date)
    if kind == "closed":
        whole = {"e2e_ms": fmean(run["latencies"]) * 1000}
        expected = {**of_gaps(run, run["input_lens"]), **whole}
        holds(row, ("closed-loop", run["max_concurrency"]), 1e-6, expected)
    elif kind == "open":
        holds(row, ("open-loop", run["request_rate"]), 1e-6, of_totals(run))
    else:
        holds(row, ("offline", run["num_prompts"]), 1e-6, of_totals(run))


def test_sglang_s_figures_are_those_of_its_requests(rows: Rows) -> None:
    closed, rate = documents(SGLANG)
    first, second = sorted(rows(SGLANG, model=MODEL, date="2026-11-25"), key=lambda row: str(row["mode"]))
    stated = ("engine", "engine_version", "length_kind")
    assert [first[name] for name in stated] == ["sglang", "0.5.23", "fixed"]
    planned = closed["total_input_tokens"] / closed["completed"]  # the server counted input_lens
    expected = of_gaps(closed, [planned] * closed["completed"])
    del expected["e2e_ms"]
    holds(first, ("closed-loop", closed["max_concurrency"]), 3e-3, expected)
    assert (second["engine"], second["length_kind"]) == ("vllm", "uniform")
    lengths = {name: value for name, value in of_totals(rate).items() if name in ("isl", "osl")}
    holds(second, ("open-loop", rate["request_rate"]), 1e-6, lengths)


def test_vllm_s_metadata_answers_for_gpu_and_tp_but_sglang_s_client_leaves_other_servers_open(
    store: BenchmarkStore, tmp_path: Path
) -> None:
    answers = {"engine": "vllm", "weight_precision": "bf16"}
    report = ingest([REAL / VLLM.format("closed")], store=store.path, answers=answers)
    assert report.counts["accepted"] == 1
    (tmp_path / "a.jsonl").write_text(json.dumps(documents(SGLANG)[1]), encoding="utf-8")
    report = ingest([tmp_path / "a.jsonl"], store=store.path)
    assert report.files[0].missing == ("--gpu", "--model", "--date", "--weight-precision", "--tp")


@pytest.mark.parametrize("kind", ["concurrent", "poisson"])
def test_guidellm_s_figures_are_those_of_its_requests(kind: str, rows: Rows) -> None:
    ((benchmark,),) = (document["benchmarks"] for document in documents(f"guidellm_0.8.1_{kind}.json"))
    (row,) = rows(f"guidellm_0.8.1_{kind}.json", engine="vllm")
    expected, strategy = of_guidellm(benchmark), benchmark["config"]["strategy"]
    load = ("closed-loop", strategy.get("streams", math.nan))
    if kind == "poisson":  # arrivals above the rate asked for are the load
        load = ("open-loop", row["request_s"])
        assert (strategy["rate"], row["request_rate"] > 8, row["weight"]) == (6.0, True, 0.5)
        assert row["notes"] == "more requests came than the 6/s asked for"
    holds(row, load, 1e-2, expected)
    holds(row, load, 1e-6, {"e2e_ms": expected["e2e_ms"]})


def test_aiperf_s_figures_are_those_of_its_requests(rows: Rows) -> None:
    expected = of_aiperf(documents("aiperf_0.13.0_concurrency_requests.jsonl"))
    (row,) = rows("aiperf_0.13.0_concurrency.json", engine="vllm")
    assert (row["model"], row["date"]) == (MODEL, "2026-11-25")
    rates = {name: expected.pop(name) for name in ("output_tok_s", "total_tok_s", "request_s")}
    holds(row, ("closed-loop", 4), 1e-6, expected)
    holds(row, ("closed-loop", 4), 1e-2, rates)


def test_aiperf_s_csv_holds_the_same_as_its_json(rows: Rows) -> None:
    (first,) = rows("aiperf_0.13.0_rate.json", engine="vllm")
    (draft,) = recognise.read(REAL / "aiperf_0.13.0_rate.csv").drafts
    names = {"isl": "isl", "osl": "osl", "ttft_ms": "ttft_p50_ms", "ttft_mean_ms": "ttft_mean_ms",
             "tpot_ms": "tpot_p50_ms", "output_tok_s": "output_tput", "request_s": "req_tput",
             "e2e_ms": "e2e_mean_ms"}  # fmt: skip
    holds(first, ("open-loop", 8), 2e-3, {ours: draft[theirs] for ours, theirs in names.items()})
