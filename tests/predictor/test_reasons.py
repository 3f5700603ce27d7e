"""What an answer says of itself: what was assumed, what does not fit and what would, what it borrows."""

from __future__ import annotations

import re

import pytest

from roofcast.predictor import Predictor

from .conftest import QUESTION

TOO_LARGE = {"model": "qwen2.5-72b", "gpu": "h100-sxm", "weight_precision": "bf16", "concurrency": 1}
BORROWED = {"model": "qwen3-32b", "gpu": "mi325x", "tp": 1}


def test_the_defaults_that_were_assumed_are_named(predictor: Predictor) -> None:
    reason = predictor.predict(model="qwen2.5-72b", platform="hgx-b200").reason
    assert all(f"{name} assumed" in reason for name in ("engine", "isl", "osl"))


def test_a_model_that_does_not_fit_names_the_degree_that_does(predictor: Predictor) -> None:
    (found,) = re.findall(r"fits from tp=(\d+)", predictor.predict(**TOO_LARGE, tp=1, engine="vllm").reason)
    assert predictor.predict(**TOO_LARGE, tp=int(found)).feasible
    assert not predictor.predict(**TOO_LARGE, tp=int(found) // 2).feasible


def test_a_rate_above_the_sustainable_one_is_named(predictor: Predictor) -> None:
    answer = predictor.predict(**QUESTION | {"concurrency": None, "mode": "open-loop", "request_rate": 1e6})
    assert "above what this deployment sustains" in answer.reason


@pytest.mark.parametrize(("tp", "copies"), [(8, []), (16, ["2"]), (32, ["4"])])
def test_a_tensor_parallel_degree_past_the_kv_heads_says_how_often_they_are_held(
    tp: int, copies: list[str], predictor: Predictor
) -> None:
    asked = {"model": "qwen2.5-72b", "gpu": "b200-sxm", "kv_precision": "fp8", "isl": 64000, "osl": 1000}
    # 65,000 tokens x 80 layers x 2 KB = 10.65 GB over eight heads: 1.33 GB for each GPU that holds one.
    held = re.findall(r"each is held by (\d+) GPUs, 1,331 MB", predictor.predict(tp=tp, **asked).reason)
    assert held == copies


def test_a_gpu_never_measured_says_whose_coefficients_it_borrows(
    predictor: Predictor, shipped: Predictor
) -> None:
    assert "never measured" not in predictor.predict(**QUESTION).reason
    # The small model of these tests has no fitted coefficient; the shipped one has.
    for model, words in ((predictor, "priors that no row has moved"), (shipped, "rows of other GPUs")):
        reason = model.predict(**BORROWED).reason
        assert "mi325x was never measured: its coefficients are those of architecture cdna3" in reason
        assert words in reason


@pytest.mark.parametrize(("hot", "tier"), [(4096, "the host link"), (59_000, "HBM, by its bandwidth")])
def test_what_lies_in_host_memory_names_the_tier_that_limits(
    hot: float, tier: str, predictor: Predictor
) -> None:
    asked = {"model": "qwen2.5-72b", "platform": "gb200-nvl72", "tp": 4, "num_gpus": 4, "concurrency": 4}
    answer = predictor.predict(**asked, isl=60_000, kv_hot_tokens=hot)
    assert answer.feasible
    assert f"the tier that limits is {tier}" in answer.reason
