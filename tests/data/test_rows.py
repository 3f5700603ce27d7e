"""What rows go through and what the workshop decides of sources, on small frames: a decision each."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data.build import borrowing, folding, inferencex_rules, sources
from roofcast.data.fault_texts import FAULT_TEXTS
from roofcast.data.rows import align, checks, layout, names
from roofcast.data.rows.draft import DECIDED_NUMBERS, drafts, sound

NAN = math.nan
DATA = Path(__file__).parents[2] / "data"
B200 = {"gpu": "b200-sxm", "model": "deepseek-r1", "engine": "sglang", "weight_precision": "fp8"}
B200 |= {"mode": "closed-loop", "spec_decode": "none", "disagg": 0.0, "isl": 1024.0, "osl": 1024.0}
H100 = {"gpu": "h100-sxm", "model": "llama-2-70b"}


def draft(*rows: dict[str, Any]) -> pd.DataFrame:
    """Draft rows; what is not given is a DeepSeek-R1 in fp8 on B200s."""
    whole = [{**B200, "row_id": f"r{i}", **row} for i, row in enumerate(rows)]
    frame = drafts(whole)
    more = {name for row in rows for name in row} - set(frame)
    return frame.assign(**{name: [row.get(name, NAN) for row in rows] for name in more})


def codes(rows: pd.DataFrame) -> list[list[str]]:
    return [[fault.code for fault in faults] for faults in rows["faults"]]


def laid_out(frame: pd.DataFrame) -> pd.DataFrame:
    layout.settle(frame)
    layout.check(frame)
    return frame


def aligned(source: str, *rows: dict[str, Any]) -> pd.DataFrame:
    """Rows of a source as its family's steps leave them, laid out."""
    (family,) = (family for family in sources.FAMILIES if source in family.sources)
    frame = draft(*[{"source": source, **row} for row in rows])
    family.align(frame)
    return laid_out(frame)


