"""The audit: projections, measurements known to be bad, and the thresholds on the shipped table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data.columns import REQUEST_COLUMNS
from roofcast.data.errors import BadRequest, BadRows, UnknownName
from roofcast.data.measurements import complete
from roofcast.data.store import BenchmarkStore
from roofcast.predictor import Predictor
from roofcast.predictor import audit as module
from roofcast.predictor.audit import ANSWER_OF, MARGIN, audit, audit_file, audit_frame, impossible
from roofcast.predictor.commands.options import CLAIM, REQUEST

from .conftest import Run, requests_frame

# Qwen2.5-72B in four bits on B200, as the projections have it.
PROJECTED = {"model": "qwen2.5-72b", "gpu": "b200-sxm", "weight_precision": "fp4", "kv_precision": "fp8"}
PROJECTED |= {"engine": "trtllm"}
LONG = {"mode": "static-batch", "concurrency": 8, "isl": 32768}
SMALL = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "tp": 2, "num_gpus": 4, "concurrency": 16}
WAITING = {"model": "qwen2.5-72b", "gpu": "h200-sxm", "tp": 8, "concurrency": 1024, "osl": 200}


@pytest.fixture(scope="module")
def shipped() -> Predictor:
    return Predictor.load()


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return BenchmarkStore().load()


def one(predictor: Predictor, **claim: Any) -> module.Finding:
    (finding,) = audit(predictor, **claim)
    return finding


@pytest.mark.parametrize(
    ("tp", "claim", "verdicts"),
    [
        (1, {"concurrency": 1, "tok_s_per_user": 280}, "impossible"),
        (4, {"concurrency": 1, "tok_s_per_user": 450}, "suspicious"),
        (8, {"concurrency": 1, "tok_s_per_user": 620}, "suspicious"),
        (4, {"concurrency": 32, "output_tok_s": 9500}, "suspicious plausible"),
        (8, {"concurrency": 32, "output_tok_s": 14000}, "suspicious"),
        (4, {"concurrency": 128, "output_tok_s": 22000}, "suspicious plausible"),
        (8, {"concurrency": 128, "output_tok_s": 32000}, "suspicious"),
        (4, {"concurrency": 1, "isl": 2048, "ttft_ms": 15}, "suspicious"),
        (8, {"concurrency": 1, "isl": 2048, "ttft_ms": 12}, "suspicious"),
        (4, {**LONG, "ttft_ms": 280}, "impossible"),
        (8, {**LONG, "ttft_ms": 180}, "impossible"),
    ],
)
def test_each_projection_has_its_verdict(
    tp: int, claim: dict[str, Any], verdicts: str, shipped: Predictor
) -> None:
    assert one(shipped, **PROJECTED, tp=tp, num_gpus=tp, **claim).verdict in verdicts.split()


def test_280_tokens_a_second_on_one_b200_pass_what_its_memory_can_read(shipped: Predictor) -> None:
    finding = one(shipped, **PROJECTED, tp=1, concurrency=1, tok_s_per_user=280)
    # 71.5 G parameters, the LM head among them, at 4.5 bits, 0.25 GB of KV: 40.4 GB at 8 TB/s.
    assert finding.bound == pytest.approx(8000 / (71.5 * 0.5625 + 0.25), rel=0.01)
    assert finding.ratio == pytest.approx(finding.bound / 280)
    assert all(words in finding.reason for words in ("GB of weights", "TB/s"))


def test_eight_prompts_of_32k_need_more_flops_than_180_ms_hold(shipped: Predictor) -> None:
    finding = one(shipped, **PROJECTED, tp=8, num_gpus=8, **LONG, ttft_ms=180)
    # 2 x 72.7e9 x 262,144 = 38 PFLOP over 72 PFLOP/s: 0.53 s, at 9/16 of which they end on average.
    assert finding.bound > 9 / 16 * 1e3 * (2 * 72.7e9 * 8 * 32768) / (8 * 9e15)
    assert "PFLOP/s" in finding.reason
    assert one(shipped, **PROJECTED, tp=8, num_gpus=8, **LONG, ttft_ms=18000).verdict == "plausible"


# Rows of collected benchmark files that are kept out of the table.
KNOWN_BAD = [
    # argonne-llm-inference-bench f4d77e2c9386: 2048 tokens at batch 1 in 83 ms.
    {"model": "qwen2-7b", "gpu": "h100-sxm", "engine": "trtllm", "weight_precision": "bf16", "tp": 1,
     "mode": "static-batch", "isl": 2048, "osl": 2048, "concurrency": 1, "output_tok_s": 24792.97},
    # argonne-llm-inference-bench 6cfb6de7bcc0
    {"model": "aquila-7b", "gpu": "gh200-96g", "engine": "vllm", "weight_precision": "bf16", "tp": 1,
     "mode": "static-batch", "isl": 2048, "osl": 2048, "concurrency": 32, "output_tok_s": 40818.5},
    # aic-silicon-nvidia 0d1aa6e3b521: 416 sequences whose KV cache is larger than both GPUs.
    {"model": "qwen3-32b", "gpu": "b200-sxm", "engine": "trtllm", "weight_precision": "fp4", "tp": 2,
     "mode": "closed-loop", "isl": 15000, "osl": 500, "concurrency": 416, "ttft_ms": 719.3, "tpot_ms": 13.66},
    # gpustack-perf-lab cc385c94b632: weights of 214 GB in two GPUs of 80.
    {"model": "glm-4.5-air", "gpu": "h100-sxm", "engine": "sglang", "weight_precision": "bf16", "tp": 2,
     "mode": "offline", "isl": 214, "osl": 200, "output_tok_s": 2777.4},
]  # fmt: skip


@pytest.mark.parametrize("row", KNOWN_BAD, ids=lambda row: f"{row['model']} {row['gpu']}")
def test_a_row_known_to_be_bad_is_impossible(row: dict[str, Any], shipped: Predictor) -> None:
    assert "impossible" in {finding.verdict for finding in audit(shipped, **row)}


def test_rate_times_time_must_be_the_requests_in_flight(shipped: Predictor) -> None:
    claim = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "concurrency": 8, "osl": 100, "ttft_ms": 110.0}
    # 8 requests of 110 + 99 x 10 = 1,100 ms each: 727 tok/s; 2 times as much no 8 streams carry.
    for rate, figure, verdict, words in (
        (727.0, "output_tok_s", "plausible", ""),
        (1454.0, "output_tok_s", "impossible", "Little's law"),
        (363.0, "tpot_ms", "suspicious", "requests in flight"),
    ):
        found = one_of(audit(shipped, **claim, tpot_ms=10.0, output_tok_s=rate), figure)
        assert (found.verdict, words in found.reason) == (verdict, True)


def one_of(findings: list[module.Finding], figure: str) -> module.Finding:
    return next(finding for finding in findings if finding.figure == figure)


def test_hardly_any_accepted_row_is_impossible_and_few_are_suspicious(
    shipped: Predictor, table: pd.DataFrame
) -> None:
    found = pd.DataFrame([(f.figure, f.verdict, f.ratio) for f in audit_frame(shipped, table)])
    found.columns = pd.Index(["figure", "verdict", "ratio"])
    shares = found.groupby("figure")["verdict"].value_counts(normalize=True).unstack(fill_value=0.0)
    assert (shares.get("impossible", pd.Series(0.0)) < 0.002).all()
    assert (shares["suspicious"] < 0.05).all()
    for figure, margin in MARGIN.items():
        nearer = (found.loc[found["figure"] == figure, "ratio"] < margin).mean()
        assert 0.001 < nearer < 0.03, figure


def test_a_prediction_is_never_impossible(predictor: Predictor) -> None:
    frame = requests_frame(300, seed=5)
    answers = predictor.predict_frame(frame)
    claims = frame.assign(**{name: answers[name] for name in MARGIN})[answers["feasible"].to_numpy()]
    assert len(claims) > 100
    assert "impossible" not in {f.verdict for f in audit_frame(predictor, claims)}


def test_half_the_floor_is_impossible_whatever_the_figure(predictor: Predictor) -> None:
    for figure in ANSWER_OF:
        bound, beyond = one(predictor, **SMALL, **{figure: 1.0}).bound, 0.5 if figure.endswith("_ms") else 2.0
        assert one(predictor, **SMALL, **{figure: bound * beyond}).verdict == "impossible", figure
        assert one(predictor, **SMALL, **{figure: bound / beyond}).verdict != "impossible", figure


def test_forms_of_one_figure_get_one_judgement(predictor: Predictor) -> None:
    claims = ({"output_tok_s": 800.0}, {"output_tok_s_per_gpu": 200.0}, {"request_s": 800 / 512})
    ratios = [one(predictor, **SMALL, osl=512, **claim).ratio for claim in claims]
    assert max(ratios) == pytest.approx(min(ratios))
    per_user = one(predictor, **SMALL, tok_s_per_user=50.0)
    assert per_user.ratio == pytest.approx(one(predictor, **SMALL, tpot_ms=20.0).ratio)
    assert per_user.predicted_lo < per_user.predicted < per_user.predicted_hi


def test_fewer_sequences_decode_where_the_claim_says_that_requests_wait(predictor: Predictor) -> None:
    alone = one(predictor, **WAITING, tpot_ms=12.0)
    waiting = one_of(audit(predictor, **WAITING, tpot_ms=12.0, ttft_ms=60_000.0), "tpot_ms")
    assert waiting.bound < alone.bound


def test_a_row_is_judged_as_if_it_stood_alone(predictor: Predictor) -> None:
    rows = [{**WAITING, "tok_s_per_user": 80.0, "ttft_ms": 60_000.0}, {**WAITING, "tpot_ms": 12.0}]
    alone = [finding for row in rows for finding in audit(predictor, **row)]
    together = audit_frame(predictor, pd.DataFrame(rows))
    assert sorted(map(str, together)) == sorted(map(str, alone))


def test_a_time_without_a_load_is_that_of_one_request(predictor: Predictor) -> None:
    claim = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "tpot_ms": 8.0}
    bare, alone = one(predictor, **claim), one(predictor, **claim, concurrency=1)
    assert (bare.bound, bare.predicted) == (alone.bound, alone.predicted)


@pytest.mark.parametrize(
    ("claim", "error", "words"),
    [
        ({}, BadRequest, "at least one of tpot_ms"),
        ({"tpot": 1.0}, UnknownName, "tpot_ms"),
        ({"tpot_ms": 0.0}, BadRequest, "above 0"),
        ({"tpot_ms": float("inf")}, BadRequest, "above 0"),
        ({"tpot_ms": "fast"}, BadRequest, "above 0"),
        ({"tpot_ms": 9.0, "tp": 3}, BadRequest, "tp"),
    ],
)
def test_a_claim_that_cannot_be_read_is_an_error(
    claim: dict[str, Any], error: type[Exception], words: str, predictor: Predictor
) -> None:
    with pytest.raises(error, match=words):
        audit(predictor, model="llama-3.1-8b", gpu="h100-sxm", **claim)


def test_rows_that_cannot_be_read_are_unknown_and_the_others_judged(predictor: Predictor) -> None:
    frame = pd.DataFrame(
        {"model": ["llama-3.1-8b", "no-such", "llama-3.1-8b"], "gpu": "h100-sxm", "tpot_ms": [9.0, 9.0, "x"]}
    )
    found = audit_frame(predictor, frame)
    assert [f.verdict == "unknown" for f in found] == [False, True, True]
    assert "no-such" in found[1].reason
    assert "'x' is not allowed" in found[2].reason


def test_a_file_is_judged_in_pieces_with_its_line_numbers(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "claims.csv"
    frame = requests_frame(7).assign(tpot_ms=np.arange(1.0, 8.0))
    frame.to_csv(path, index=False)
    whole = audit_frame(predictor, frame, 2)
    monkeypatch.setattr(module, "CHUNK_ROWS", 3)
    pieces = list(audit_file(predictor, path))
    assert [len(piece) for piece in pieces] == [3, 3, 1]
    assert [str(f) for piece in pieces for f in piece] == [str(f) for f in whole]
    assert [f.row for piece in pieces for f in piece] == list(range(2, 9))


@pytest.mark.parametrize("content", [b"", b"model,gpu\nllama-3.1-8b,h100-sxm\n", b"\xff\xfe\x00", b'a,b\n"1'])
def test_a_file_without_claims_is_named(content: bytes, predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "claims.csv").write_bytes(content)
    with pytest.raises(BadRows, match=r"claims\.csv"):
        list(audit_file(predictor, tmp_path / "claims.csv"))


def test_the_store_quarantines_what_the_audit_calls_impossible(table: pd.DataFrame, tmp_path: Path) -> None:
    rows = table[table["row_id"] == table["row_id"].min()].drop(columns=["row_id", "config_group"])
    store = BenchmarkStore.create(tmp_path / "mine.parquet", rows)
    fast = pd.DataFrame([KNOWN_BAD[2]]).assign(source="mine", num_gpus=2.0)
    report = store.append(fast, rejected=dict(enumerate(impossible(complete(fast)))))
    assert (report.added, report.rejected) == (0, 1)
    assert "tpot_ms 0." in next(iter(report.reason_of.values()))
    assert "of the least time" in store.quarantine()["reason"].iloc[0]


def test_the_commands_know_every_column_and_figure() -> None:
    assert set(REQUEST) == set(REQUEST_COLUMNS)
    assert set(CLAIM) == set(ANSWER_OF)


def test_the_command_prints_words_or_json(run: Run, bundle: Path) -> None:
    call = f"audit --model qwen2.5-72b --gpu b200-sxm --weight-precision fp4 --bundle {bundle}"
    code, out, _ = run(f"{call} --tok-s-per-user 280")
    assert (code, "impossible" in out) == (0, True)
    (found,) = json.loads(run(f"{call} --tpot-ms 3.5 --json")[1])
    assert (found["figure"], found["verdict"]) == ("tpot_ms", "impossible")


def test_the_command_judges_a_file_line_by_line(run: Run, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    call = f"audit {path} --bundle {bundle}"
    path.write_text("model,gpu,tpot_ms\nllama-3.1-8b,h100-sxm,9\nllama-3.1-8b,h100-sxm,1\n", encoding="utf-8")
    first, *_, last = run(call)[1].splitlines()
    assert first.startswith("line 3: impossible: tpot_ms = 1: ")
    assert last.startswith("1 impossible, 1 ")
    assert [finding["row"] for finding in json.loads(run(f"{call} --json")[1])] == [2, 3]
    assert "drop --model" in run(f"{call} --model llama-3.1-8b")[2]
    path.write_text("model,gpu,output_tok_s\nllama-3.1-8b,h100-sxm,0\n", encoding="utf-8")
    (none,) = json.loads(run(f"{call} --json")[1], parse_constant=pytest.fail)
    assert none["ratio"] is None
    path.write_text("model,gpu,tpot_ms\n", encoding="utf-8")
    assert json.loads(run(f"{call} --json")[1]) == []
