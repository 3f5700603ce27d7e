"""What an answer says of itself: what was assumed, what does not fit and what would, what it borrows."""

from __future__ import annotations

import pytest

from roofcast.predictor import Predictor

from .conftest import QUESTION

TOO_LARGE = {"model": "qwen2.5-72b", "gpu": "h100-sxm", "weight_precision": "bf16", "concurrency": 1}


def test_the_defaults_that_were_assumed_are_named(predictor: Predictor) -> None:
    reason = predictor.predict(model="qwen2.5-72b", platform="hgx-b200").reason
    assert all(f"{name} assumed" in reason for name in ("engine", "isl", "osl"))


def test_a_model_that_does_not_fit_has_its_bytes_and_the_degree_that_does(predictor: Predictor) -> None:
    reason = predictor.predict(**TOO_LARGE, tp=1, engine="vllm").reason
    assert "does not fit: needs 14" in reason
    assert "GB available; fits from tp=" in reason
    degree = int(reason.split("fits from tp=")[1].split(";")[0])
    assert predictor.predict(**TOO_LARGE, tp=degree).feasible
    assert not predictor.predict(**TOO_LARGE, tp=degree // 2).feasible


def test_a_rate_above_the_sustainable_one_is_named(predictor: Predictor) -> None:
    answer = predictor.predict(**QUESTION | {"concurrency": None, "mode": "open-loop", "request_rate": 1e6})
    assert "above what this deployment sustains" in answer.reason


@pytest.mark.parametrize(("tp", "copies"), [(8, 1), (16, 2), (32, 4)])
def test_a_tensor_parallel_degree_past_the_kv_heads_says_how_often_they_are_held(
    tp: int, copies: int, predictor: Predictor
) -> None:
    answer = predictor.predict(
        model="qwen2.5-72b", gpu="b200-sxm", tp=tp, kv_precision="fp8", isl=64000, osl=1000
    )
    assert ("each is held by" in answer.reason) == (copies > 1)
    if copies > 1:
        # 65,000 tokens x 80 layers x 2 KB = 10.65 GB over eight heads: 1.33 GB for each GPU that holds one.
        assert f"each is held by {copies} GPUs, 1,331 MB" in answer.reason
        assert f"instead of {1331 / copies:,.0f}" in answer.reason


def test_a_gpu_never_measured_says_whose_coefficients_it_borrows(predictor: Predictor) -> None:
    assert "never measured" not in predictor.predict(**QUESTION).reason
    reason = predictor.predict(model="qwen3-32b", gpu="mi325x", tp=1).reason
    assert "mi325x was never measured: its coefficients are those of architecture cdna3" in reason
    # The small model of these tests has no fitted coefficient; the shipped one has.
    assert "priors that no row has moved" in reason
    assert "rows of other GPUs" in Predictor.load().predict(model="qwen3-32b", gpu="mi325x", tp=1).reason


@pytest.mark.parametrize(
    ("spilled", "tier"),
    [
        ({"kv_hot_tokens": 4096, "isl": 60_000}, "the host link"),
        ({"kv_hot_tokens": 59_000, "isl": 60_000}, "HBM, by its bandwidth or size"),
    ],
)
def test_what_lies_in_host_memory_names_the_tier_that_limits(
    spilled: dict[str, float], tier: str, predictor: Predictor
) -> None:
    answer = predictor.predict(
        model="qwen2.5-72b", platform="gb200-nvl72", tp=4, num_gpus=4, concurrency=4, **spilled
    )
    assert answer.feasible
    assert "host memory holds" in answer.reason
    assert f"the tier that limits is {tier}" in answer.reason