PD_NOTE = "prefill tp=4 ep=4 dpa=1 workers=8; decode tp=16 ep=16 dpa=0 workers=2; littles_law=1.0"
WIDE_NOTE = "prefill tp=1 ep=1 dpa=1 workers=10; decode tp=1 ep=1 dpa=1 workers=1"
POOLS = {"disagg": 1.0, "decode_gpus": 32.0}
FIXTURES, AIC = "inferencex-app-fixtures", "aic-silicon-inferencex"


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "the InferenceX client's nominal lengths are a tenth too long": (
        FIXTURES, {"isl_osl_note": "nominal; InferenceX client draws lengths", "num_gpus": 8.0, "tp": 8.0},
        {"length_scale": 0.9, "length_kind": "uniform"},
    ),
    "lengths that were measured are as they are": (
        FIXTURES, {"isl_osl_note": "measured mean", "num_gpus": 8.0, "tp": 8.0},
        {"length_scale": 1.0, "length_kind": "uniform"},
    ),
    "pools are read from the notes and add up": (
        FIXTURES, {**POOLS, "notes": PD_NOTE, "num_gpus": 64.0, "prefill_gpus": 32.0},
        {"prefill_tp": 4, "prefill_dp": 4, "prefill_workers": 8, "tp": 16, "ep": 16, "dp": 1,
         "decode_workers": 2, "num_gpus": 64},
    ),
    "SGLang's tp 1 in a wide pool means GPUs over workers": (
        FIXTURES, {**POOLS, "notes": WIDE_NOTE, "num_gpus": 72.0, "prefill_gpus": 40.0},
        {"prefill_tp": 4, "decode_tp": 32, "decode_dp": 32, "decode_ep": NAN},
    ),
    "aiconfigurator's medians are means and its squared tp is undone": (
        AIC, {"tp": 16.0, "dp": 1.0, "ep": 4.0, "num_gpus": 16.0, "ttft_p50_ms": 500.0, "tpot_p50_ms": 9.0},
        {"tp": 4, "dp": 1, "num_gpus": 4, "ttft_mean_ms": 500.0, "ttft_p50_ms": NAN},
    ),
    "aiconfigurator's squared attention dp is undone": (
        AIC, {"tp": 1.0, "dp": 64.0, "ep": 8.0, "num_gpus": 64.0, "tpot_p50_ms": 9.0},
        {"tp": 8, "dp": 8, "num_gpus": 8},
    ),
    "a tp that is no square stays": (
        AIC, {"tp": 8.0, "dp": 1.0, "ep": 8.0, "num_gpus": 8.0, "tpot_p50_ms": 9.0},
        {"tp": 8, "dp": 1, "num_gpus": 8},
    ),
    "llama.cpp's layer split is a pipeline": (
        "argonne-llm-inference-bench",
        {"engine": "llamacpp", "num_gpus": 4.0, "concurrency": 1.0, "notes": "llama-bench -pg 2,2 -b 32: x"},
        {"tp": 1, "pp": 4, "replicas": 1, "weight": 0.4},
    ),
    "ML.ENERGY's running batch gives the mean time per token": (
        "mlenergy-v3", {"concurrency": 1e2, "output_tput": 5e3, "tpot_p50_ms": 3.0, "notes": "task gpqa"},
        {"tpot_mean_ms": 20.0, "tpot_p50_ms": NAN},
    ),
    "a stated width holds for both pools": (
        "anyscale-ray-serve", {"tp": 2.0, "num_gpus": 8.0, **POOLS, "prefill_gpus": 2.0, "decode_gpus": 6.0},
        {"prefill_tp": 2, "prefill_workers": 1, "decode_tp": 2, "decode_workers": 3},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_source_s_columns_come_to_mean_what_ours_do(case: str) -> None:
    source, row, wanted = CASES[case]
    rows = aligned(source, row)
    found = rows.loc[0, list(wanted)].to_dict()
    texts = {name: value for name, value in wanted.items() if isinstance(value, str)}
    assert {name: found.pop(name) for name in texts} == texts
    assert found == pytest.approx({k: v for k, v in wanted.items() if k not in texts}, nan_ok=True)
    assert codes(rows) == [[]]


def test_mlperf_takes_a_missing_layout_from_the_same_gpu_and_task() -> None:
    stated = {**H100, "num_gpus": 8.0, "tp": 2.0, "dp": 4.0, "isl": 222.3, "osl": 290.0}
    bare = {**H100, "num_gpus": 4.0, "weight_precision": "", "isl": NAN, "osl": NAN}
    rows = aligned("mlperf-v5.0", stated, stated, bare)
    assert rows.loc[2, ["tp", "replicas", "isl", "osl"]].tolist() == [2, 2, 222.3, 290.0]
    assert rows.loc[2, "weight_precision"] == "fp8"


@pytest.mark.parametrize(
    ("given", "tp", "dp", "replicas"),
    [
        ({"tp": 4.0, "dp": 2.0, "num_gpus": 8.0, "dp_means": "replicas"}, 4, 1, 2),
        ({"tp": 1.0, "dp": 8.0, "num_gpus": 8.0, "dp_means": "outside"}, 8, 8, 1),
        ({"tp": 8.0, "dp": 8.0, "num_gpus": 8.0, "dp_means": "inside"}, 8, 8, 1),
        ({"tp": 1.0, "dp": 8.0, "num_gpus": 8.0}, 8, 8, 1),
        ({"tp": 2.0, "num_gpus": 8.0}, 2, 1, 4),
        ({"num_gpus": 1.0}, 1, 1, 1),
    ],
)
def test_tp_dp_and_replicas_have_one_meaning(given: dict[str, Any], tp: int, dp: int, replicas: int) -> None:
    rows = laid_out(draft(given))
    assert rows.loc[0, ["tp", "dp", "replicas"]].tolist() == [tp, dp, replicas]
    assert codes(rows) == [[]]


def test_a_layout_that_does_not_multiply_is_rejected() -> None:
    rows = draft(
        {"tp": 8.0, "dp": 2.0, "num_gpus": 8.0, "dp_means": "replicas"},
        {"tp": 4.0, "ep": 8.0, "num_gpus": 4.0},
        {"disagg": 1.0, "tp": 2.0, "num_gpus": 9.0, "prefill_gpus": 2.0, "decode_gpus": 6.0},
    )
    assert codes(laid_out(rows)) == [["layout-width"], ["layout-ep"], ["layout-pools"]]


def test_a_median_goes_before_a_mean_but_a_mean_before_a_median_of_single_tokens() -> None:
    rows = draft(
        {"tpot_p50_ms": 5.0, "tpot_mean_ms": 6.0},
        {"tpot_p50_ms": 5.0, "tpot_mean_ms": 6.0, "tpot_p50_is": "itl"},
        {"tpot_p50_ms": 5.0, "tpot_p50_is": "itl"},
        {"ttft_mean_ms": 40.0},
    )
    align.latencies(rows)
    assert rows["tpot_ms"].tolist()[:3] == [5.0, 6.0, 5.0]
    assert rows["tpot_stat"].tolist() == ["p50", "mean", "p50", ""]
    assert rows["tpot_kind"].tolist() == ["tpot", "tpot", "itl", ""]
    assert (rows["ttft_stat"].iloc[3], rows["ttft_ms"].iloc[3]) == ("mean", 40.0)


def test_nominal_lengths_become_means_and_a_prefill_generates_one_token() -> None:
    rows = draft({"length_scale": 0.9}, {"osl": 0.0})
    align.lengths(rows)
    assert rows["isl"].tolist() == pytest.approx([921.6, 1024.0])
    assert rows["osl"].tolist() == pytest.approx([921.6, 1.0])


def test_output_throughput_follows_from_the_total_and_must_not_contradict_it() -> None:
    rows = draft(
        {"total_tput": 900.0, "isl": 800.0, "osl": 100.0},
        {"total_tput": 900.0, "output_tput": 300.0, "isl": 800.0, "osl": 100.0},
    )
    align.throughputs(rows)
    assert rows.loc[0, ["output_tok_s", "request_s"]].tolist() == pytest.approx([100.0, 1.0])
    assert [[remark.code for remark in remarks] for remarks in rows["remarks"]] == [["output-derived"], []]
    assert codes(rows) == [[], ["throughputs-disagree"]]


def test_little_s_law_throws_out_a_wrong_concurrency() -> None:
    good = {"concurrency": 8.0, "osl": 100.0, "output_tok_s": 800 / 1.1, "ttft_ms": 110.0, "tpot_ms": 10.0}
    rows = draft(good, {**good, "concurrency": 16.0}, {**good, "concurrency": 4.0})
    assert checks.residence_ratio(rows).iloc[0] == pytest.approx(1.0)
    checks.little(rows)
    assert codes(rows) == [[], ["little"], ["little"]]


def test_weights_and_the_kv_in_flight_fit_the_memory() -> None:
    base = {"model": "llama-3.1-70b", "gpu": "h100-sxm", "weight_precision": "bf16", "replicas": 1.0}
    base |= {"ttft_ms": 500.0, "tpot_ms": 20.0, "isl": 8000.0, "osl": 1000.0}
    rows = draft(
        {**base, "num_gpus": 1.0, "concurrency": 1.0},
        # 140 GB of weights leave 200 GB of 4 x 85; 8 bit KV is 164 kB a token, 1.4 GB a request.
        {**base, "num_gpus": 4.0, "concurrency": 100.0},
        {**base, "num_gpus": 4.0, "concurrency": 200.0},
        {**base, "num_gpus": 4.0, "concurrency": 200.0, "prefix_cached_frac": 0.9},
    )
    checks.memory(rows)
    assert codes(rows) == [["weights-memory"], [], ["kv-memory"], []]


def test_precision_is_read_from_the_checkpoint_s_name_or_is_the_model_s_own() -> None:
    given = [
        ("Qwen2.5-72B-Instruct-AWQ", "qwen2.5-72b", "", "int4"),
        ("DeepSeek-R1-NVFP4", "deepseek-r1", "", "fp4"),
        ("DeepSeek-R1", "deepseek-r1", "", "fp8"),
        ("DeepSeek-R1", "deepseek-r1", "fp4/fp8 native", "fp8"),
        ("gpt-oss-120b", "gpt-oss-120b", "", "fp4"),
        ("Llama", "llama-3.1-8b", "fp16", "bf16"),
    ]
    rows = draft(*[{"model_raw": raw, "model": model, "weight_precision": p} for raw, model, p, _ in given])
    names.resolve(rows)
    assert rows["weight_precision"].tolist() == [precision for *_, precision in given]


def test_a_name_outside_the_catalogue_is_a_reason() -> None:
    rows = draft({"gpu": "abacus-9"}, {"model": "llama-99"})
    names.resolve(rows)
    found = [(fault.code, fault.column, fault.value) for (fault,) in rows["faults"]]
    assert found == [("not-in-catalogue", "gpu", "abacus-9"), ("not-in-catalogue", "model", "llama-99")]


def test_a_server_that_stood_still_once_loses_its_mean_ttft_and_its_throughput() -> None:
    usual = {
        "source_family": "inferencex",
        "date": "2025-11-15",
        "tpot_mean_ms": 16.0,
        "output_tok_s": 1300.0,
    }
    rows = draft(
        usual | {"ttft_p50_ms": 400.0, "ttft_mean_ms": 7000.0},
        usual | {"ttft_p50_ms": NAN, "ttft_mean_ms": 7500.0, "date": "2025-11-12"},
        usual | {"ttft_p50_ms": NAN, "ttft_mean_ms": 7500.0, "date": "2026-03-25"},
        usual | {"ttft_p50_ms": 400.0, "ttft_mean_ms": 1200.0},
        usual | {"ttft_p50_ms": 300.0, "ttft_mean_ms": 1400.0, "osl": 8192.0},
        usual | {"ttft_p50_ms": 400.0, "ttft_mean_ms": 7000.0, "source_family": "open-loop"},
    )
    rows["total_tok_s"], rows["request_s"], rows["tpot_ms"] = 2600.0, 1.3, 16.0
    inferencex_rules.drop_standstills(rows)
    assert rows["ttft_mean_ms"].isna().tolist() == [True, True, False, False, True, False]
    # A standstill of one second is little beside two minutes of decoding.
    assert rows["output_tok_s"].isna().tolist() == [True, True, False, False, False, False]
    assert rows["ttft_p50_ms"].tolist()[0] == 400.0
    assert rows["remarks"].map(bool).tolist() == [True, True, False, False, True, False]
    align.latencies(rows)
    assert rows["ttft_ms"].isna().tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize(("tpot", "speculation"), [(10.1, "none"), (6.2, "mtp"), (8.0, "")])
def test_the_same_run_elsewhere_settles_speculation_or_the_row_goes(tpot: float, speculation: str) -> None:
    same = {"tp": 8.0, "ep": 8.0, "num_gpus": 8.0, "concurrency": 16.0}
    lender = {**same, "source": "inferencex-dbdump-2026-07-20"}
    rows = draft(
        {**same, "source": AIC, "spec_decode": "?", "tpot_mean_ms": tpot, "ttft_mean_ms": 90.0},
        {**lender, "spec_decode": "none", "tpot_p50_ms": 10.0},
        {**lender, "spec_decode": "mtp", "tpot_p50_ms": 6.0},
    )
    borrowing.borrow(rows)
    assert rows.loc[0, "spec_decode"] == speculation
    assert sound(rows).iloc[0] == (speculation != "")


def folded(*rows: dict[str, Any]) -> pd.DataFrame:
    frame = draft(*[{"concurrency": 8.0, "source_family": "inferencex", **row} for row in rows])
    frame["config_group"] = "g"
    for name in folding.FILLED:
        frame[name] = frame[name].astype(float) if name in frame else NAN
    return folding.fold(frame)


RUN = {"source": FIXTURES, "date": "2026-01-01", "run_id": "7", "tpot_mean_ms": 10.0}
RUN |= {"ttft_mean_ms": 90.0, "tpot_p50_ms": 10.1, "output_tok_s": 790.0}
COPY = {"source": AIC, "date": "2026-01-01", "tpot_mean_ms": 10.0001, "ttft_mean_ms": 90.001}


def test_a_copy_is_folded_into_the_richest_row_but_another_day_s_run_or_a_repeat_stays() -> None:
    rows = folded(COPY, RUN)
    assert (rows["folded_into"].tolist(), rows["duplicates"].tolist()) == (["r1", ""], [0, 1])
    rows = folded(RUN, {**COPY, "date": "2026-01-02"}, {**COPY, "tpot_mean_ms": 10.2})
    assert (rows["folded_into"] == "").all()


@pytest.mark.parametrize("closes", [True, False])
def test_a_database_median_lends_its_throughput_only_where_little_s_law_closes(closes: bool) -> None:
    rate = 8 * 921.6 / (0.09 + 0.01 * 920.6) / (1.0 if closes else 1.5)
    median = {"source": "inferencex-dbdump-2026-07-20", "tpot_p50_ms": 10.0, "osl": 921.6}
    rows = folded({**COPY, "osl": 921.6}, {**median, "output_tok_s": rate})
    assert rows.loc[0, "output_tok_s"] == pytest.approx(rate if closes else NAN, nan_ok=True)
    assert rows["folded_into"].tolist() == ["", "r0" if closes else ""]


def test_every_fault_has_a_text_and_every_text_a_fault() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in DATA.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    constants = [node.value for node in nodes if isinstance(node, ast.Constant)]
    assert all(constants.count(code) > 1 for code in FAULT_TEXTS)
    adders = {"reject": 2, "note": 2, "refuse": 1, "remark": 1}
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    codes = [call.args[adders[call.func.id]] for call in calls if call.func.id in adders]  # type: ignore[attr-defined]
    used = {part.value for code in codes for part in ast.walk(code) if isinstance(part, ast.Constant)}
    assert used <= FAULT_TEXTS.keys()


def test_every_decided_number_is_a_number() -> None:
    assert all(np.isreal(value) for value in DECIDED_NUMBERS.values())
