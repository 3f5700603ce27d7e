"""The one door: defaults as documented, a reason for every bad value, rows independent of each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data import catalogue
from roofcast.data.columns import REQUEST_COLUMNS
from roofcast.data.vocabulary import ENGINES, MODES, PRECISIONS, SPECULATION
from roofcast.features.request import DEFAULT_DATE_MONTHS, Requests, normalise
from roofcast.features.work import peak_flops, weight_bytes_each

GOOD: dict[str, Any] = {
    "model": "qwen2.5-72b",
    "gpu": "h100-sxm",
    "tp": 8,
    "engine": "vllm",
    "weight_precision": "bf16",
    "isl": 2048,
    "osl": 512,
    "concurrency": 32,
}


def ask(**columns: Any) -> Requests:
    return normalise({name: [value] for name, value in columns.items()})


def fault(**changes: Any) -> str:
    """Return the reason why GOOD with these changes is refused."""
    r = ask(**{**GOOD, **changes})
    assert not r.valid[0]
    return str(r.reason[0])


def note(**changes: Any) -> str:
    """Return the notes on GOOD with these changes, which is accepted."""
    r = ask(**{**GOOD, **changes})
    assert r.valid[0], r.reason[0]
    return str(r.reason[0])


# ------------------------------------------------------------------------------------------------ defaults


def test_a_model_and_a_gpu_are_enough() -> None:
    r = ask(model="qwen2.5-72b", gpu="h100-sxm")
    assert r.valid[0]
    assert (r.num_gpus[0], r.tp[0], r.pp[0], r.ep[0], r.dp[0], r.replicas[0]) == (1, 1, 1, 1, 1, 1)
    assert ENGINES[r.engine[0]] == "vllm"
    assert MODES[r.mode[0]] == "offline"
    assert (r.isl[0], r.osl[0], r.prefix_cached_frac[0]) == (1024, 1024, 0)
    assert SPECULATION[r.spec_decode[0]] == "none"
    assert not r.disagg[0]
    assert r.months[0] == DEFAULT_DATE_MONTHS
    assert "engine assumed vllm; weight_precision assumed bf16" in r.reason[0]
    assert "isl assumed 1024; osl assumed 1024" in r.reason[0]


def test_what_is_given_needs_no_note() -> None:
    assert note() == ""


@pytest.mark.parametrize("missing", [None, np.nan, "", pd.NA])
@pytest.mark.parametrize("name", [n for n in REQUEST_COLUMNS if n not in ("model", "gpu", "num_gpus")])
def test_a_missing_value_is_the_default_in_every_column(name: str, missing: object) -> None:
    given = {key: value for key, value in GOOD.items() if key != name}
    one, other = ask(**given), ask(**given, **{name: missing})
    assert one.valid[0]
    for part in (
        "num_gpus",
        "tp",
        "isl",
        "concurrency",
        "mode",
        "weight_precision",
        "kv_precision",
        "months",
    ):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({"request_rate": 2.0}, "open-loop"),
        ({"concurrency": 8}, "closed-loop"),
        ({"concurrency": 8, "request_rate": 2.0}, "open-loop"),
        ({}, "offline"),
    ],
)
def test_the_mode_follows_from_what_is_given(given: dict[str, float], mode: str) -> None:
    r = ask(model="qwen2.5-72b", gpu="h100-sxm", **given)
    assert MODES[r.mode[0]] == mode


@pytest.mark.parametrize("mode", ["closed-loop", "static-batch"])
def test_concurrency_is_32_where_the_mode_needs_one(mode: str) -> None:
    r = ask(model="qwen2.5-72b", gpu="h100-sxm", mode=mode)
    assert r.concurrency[0] == 32
    assert "concurrency assumed 32" in r.reason[0]


@pytest.mark.parametrize(
    ("model", "num_gpus", "tp"),
    [
        ("qwen2.5-72b", 8, 8),
        ("qwen2.5-72b", 6, 4),
        ("qwen2.5-72b", 72, 8),
        ("qwen2.5-7b", 8, 4),  # 28 heads
        ("qwen2.5-1.5b", 8, 4),  # 12 heads
    ],
)
def test_the_assumed_tp_divides_the_heads_and_fits_the_gpus(model: str, num_gpus: int, tp: int) -> None:
    r = ask(model=model, gpu="h100-sxm", num_gpus=num_gpus)
    assert r.valid[0]
    assert r.tp[0] == tp
    assert r.replicas[0] == num_gpus // tp
    assert "tp assumed from num_gpus" in r.reason[0]


def test_a_platform_names_the_gpu_its_number_and_its_domain() -> None:
    r = ask(model="qwen2.5-72b", platform="NVL72")
    assert (r.num_gpus[0], r.domain[0], r.tp[0], r.replicas[0]) == (72, 72, 8, 9)
    superchip = ask(model="qwen2.5-72b", platform="gb200-superchip")
    assert (superchip.num_gpus[0], superchip.domain[0]) == (2, 2)


@pytest.mark.parametrize(
    ("model", "gpu", "precision"),
    [
        ("qwen2.5-72b", "h100", "bf16"),
        ("deepseek-r1", "h100", "fp8"),
        ("deepseek-r1", "a100", "fp8"),
        ("gpt-oss-120b", "b200", "fp4"),
        ("gpt-oss-120b", "h100", "fp4"),
        ("gpt-oss-20b", "h200", "fp4"),
        ("gpt-oss-120b", "mi300x", "fp4"),
        ("kimi-k2.7", "v100", "int4"),
        ("gpt-oss-120b", "v100", "bf16"),
        ("gpt-oss-120b", "gaudi2", "bf16"),
    ],
)
def test_the_precision_assumed_is_the_models_own_where_engines_run_it(
    model: str, gpu: str, precision: str
) -> None:
    r = ask(model=model, gpu=gpu)
    assert r.valid[0]
    assert PRECISIONS[r.weight_precision[0]] == precision
    assert f"weight_precision assumed {precision}" in r.reason[0]


@pytest.mark.parametrize("gpu", sorted(catalogue.gpus()))
@pytest.mark.parametrize("model", ["gpt-oss-120b", "deepseek-r1", "kimi-k2.7", "qwen2.5-72b"])
def test_the_precision_assumed_is_one_that_may_be_said(model: str, gpu: str) -> None:
    assumed = PRECISIONS[ask(model=model, gpu=gpu).weight_precision[0]]
    assert ask(model=model, gpu=gpu, weight_precision=assumed).valid[0]


def test_weights_assumed_without_units_are_stored_narrow_and_multiplied_in_16_bits_with_a_note() -> None:
    r = ask(model="gpt-oss-120b", gpu="h100")
    assert weight_bytes_each(r)[0] == 0.53125
    assert peak_flops(r, r.weight_precision)[0] == r.gpu.peak_bf16[0]
    assert "this GPU has no fp4 units: weights are widened and multiplied in 16 bits" in r.reason[0]


@pytest.mark.parametrize(
    ("engine", "weights", "kv"),
    [("trtllm", "fp8", "fp8"), ("trtllm", "fp4", "fp8"), ("trtllm", "bf16", "bf16"), ("vllm", "fp8", "bf16")],
)
def test_the_kv_precision_assumed_depends_on_engine_and_weights(engine: str, weights: str, kv: str) -> None:
    r = ask(**{**GOOD, "gpu": "b200", "engine": engine, "weight_precision": weights})
    assert PRECISIONS[r.kv_precision[0]] == kv


def test_no_8_bit_kv_is_assumed_where_the_gpu_does_not_multiply_it() -> None:
    r = ask(model="deepseek-r1", gpu="a100", engine="trtllm")
    assert (PRECISIONS[r.weight_precision[0]], PRECISIONS[r.kv_precision[0]]) == ("fp8", "bf16")


@pytest.mark.parametrize(
    ("date", "months"), [("2025-01", 0), ("2026-03-15", 14), ("2025", 5), (pd.Timestamp("2025-06-01"), 5)]
)
def test_dates_count_months_from_2025(date: object, months: int) -> None:
    assert ask(**{**GOOD, "date": date}).months[0] == months


def test_disaggregation_splits_the_gpus_in_half_unless_told() -> None:
    r = ask(**{**GOOD, "num_gpus": 16, "disagg": 1})
    assert (r.prefill_gpus[0], r.num_gpus[0], r.tp[0], r.prefill_workers[0]) == (8, 16, 8, 1)
    assert "prefill_gpus assumed" in r.reason[0]
    told = ask(**{**GOOD, "disagg": True, "prefill_gpus": 4, "decode_gpus": 16, "prefill_tp": 2})
    assert (told.num_gpus[0], told.prefill_workers[0], told.prefill_tp[0], told.replicas[0]) == (20, 2, 2, 2)


# ------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "qwen2.5-72bb"}, ["unknown model 'qwen2.5-72bb'", "nearest: qwen2.5-72b"]),
        ({"gpu": "h1000"}, ["unknown gpu 'h1000'", "h100-sxm"]),
        ({"gpu": None, "platform": "hgx-b20"}, ["unknown platform 'hgx-b20'", "hgx-b200"]),
        ({"model": None}, ["model is required"]),
        ({"gpu": None}, ["gpu or platform is required"]),
        ({"platform": "hgx-b200"}, ["gpu and platform disagree"]),
        ({"tp": 3}, ["tp = 3 does not divide the 64 attention heads"]),
        ({"tp": 72, "num_gpus": 72}, ["tp = 72 does not divide the 64"]),
        ({"dp": 3, "num_gpus": 8}, ["dp = 3", "a divisor of tp = 8"]),
        ({"pp": 81, "num_gpus": 648}, ["pp = 81", "at most the 80 layers"]),
        ({"num_gpus": 4}, ["num_gpus = 4", "at least tp x pp = 8"]),
        ({"weight_precision": "fp5"}, ["weight_precision = 'fp5'", "one of bf16, fp8"]),
        ({"kv_precision": "x"}, ["kv_precision = 'x'"]),
        ({"mode": "batch"}, ["mode = 'batch'", "one of static-batch"]),
        ({"spec_decode": "magic"}, ["spec_decode = 'magic'", "one of none, mtp"]),
        ({"mode": "open-loop", "concurrency": None}, ["open-loop needs request_rate"]),
        ({"prefix_cached_frac": 1.5}, ["prefix_cached_frac = 1.5", "from 0 to 1"]),
        ({"date": "soon"}, ["date = 'soon'", "YYYY-MM"]),
        ({"date": "2026-13"}, ["date = '2026-13'", "YYYY-MM"]),
        ({"isl": 600_000}, ["isl + osl = 600512", "the model's limit is 131072"]),
        ({"disagg": "yes"}, ["disagg = 'yes'"]),
    ],
)
def test_each_bad_value_has_its_own_reason(changes: dict[str, Any], words: list[str]) -> None:
    reason = fault(**changes)
    for word in words:
        assert word in reason
    assert "assumed" not in reason
    assert "\n" not in reason


_ABOVE_ZERO = ("tp", "pp", "ep", "dp", "num_gpus", "num_nodes", "concurrency", "request_rate", "isl", "osl")


@pytest.mark.parametrize("value", [0, -1, np.inf, -np.inf, "many", "1e999"])
@pytest.mark.parametrize("name", _ABOVE_ZERO)
def test_no_number_is_zero_negative_infinite_or_text(name: str, value: object) -> None:
    assert fault(**{name: value}).startswith(f"{name} = ")


@pytest.mark.parametrize("name", ["tp", "pp", "ep", "dp", "num_gpus", "num_nodes"])
def test_counts_are_whole(name: str) -> None:
    assert f"{name} = 1.5 is not allowed: a whole number above 0" in fault(**{name: 1.5})


@pytest.mark.parametrize(
    ("gpu", "precision"), [("a100", "fp8"), ("h100", "fp4"), ("mi300x", "fp4"), ("t4", "fp8")]
)
def test_a_format_without_units_is_weight_only_with_a_note(gpu: str, precision: str) -> None:
    words = note(gpu=gpu, weight_precision=precision)
    assert f"this GPU has no {precision} units: weights are widened and multiplied in 16 bits" in words


@pytest.mark.parametrize(
    ("gpu", "precision"),
    [("v100", "fp8"), ("v100", "fp4"), ("mi250", "fp8"), ("gaudi2", "fp4"), ("tpu-v5e", "fp8")],
)
def test_a_format_that_no_engine_runs_on_the_gpu_is_a_fault(gpu: str, precision: str) -> None:
    reason = fault(gpu=gpu, weight_precision=precision)
    assert reason.startswith(
        f"weight_precision = {precision} is not allowed: this GPU has no {precision} units"
    )


def test_a_length_past_the_models_limit_is_noted_while_rotary_scaling_serves_it() -> None:
    assert "isl + osl passes the model's limit of 131072 tokens" in note(isl=200_000)


def test_an_unknown_engine_is_answered_with_a_note() -> None:
    assert "engine 'homemade' is not known" in note(engine="homemade")


def test_attention_groups_beyond_tp_are_replicas() -> None:
    r = ask(**{**GOOD, "model": "llama-3.1-8b", "tp": 1, "dp": 8, "num_gpus": 8})
    assert (r.dp[0], r.replicas[0]) == (1, 8)
    assert "dp of a dense model is counted as independent replicas" in r.reason[0]
    within = ask(**{**GOOD, "model": "llama-3.1-8b", "tp": 4, "dp": 2, "num_gpus": 4})
    assert (within.tp[0], within.dp[0], within.replicas[0]) == (2, 1, 2)


def test_experts_wider_than_tp_spread_over_attention_groups() -> None:
    r = ask(**{**GOOD, "model": "deepseek-r1", "tp": 1, "ep": 8, "num_gpus": 8})
    assert (r.tp[0], r.dp[0], r.ep[0]) == (8, 8, 8)
    assert "experts spread over more GPUs than tp" in r.reason[0]


# ------------------------------------------------------------------------------------------- independence


def test_one_bad_row_never_harms_the_others() -> None:
    bad: list[dict[str, Any]] = [
        {"model": "nope"}, {"tp": 3}, {"isl": -1}, {"concurrency": np.inf}, {"gpu": 7}, {"osl": "x"},
    ]  # fmt: skip
    rows = [GOOD]
    for change in bad:
        rows += [{**GOOD, **change}, GOOD]
    r = normalise({name: [row.get(name) for row in rows] for name in GOOD})
    assert r.valid.tolist() == [True] + [False, True] * len(bad)
    assert all(reason == "" for reason in r.reason[::2])
    assert len(set(r.isl[::2])) == len(set(r.tp[::2])) == len(set(r.model.codes[::2])) == 1


def test_the_index_plays_no_part() -> None:
    frame = pd.DataFrame([GOOD, {**GOOD, "tp": 4}, {**GOOD, "tp": 3}])
    shuffled = frame.set_axis([7, 7, -1], axis=0)
    one, other = normalise(frame), normalise(shuffled)
    np.testing.assert_array_equal(one.tp, other.tp)
    np.testing.assert_array_equal(one.valid, other.valid)


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_text_columns_may_have_any_dtype(dtype: str | type) -> None:
    frame = pd.DataFrame([GOOD, {**GOOD, "model": None}, {**GOOD, "gpu": "b200"}])
    typed = frame.astype(dict.fromkeys(("model", "gpu", "engine", "weight_precision"), dtype))
    one, other = normalise(frame), normalise(typed)
    np.testing.assert_array_equal(one.valid, other.valid)
    np.testing.assert_array_equal(one.gpu.codes, other.gpu.codes)
    assert other.reason[1] == "model is required"


def test_an_empty_frame_is_no_requests() -> None:
    for empty in (pd.DataFrame(), pd.DataFrame(columns=list(REQUEST_COLUMNS)), {}, {"model": []}):
        assert len(normalise(empty)) == 0


def test_a_frame_without_columns_is_all_faults() -> None:
    r = normalise(pd.DataFrame(index=range(3)))
    assert not r.valid.any()
    assert r.reason[2] == "model is required; gpu or platform is required"


def test_other_columns_are_ignored_and_the_frame_stays_as_it_was() -> None:
    frame = pd.DataFrame([{**GOOD, "tpot_ms": "fast"}])
    before = frame.copy()
    assert normalise(frame).valid[0]
    pd.testing.assert_frame_equal(frame, before)


def test_taking_rows_takes_every_column() -> None:
    r = normalise({name: [value, value] for name, value in GOOD.items()} | {"tp": [8, 4]})
    part = r.take(np.array([False, True]))
    assert len(part) == 1
    assert (part.tp[0], part.model.n_layers[0], part.gpu.bandwidth[0]) == (4, 80, 3.35e12)


def test_data_parallel_groups_that_share_experts_are_one_copy() -> None:
    frame = pd.DataFrame(
        [{"model": "deepseek-r1", "gpu": "h200-sxm", "tp": 1, "dp": 8, "ep": 8, "num_gpus": 16}]
    )
    r = normalise(frame)
    assert (r.tp[0], r.dp[0], r.replicas[0]) == (8, 8, 2)
    assert "one copy on tp x dp GPUs" in r.reason[0]
    dense = normalise(frame.assign(model="llama-3.1-8b"))
    assert (dense.tp[0], dense.replicas[0]) == (1, 16)
