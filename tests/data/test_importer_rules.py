"""The importer's rules on small frames: each test states one decision."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from roofcast.data.importer import (
    academic,
    aic,
    align,
    checks,
    dedupe,
    inferencex,
    layout,
    mlperf,
    names,
    raw,
    twins,
)

NAN = math.nan


def draft(*rows: dict[str, object]) -> pd.DataFrame:
    """Draft rows with every column that `raw.read` gives."""
    blank: dict[str, object] = dict.fromkeys(raw.NUMBERS, NAN) | dict.fromkeys(raw.TEXTS, "")
    usual = {"gpu": "b200-sxm", "model": "deepseek-r1", "engine": "sglang", "weight_precision": "fp8"}
    usual |= {"mode": "closed-loop", "spec_decode": "none", "disagg": 0.0, "isl": 1024.0, "osl": 1024.0}
    full = [
        {**blank, **usual, **raw.DRAFT_NUMBERS, **raw.DRAFT_TEXTS, "row_id": f"r{i}", **row}
        for i, row in enumerate(rows)
    ]
    return pd.DataFrame(full)


def test_the_inferencex_client_s_nominal_lengths_are_a_tenth_too_long() -> None:
    rows = draft(
        {"isl_osl_note": "nominal; InferenceX client draws lengths"},
        {"isl_osl_note": "measured mean", "isl": 922.0},
    )
    inferencex.client_lengths(rows)
    align.lengths(rows)
    assert rows["isl"].tolist() == pytest.approx([921.6, 922.0])
    assert set(rows["length_kind"]) == {"uniform"}


def test_pools_are_read_from_the_notes_and_add_up() -> None:
    notes = "prefill tp=4 ep=4 dpa=1 workers=8; decode tp=16 ep=16 dpa=0 workers=2; littles_law=1.0"
    rows = draft({"disagg": 1.0, "notes": notes, "num_gpus": 64.0, "prefill_gpus": 32.0, "decode_gpus": 32.0})
    layout.pools_in_notes(rows)
    layout.settle(rows)
    layout.check(rows)
    row = rows.iloc[0]
    assert (row["prefill_tp"], row["prefill_dp"], row["prefill_workers"]) == (4, 4, 8)
    assert (row["tp"], row["ep"], row["dp"], row["decode_workers"], row["num_gpus"]) == (16, 16, 1, 2, 64)
    assert row["reject"] == ""


def test_sglang_s_tp_1_in_a_wide_pool_means_gpus_over_workers() -> None:
    notes = "prefill tp=1 ep=1 dpa=1 workers=10; decode tp=1 ep=1 dpa=1 workers=1"
    rows = draft({"disagg": 1.0, "notes": notes, "num_gpus": 72.0, "prefill_gpus": 40.0, "decode_gpus": 32.0})
    layout.pools_in_notes(rows)
    assert rows.loc[0, ["prefill_tp", "decode_tp", "decode_dp"]].tolist() == [4, 32, 32]
    assert math.isnan(rows.loc[0, "decode_ep"])


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
def test_tp_dp_and_replicas_have_one_meaning(
    given: dict[str, object], tp: int, dp: int, replicas: int
) -> None:
    rows = draft(given)
    layout.settle(rows)
    layout.check(rows)
    assert rows.loc[0, ["tp", "dp", "replicas"]].tolist() == [tp, dp, replicas]
    assert rows.loc[0, "reject"] == ""


def test_a_layout_that_does_not_multiply_is_rejected() -> None:
    rows = draft({"tp": 8.0, "dp": 2.0, "num_gpus": 8.0, "dp_means": "replicas"})
    layout.settle(rows)
    layout.check(rows)
    assert "not num_gpus" in rows.loc[0, "reject"]


def test_aiconfigurator_s_medians_are_means_and_its_squared_tp_is_undone() -> None:
    rows = draft(
        {"tp": 16.0, "dp": 1.0, "ep": 4.0, "num_gpus": 16.0, "ttft_p50_ms": 500.0, "tpot_p50_ms": 9.0},
        {"tp": 1.0, "dp": 64.0, "ep": 8.0, "num_gpus": 64.0, "tpot_p50_ms": 9.0},
        {"tp": 8.0, "dp": 1.0, "ep": 8.0, "num_gpus": 8.0, "tpot_p50_ms": 9.0},
    )
    aic.inferencex_part(rows)
    layout.settle(rows)
    assert rows["tp"].tolist() == [4, 8, 8]
    assert rows["dp"].tolist() == [1, 8, 1]
    assert rows["num_gpus"].tolist() == [4, 8, 8]
    assert rows["ttft_mean_ms"].tolist()[0] == 500.0
    assert rows["ttft_p50_ms"].isna().all()


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


def test_output_throughput_follows_from_the_total() -> None:
    rows = draft({"total_tput": 900.0, "isl": 800.0, "osl": 100.0})
    align.throughputs(rows)
    assert rows.loc[0, "output_tok_s"] == pytest.approx(100.0)
    assert rows.loc[0, "request_s"] == pytest.approx(1.0)
    assert "output = total" in rows.loc[0, "remark"]


def test_total_and_output_that_contradict_the_lengths_are_rejected() -> None:
    rows = draft({"total_tput": 900.0, "output_tput": 300.0, "isl": 800.0, "osl": 100.0})
    align.throughputs(rows)
    assert "disagree" in rows.loc[0, "reject"]


def test_little_s_law_throws_out_a_wrong_concurrency() -> None:
    good = {"concurrency": 8.0, "osl": 100.0, "output_tok_s": 800 / 1.1, "ttft_ms": 110.0, "tpot_ms": 10.0}
    rows = pd.DataFrame([good, {**good, "concurrency": 16.0}, {**good, "concurrency": 4.0}])
    rows = rows.assign(mode="closed-loop", reject="", ttft_mean_ms=NAN, tpot_mean_ms=NAN)
    assert checks.residence_ratio(rows).iloc[0] == pytest.approx(1.0)
    checks.little(rows)
    assert (rows["reject"] != "").tolist() == [False, True, True]


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
    checks.stalls(rows)
    assert rows["ttft_mean_ms"].isna().tolist() == [True, True, False, False, True, False]
    # A standstill of one second is little beside two minutes of decoding.
    assert rows["output_tok_s"].isna().tolist() == [True, True, False, False, False, False]
    assert rows["ttft_p50_ms"].tolist()[0] == 400.0
    assert (rows["remark"] != "").tolist() == [True, True, False, False, True, False]
    align.latencies(rows)
    assert rows["ttft_ms"].isna().tolist() == [False, True, False, False, False, False]


def test_nothing_is_faster_than_reading_the_active_weights() -> None:
    base = {"tp": 1.0, "num_gpus": 1.0, "pp": 1.0, "model": "llama-3.1-8b", "weight_precision": "bf16"}
    base |= {"gpu": "h100-sxm", "output_tok_s": NAN, "ttft_ms": NAN, "decode_tp": NAN, "concurrency": 1.0}
    floor = checks.simple_floor(draft(base)).iloc[0]
    # 8.03 G parameters less 1.05 G of embedding and head, 2 bytes each, over 3.35 TB/s: 4.17 ms.
    assert floor["floor_tpot_ms"] == pytest.approx(4.17, rel=0.01)
    rows = draft({**base, "tpot_ms": 3.9}, {**base, "tpot_ms": 5.0})
    checks.physics(rows, checks.simple_audit)
    assert rows["reject"].tolist() == ["TPOT below the physical floor", ""]


def test_weights_and_the_kv_in_flight_fit_the_memory() -> None:
    base = {
        "model": "llama-3.1-70b",
        "gpu": "h100-sxm",
        "weight_precision": "bf16",
        "replicas": 1.0,
        "ttft_ms": 500.0,
    }
    base |= {"tpot_ms": 20.0, "isl": 8000.0, "osl": 1000.0}
    rows = draft(
        {**base, "num_gpus": 1.0, "concurrency": 1.0},
        # 140 GB of weights leave 200 GB of 4 x 85; 8 bit KV is 164 kB a token, 1.4 GB a request.
        {**base, "num_gpus": 4.0, "concurrency": 100.0},
        {**base, "num_gpus": 4.0, "concurrency": 200.0},
        {**base, "num_gpus": 4.0, "concurrency": 200.0, "prefix_cached_frac": 0.9},
    )
    checks.memory(rows)
    assert rows["reject"].tolist() == [
        "weights larger than the memory",
        "",
        "more KV in flight than the memory holds",
        "",
    ]


def test_a_stated_width_holds_for_both_pools() -> None:
    rows = draft({"disagg": 1.0, "tp": 2.0, "num_gpus": 8.0, "prefill_gpus": 2.0, "decode_gpus": 6.0})
    layout.settle(rows)
    assert rows.loc[0, ["prefill_tp", "prefill_workers", "decode_tp", "decode_workers"]].tolist() == [
        2,
        1,
        2,
        3,
    ]


def test_precision_is_read_from_the_checkpoint_s_name_or_is_the_model_s_own() -> None:
    rows = draft(
        {"model_raw": "Qwen2.5-72B-Instruct-AWQ", "model": "qwen2.5-72b", "weight_precision": ""},
        {"model_raw": "DeepSeek-R1-NVFP4", "weight_precision": ""},
        {"model_raw": "DeepSeek-R1", "weight_precision": ""},
        {"model_raw": "gpt-oss-120b", "model": "gpt-oss-120b", "weight_precision": ""},
        {"model_raw": "Llama", "model": "llama-3.1-8b", "weight_precision": "fp16"},
    )
    names.resolve(rows)
    assert rows["weight_precision"].tolist() == ["int4", "fp4", "fp8", "fp4", "bf16"]


def test_a_name_outside_the_catalogue_is_a_reason() -> None:
    rows = draft({"gpu": "abacus-9"}, {"model": "llama-99"})
    names.resolve(rows)
    assert rows["reject"].tolist() == [
        "gpu not in the catalogue: abacus-9",
        "model not in the catalogue: llama-99",
    ]


def test_llama_cpp_s_layer_split_is_a_pipeline() -> None:
    rows = draft(
        {"engine": "llamacpp", "num_gpus": 4.0, "concurrency": 1.0, "notes": "llama-bench -pg 2,2 -b 32: x"}
    )
    academic.argonne(rows)
    layout.settle(rows)
    assert rows.loc[0, ["tp", "pp", "replicas"]].tolist() == [1, 4, 1]


def test_ml_energy_s_running_batch_gives_the_mean_time_per_token() -> None:
    rows = draft({"concurrency": 100.0, "output_tput": 5000.0, "tpot_p50_ms": 3.0, "notes": "task gpqa"})
    academic.ml_energy(rows)
    align.latencies(rows)
    assert (rows.loc[0, "tpot_ms"], rows.loc[0, "tpot_stat"]) == (20.0, "mean")


def test_mlperf_takes_a_missing_layout_from_the_same_gpu_and_task() -> None:
    stated = {
        "num_gpus": 8.0,
        "tp": 2.0,
        "dp": 4.0,
        "gpu": "h100-sxm",
        "model": "llama-2-70b",
        "isl": 222.3,
        "osl": 290.0,
    }
    bare = {
        "num_gpus": 4.0,
        "gpu": "h100-sxm",
        "model": "llama-2-70b",
        "weight_precision": "",
        "isl": NAN,
        "osl": NAN,
    }
    rows = draft(stated, stated, bare)
    mlperf.results(rows)
    layout.settle(rows)
    assert rows.loc[2, ["tp", "replicas", "isl", "osl"]].tolist() == [2, 2, 222.3, 290.0]
    assert rows.loc[2, "weight_precision"] == "fp8"


def seeker_and_givers(tpot: float) -> pd.DataFrame:
    same = {"tp": 8.0, "ep": 8.0, "num_gpus": 8.0, "concurrency": 16.0}
    return draft(
        {
            **same,
            "source": "aic-silicon-inferencex",
            "spec_decode": "?",
            "tpot_mean_ms": tpot,
            "ttft_mean_ms": 90.0,
        },
        {**same, "source": "inferencex-dbdump-2026-07-20", "spec_decode": "none", "tpot_p50_ms": 10.0},
        {**same, "source": "inferencex-dbdump-2026-07-20", "spec_decode": "mtp", "tpot_p50_ms": 6.0},
    )


@pytest.mark.parametrize(("tpot", "spec"), [(10.1, "none"), (6.2, "mtp"), (8.0, "")])
def test_a_twin_run_settles_speculation_or_the_row_is_rejected(tpot: float, spec: str) -> None:
    rows = seeker_and_givers(tpot)
    twins.borrow(rows)
    assert rows.loc[0, "spec_decode"] == spec
    assert (rows.loc[0, "reject"] != "") == (spec == "")


def grouped(*rows: dict[str, object]) -> pd.DataFrame:
    frame = draft(*[{"concurrency": 8.0, **row} for row in rows]).assign(
        config_group="g", source_family="inferencex"
    )
    for name in dedupe.FILLED:
        if name not in frame:
            frame[name] = NAN
    return frame.assign(**{name: frame[name].astype(float) for name in dedupe.FILLED})


RUN = {
    "source": "inferencex-app-fixtures",
    "date": "2026-01-01",
    "run_id": "7",
    "tpot_mean_ms": 10.0,
    "ttft_mean_ms": 90.0,
}
RUN |= {"tpot_p50_ms": 10.1, "output_tok_s": 790.0}
COPY = {
    "source": "aic-silicon-inferencex",
    "date": "2026-01-01",
    "tpot_mean_ms": 10.0001,
    "ttft_mean_ms": 90.001,
}


def test_a_copy_is_folded_into_the_richest_row_and_counted() -> None:
    rows = dedupe.fold(grouped(COPY, RUN))
    assert rows["folded_into"].tolist() == ["r1", ""]
    assert rows["duplicates"].tolist() == [0, 1]


def test_another_day_s_run_and_a_repeat_with_other_figures_stay() -> None:
    other_day = {**COPY, "date": "2026-01-02"}
    repeat = {**COPY, "tpot_mean_ms": 10.2}
    assert (dedupe.fold(grouped(RUN, other_day, repeat))["folded_into"] == "").all()


def test_a_database_median_lends_its_throughput_only_where_little_s_law_closes() -> None:
    median = {"source": "inferencex-dbdump-2026-07-20", "tpot_p50_ms": 10.0}
    single = {**COPY, "osl": 921.6}
    rate = 8 * 921.6 / (0.09 + 0.01 * 920.6)
    rows = dedupe.fold(grouped(single, {**median, "osl": 921.6, "output_tok_s": rate}))
    assert rows.loc[0, "output_tok_s"] == pytest.approx(rate)
    assert rows["folded_into"].tolist() == ["", "r0"]
    rows = dedupe.fold(grouped(single, {**median, "osl": 921.6, "output_tok_s": rate / 1.5}))
    assert math.isnan(rows.loc[0, "output_tok_s"])
    assert (rows["folded_into"] == "").all()


def test_every_draft_number_is_a_number() -> None:
    assert all(np.isreal(value) for value in raw.DRAFT_NUMBERS.values())
