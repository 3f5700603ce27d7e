"""The audit: projections, measurements known to be bad, and the thresholds on the shipped table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data.errors import BadRequest, BadRows, UnknownName
from roofcast.data.measurements import complete
from roofcast.data.store import BenchmarkStore
from roofcast.predictor import Predictor
from roofcast.predictor import audit as module
from roofcast.predictor.audit import ANSWER_OF, MARGIN, Finding, audit, audit_file, audit_frame, impossible

from ..docs.audit_tables import PROJECTIONS, SETUP
from .conftest import Run, requests_frame

LLAMA = {"model": "llama-3.1-8b", "gpu": "h100-sxm"}
SMALL = {**LLAMA, "tp": 2, "num_gpus": 4, "concurrency": 16}
WAITING = {"model": "qwen2.5-72b", "gpu": "h200-sxm", "tp": 8, "concurrency": 1024, "osl": 200}
CLAIMS = [({**load, "tp": n, "num_gpus": n, figure: value})
          for _, load, figure, values in PROJECTIONS for n, value in values.items()]  # fmt: skip
VERDICTS = ["i", "s", "s", "sp", "s", "sp", "s", "s", "s", "i", "i"]  # initials, of each of CLAIMS
# Rows of collected benchmark files that are kept out of the table.
KNOWN_BAD = [
    # argonne-llm-inference-bench f4d77e2c9386: 2048 tokens at batch 1 in 83 ms.
    {"model": "qwen2-7b", "gpu": "h100-sxm", "engine": "trtllm", "weight_precision": "bf16", "tp": 1,
     "mode": "static-batch", "isl": 2048, "osl": 2048, "concurrency": 1, "output_tok_s": 24792.97},
    # aic-silicon-nvidia 0d1aa6e3b521: 416 sequences whose KV cache is larger than both GPUs.
    {"model": "qwen3-32b", "gpu": "b200-sxm", "engine": "trtllm", "weight_precision": "fp4", "tp": 2,
     "mode": "closed-loop", "isl": 15000, "osl": 500, "concurrency": 416, "ttft_ms": 719.3, "tpot_ms": 13.66},
    # gpustack-perf-lab cc385c94b632: weights of 214 GB in two GPUs of 80.
    {"model": "glm-4.5-air", "gpu": "h100-sxm", "engine": "sglang", "weight_precision": "bf16", "tp": 2,
     "mode": "offline", "isl": 214, "osl": 200, "output_tok_s": 2777.4},
]  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return BenchmarkStore().load()


def one(predictor: Predictor, figure: str = "", **claim: Any) -> Finding:
    """Return the finding of one figure; unnamed, of the only one."""
    (finding,) = (f for f in audit(predictor, **claim) if figure in ("", f.figure))
    return finding


@pytest.mark.parametrize(("claim", "verdicts"), list(zip(CLAIMS, VERDICTS, strict=True)))
def test_each_projection_has_its_verdict(claim: dict[str, Any], verdicts: str, shipped: Predictor) -> None:
    assert one(shipped, **SETUP, **claim).verdict[0] in verdicts


def test_the_bounds_of_first_and_last_projection_are_memory_and_flops(
    shipped: Predictor,
) -> None:
    # 71.5 G parameters, the LM head among them, at 4.5 bits, 0.25 GB of KV: 40.4 GB at 8 TB/s.
    assert one(shipped, **SETUP, **CLAIMS[0]).bound == pytest.approx(8000 / (71.5 * 0.5625 + 0.25), rel=0.01)
    # 2 x 72.7e9 x 262,144 = 38 PFLOP over 72 PFLOP/s: 0.53 s, at 9/16 of which they end on average.
    least = 9 / 16 * 1e3 * (2 * 72.7e9 * 8 * 32768) / (8 * 9e15)
    assert one(shipped, **SETUP, **CLAIMS[-1]).bound > least
    assert one(shipped, **SETUP | CLAIMS[-1] | {"ttft_ms": 18000}).verdict == "plausible"


@pytest.mark.parametrize("row", KNOWN_BAD, ids=lambda row: f"{row['model']} {row['gpu']}")
def test_a_row_known_to_be_bad_is_impossible(row: dict[str, Any], shipped: Predictor) -> None:
    assert "impossible" in {finding.verdict for finding in audit(shipped, **row)}


@pytest.mark.parametrize(
    ("rate", "figure", "verdict"),
    [
        (727, "output_tok_s", "plausible"),
        (1454, "output_tok_s", "impossible"),
        (363, "tpot_ms", "suspicious"),
    ],
)
def test_rate_times_time_must_be_the_requests_in_flight(
    rate: float, figure: str, verdict: str, shipped: Predictor
) -> None:
    # 8 requests of 110 + 99 x 10 = 1,100 ms each: 727 tok/s; 2 times as much no 8 streams carry.
    claim = {**LLAMA, "concurrency": 8, "osl": 100, "ttft_ms": 110.0, "tpot_ms": 10.0, "output_tok_s": rate}
    assert one(shipped, figure, **claim).verdict == verdict


def test_hardly_any_accepted_row_is_impossible_and_few_are_suspicious(
    shipped: Predictor, table: pd.DataFrame
) -> None:
    judged = [(f.figure, f.verdict, f.ratio) for f in audit_frame(shipped, table)]
    for figure, found in pd.DataFrame(judged, columns=["figure", "verdict", "ratio"]).groupby("figure"):
        assert (found["verdict"] == "impossible").mean() < 0.002, figure
        assert (found["verdict"] == "suspicious").mean() < 0.05, figure
        if figure in MARGIN:
            assert 0.001 < (found["ratio"] < MARGIN[str(figure)]).mean() < 0.03, figure


def test_a_prediction_is_never_impossible(predictor: Predictor) -> None:
    frame = requests_frame(300, seed=5)
    answers = predictor.predict_frame(frame)
    claims = frame.assign(**{name: answers[name] for name in MARGIN})[answers["feasible"].to_numpy()]
    assert len(claims) > 100
    assert "impossible" not in {f.verdict for f in audit_frame(predictor, claims)}


def test_half_the_floor_is_impossible_in_whatever_form_of_a_figure(predictor: Predictor) -> None:
    for figure in ANSWER_OF:
        bound, beyond = one(predictor, **SMALL, **{figure: 1.0}).bound, 0.5 if figure.endswith("_ms") else 2.0
        assert one(predictor, **SMALL, **{figure: bound * beyond}).verdict == "impossible", figure
        assert one(predictor, **SMALL, **{figure: bound / beyond}).verdict != "impossible", figure
    rates = ({"output_tok_s": 800.0}, {"tok_s_per_gpu": 200.0}, {"request_s": 800 / 512})
    for claims in (rates, ({"tok_s_per_user": 50.0}, {"tpot_ms": 20.0})):
        ratios = [one(predictor, **SMALL, osl=512, **claim).ratio for claim in claims]
        assert max(ratios) == pytest.approx(min(ratios))


def test_fewer_sequences_decode_where_the_claim_says_that_requests_wait(predictor: Predictor) -> None:
    alone, waiting = ({**WAITING, "tpot_ms": 12.0, **more} for more in ({}, {"ttft_ms": 60_000.0}))
    assert one(predictor, "tpot_ms", **waiting).bound < one(predictor, "tpot_ms", **alone).bound


def test_a_time_without_a_load_is_that_of_one_request(predictor: Predictor) -> None:
    bare, alone = (
        one(predictor, model="llama-3.1-8b", gpu="h100-sxm", tpot_ms=8.0, **load)
        for load in ({}, {"concurrency": 1})
    )
    assert (bare.bound, bare.predicted) == (alone.bound, alone.predicted)


def test_a_row_is_judged_as_if_it_stood_alone(predictor: Predictor) -> None:
    rows = [{**WAITING, "tok_s_per_user": 80.0, "ttft_ms": 60_000.0}, {**WAITING, "tpot_ms": 12.0}]
    alone = [finding for row in rows for finding in audit(predictor, **row)]
    assert sorted(map(str, audit_frame(predictor, pd.DataFrame(rows)))) == sorted(map(str, alone))
    # One that cannot be read is unknown.
    bad = [{"tpot_ms": 9.0}, {"model": "no-such", "tpot_ms": 9.0}, {"tpot_ms": "x"}]
    found = audit_frame(predictor, pd.DataFrame([LLAMA | row for row in bad]))
    assert [f.verdict == "unknown" for f in found] == [False, True, True]
    assert ["no-such" in found[1].reason, "'x'" in found[2].reason] == [True, True]


@pytest.mark.parametrize(
    ("claim", "error", "words"),
    [
        ({}, BadRequest, "at least one of ttft_ms"), ({"tpot": 1.0}, UnknownName, "tpot_ms"),
        ({"tpot_ms": 0.0}, BadRequest, "above 0"), ({"tpot_ms": float("inf")}, BadRequest, "above 0"),
        ({"tpot_ms": "fast"}, BadRequest, "above 0"), ({"tpot_ms": 9.0, "tp": 3}, BadRequest, "tp"),
    ],
)  # fmt: skip
def test_a_claim_that_cannot_be_read_is_an_error(
    claim: dict[str, Any], error: type[Exception], words: str, predictor: Predictor
) -> None:
    with pytest.raises(error, match=words):
        audit(predictor, **LLAMA, **claim)


def test_a_file_is_judged_in_pieces_with_its_line_numbers(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = requests_frame(7).assign(tpot_ms=np.arange(1.0, 8.0))
    frame.to_csv(tmp_path / "claims.csv", index=False)
    monkeypatch.setattr(module, "CHUNK_ROWS", 3)
    pieces = list(audit_file(predictor, tmp_path / "claims.csv"))
    assert [len(piece) for piece in pieces] == [3, 3, 1]
    assert [str(f) for piece in pieces for f in piece] == [*map(str, audit_frame(predictor, frame, 2))]
    assert [f.row for piece in pieces for f in piece] == list(range(2, 9))


@pytest.mark.parametrize("content", [b"", b"model,gpu\nllama-3.1-8b,h100-sxm\n", b"\xff\xfe\x00", b'a,b\n"1'])
def test_a_file_without_claims_is_named(content: bytes, predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "claims.csv").write_bytes(content)
    with pytest.raises(BadRows, match=r"claims\.csv"):
        list(audit_file(predictor, tmp_path / "claims.csv"))


def test_the_store_quarantines_what_the_audit_calls_impossible(table: pd.DataFrame, tmp_path: Path) -> None:
    rows = table[table["row_id"] == table["row_id"].min()].drop(columns=["row_id", "config_group"])
    store = BenchmarkStore.create(tmp_path / "mine.parquet", rows)
    fast = pd.DataFrame([KNOWN_BAD[1]]).assign(source="mine", num_gpus=2.0)
    report = store.append(fast, rejected=dict(enumerate(impossible(complete(fast)))))
    assert (report.added, report.rejected, len(store.quarantine())) == (0, 1, 1)
    assert "tpot_ms" in next(iter(report.reason_of.values()))


def test_a_claim_without_a_layout_is_held_to_the_best_one(shipped: Predictor) -> None:
    # 61 layers' latent KV is held by each of 8 GPUs at tp 8, and once where attention is spread over them.
    claimed = {"model": "deepseek-r1", "gpu": "h200-sxm", "num_gpus": 8, "mode": "offline",
               "output_tok_s": 60_000}  # fmt: skip
    (any_layout,), (wide,) = audit(shipped, **claimed), audit(shipped, **claimed, tp=8)
    assert (any_layout.verdict, wide.verdict) == ("suspicious", "impossible")


def test_a_throughput_without_a_load_is_that_of_the_machine_offline(shipped: Predictor) -> None:
    claimed = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "tp": 1, "output_tok_s": 15_000}
    assert [f.bound for f in audit(shipped, **claimed)] == [
        f.bound for f in audit(shipped, **claimed, mode="offline")
    ]


def test_the_command_takes_every_figure_and_prints_words_or_json(run: Run, bundle: Path) -> None:
    figures = " ".join(f"--{figure.replace('_', '-')} 1" for figure in ANSWER_OF)
    call = f"audit --model qwen2.5-72b --gpu b200-sxm --bundle {bundle} {figures}"
    assert [run(call)[0], "impossible" in run(call)[1]] == [0, True]
    found = {f["figure"]: f["verdict"] for f in json.loads(run(f"{call} --json")[1])}
    assert (found["tpot_ms"], found["output_tok_s"]) == ("impossible", "suspicious")


def test_the_command_judges_a_file_line_by_line(run: Run, bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    call = f"audit {path} --bundle {bundle}"
    path.write_text("model,gpu,tpot_ms\nllama-3.1-8b,h100-sxm,9\nllama-3.1-8b,h100-sxm,1\n", encoding="utf-8")
    first, *_, last = run(call)[1].splitlines()
    assert first.startswith("line 3: impossible: tpot_ms = 1: ")
    assert last.startswith("1 impossible, 1 ")
    assert "drop --model" in run(f"{call} --model llama-3.1-8b")[2]
    for text, rows in (("output_tok_s\nllama-3.1-8b,h100-sxm,0", [2]), ("tpot_ms", [])):
        path.write_text(f"model,gpu,{text}\n", encoding="utf-8")
        found = json.loads(run(f"{call} --json")[1], parse_constant=pytest.fail)
        assert [(finding["row"], finding["ratio"]) for finding in found] == [(row, None) for row in rows]
