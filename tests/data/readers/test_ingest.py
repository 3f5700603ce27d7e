"""From files into the store: what is asked, what is kept, what is refused and where that can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from roofcast.data.errors import BadRequest, BadStore, UnknownName
from roofcast.data.ingest import Fabric, ingest
from roofcast.data.store import STORE_VARIABLE, BenchmarkStore
from roofcast.predictor.audit import impossible

from .conftest import ANSWERS, OUTPUT_TOK_S, TOTAL_TOK_S, Changes, ReadRows, TakeIn, only_report, only_row

from .conftest import sample, without  # isort: skip


LLAMA = {"model": "llama-3.1-8b"}
CHECKPOINT = "RedHatAI/Llama-3.1-8B-Instruct-FP8"


@pytest.mark.parametrize(
    ("changes", "answers", "stored"),
    [
        ({"model_id": CHECKPOINT}, {**without("weight_precision"), **LLAMA}, {"weight_precision": "fp8"}),
        (
            {"model_id": "amd/Llama-3.1-8B-Instruct-FP8-KV"},
            without("weight_precision"),
            {**LLAMA, "weight_precision": "fp8", "kv_precision": "fp8"},
        ),
        ({}, {**without("gpu"), "platform": "dgx-h100"}, {"gpu": "h100-sxm"}),
        ({}, {**without("gpu"), "gpu": "1x H100 80GB (Modal)"}, {"gpu": "h100-sxm", "num_gpus": 1.0}),
        ({}, {**without("engine"), "engine": "vLLM 0.9.1"}, {"engine": "vllm", "engine_version": "0.9.1"}),
        ({"model_id": "/mnt/weights/prod"}, {**ANSWERS, **LLAMA}, LLAMA),
        ({}, {**ANSWERS, "disagg": True, "prefill_gpus": 1, "decode_gpus": 1}, {"disagg": 1.0}),
        ({}, {**ANSWERS, "disagg": 1, "prefill_gpus": 1, "decode_gpus": 1}, {"disagg": 1.0}),
        ({}, {**ANSWERS, "disagg": False}, {"disagg": 0.0}),
    ],
    ids=[
        "a checkpoint's precision",
        "its cache's",
        "a platform's GPU",
        "so many GPUs",
        "an engine's version",
        "a path",
        "a truth",
        "a number",
        "an untruth",
    ],
)
def test_what_a_file_leaves_open_is_answered(
    changes: Changes, answers: Changes, stored: Changes, store: BenchmarkStore, take_in: TakeIn
) -> None:
    assert take_in(sample("vllm", changes), answers).counts["accepted"] == 1
    row = only_row(store)
    assert {name: row[name] for name in stored} == stored


def test_a_local_checkpoint_is_stored_as_the_model_of_its_shape(
    store: BenchmarkStore, take_in: TakeIn, tmp_path: Path
) -> None:
    config = json.loads((Path(__file__).parents[1] / "configs.json").read_text())["llama-3.1-8b"]
    quantised = config | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    for name, values in (("mine", quantised), ("pruned", config | {"num_hidden_layers": 24})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(values))
    answers = without("weight_precision")
    refused = only_report(take_in(sample("vllm", {"model_id": f"{tmp_path}/pruned"}), {**ANSWERS}))
    assert refused[0] == "quarantined"
    assert "unknown model" in refused[1]
    assert take_in(sample("vllm", {"model_id": f"{tmp_path}/mine"}), answers).counts["accepted"] == 1
    row = only_row(store)
    assert (row["model"], row["weight_precision"]) == ("llama-3.1-8b", "int4")


def test_the_switch_for_separate_pools_asks_for_their_sizes_and_counts_the_gpus(
    store: BenchmarkStore, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(sample("vllm"))
    line = [sys.executable, *["-m", "roofcast.predictor", "ingest", "--disagg", "--store"]]
    line += [str(store.path), str(tmp_path / "a.json")]
    for name in ("gpu", "engine", "weight_precision", "tp"):
        line += [f"--{name.replace('_', '-')}", str(ANSWERS[name])]
    asked = subprocess.run(line, capture_output=True, text=True, check=False)
    assert asked.returncode == 2
    assert "give --prefill-gpus, --decode-gpus" in asked.stderr
    line += ["--prefill-gpus", "1", "--decode-gpus", "2"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    row = only_row(store)
    expected = {
        "disagg": 1, "prefill_gpus": 1, "decode_gpus": 2, "num_gpus": 3, "tp": 1, "prefill_workers": 1,
        "decode_workers": 2, "output_tok_s": OUTPUT_TOK_S, "total_tok_s": TOTAL_TOK_S, "ttft_ms": 58.0,
        "tpot_ms": 8.9,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"tp": 2}, "the file says tp = 1, --tp 2"),
        ({"isl": 2048}, "the file says isl = 1024, --isl 2048"),
        ({"engine": "vllm"}, "the file says engine = sglang, --engine vllm"),
        ({"model": "qwen2.5-72b"}, "the file says model = llama-3.1-8b, --model qwen2.5-72b"),
    ],
)
def test_an_answer_that_contradicts_the_file_is_refused(
    answers: Changes, reason: str, take_in: TakeIn
) -> None:
    report = take_in(sample("sglang"), {**ANSWERS, "engine": "sglang", **answers})
    assert only_report(report) == ("quarantined", reason)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        *[({"tp": value}, BadRequest) for value in (0, True)],
        *[({name: "red"}, BadRequest) for name in ("mode", "date", "colour")],
        ({"platform": "hgx-b200", "gpu": "h100-sxm"}, BadRequest),
        *[({name: "b20"}, UnknownName) for name in ("gpu", "platform")],
    ],
)
def test_a_wrong_answer_is_refused_before_anything_is_read(
    answers: Changes, error: type[Exception], take_in: TakeIn
) -> None:
    with pytest.raises(error):
        take_in("nothing", answers)


def test_the_same_run_is_stored_once_whichever_tool_reports_it_but_a_repeat_is_one_of_its_own(
    store: BenchmarkStore, take_in: TakeIn
) -> None:
    assert take_in(sample("vllm")).counts["accepted"] == 1
    first = only_row(store)["row_id"]
    again = take_in(sample("aiperf"), {**ANSWERS, "source": "elsewhere"}, name="b.json")
    assert only_report(again) == ("duplicate", f"of {first} (ingested-vllm, 2026-07-01)")
    assert take_in(sample("vllm", median_tpot_ms=8.95)).counts["accepted"] == 1
    assert len(store.load()) == 2


def test_a_copy_within_a_file_names_the_line_it_copies(take_in: TakeIn) -> None:
    ((_, second),) = (file.rows for file in take_in(f"{sample('vllm')}\n{sample('vllm')}").files)
    assert (second.line, second.fate, second.reason) == (2, "duplicate", "of line 1 of the same file")


def test_a_bad_row_lies_in_the_quarantine_with_file_line_and_reason_and_the_others_stay(
    store: BenchmarkStore, take_in: TakeIn, tmp_path: Path
) -> None:
    take_in(sample("vllm", median_tpot_ms=8.8))
    before = store.load()
    changes = [{}, {"completed": 10}, {"max_concurrency": 9, "request_throughput": 3.8}]
    report = take_in("\n".join(sample("vllm", change) for change in changes), name="runs.jsonl")
    assert [row.fate for row in report.files[0].rows] == ["accepted", "quarantined", "accepted"]
    take_in("{")
    assert len(store.load()) == 3
    assert store.load().iloc[:1].equals(before)
    (kept,) = store.quarantine().to_dict("records")
    assert (kept["file"], kept["line"]) == (str(tmp_path / "runs.jsonl"), 2)
    assert kept["reason"] == "only 10 of 80 requests completed"


def test_what_is_faster_than_physics_is_quarantined(take_in: TakeIn) -> None:
    fast = {f"{name}_tpot_ms": 0.9 for name in ("mean", "median", "p99")}
    fast |= {"output_throughput": 8 * 256 / 0.2895, "request_throughput": 8 / 0.2895}
    report = take_in(sample("vllm", fast, total_token_throughput=8 * 1280 / 0.2895), judge=impossible)
    fate, reason = only_report(report)
    assert (fate, "of the least time" in reason) == ("quarantined", True)


def test_latencies_in_another_unit_are_recognised(read_rows: ReadRows) -> None:
    run = json.loads(sample("vllm"))
    seconds = {name: run[name] / 1000 for name in run if name.endswith(("ttft_ms", "tpot_ms"))}
    (row,) = read_rows(sample("vllm", seconds))
    assert [(fault.code, fault.value) for fault in row["faults"]][-1] == ("time-unit", "s")


@pytest.mark.parametrize(
    ("fabric", "fate", "reason"),
    [
        (Fabric(status="healthy"), "accepted", ""),
        (Fabric(status="unknown", reason="no topology"), "accepted", "fabric unknown: no topology"),
        (Fabric(status="degraded", reason="14 of 18"), "quarantined", "fabric degraded: 14 of 18"),
        (Fabric(status="degraded", reason="x", accept_degraded=True), "accepted", "fabric degraded: x"),
    ],
)
def test_rows_from_a_degraded_fabric_stay_out_unless_they_are_accepted(
    fabric: Fabric, fate: str, reason: str, take_in: TakeIn
) -> None:
    report = take_in(sample("vllm"), fabric=fabric)
    assert (*only_report(report), report.fabric) == (fate, reason, fabric.status)


def test_a_file_that_cannot_be_read_does_not_stop_the_others(store: BenchmarkStore, tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text(sample("vllm"))
    (tmp_path / "bad.json").write_text("{]")
    files = [tmp_path / f"{name}.json" for name in ("bad", "none", "good")]
    report = ingest(files, store=store.path, answers=ANSWERS)
    assert report.counts == {"accepted": 1, "duplicate": 0, "quarantined": 0, "unread_files": 2}
    assert [bool(file.problem) for file in report.files] == [True, True, False]
    assert report.files[1].problem == "no such file"


def test_a_new_store_starts_with_the_shipped_rows_whose_own_table_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text(sample("vllm"))
    shipped = BenchmarkStore(BenchmarkStore().path)
    before = shipped.path.read_bytes()
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "sub" / "new.parquet"))
    report = ingest([tmp_path / "a.json"], answers=ANSWERS)
    assert report.store == str(tmp_path / "sub" / "new.parquet")
    assert len(BenchmarkStore(report.store).load()) == len(shipped.load()) + 1
    with pytest.raises(BadStore, match="read-only"):
        ingest([tmp_path / "a.json"], store=shipped.path, answers=ANSWERS)
    assert shipped.path.read_bytes() == before


def test_the_report_is_plain_values(take_in: TakeIn) -> None:
    plain = json.loads(json.dumps(take_in(sample("vllm")).to_dict()))
    assert plain["accepted"] == 1
    (row,) = plain["files"][0]["rows"]
    assert row["what"] == "llama-3.1-8b on 1 x h100-sxm, vllm, closed-loop 8 in flight"
