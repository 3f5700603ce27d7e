"""The statistical promise of the intervals, on data whose answer is known."""

from __future__ import annotations

import json

import crepes
import numpy as np
import pytest
from scipy.stats import norm

from roofcast.data import errors
from roofcast.training.model.intervals import IntervalTable
from roofcast.training.trust import fit_intervals

IN = np.full(50_000, "in")
SOUND = {"lower": 0.1, "upper": 0.5, "rows": 1, "guaranteed": True}


def _share_inside(
    table: IntervalTable, residual: np.ndarray, support: np.ndarray = IN, scale: np.ndarray | float = 1.0
) -> float:
    lo, hi = table.interval(np.zeros(len(residual)), support[: len(residual)], scale)
    return float(((lo <= residual) & (residual <= hi)).mean())


@pytest.mark.parametrize(("n", "alpha"), [(39, 0.1), (99, 0.1), (57, 0.2)])
def test_each_bound_is_the_textbook_order_statistic(n: int, alpha: float) -> None:
    residual = np.random.default_rng(n).standard_normal(n)
    place = int(np.ceil((n + 1) * (1 - alpha / 2))) - 1
    level = fit_intervals(residual, IN[:n], alpha=alpha).levels["in"]
    assert level.guaranteed
    assert (level.lower, level.upper) == (-np.sort(-residual)[place], np.sort(residual)[place])


def test_small_samples_keep_the_promise_on_average() -> None:
    """With 45 residuals plain quantiles would cover less than 90 %; the correction makes up for it."""
    rng = np.random.default_rng(2)
    draws = (rng.standard_normal(445) for _ in range(400))
    shares = [_share_inside(fit_intervals(draw[:45], IN[:45]), draw[45:]) for draw in draws]
    assert 0.9 - 0.01 < np.mean(shares) < 0.9 + 2 / 46 + 0.01


def test_a_naive_split_of_grouped_rows_is_far_too_narrow_for_a_new_group() -> None:
    """Calibrating within groups already seen hides what a group shares; whole held-out groups show it."""
    rng = np.random.default_rng(3)
    effect, noise = 0.3 * rng.standard_normal((200, 1)), 0.1 * rng.standard_normal((200, 30))
    residual = (effect + noise).ravel()
    within = (effect + noise - (effect + noise).mean(axis=1, keepdims=True)).ravel()
    naive, honest = (fit_intervals(values, IN[:6000]) for values in (within, residual))
    new = (0.3 * rng.standard_normal((2000, 1)) + 0.1 * rng.standard_normal((2000, 5))).ravel()
    # 200 groups fix the coverage to a standard error of 2 %.
    assert _share_inside(naive, new) < 0.6
    assert abs(_share_inside(honest, new) - 0.9) < 0.06


def test_bounds_are_known_quantiles_skewed_or_where_a_level_may_spend_less() -> None:
    rng = np.random.default_rng(8)
    skewed = fit_intervals(rng.exponential(1.0, 20_000), IN[:20_000]).levels["in"]
    assert skewed.lower == pytest.approx(-np.log(0.95), abs=0.01)
    assert skewed.upper == pytest.approx(-np.log(0.05), rel=0.05)
    support = np.repeat(["in", "far"], 10_000)
    table = fit_intervals(rng.standard_normal(20_000), support, alpha=0.1, spent={"far": 0.05})
    assert table.alpha == 0.1
    assert table.levels["in"].upper == pytest.approx(norm.ppf(0.95), rel=0.03)
    assert table.levels["far"].upper == pytest.approx(norm.ppf(0.975), rel=0.03)


@pytest.mark.parametrize("scaled", [False, True])
def test_each_spread_is_covered_by_itself_as_a_level_and_as_a_scale(scaled: bool) -> None:
    rng = np.random.default_rng(6)
    spread = {"in": 0.05, "near": 0.2, "far": 0.6}
    drawn = rng.choice(list(spread), 30_000)
    size = np.array([spread[name] for name in drawn])
    residual = size * rng.standard_normal(30_000)
    support, scale = (np.full(30_000, "in"), size) if scaled else (drawn, np.ones(30_000))
    table = fit_intervals(residual[:15_000], support[:15_000], scale=scale[:15_000])
    for level in spread:
        here = np.flatnonzero(drawn[15_000:] == level) + 15_000
        assert abs(_share_inside(table, residual[here], support[here], scale[here]) - 0.9) < 0.02
    uppers = [level.upper for level in map(table.levels.get, spread) if level]
    assert uppers == sorted(uppers)


def test_a_level_with_too_few_rows_borrows_width_and_says_so() -> None:
    support = np.array(["in"] * 500 + ["far"] * 5)
    table = fit_intervals(np.random.default_rng(9).standard_normal(505), support)
    assert not table.levels["far"].guaranteed
    assert table.levels["far"].upper >= table.levels["*"].upper
    assert table.levels["far"].lower <= table.levels["*"].lower


def test_an_unknown_level_gets_the_widest_bounds_and_what_is_not_finite_is_ignored() -> None:
    rng = np.random.default_rng(10)
    residual = np.r_[rng.normal(0, 0.1, 500), rng.normal(0, 1, 500), np.nan, np.inf]
    table = fit_intervals(residual, np.repeat(["in", "far", "far"], [500, 500, 2]))
    lo, hi = table.interval(np.zeros(2), np.array(["far", "elsewhere"]))
    assert (lo[0], hi[0]) == (lo[1], hi[1])
    assert table.levels["far"].rows == 500


@pytest.mark.parametrize(("residual", "alpha"), [([np.nan], 0.1), ([0.1, 0.2], 0.0), ([0.1, 0.2], 1.0)])
def test_nothing_to_calibrate_on_is_refused(residual: list[float], alpha: float) -> None:
    with pytest.raises(errors.BadRequest):
        fit_intervals(np.array(residual), IN[: len(residual)], alpha=alpha)


def test_a_table_survives_json() -> None:
    residual = np.random.default_rng(12).standard_normal(300)
    table = fit_intervals(residual, np.repeat(["in", "near", "far"], 100))
    assert IntervalTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


LEVELS = [{}, {"in": {"lower": 0.1}}, {"in": {**SOUND, "lower": 1.0}}, ["in"]]


@pytest.mark.parametrize(
    "payload",
    [{}, *({"alpha": 0.1, "levels": levels} for levels in LEVELS), {"alpha": 2.0, "levels": {"in": SOUND}}],
)
def test_a_foreign_table_is_refused(payload: dict[str, object]) -> None:
    with pytest.raises(errors.BadBundle, match="calibration table"):
        IntervalTable.from_dict(payload)


def test_the_bounds_agree_with_crepes() -> None:
    rng = np.random.default_rng(13)
    residual, code = rng.standard_normal(500), rng.integers(0, 3, 500)
    names = np.array(["in", "near", "far"])
    theirs = crepes.ConformalRegressor().fit(residuals=residual, bins=code)
    expected = theirs.predict_int(np.zeros(3), bins=np.arange(3), confidence=0.9)
    # Their interval is symmetric: its bound is one side's of the absolute residuals.
    _, hi = fit_intervals(np.abs(residual), names[code], alpha=0.2).interval(np.zeros(3), names)
    assert np.allclose(np.c_[-hi, hi], expected)
