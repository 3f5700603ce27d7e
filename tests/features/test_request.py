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
    "model": "qwen2.5-72b", "gpu": "h100-sxm", "tp": 8, "engine": "vllm", "weight_precision": "bf16",
    "isl": 2048, "osl": 512, "concurrency": 32,
}  # fmt: skip
MOE = {"model": "deepseek-r1", "tp": 1}
BARE = {"model": "qwen2.5-72b", "gpu": "h100-sxm"}


def ask(given: dict[str, Any] = GOOD, **changes: Any) -> Requests:
    return normalise({name: [value] for name, value in (given | changes).items()})


def said(r: Requests, row: int = 0) -> list[tuple[str, str]]:
    """Return code and column of what is said of a row."""
    return [(note.code, note.column) for note in r.notes.of(row)]


def layout(r: Requests) -> tuple[float, ...]:
    return tuple(float(getattr(r, name)[0]) for name in ("num_gpus", "tp", "pp", "ep", "dp", "replicas"))


# ---- defaults


def test_a_model_and_a_gpu_are_enough_and_what_is_assumed_is_said() -> None:
    r = ask(BARE)
    assert r.valid[0]
    assert layout(r) == (1, 1, 1, 1, 1, 1)
    assert (ENGINES[r.engine[0]], MODES[r.mode[0]], SPECULATION[r.spec_decode[0]]) == (
        "vllm",
        "offline",
        "none",
    )
    assert (r.isl[0], r.osl[0], r.prefix_cached_frac[0], r.disagg[0]) == (1024, 1024, 0, False)
    assert r.months[0] == DEFAULT_DATE_MONTHS
    assumed = {(n.code, n.column): n.value for n in r.notes.of(0)}
    columns = {"engine": "vllm", "weight_precision": "bf16", "isl": 1024, "osl": 1024}
    assert assumed == {("assumed", name): value for name, value in columns.items()}
    assert said(ask()) == []


@pytest.mark.parametrize("missing", [None, np.nan, "", pd.NA])
@pytest.mark.parametrize("name", [n for n in REQUEST_COLUMNS if n not in ("model", "gpu", "num_gpus")])
def test_a_missing_value_is_the_default_in_every_column(name: str, missing: object) -> None:
    one, other = ask({k: v for k, v in GOOD.items() if k != name}), ask(**{name: missing})
    assert one.valid[0]
    for part in (
        "tp",
        "isl",
        "concurrency",
        "mode",
        "weight_precision",
        "kv_precision",
        "months",
        "num_gpus",
    ):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))


@pytest.mark.parametrize(("given", "mode", "concurrency"), [
    ({"request_rate": 2.0}, "open-loop", None), ({"concurrency": 8}, "closed-loop", 8),
    ({"concurrency": 8, "request_rate": 2.0}, "open-loop", 8),
    ({}, "offline", None), ({"mode": "closed-loop"}, "closed-loop", 32),
    ({"mode": "static-batch"}, "static-batch", 32),
])  # fmt: skip
def test_the_mode_follows_from_what_is_given_and_takes_32_requests_where_it_needs_some(
    given: dict[str, Any], mode: str, concurrency: float | None
) -> None:
    r = ask(BARE, **given)
    assert MODES[r.mode[0]] == mode
    assert concurrency is None or r.concurrency[0] == concurrency
    assert (("assumed", "concurrency") in said(r)) == (concurrency == 32)


