"""What is left of measured rows goes to their own set-up, the more the nearer, and to nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from roofcast.features.baseline import baseline
from roofcast.features.coefficients import Coefficients
from roofcast.features.request import Requests, normalise
from roofcast.predictor import Predictor
from roofcast.training.model.model import near_residuals
from roofcast.training.model.residuals import MeasuredResiduals, coordinates_of, residuals_of
from roofcast.training.model.support import set_up_keys

RESIDUALS = {"tpot": np.array([0.2, -0.1]), "ttft": np.array([np.nan, 0.3])}


def request(loads: tuple[float, ...] = (16.0,), **changes: Any) -> Requests:
    """One closed-loop question about a known set-up, once per load."""
    asked = {
        "model": "llama-3.3-70b", "gpu": "h100-sxm", "num_gpus": 4, "tp": 4, "engine": "vllm",
        "weight_precision": "fp8", "isl": 1024, "osl": 512, "date": "2026-07",
    } | changes  # fmt: skip
    return normalise(
        {name: [value] * len(loads) for name, value in asked.items()} | {"concurrency": [*loads]}
    )


@pytest.fixture(scope="module")
def known() -> MeasuredResiduals:
    """Two measured rows of one set-up: at 4 requests in flight and at 64."""
    r = request((4.0, 64.0))
    return residuals_of(set_up_keys(r), coordinates_of(r, r.concurrency), np.ones(2), RESIDUALS)


def near(known: MeasuredResiduals, r: Requests) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return near_residuals(known, r, baseline(r, Coefficients()))


def test_a_measured_load_takes_its_own_residual_and_the_middle_the_mean(known: MeasuredResiduals) -> None:
    added, mass = near(known, request((4.0, 16.0, 64.0)))
    assert added["tpot"][[0, 2]] == pytest.approx([0.2, -0.1], abs=0.01)
    assert added["tpot"][1] == pytest.approx(0.05 * mass["tpot"][1] / (mass["tpot"][1] + 0.004), rel=1e-3)
    assert mass["tpot"][1] < mass["tpot"].take([0, 2]).min()


def test_a_time_that_was_not_measured_is_no_residual_of_zero(known: MeasuredResiduals) -> None:
    added, mass = near(known, request((4.0,)))
    assert mass["ttft"][0] < 0.01 < mass["tpot"][0]
    assert 0.0 < added["ttft"][0] < 0.15


@pytest.mark.parametrize("changes", [
    {"gpu": "h200-sxm"}, {"engine": "sglang"}, {"model": "qwen2.5-72b"}, {"tp": 8, "num_gpus": 8},
    {"weight_precision": "bf16"}, {"mode": "static-batch"}, {"spec_decode": "eagle"}, {"kv_hot_tokens": 256},
], ids=lambda changes: next(iter(changes)))  # fmt: skip
def test_another_set_up_takes_nothing(known: MeasuredResiduals, changes: dict[str, Any]) -> None:
    added, mass = near(known, request(**changes))
    assert all(values.tolist() == [0.0] for values in (*added.values(), *mass.values()))


@pytest.mark.parametrize(
    "far", [{"isl": 8192}, {"osl": 4096}, {"date": "2025-07"}, {"prefix_cached_frac": 0.9}]
)
def test_the_farther_in_lengths_and_time_the_less_is_known(known: MeasuredResiduals, far: Any) -> None:
    here, there = near(known, request((4.0,)))[1], near(known, request((4.0,), **far))[1]
    assert 0.0 < there["tpot"][0] < 0.2 * here["tpot"][0]


def test_residuals_come_back_from_their_dict_and_torn_ones_are_refused(known: MeasuredResiduals) -> None:
    data = known.to_dict()
    again = near(MeasuredResiduals.from_dict(data), request())
    np.testing.assert_equal(again, near(known, request()))
    with pytest.raises(ValueError, match="length"):
        MeasuredResiduals.from_dict(data | {"weight": "1.0"})


def test_the_rows_of_a_set_up_move_its_answers_and_narrow_nothing_else(predictor: Predictor) -> None:
    model = predictor.model
    none = replace(model.residuals, weight=0 * model.residuals.weight)
    alone = Predictor(replace(model, residuals=none), predictor.manifest)
    seen: dict[str, Any] = {
        "model": "llama-3.1-8b", "gpu": "h100-sxm", "tp": 1, "engine": "vllm", "weight_precision": "fp8",
        "concurrency": 32,
    }  # fmt: skip
    unseen = seen | {"weight_precision": "bf16"}
    assert predictor.predict(**seen).tpot_ms != alone.predict(**seen).tpot_ms
    assert predictor.predict(**unseen).tpot_ms == alone.predict(**unseen).tpot_ms
