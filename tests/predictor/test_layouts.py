"""Nothing said of the layout: the best one that engines start and memory holds, named with the next best."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.predictor import Predictor
from roofcast.predictor import layouts as module
from roofcast.predictor.layouts import layouts

DEGREES = ("num_gpus", "tp", "pp", "ep", "dp")
LLAMA: dict[str, Any] = {"model": "llama-3.1-8b", "gpu": "b200-sxm", "num_gpus": 8, "engine": "trtllm",
                         "weight_precision": "fp8", "isl": 1024, "osl": 1024}  # fmt: skip
R1: dict[str, Any] = LLAMA | {"model": "deepseek-r1", "engine": "sglang", "concurrency": 1024}


def degrees(request: Any) -> tuple[int, ...]:
    return tuple(request[name] for name in DEGREES)


@pytest.mark.parametrize(("asked", "chosen"), [
    (LLAMA | {"mode": "offline"}, (8, 1, 1, 1, 1)),
    (LLAMA | {"mode": "server", "request_rate": 1e6}, (8, 1, 1, 1, 1)),
    (LLAMA | {"model": "llama-3.1-70b", "concurrency": 1}, (8, 8, 1, 1, 1)),
    (R1, (8, 8, 1, 8, 8)),
    # What only two boxes hold has a pipeline stage on each, or all of it across both.
    (LLAMA | {"model": "llama-3.1-405b", "gpu": "h100-sxm", "weight_precision": "bf16", "num_gpus": 16,
              "concurrency": 64}, (16, 8, 2, 1, 1)),
])  # fmt: skip
def test_small_models_are_copied_large_ones_cut_and_experts_spread(
    asked: dict[str, Any], chosen: tuple[int, ...], shipped: Predictor
) -> None:
    found = shipped.predict(**asked)
    assert degrees(found.request) == chosen
    assert "layout chosen: " in found.reason
    assert "% as fast)" in found.reason


@pytest.mark.parametrize("asked", [LLAMA | {"concurrency": 64}, LLAMA | {"request_rate": 20}, R1])
def test_no_layout_that_was_tried_is_better_than_the_chosen_one(
    asked: dict[str, Any], shipped: Predictor
) -> None:
    found = shipped.predict(**asked)
    moe = asked["model"] == "deepseek-r1"
    for degree in layouts(128 if moe else 32, moe, 8, 8):
        other = shipped.predict(**asked, **dict(zip(DEGREES[1:], degree, strict=True)))
        if other.feasible and "request_rate" in asked:
            assert other.e2e_ms >= found.e2e_ms * (1 - 1e-9)
        elif other.feasible:
            assert other.output_tok_s <= found.output_tok_s * (1 + 1e-9)


def test_the_answer_is_that_of_the_chosen_layout_given(shipped: Predictor) -> None:
    found = shipped.predict(**R1)
    given = shipped.predict(**R1, **{name: found.request[name] for name in DEGREES[1:]})
    assert given.output_tok_s == pytest.approx(found.output_tok_s)
    assert given.request == pytest.approx(found.request, nan_ok=True)


def test_a_layout_as_given_means_tp_from_the_gpus_as_does_any_degree(
    predictor: Predictor,
) -> None:
    assert degrees(predictor.predict(**LLAMA, layout="given").request) == (8, 8, 1, 1, 1)
    assert degrees(predictor.predict(**LLAMA, tp=2).request) == (8, 2, 1, 1, 1)
    assert "layout chosen" not in predictor.predict(**LLAMA, tp=2).reason


@pytest.mark.parametrize(("asked", "gpus"), [
    ({"model": "llama-3.1-8b", "gpu": "h100-sxm"}, 1), ({"model": "qwen2.5-72b", "gpu": "h100-sxm"}, 4),
    ({"model": "qwen2.5-72b", "gpu": "h100-sxm", "concurrency": 1}, 2),
    ({"model": "deepseek-r1", "gpu": "h100-sxm"}, 16), ({"model": "llama-3.1-8b", "platform": "hgx-h100"}, 8),
])  # fmt: skip
def test_gpus_not_counted_are_the_fewest_that_hold_the_load_or_the_platform(
    asked: dict[str, Any], gpus: int, predictor: Predictor
) -> None:
    found = predictor.predict(**{"concurrency": 32} | asked)
    assert (found.feasible, found.request["num_gpus"]) == (True, gpus)
    assert ("num_gpus assumed" in found.reason) == ("platform" not in asked)


def test_gpus_that_the_best_layout_leaves_idle_are_counted(predictor: Predictor) -> None:
    found = predictor.predict(model="llama-3.1-70b", gpu="h100-sxm", num_gpus=5, concurrency=1)
    assert found.request["tp"] == 4
    assert "1 of the 5 GPUs are idle" in found.reason


def test_a_number_of_gpus_beyond_all_bounds_is_laid_out_too(predictor: Predictor) -> None:
    for model in ("deepseek-r1", "llama-3.1-8b"):
        assert predictor.predict(model=model, gpu="h100-sxm", num_gpus=99_999, mode="offline").feasible


def test_what_no_layout_holds_is_infeasible(predictor: Predictor) -> None:
    found = predictor.predict(model="deepseek-r1", gpu="h100-sxm", num_gpus=2)
    assert not found.feasible
    assert "does not fit" in found.reason


def test_a_frame_chooses_row_by_row_as_one_request_does(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [R1, LLAMA, LLAMA | {"num_gpus": None}, R1 | {"tp": 8}, LLAMA | {"isl": -1}, R1 | {"num_gpus": 1}]
    answers = predictor.predict_frame(pd.DataFrame(rows))
    assert answers["feasible"].tolist() == [True] * 4 + [False] * 2
    for (_, answer), row in zip(answers.iloc[:4].iterrows(), rows, strict=False):
        alone = predictor.predict(**row)
        assert (answer["output_tok_s"], answer["reason"]) == (pytest.approx(alone.output_tok_s), alone.reason)
    found = answers["laid_out"].fillna("none").tolist()
    assert found == ["tp8 ep8 dp8", "2 x tp4", "tp1", "tp8", "none", "tp1"]


def test_a_frame_of_layouts_given_searches_nothing(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_candidates", None)
    assert predictor.predict_frame(pd.DataFrame([R1 | {"tp": 8}] * 3))["feasible"].all()


def test_layouts_divide_the_heads_fill_no_more_than_the_gpus_and_are_each_once() -> None:
    for heads, moe, gpus, staged in product((28, 64), (False, True), (1, 6, 8, 16, 72), (False, True)):
        found = list(layouts(heads, moe, gpus, 8, staged=staged))
        assert len(set(found)) == len(found) > 0
        for tp, pp, ep, dp in found:
            assert tp * pp <= gpus
            assert heads % (tp // dp) == 0
            assert moe or (ep, dp) == (1, 1)
    assert not any(np.max(each[2:]) > 1 for each in layouts(64, True, 8, 8, spreads=False))