@pytest.mark.parametrize(("model", "num_gpus", "tp"), [
    ("qwen2.5-72b", 8, 8), ("qwen2.5-72b", 6, 4), ("qwen2.5-72b", 72, 8),
    ("qwen2.5-7b", 8, 4),  # 28 heads
    ("qwen2.5-1.5b", 8, 4),  # 12 heads
])  # fmt: skip
def test_the_assumed_tp_divides_the_heads_and_fits_the_gpus(model: str, num_gpus: int, tp: int) -> None:
    r = ask(BARE, model=model, num_gpus=num_gpus)
    assert layout(r) == (num_gpus, tp, 1, 1, 1, num_gpus // tp)
    assert ("assumed-from-gpus", "tp") in said(r)


@pytest.mark.parametrize(("platform", "gpus", "tp"), [("NVL72", 72, 8), ("gb200-superchip", 2, 2)])
def test_a_platform_names_the_gpu_its_number_and_its_domain(platform: str, gpus: int, tp: int) -> None:
    r = ask({"model": "qwen2.5-72b", "platform": platform})
    assert (r.num_gpus[0], r.domain[0], r.tp[0], r.replicas[0]) == (gpus, gpus, tp, gpus // tp)


# What a model is published in, where engines run it on the GPU.
@pytest.mark.parametrize(("model", "gpu", "precision"), [
    ("qwen2.5-72b", "h100", "bf16"), ("deepseek-r1", "h100", "fp8"), ("deepseek-r1", "a100", "fp8"),
    ("gpt-oss-120b", "b200", "fp4"), ("gpt-oss-120b", "h100", "fp4"), ("gpt-oss-20b", "h200", "fp4"),
    ("gpt-oss-120b", "mi300x", "fp4"), ("kimi-k2.7", "v100", "int4"), ("gpt-oss-120b", "v100", "bf16"),
    ("gpt-oss-120b", "gaudi2", "bf16"),
])  # fmt: skip
def test_the_precision_assumed_is_the_models_own_where_engines_run_it(
    model: str, gpu: str, precision: str
) -> None:
    r = ask({"model": model, "gpu": gpu})
    assert PRECISIONS[r.weight_precision[0]] == precision
    assert ("assumed", "weight_precision") in said(r)


@pytest.mark.parametrize("model", ["gpt-oss-120b", "deepseek-r1", "kimi-k2.7", "qwen2.5-72b"])
def test_the_precision_assumed_is_one_that_may_be_said(model: str) -> None:
    gpus = sorted(catalogue.gpus())
    codes = normalise({"model": [model] * len(gpus), "gpu": gpus}).weight_precision
    told = {"model": [model] * len(gpus), "gpu": gpus, "weight_precision": [PRECISIONS[c] for c in codes]}
    assert normalise(told).valid.all()


@pytest.mark.parametrize(("gpu", "precision", "code"), [
    ("a100", "fp8", "widened"), ("h100", "fp4", "widened"), ("mi300x", "fp4", "widened"),
    ("t4", "fp8", "widened"), ("v100", "fp8", "no-units"), ("v100", "fp4", "no-units"),
    ("mi250", "fp8", "no-units"), ("gaudi2", "fp4", "no-units"), ("tpu-v5e", "fp8", "no-units"),
])  # fmt: skip
def test_a_format_without_units_is_weight_only_or_refused_where_no_engine_runs_it(
    gpu: str, precision: str, code: str
) -> None:
    r = ask(gpu=gpu, weight_precision=precision)
    assert r.valid[0] == (code == "widened")
    assert [(n.code, n.value) for n in r.notes.of(0)] == [(code, precision)]


def test_weights_without_units_are_stored_narrow_and_multiplied_in_16_bits() -> None:
    r = ask({"model": "gpt-oss-120b", "gpu": "h100"})
    assert weight_bytes_each(r)[0] == 0.53125
    assert peak_flops(r, r.weight_precision)[0] == r.gpu.peak_bf16[0]


@pytest.mark.parametrize(("gpu", "engine", "weights", "kv"), [
    ("b200", "trtllm", "fp8", "fp8"), ("b200", "trtllm", "fp4", "fp8"),
    ("b200", "trtllm", "bf16", "bf16"), ("b200", "vllm", "fp8", "bf16"),
    ("a100", "trtllm", "fp8", "bf16"),  # no units for it
])  # fmt: skip
def test_the_kv_precision_assumed_depends_on_engine_weights_and_gpu(
    gpu: str, engine: str, weights: str, kv: str
) -> None:
    r = ask(gpu=gpu, engine=engine, weight_precision=weights)
    assert PRECISIONS[r.kv_precision[0]] == kv


@pytest.mark.parametrize(
    ("date", "months"), [("2025-01", 0), ("2026-03-15", 14), ("2025", 5), (pd.Timestamp("2025-06-01"), 5)]
)
def test_dates_count_months_from_2025(date: object, months: int) -> None:
    assert ask(date=date).months[0] == months


def test_disaggregation_splits_the_gpus_in_half_unless_told() -> None:
    r = ask(num_gpus=16, disagg=1)
    assert (r.prefill_gpus[0], r.num_gpus[0], r.tp[0], r.prefill_workers[0]) == (8, 16, 8, 1)
    assert said(r) == [("assumed-half", "prefill_gpus")]
    told = ask(disagg=True, prefill_gpus=4, decode_gpus=16, prefill_tp=2)
    assert (told.num_gpus[0], told.prefill_workers[0], told.prefill_tp[0], told.replicas[0]) == (20, 2, 2, 2)


@pytest.mark.parametrize(("columns", "expected", "code"), [
    # Attention groups of a dense model are copies, beside tp or within it.
    ({"model": "llama-3.1-8b", "tp": 1, "dp": 8, "num_gpus": 8}, (8, 1, 1, 1, 1, 8), "copies"),
    ({"model": "llama-3.1-8b", "tp": 4, "dp": 2, "num_gpus": 4}, (4, 2, 1, 1, 1, 2), "copies"),
    ({"model": "llama-3.1-8b", "tp": 1, "dp": 8, "num_gpus": 16}, (16, 1, 1, 1, 1, 16), "copies"),
    # Groups that share experts are one copy, and so are experts wider than tp.
    ({**MOE, "dp": 8, "ep": 8, "num_gpus": 16}, (16, 8, 1, 8, 8, 2), "spread-experts"),
    ({**MOE, "ep": 8, "num_gpus": 8}, (8, 8, 1, 8, 8, 1), "spread-experts"),
])  # fmt: skip
def test_attention_groups_are_copies_unless_they_share_experts(
    columns: dict[str, Any], expected: tuple[float, ...], code: str
) -> None:
    r = ask(**columns)
    assert layout(r) == expected
    assert code in [n.code for n in r.notes.of(0)]


# ---- faults


@pytest.mark.parametrize(("changes", "code", "column"), [
    ({"model": "qwen2.5-72bb"}, "unknown-name", "model"),
    ({"gpu": "h1000"}, "unknown-name", "gpu"),
    ({"gpu": None, "platform": "hgx-b20"}, "unknown-name", "platform"),
    ({"model": None}, "required", "model"), ({"gpu": None}, "gpu-or-platform", "gpu"),
    ({"platform": "hgx-b200"}, "gpu-and-platform", "gpu"),
    ({"tp": 3}, "heads", "tp"), ({"tp": 72, "num_gpus": 72}, "heads", "tp"),
    ({"dp": 3, "num_gpus": 8}, "divisor", "dp"), ({"pp": 81, "num_gpus": 648}, "layers", "pp"),
    ({"num_gpus": 4}, "degrees", "num_gpus"),
    ({"weight_precision": "fp5"}, "unknown-word", "weight_precision"),
    ({"kv_precision": "x"}, "unknown-word", "kv_precision"),
    ({"mode": "batch"}, "unknown-word", "mode"),
    ({"spec_decode": "magic"}, "unknown-word", "spec_decode"),
    ({"mode": "open-loop", "concurrency": None}, "required-rate", "mode"),
    ({"prefix_cached_frac": 1.5}, "not-allowed", "prefix_cached_frac"),
    ({"date": "soon"}, "not-allowed", "date"), ({"date": "2026-13"}, "not-allowed", "date"),
    ({"isl": 600_000}, "too-long", "isl"), ({"disagg": "yes"}, "not-allowed", "disagg"),
    *(({name: 1.5}, "not-allowed", name) for name in ("tp", "pp", "ep", "dp", "num_gpus", "num_nodes")),
])  # fmt: skip
def test_each_bad_value_is_a_fault_of_its_own_that_says_what_is_allowed(
    changes: dict[str, Any], code: str, column: str
) -> None:
    r = ask(**changes)
    faults = r.notes.of(0)
    assert not r.valid[0]
    assert (faults[0].code, faults[0].column) == (code, column)
    assert all(each.fault and each.allowed for each in faults)
    assert r.reason[0].isprintable()


@pytest.mark.parametrize("value", [0, -1, np.inf, -np.inf, "many", "1e999"])
@pytest.mark.parametrize(
    "name", ["tp", "pp", "ep", "dp", "num_gpus", "num_nodes", "concurrency", "request_rate", "isl", "osl"]
)
def test_no_number_is_zero_negative_infinite_or_text(name: str, value: object) -> None:
    assert said(ask(**{name: value}))[0] == ("not-allowed", name)


@pytest.mark.parametrize(
    ("changes", "code", "column"),
    [({"isl": 200_000}, "long", "isl"), ({"engine": "homemade"}, "uncommon", "engine")],
)
def test_what_is_unusual_is_answered_with_a_note(changes: dict[str, Any], code: str, column: str) -> None:
    r = ask(**changes)
    assert r.valid[0]
    assert said(r) == [(code, column)]


# ---- independence


def test_one_bad_row_never_harms_the_others() -> None:
    bad: list[dict[str, Any]] = [
        {"model": "nope"}, {"tp": 3}, {"isl": -1}, {"concurrency": np.inf}, {"gpu": 7}, {"osl": "x"},
    ]  # fmt: skip
    rows = [GOOD, *(row for change in bad for row in ({**GOOD, **change}, GOOD))]
    r = normalise({name: [row.get(name) for row in rows] for name in GOOD})
    assert r.valid.tolist() == [True] + [False, True] * len(bad)
    assert not any(said(r, row) for row in range(0, len(rows), 2))
    assert len(set(r.isl[::2])) == len(set(r.tp[::2])) == len(set(r.model.codes[::2])) == 1


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_neither_index_nor_dtype_nor_other_columns_play_a_part(dtype: str | type) -> None:
    frame = pd.DataFrame([GOOD, {**GOOD, "model": None}, {**GOOD, "gpu": "b200", "tp": 4}])
    typed = frame.astype(dict.fromkeys(("model", "gpu", "engine", "weight_precision"), dtype))
    other_way = typed.set_axis([7, 7, -1], axis=0).assign(tpot_ms="fast")
    before = other_way.copy()
    one, other = normalise(frame), normalise(other_way)
    pd.testing.assert_frame_equal(other_way, before)
    for name in ("valid", "tp"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.gpu.codes, other.gpu.codes)
    assert said(other, 1) == [("required", "model")]


def test_a_frame_without_rows_or_columns_is_no_requests_or_all_faults() -> None:
    for empty in (pd.DataFrame(), pd.DataFrame(columns=list(REQUEST_COLUMNS)), {}, {"model": []}):
        assert len(normalise(empty)) == 0
    r = normalise(pd.DataFrame(index=range(3)))
    assert not r.valid.any()
    assert said(r, 2) == [("required", "model"), ("gpu-or-platform", "gpu")]


def test_taking_rows_takes_every_column() -> None:
    r = normalise({name: [value, value] for name, value in GOOD.items()} | {"tp": [8, 4]})
    part = r.take(np.array([False, True]))
    assert len(part) == 1
    assert (part.tp[0], part.model.n_layers[0], part.gpu.bandwidth[0]) == (4, 80, 3.35e12)
