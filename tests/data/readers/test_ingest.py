"""From files into the store: what is asked, what is kept, what is refused and where that can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from roofcast.data.errors import BadRequest, BadStore, UnknownName
from roofcast.data.readers.ingest import Fabric, IngestReport, ingest
from roofcast.data.store import STORE_VARIABLE, BenchmarkStore

TakeIn = Callable[..., IngestReport]


def test_what_a_file_does_not_say_is_asked_for_by_flag_and_nothing_is_stored(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    (report,) = take_in(build.vllm(date=None), {}).files
    assert report.missing == ("--gpu", "--engine", "--date", "--weight-precision", "--tp")
    assert report.problem.startswith(
        "the file does not say gpu, engine, date, weight_precision, tp: give --gpu"
    )
    assert store.load().empty


def test_a_precision_in_the_checkpoint_s_name_need_not_be_said(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    said = {name: value for name, value in build.ANSWERS.items() if name != "weight_precision"}
    run = build.vllm(model_id="RedHatAI/Llama-3.1-8B-Instruct-FP8")
    take_in(run, {**said, "model": "llama-3.1-8b"})
    assert list(store.load()["weight_precision"]) == ["fp8"]


def test_a_platform_says_which_gpu(build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn) -> None:
    said = {name: value for name, value in build.ANSWERS.items() if name != "gpu"}
    take_in(build.vllm(), {**said, "platform": "dgx-h100"})
    assert list(store.load()["gpu"]) == ["h100-sxm"]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "roofcast.predictor", "ingest", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_switch_for_separate_pools_asks_for_their_sizes_and_counts_the_gpus(
    build: SimpleNamespace, store: BenchmarkStore, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(build.vllm()))
    said = (
        f"--gpu h100-sxm --engine vllm --weight-precision bf16 --tp 1 --disagg --store {store.path}".split()
    )
    asked = command(str(tmp_path / "a.json"), *said)
    assert asked.returncode == 2
    assert "give --prefill-gpus, --decode-gpus" in asked.stderr
    done = command(str(tmp_path / "a.json"), *said, "--prefill-gpus", "1", "--decode-gpus", "2")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = store.load().to_dict("records")
    layout = ("disagg", "prefill_gpus", "decode_gpus", "num_gpus", "tp", "prefill_workers", "decode_workers")
    assert [row[name] for name in layout] == [1, 1, 2, 3, 1, 1, 2]
    figures = [build.OUTPUT_TOK_S, build.TOTAL_TOK_S, build.TTFT["p50"], build.TPOT["p50"]]
    assert [row[n] for n in ("output_tok_s", "total_tok_s", "ttft_ms", "tpot_ms")] == pytest.approx(figures)


@pytest.mark.parametrize(("said", "stored"), [(True, 1.0), (1, 1.0), (False, 0.0)])
def test_from_python_separate_pools_are_a_truth_value_or_a_number(
    said: object, stored: float, build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    pools = {"prefill_gpus": 1, "decode_gpus": 1} if said else {}
    take_in(build.vllm(), {**build.ANSWERS, "tp": 1, "disagg": said, **pools})
    assert list(store.load()["disagg"]) == [stored]


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
    answers: dict[str, Any], reason: str, build: SimpleNamespace, take_in: TakeIn
) -> None:
    report = take_in(build.sglang(), {**build.ANSWERS, "engine": "sglang", **answers})
    ((row,),) = (file.rows for file in report.files)
    assert (row.fate, row.reason) == ("quarantined", reason)


def test_a_name_that_only_the_machine_knows_is_replaced_by_the_user_s(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    take_in(build.vllm(model_id="/mnt/weights/prod"), {**build.ANSWERS, "model": "llama-3.1-8b"})
    assert list(store.load()["model"]) == ["llama-3.1-8b"]


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"mode": "burst"}, BadRequest),
        ({"tp": 0}, BadRequest),
        ({"tp": True}, BadRequest),
        ({"date": "yesterday"}, BadRequest),
        ({"colour": "red"}, BadRequest),
        ({"platform": "hgx-b200", "gpu": "h100-sxm"}, BadRequest),
        ({"gpu": "b20"}, UnknownName),
        ({"platform": "hgx-h900"}, UnknownName),
    ],
)
def test_a_wrong_answer_is_told_before_anything_is_read(
    answers: dict[str, Any], error: type[Exception], take_in: TakeIn
) -> None:
    with pytest.raises(error):
        take_in("nothing", answers)


def test_the_same_run_is_stored_once_whichever_tool_reports_it(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    assert take_in(build.vllm()).counts["accepted"] == 1
    (first,) = store.load()["row_id"]
    again = take_in(
        build.aiperf(), {**build.ANSWERS, "source": "elsewhere", "date": "2026-07-02"}, name="b.json"
    )
    ((row,),) = (file.rows for file in again.files)
    assert (row.fate, row.reason) == ("duplicate", f"of {first} (ingested-vllm, 2026-07-01)")
    assert len(store.load()) == 1


def test_a_repeat_with_other_figures_is_a_run_of_its_own(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    take_in(build.vllm())
    assert take_in(build.vllm(median_tpot_ms=8.95)).counts["accepted"] == 1
    assert len(store.load()) == 2


def test_a_copy_within_a_file_names_the_line_it_copies(build: SimpleNamespace, take_in: TakeIn) -> None:
    lines = "\n".join(json.dumps(build.vllm()) for _ in range(2))
    ((_, second),) = (file.rows for file in take_in(lines).files)
    assert (second.line, second.fate, second.reason) == (2, "duplicate", "of line 1 of the same file")


def test_a_bad_row_lies_in_the_quarantine_with_file_line_and_reason(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn, tmp_path: Path
) -> None:
    lines = [build.vllm(), build.vllm(completed=10), build.vllm(max_concurrency=9, request_throughput=3.8)]
    report = take_in("\n".join(map(json.dumps, lines)), name="runs.jsonl")
    assert [row.fate for row in report.files[0].rows] == ["accepted", "quarantined", "accepted"]
    assert len(store.load()) == 2
    (kept,) = store.quarantine().to_dict("records")
    assert (kept["file"], kept["line"]) == (str(tmp_path / "runs.jsonl"), 2)
    assert kept["reason"] == "only 10 of 80 requests completed"


def test_what_is_faster_than_physics_is_quarantined(build: SimpleNamespace, take_in: TakeIn) -> None:
    fast = build.vllm(
        **{f"{name}_tpot_ms": 0.9 for name in ("mean", "median", "p99")},
        output_throughput=8 * 256 / 0.2895, request_throughput=8 / 0.2895,
        total_token_throughput=8 * 1280 / 0.2895,
    )  # fmt: skip
    ((row,),) = (file.rows for file in take_in(fast).files)
    assert (row.fate, row.reason) == ("quarantined", "TPOT below the physical floor")


def test_the_caller_s_audit_decides_where_one_is_given(build: SimpleNamespace, take_in: TakeIn) -> None:
    report = take_in(build.vllm(), audit=lambda rows: rows["source"].map(lambda _: "not today"))
    assert report.files[0].rows[0].reason == "not today"


def test_latencies_in_another_unit_are_recognised(build: SimpleNamespace, take_in: TakeIn) -> None:
    seconds = {
        name: value / 1000 for name, value in build.vllm().items() if name.endswith(("ttft_ms", "tpot_ms"))
    }
    ((row,),) = (file.rows for file in take_in(build.vllm(**seconds)).files)
    assert row.fate == "quarantined"
    assert "as if latencies were in s" in row.reason


@pytest.mark.parametrize(
    ("fabric", "fate", "words"),
    [
        (Fabric(status="healthy"), "accepted", ""),
        (Fabric(status="unknown", reason="no topology"), "accepted", "fabric unknown: no topology"),
        (
            Fabric(status="degraded", reason="14 of 18 links"),
            "quarantined",
            "fabric degraded: 14 of 18 links",
        ),
        (Fabric(status="degraded", reason="x", accept_degraded=True), "accepted", "fabric degraded: x"),
    ],
)
def test_rows_from_a_degraded_fabric_stay_out_unless_told_otherwise(
    fabric: Fabric, fate: str, words: str, build: SimpleNamespace, take_in: TakeIn
) -> None:
    report = take_in(build.vllm(), fabric=fabric)
    row = report.files[0].rows[0]
    assert (row.fate, row.reason, report.fabric) == (fate, words, fabric.status)


def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    build: SimpleNamespace, store: BenchmarkStore, tmp_path: Path
) -> None:
    (tmp_path / "good.json").write_text(json.dumps(build.vllm()))
    (tmp_path / "bad.json").write_text("{]")
    files = [tmp_path / "bad.json", tmp_path / "none.json", tmp_path / "good.json"]
    report = ingest(files, store=store.path, answers=build.ANSWERS)
    assert report.counts == {"accepted": 1, "duplicate": 0, "quarantined": 0, "unread_files": 2}
    assert [bool(file.problem) for file in report.files] == [True, True, False]
    assert report.files[1].problem == "no such file"


def test_rows_stored_before_stay_as_they_are(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    take_in(build.vllm())
    before = store.load()
    take_in(build.vllm(max_concurrency=9, request_throughput=3.8))
    take_in(build.vllm(completed=1))
    take_in("{")
    assert store.load().iloc[:1].equals(before)


def test_a_store_that_is_not_there_starts_with_the_shipped_rows(
    build: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(build.vllm()))
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "sub" / "new.parquet"))
    report = ingest([tmp_path / "a.json"], answers=build.ANSWERS)
    assert report.store == str(tmp_path / "sub" / "new.parquet")
    monkeypatch.delenv(STORE_VARIABLE)
    shipped = BenchmarkStore().load()
    assert len(BenchmarkStore(report.store).load()) == len(shipped) + 1


def test_the_shipped_table_is_never_written(build: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(build.vllm()))
    shipped = BenchmarkStore(BenchmarkStore().path)
    before = shipped.path.read_bytes()
    with pytest.raises(BadStore, match="read-only"):
        ingest([tmp_path / "a.json"], store=shipped.path, answers=build.ANSWERS)
    assert shipped.path.read_bytes() == before


def test_the_report_is_plain_values(build: SimpleNamespace, take_in: TakeIn) -> None:
    said = json.loads(json.dumps(take_in(build.vllm()).to_dict()))
    assert said["accepted"] == 1
    assert (
        said["files"][0]["rows"][0]["what"] == "llama-3.1-8b on 1 x h100-sxm, vllm, closed-loop 8 in flight"
    )
