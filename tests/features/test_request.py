"""The one door: defaults as documented, a reason for every bad value, rows independent of each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data import catalogue
from roofcast.data.columns import REQUEST_COLUMNS
from roofcast.data.vocabulary import ENGINES, MODES, PRECISIONS
from roofcast.features.notes import Note
from roofcast.features.request import DEFAULT_DATE_MONTHS, Requests, normalise
from roofcast.features.work import decode_layout, stored_weight_bytes

from .questions import asked

Row = dict[str, Any]
GOOD: Row = {"model": "qwen2.5-72b", "gpu": "h100-sxm", "tp": 8, "engine": "vllm", "weight_precision": "bf16",
             "isl": 2048, "osl": 512, "concurrency": 32}  # fmt: skip
BARE: Row = {"model": "qwen2.5-72b", "gpu": "h100-sxm"}


def ask(given: Row = GOOD, **changes: Any) -> Requests:
    return asked(**(given | changes))


def said(r: Requests, row: int = 0) -> list[tuple[str, str]]:
    """Return code and column of what is said of a row."""
    return [(note.code, note.column) for note in r.notes.of(row)]


def layout(r: Requests) -> tuple[float, ...]:
    return tuple(float(getattr(r, name)[0]) for name in ("num_gpus", "tp", "pp", "ep", "dp", "replicas"))


# ---- defaults


def test_a_model_and_a_gpu_are_enough_and_what_is_assumed_is_said() -> None:
    r = ask(BARE)
    assert layout(r) == (1, 1, 1, 1, 1, 1)
    assert (r.isl[0], r.osl[0], r.prefix_cached_frac[0], r.disagg[0]) == (1024, 1024, 0, False)
    assert (ENGINES[r.engine[0]], r.months[0]) == ("vllm", DEFAULT_DATE_MONTHS)
    columns = {"engine": "vllm", "weight_precision": "bf16", "concurrency": 32, "isl": 1024, "osl": 1024}
    assert [(n.code, n.column, n.value) for n in r.notes.of(0)] == [
        ("assumed", *each) for each in columns.items()
    ]
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
    ({"concurrency": 8, "request_rate": 2.0}, "open-loop", 8), ({}, "closed-loop", 32),
    ({"mode": "offline"}, "offline", None),
    ({"mode": "closed-loop"}, "closed-loop", 32), ({"mode": "static-batch"}, "static-batch", 32),
])  # fmt: skip
def test_the_mode_follows_from_what_is_given(given: Row, mode: str, concurrency: float | None) -> None:
    r = ask(BARE, **given)
    assert MODES[r.mode[0]] == mode
    assert concurrency is None or r.concurrency[0] == concurrency
    assert (("assumed", "concurrency") in said(r)) == (concurrency == 32)


@pytest.mark.parametrize(("columns", "gpus", "tp", "domain"), [
    *(({**BARE, "num_gpus": n}, n, tp, 8) for n, tp in ((8, 8), (6, 4), (72, 8))),
    *(({**BARE, "num_gpus": 8, "model": m}, 8, 4, 8) for m in ("qwen2.5-7b", "qwen2.5-1.5b")),  # 28, 12 heads
    *(({"model": "qwen2.5-72b", "platform": p}, n, tp, n)
      for p, n, tp in (("NVL72", 72, 8), ("gb200-superchip", 2, 2))),
])  # fmt: skip
def test_the_assumed_tp_divides_heads_and_gpus(columns: Row, gpus: int, tp: int, domain: int) -> None:
    """A platform names its GPUs and their domain."""
    r = ask(columns, layout="given")
    assert (*layout(r), r.domain[0]) == (gpus, tp, 1, 1, 1, gpus // tp, domain)
    assert ("assumed-from-gpus", "tp") in said(r)


# What a model is published in, where engines run it on the GPU; the cache in 8 bits where TensorRT-LLM can.
@pytest.mark.parametrize(("columns", "weights", "kv"), [
    ({"model": "qwen2.5-72b", "gpu": "h100"}, "bf16", "bf16"),
    *(({"model": "deepseek-r1", "gpu": gpu}, "fp8", None) for gpu in ("h100", "a100")),
    *(({"model": "gpt-oss-120b", "gpu": gpu}, "fp4", None) for gpu in ("b200", "h100", "mi300x")),
    *(({"model": "gpt-oss-120b", "gpu": gpu}, "bf16", None) for gpu in ("v100", "gaudi2")),
    ({"model": "kimi-k2.7", "gpu": "v100"}, "int4", None),
    *((GOOD | {"gpu": "b200", "engine": "trtllm", "weight_precision": w}, w, kv)
      for w, kv in (("fp8", "fp8"), ("fp4", "fp8"), ("bf16", "bf16"))),
    (GOOD | {"gpu": "b200", "weight_precision": "fp8"}, "fp8", "bf16"),
    (GOOD | {"gpu": "a100", "engine": "trtllm", "weight_precision": "fp8"}, "fp8", "bf16"),  # no units for it
])  # fmt: skip
def test_the_precisions_assumed(columns: Row, weights: str, kv: str | None) -> None:
    r = ask(columns)
    assert PRECISIONS[r.weight_precision[0]] == weights
    assert kv in (None, PRECISIONS[r.kv_precision[0]])
    converted = columns["gpu"] in ("v100", "gaudi2") and weights == "bf16"
    said_of_it = "converted" if converted else "assumed"
    assert ((said_of_it, "weight_precision") in said(r)) == ("weight_precision" not in columns)


@pytest.mark.parametrize("model", ["gpt-oss-120b", "deepseek-r1", "kimi-k2.7", "qwen2.5-72b"])
def test_the_precision_assumed_is_one_that_may_be_said(model: str) -> None:
    table: Row = {"model": [model] * len(catalogue.gpus()), "gpu": list(catalogue.gpus())}
    told = [PRECISIONS[code] for code in normalise(table).weight_precision]
    assert normalise(table | {"weight_precision": told}).valid.all()


@pytest.mark.parametrize(("gpu", "gb"), [("v100", 230), ("h100-sxm", 64)])
def test_a_checkpoint_that_no_engine_runs_on_the_gpu_is_stored_as_it_was_converted(gpu: str, gb: int) -> None:
    r = ask(model="gpt-oss-120b", gpu=gpu, tp=8, weight_precision=None)
    assert stored_weight_bytes(r, decode_layout(r))[0] * 8 / 1e9 == pytest.approx(gb, rel=0.03)


@pytest.mark.parametrize(
    ("text", "name"), [("bfloat16", "bf16"), ("fp8_e4m3", "fp8"), ("awq_marlin", "int4")]
)
def test_a_precision_is_read_as_engines_print_it(text: str, name: str) -> None:
    assert PRECISIONS[ask(weight_precision=text).weight_precision[0]] == name
    assert PRECISIONS[ask(kv_precision="auto").kv_precision[0]] == "bf16"


def test_dates_count_months_from_2025() -> None:
    dates = {"2025-01": 0, "2026-03-15": 14, "2025": 5, pd.Timestamp("2025-06-01"): 5}
    assert [ask(date=date).months[0] for date in dates] == list(dates.values())


def test_disaggregation_splits_the_gpus_in_half_unless_told() -> None:
    r = ask(num_gpus=16, disagg=1)
    assert (r.prefill_gpus[0], r.num_gpus[0], r.tp[0], r.prefill_workers[0]) == (8, 16, 8, 1)
    assert said(r) == [("assumed-half", "prefill_gpus")]
    told = ask(disagg=True, prefill_gpus=4, decode_gpus=16, prefill_tp=2)
    assert (told.num_gpus[0], told.prefill_workers[0], told.prefill_tp[0], told.replicas[0]) == (20, 2, 2, 2)


@pytest.mark.parametrize(("columns", "gpus", "pools", "degrees"), [
    ({"num_gpus": 4, "decode_gpus": 3}, 4, (1, 3), (1, 2)),
    ({"num_gpus": 4, "prefill_gpus": 1}, 4, (1, 3), (1, 2)),
    ({"prefill_gpus": 2}, 4, (2, 2), (2, 2)), ({"decode_gpus": 4}, 8, (4, 4), (4, 4)),
    ({"num_gpus": 4, "prefill_gpus": 4}, 5, (4, 1), (1, 1)), ({"num_gpus": 8, "tp": 8}, 8, (4, 4), (4, 4)),
])  # fmt: skip
def test_pools_are_as_told_and_the_degrees_assumed_fit_into_them(
    columns: Row, gpus: int, pools: tuple[int, int], degrees: tuple[int, int]
) -> None:
    """Without a word of disaggregation, which the pools imply."""
    r = ask({"model": "llama-3.1-8b", "gpu": "h100-sxm", "disagg": "tp" in columns or None, **columns})
    assert r.valid[0]
    assert (r.num_gpus[0], r.prefill_gpus[0]) == (gpus, pools[0])
    assert r.replicas[0] * r.tp[0] <= pools[1]
    assert (r.prefill_tp[0], r.tp[0]) == degrees


def test_an_unused_rate_changes_no_answer() -> None:
    rated, plain = (ask(mode="closed-loop", arrival="burst", **more) for more in ({"request_rate": 2}, {}))
    assert (rated.mode[0], rated.arrival[0]) == (plain.mode[0], plain.arrival[0])


LLAMA, MOE = {"model": "llama-3.1-8b"}, {"model": "deepseek-r1", "tp": 1}


@pytest.mark.parametrize(("columns", "expected", "code"), [
    # Attention groups of a dense model are copies, beside tp or within it.
    ({**LLAMA, "tp": 1, "dp": 8, "num_gpus": 16}, (16, 1, 1, 1, 1, 16), "copies"),
    ({**LLAMA, "tp": 4, "dp": 2, "num_gpus": 4}, (4, 2, 1, 1, 1, 2), "copies"),
    # Groups that share experts are one copy, and so are experts wider than tp.
    ({**MOE, "dp": 8, "ep": 8, "num_gpus": 16}, (16, 8, 1, 8, 8, 2), "spread-experts"),
    ({**MOE, "ep": 8, "num_gpus": 8}, (8, 8, 1, 8, 8, 1), "spread-experts"),
    *(({**MOE, "tp": tp, "ep": 16, **n}, (16, 16, 1, 16, 2, 1), "spread-experts")
      for tp in (8, None) for n in ({}, {"num_gpus": 16})),
    ({**MOE, "tp": 8, "ep": 16, "num_gpus": 8}, (8, 8, 1, 8, 1, 1), "narrowed"),
    # vLLM writes dp beside tp and ep as a switch, with or without the number of GPUs.
    *(({**MOE, "dp": 8, "ep": ep, **n}, (8, 8, 1, 8, 8, 1), "spread-experts")
      for ep in ("true", True) for n in ({}, {"num_gpus": 8})),
    ({**MOE, "dp": 8, "num_gpus": 8}, (8, 8, 1, 1, 8, 1), "spread-experts"),
    ({**MOE, "tp": 2, "dp": 4, "ep": "on", "num_gpus": 8}, (8, 8, 1, 8, 4, 1), "spread-experts"),
    ({**MOE, "tp": 4, "dp": 2, "engine": "vllm"}, (8, 8, 1, 1, 2, 1), "spread-experts"),
    # Others count dp inside tp, and so does who says ep as a number.
    ({**MOE, "tp": 8, "dp": 8, "num_gpus": 64, "engine": "sglang"}, (64, 8, 1, 1, 8, 8), ""),
    ({**MOE, "tp": 8, "dp": 8, "ep": 8, "num_gpus": 64, "engine": "vllm"}, (64, 8, 1, 8, 8, 8), ""),
    ({**MOE, "tp": 8, "ep": True}, (8, 8, 1, 8, 1, 1), ""),
    ({**LLAMA, "tp": 2, "ep": True}, (2, 2, 1, 1, 1, 1), "no-experts-to-spread"),
])  # fmt: skip
def test_attention_groups_are_copies_or_share_experts(columns: Row, expected: Any, code: str) -> None:
    r = ask(**columns)
    assert layout(r) == expected
    assert code in [n.code for n in r.notes.of(0) or [Note(code="", column="")]]


# ---- notes and faults


ANSWERED = ("widened", "long", "uncommon", "future", "idle", "rate-rules", "no-experts-to-spread",
            "rate-unused", "endless-rate", "implied", "narrowed")  # fmt: skip


@pytest.mark.parametrize(("changes", "code", "column"), [
    # Answered with a note: a format without units is widened where an engine does, a length within four times
    # the model's is served by rotary scaling, an engine unknown is one of the less common.
    *(({"gpu": gpu, "weight_precision": p}, "widened", "weight_precision")
      for gpu, p in (("a100-80g", "fp8"), ("h100-sxm", "fp4"), ("mi300x", "fp4"), ("t4", "fp8"))),
    ({"isl": 200_000}, "long", "isl"), ({"engine": "homemade"}, "uncommon", "engine"),
    ({"date": "2099-01"}, "future", "date"), ({"num_gpus": 9}, "idle", "num_gpus"),
    ({"request_rate": 2}, "rate-rules", "concurrency"),
    *(({"mode": mode, "request_rate": 2}, "rate-unused", "request_rate")
      for mode in ("closed-loop", "static-batch", "offline")),
    *(({"request_rate": rate}, "endless-rate", "request_rate") for rate in ("inf", np.inf)),
    ({"prefill_gpus": 8, "num_gpus": 16}, "implied", "disagg"),
    ({"disagg": True, "num_gpus": 8}, "narrowed", "decode_tp"), ({"ep": 8}, "no-experts-to-spread", "ep"),
    # Refused.
    *(({"gpu": gpu, "weight_precision": p}, "no-units", "weight_precision")
      for gpu, p in (("v100", "fp8"), ("v100", "fp4"), ("mi250", "fp8"), ("gaudi2", "fp4"))),
    ({"model": "qwen2.5-72bb"}, "unknown-name", "model"), ({"gpu": "h1000"}, "unknown-name", "gpu"),
    ({"gpu": None, "platform": "hgx-b20"}, "unknown-name", "platform"),
    ({"model": None}, "required", "model"), ({"gpu": None}, "gpu-or-platform", "gpu"),
    ({"gpu": "mi300x", "engine": "nim"}, "nvidia-only", "engine"),
    ({"platform": "hgx-b200"}, "gpu-and-platform", "gpu"), ({"tp": 3}, "heads", "tp"),
    ({"dp": 3, "num_gpus": 8}, "divisor", "dp"), ({"pp": 81, "num_gpus": 648}, "layers", "pp"),
    ({"num_gpus": 4}, "degrees", "num_gpus"),
    *(({name: "magic"}, "unknown-word", name)
      for name in ("weight_precision", "kv_precision", "mode", "spec_decode", "prefix_tier", "disagg")),
    ({"mode": "open-loop", "concurrency": None}, "required-rate", "mode"),
    ({"isl": 600_000}, "too-long", "isl"),
    ({"experts_resident_frac": 0.5}, "no-experts", "experts_resident_frac"),
    ({"model": "deepseek-r1", "experts_resident_frac": 1.5}, "not-allowed", "experts_resident_frac"),
    ({"kv_hot_tokens": 1000, "kv_reread_every": 1.5}, "not-allowed", "kv_reread_every"),
    *(({name: value}, "not-allowed", name) for name, value in (
        ("prefix_cached_frac", 1.5), ("date", "soon"), ("date", "2026-13"),
        ("kv_hot_tokens", -1), ("kv_reread_every", 4), ("host_bandwidth_gb_s", 0))),
    *(({name: 1.5}, "not-allowed", name) for name in ("tp", "pp", "ep", "dp", "num_gpus", "num_nodes")),
])  # fmt: skip
def test_each_odd_value_is_noted_or_refused(changes: Row, code: str, column: str) -> None:
    r = ask(**changes)
    found = r.notes.of(0)
    assert (found[0].code, found[0].column) == (code, column)
    assert {each.fault for each in found} == {not r.valid[0]} == {code not in ANSWERED}
    assert all(each.allowed for each in found)
    assert r.reason[0].isprintable()


@pytest.mark.parametrize("value", [0, -1, np.inf, -np.inf, "many", "1e999"])
@pytest.mark.parametrize(
    "name", ["tp", "pp", "ep", "dp", "num_gpus", "num_nodes", "concurrency", "request_rate", "isl", "osl"]
)
def test_no_number_is_zero_negative_infinite_or_text(name: str, value: object) -> None:
    endless = name == "request_rate" and value in (np.inf, "1e999")  # as benchmark clients write it
    assert said(ask(**{name: value}))[0] == ("endless-rate" if endless else "not-allowed", name)


@pytest.mark.parametrize(("name", "most"), [
    ("num_gpus", 1e5), ("isl", 2e7), ("osl", 1e6), ("concurrency", 1e7), ("request_rate", 1e6),
])  # fmt: skip
def test_no_number_passes_what_a_serving_system_can_show(name: str, most: float) -> None:
    assert said(ask(**{name: 2 * most}))[0] == ("not-allowed", name)
    assert f"{most:g} at most" in ask(**{name: 2 * most}).reason[0]


# ---- independence


def test_one_bad_row_never_harms_the_others() -> None:
    bad: list[Row] = [
        {"model": "nope"},
        {"tp": 3},
        {"isl": -1},
        {"concurrency": np.inf},
        {"gpu": 7},
        {"osl": "x"},
    ]
    rows = [GOOD, *(row for change in bad for row in ({**GOOD, **change}, GOOD))]
    r = normalise({name: [row.get(name) for row in rows] for name in GOOD})
    assert r.valid.tolist() == [True] + [False, True] * len(bad)
    assert not any(said(r, row) for row in range(0, len(rows), 2))
    assert len(set(r.isl[::2])) == len(set(r.tp[::2])) == len(set(r.model.codes[::2])) == 1


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_neither_index_nor_dtype_nor_other_columns_play_a_part(dtype: str | type) -> None:
    """Of a frame, beside the same rows as a mapping of lists."""
    rows = [GOOD, {**GOOD, "model": None}, {**GOOD, "gpu": "b200", "tp": 4, "isl": None}]
    typed = pd.DataFrame(rows).astype(dict.fromkeys(("model", "gpu", "engine", "weight_precision"), dtype))
    frame = typed.set_axis([7, 7, -1], axis=0).assign(tpot_ms="fast")
    before = frame.copy()
    one, other = normalise({name: [row[name] for row in rows] for name in GOOD}), normalise(frame)
    pd.testing.assert_frame_equal(frame, before)
    for name in ("valid", "tp", "isl", "mode", "weight_precision"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.gpu.codes, other.gpu.codes)
    assert said(one, 1) == said(other, 1) == [("required", "model")]


def test_a_frame_without_rows_or_columns_is_no_requests_or_all_faults() -> None:
    for empty in (pd.DataFrame(), pd.DataFrame(columns=list(REQUEST_COLUMNS)), {}, {"model": []}):
        assert len(normalise(empty)) == 0
    assert said(normalise(pd.DataFrame(index=range(3))), 2) == [
        ("required", "model"),
        ("gpu-or-platform", "gpu"),
    ]


def test_a_missing_date_is_the_month_in_which_the_engine_s_version_came_out() -> None:
    beside, inside = ask(engine="vllm", engine_version="v0.9.1"), ask(engine="vllm 0.9.1")
    assert (beside.months[0], inside.months[0]) == (5.0, 5.0)
    assert "date 2025-06 understood from 'vllm 0.9.1'" in beside.reason[0]
    unknown = ask(engine_version="0.9.7")
    assert unknown.months[0] == 6.0
    assert "date 2025-07 assumed: that of vllm 0.9.2, the nearest known release below" in unknown.reason[0]
    for given in ({"date": "2026-03"}, {"engine_version": "nightly"}, {}):
        r = ask(**{"engine_version": "0.9.1", **given} if "date" in given else given)
        assert r.months[0] == (14.0 if "date" in given else DEFAULT_DATE_MONTHS)
        assert "date" not in r.reason[0]


def test_a_table_may_give_dates_and_versions_in_turn() -> None:
    frame = pd.DataFrame({
        "model": "qwen3-8b", "gpu": "h100-sxm", "engine": ["vllm", "sglang", "vllm", "trtllm 1.2.0rc3"],
        "engine_version": ["0.9.1", "0.5.9", None, None], "date": [None, None, "2025-01", None],
    })  # fmt: skip
    assert normalise(frame).months.tolist() == [5.0, 13.0, 0.0, 10.0]
