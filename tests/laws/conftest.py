"""Random requests of real models on real GPUs, and the coefficients that the laws are tried with."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import strategies as st

from roofcast.features.coefficients import Coefficients

MODELS = (
    "llama-3.1-8b", "llama-3.1-70b", "qwen2.5-72b", "gemma-3-27b", "mixtral-8x7b", "gpt-oss-120b",
    "deepseek-r1", "deepseek-v3.2", "qwen3.5-397b-a17b",
)  # fmt: skip
GPUS = ("a100-80g", "h100-sxm", "h200-sxm", "b200-sxm", "gb200", "mi300x", "mi355x", "l40s", "rtx-pro-6000")
CLOSED = ("closed-loop",)
ALL_MODES = ("static-batch", "closed-loop", "open-loop", "offline", "server")


@st.composite
def questions(draw: st.DrawFn, modes: tuple[str, ...] = CLOSED, speculate: bool = True) -> dict[str, Any]:
    """Draw one request as keywords: valid by construction, though it may not fit into memory."""
    tp = draw(st.sampled_from((1, 2, 4, 8)))
    replicas = draw(st.sampled_from((1, 2)))
    mode = draw(st.sampled_from(modes))
    question = {
        "model": draw(st.sampled_from(MODELS)),
        "gpu": draw(st.sampled_from(GPUS)),
        "engine": draw(st.sampled_from(("vllm", "trtllm", "sglang"))),
        "tp": tp,
        "ep": draw(st.sampled_from((1, tp))),
        "dp": draw(st.sampled_from((1, 1, tp))),
        "num_gpus": tp * replicas,
        "weight_precision": draw(st.sampled_from(("bf16", "fp8", "fp4", "int4"))),
        "kv_precision": draw(st.sampled_from(("bf16", "fp8"))),
        "spec_decode": draw(st.sampled_from(("none", "none", "mtp"))) if speculate else "none",
        "isl": draw(st.integers(1, 30_000)),
        "osl": draw(st.integers(2, 4_000)),
        "prefix_cached_frac": draw(st.sampled_from((0.0, 0.0, 0.5))),
        "mode": mode,
        "concurrency": draw(st.integers(1, 600)),
    }
    if mode in ("open-loop", "server"):
        question["request_rate"] = draw(st.floats(0.01, 50.0))
    return question


@pytest.fixture(scope="session", params=["priors", "shipped"])
def coefficients(request: pytest.FixtureRequest) -> Coefficients:
    """The priors, and the calibrated values of the shipped bundle: a law holds for both."""
    if request.param == "priors":
        return Coefficients()
    text = files("roofcast.predictor").joinpath("bundle", "coefficients.json").read_text("utf-8")
    return Coefficients.from_dict(json.loads(text))
