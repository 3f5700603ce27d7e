"""Random requests of real models on real GPUs, and the coefficients that the laws are tried with."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import strategies as st

from roofcast.features.coefficients import Coefficients
from roofcast.features.request import Requests, normalise

Question = dict[str, Any]

MODELS = (
    "llama-3.1-8b", "llama-3.1-70b", "qwen2.5-72b", "gemma-3-27b", "mixtral-8x7b", "gpt-oss-120b",
    "deepseek-r1", "deepseek-v3.2", "qwen3.5-397b-a17b",
)  # fmt: skip
GPUS = ("a100-80g", "h100-sxm", "h200-sxm", "b200-sxm", "gb200", "mi300x", "mi355x", "l40s", "rtx-pro-6000")
ALL_MODES = ("static-batch", "closed-loop", "open-loop", "offline", "server")


@st.composite
def questions(draw: st.DrawFn, modes: tuple[str, ...] = ("closed-loop",)) -> Question:
    """Draw one request as keywords: valid by construction, though it may not fit into memory."""
    tp = draw(st.sampled_from((1, 2, 4, 8)))
    choices: dict[str, tuple[Any, ...]] = {
        "model": MODELS, "gpu": GPUS, "engine": ("vllm", "trtllm", "sglang"), "mode": modes, "ep": (1, tp),
        "dp": (1, 1, tp), "num_gpus": (tp, 2 * tp), "weight_precision": ("bf16", "fp8", "fp4", "int4"),
        "kv_precision": ("bf16", "fp8"), "spec_decode": ("none", "none", "mtp"),
        "prefix_cached_frac": (0.0, 0.0, 0.5),
    }  # fmt: skip
    ranges = {"isl": (1, 30_000), "osl": (2, 4_000), "concurrency": (1, 600)}
    question = {"tp": tp, **{name: draw(st.sampled_from(each)) for name, each in choices.items()},
                **{name: draw(st.integers(*each)) for name, each in ranges.items()}}  # fmt: skip
    if question["mode"] in ("open-loop", "server"):
        question["request_rate"] = draw(st.floats(0.01, 50.0))
    return question


def table(rows: list[Question]) -> Requests:
    """Return the valid requests of several questions, asked at once."""
    names = dict.fromkeys(name for row in rows for name in row)
    r = normalise({name: [row.get(name) for row in rows] for name in names})
    return r.take(r.valid)


@pytest.fixture(scope="session", params=["priors", "shipped"])
def coefficients(request: pytest.FixtureRequest) -> Coefficients:
    """The priors, and the calibrated values of the shipped bundle: a law holds for both."""
    if request.param == "priors":
        return Coefficients()
    text = files("roofcast.predictor").joinpath("bundle", "coefficients.json").read_text("utf-8")
    return Coefficients.from_dict(json.loads(text))
