"""Advice is judged by the measurement: a prophet has no regret, a fool has."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from roofcast.training.advice import LIMITS, METHODS, advice_tables, usd_per_gpu_hour
from roofcast.training.report import accuracy, render

Measured = tuple[pd.DataFrame, pd.DataFrame]
COLUMNS = ("blend", "blend_lo", "blend_hi", "baseline", "neighbour", "floor")


@pytest.fixture(scope="module")
def measured() -> Measured:
    """Forty workloads of eight configurations; roofcast errs little, the baseline more, the others much."""
    rng = np.random.default_rng(0)
    n = 320
    gpus = np.tile([1, 2, 4, 8], 80)
    table = pd.DataFrame(
        {"model": "llama-3.1-8b", "gpu": np.where(np.arange(n) % 8 < 4, "h100-sxm", "b200-sxm"),
         "num_gpus": gpus, "tp": gpus, "engine": "vllm", "weight_precision": "bf16", "pp": 1.0, "ep": 1.0,
         "dp": 1.0, "disagg": 0, "prefill_gpus": np.nan, "decode_gpus": np.nan, "spec_decode": "none",
         "mode": "closed-loop", "isl": 1024.0, "osl": 128.0,
         "concurrency": np.repeat(np.arange(40) * 4 + 1, 8)}
    )  # fmt: skip
    tpot = 100.0 / gpus**0.7 * rng.uniform(0.5, 1.5, n)
    truth = {"tpot_ms": tpot, "output_tok_s": table["concurrency"].to_numpy() * 1e3 / tpot}
    parts = []
    for metric, values in truth.items():
        errors = {"blend": 0.02, "baseline": 0.3, "neighbour": 0.8, "floor": 1.5}
        guess = {name: values * np.exp(size * rng.standard_normal(n)) for name, size in errors.items()}
        part = pd.DataFrame(
            {"row": np.arange(n), "protocol": "family", "metric": metric, "measured": values, **guess}
        )
        parts.append(part.assign(blend_lo=part["blend"] * 0.96, blend_hi=part["blend"] * 1.04))
    return pd.concat(parts, ignore_index=True), table


def test_a_prophet_succeeds_and_regrets_nothing(measured: Measured) -> None:
    scores, table = measured
    prophet = scores.assign(**dict.fromkeys(COLUMNS, scores["measured"]))
    prophet["blend_lo"], prophet["blend_hi"] = prophet["measured"] * 0.999, prophet["measured"] * 1.001
    figures = advice_tables(prophet, table)
    assert (figures["success"] == 1.0).all()
    assert figures["regret"].to_numpy() == pytest.approx(0.0, abs=1e-9)


def test_smaller_errors_make_better_advice_on_the_same_questions(
    measured: Measured,
) -> None:
    figures = advice_tables(*measured).set_index("method")
    assert list(figures.index) == list(METHODS)
    assert figures["success"].is_monotonic_decreasing
    assert figures.loc["roofcast", "regret"] < figures.loc["neighbour", "regret"]
    (questions,) = figures["questions"].unique()
    assert 40 <= questions <= 40 * len(LIMITS["tpot_ms"])


def test_a_limit_that_all_or_none_meet_asks_nothing(measured: Measured) -> None:
    scores, table = measured
    slow = scores.copy()
    slow.loc[slow["metric"] == "tpot_ms", ["measured", *COLUMNS]] *= 1e4
    assert advice_tables(slow, table).empty


def test_a_gpu_without_a_price_has_no_cost() -> None:
    cost = usd_per_gpu_hour(pd.Series(["b200-sxm", "tpu-v5e"]))
    assert cost[0] > 0
    assert np.isnan(cost[1])


def test_the_report_shows_every_method(measured: Measured, scores: pd.DataFrame) -> None:
    section = render(accuracy(scores, {}, {"advice": advice_tables(*measured)})).split("## As advice")[1]
    assert section.count("| family") == 1
    assert all(f"| {method}: success" in section for method in METHODS)
