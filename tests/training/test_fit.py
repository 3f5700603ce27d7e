from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from roofcast.data.errors import BadRequest
from roofcast.data.store import BenchmarkStore
from roofcast.features.baseline import baseline
from roofcast.features.coefficients import Coefficients
from roofcast.features.frame import feature_matrix
from roofcast.features.request import normalise
from roofcast.training.calibrate import calibrate, predicted
from roofcast.training.fit import Sample, Settings, fit, measured_seconds, sample_of, targets
from roofcast.training.model.model import corrections
from roofcast.training.model.support import set_up_keys
from roofcast.training.model.times import TREES

QUICK = Settings(trees=dict.fromkeys(TREES, 30), threads=1)


@pytest.fixture(scope="module")
def sample() -> Sample:
    table = BenchmarkStore().load()
    picked = table[table["mode"] == "closed-loop"].sample(1200, random_state=5)
    return sample_of(picked.reset_index(drop=True))


def test_calibration_beats_the_priors_on_the_rows_it_saw_within_its_bounds(sample: Sample) -> None:
    fitted = calibrate(sample.table)
    assert all(entry.low <= entry.value <= entry.high for entry in fitted.entries.values())
    for target in ("tpot_ms", "ttft_ms"):
        measured = sample.table[target].to_numpy(np.float64)
        answers = (predicted(baseline(sample.requests, c))[target] for c in (fitted, Coefficients()))
        after, before = (np.nanmedian(np.abs(answer / measured - 1)) for answer in answers)
        assert after < before


def test_calibration_recovers_the_coefficients_that_made_the_data(sample: Sample) -> None:
    entries = dict(Coefficients().entries)
    truth = {"weight_bandwidth.hopper": 0.5, "layer_us.blackwell": 100.0, "stall.vllm": 0.4}
    for name, value in truth.items():
        entries[name] = replace(entries[name], value=value)
    made = predicted(baseline(sample.requests, Coefficients(entries=entries)))
    fitted = calibrate(sample.table.assign(**made, ttft_stat="p50"), max_evaluations=25).entries
    for name, value in truth.items():
        assert fitted[name].value == pytest.approx(value, rel=0.15), name
        assert fitted[name].rows > 0


def test_engines_and_architectures_that_share_the_name_other_are_told_apart() -> None:
    table = BenchmarkStore().load()
    rare = table[(table["engine"] == "lmdeploy") & table["tpot_ms"].notna()]
    fitted = calibrate(rare.reset_index(drop=True), max_evaluations=2).entries
    assert fitted["step_us.other"].rows > 0
    assert fitted["step_us.vllm"].rows == 0


def test_what_sets_a_set_up_apart_is_carried_to_its_other_loads() -> None:
    table = BenchmarkStore().load()
    rows = table[(table["source_family"] == "atom") & table["tpot_ms"].notna()].reset_index(drop=True)
    keys = set_up_keys(normalise(rows))
    # A flag that nobody wrote down makes every other set-up half as fast again.
    slow = np.unique(keys, return_inverse=True)[1] % 2 == 0
    sample = sample_of(rows.assign(tpot_ms=rows["tpot_ms"] * np.where(slow, 1.5, 1.0)))
    held = np.zeros(len(sample.table), dtype=bool)
    held[::4] = True
    known, asked = sample.take(np.flatnonzero(~held)), sample.take(np.flatnonzero(held))
    fitted = fit(known, QUICK, Coefficients(), asked=asked.requests)
    base = baseline(asked.requests, Coefficients())
    matrix, _ = feature_matrix(asked.requests, asked.floor, base)
    gap = targets(asked, base)["tpot"]
    none = replace(fitted.residuals, weight=0 * fitted.residuals.weight)
    found = (
        corrections(fitted.boosters, r, asked.requests, base, matrix)[0] for r in (fitted.residuals, none)
    )
    carried, not_carried = (np.nanmedian(np.abs(gap - raw["tpot"])) for raw in found)
    assert carried < 0.6 * not_carried


def test_learning_improves_on_the_baseline_and_is_repeatable(sample: Sample) -> None:
    once, again = fit(sample, QUICK), fit(sample, QUICK)
    base = baseline(sample.requests, once.coefficients)
    matrix, names = feature_matrix(sample.requests, sample.floor, base)
    assert names == once.names
    none = replace(once.residuals, weight=0 * once.residuals.weight)
    first, second = (corrections(f.boosters, none, sample.requests, base, matrix)[0] for f in (once, again))
    for name, gap in targets(sample, base).items():
        known = np.isfinite(gap)
        assert np.abs(gap - first[name])[known].mean() < 0.8 * np.abs(gap)[known].mean(), name
        np.testing.assert_array_equal(first[name], second[name])


def test_measured_end_to_end_time_is_littles_law(sample: Sample) -> None:
    table, base = sample.table, baseline(sample.requests, Coefficients())
    expected = (table["concurrency"] * table["osl"] / table["output_tok_s"]).to_numpy(np.float64)
    np.testing.assert_allclose(measured_seconds(sample, base)["e2e"], expected, rtol=1e-9)


def test_rows_that_physics_cannot_answer_are_left_out_and_a_time_never_measured_is_refused() -> None:
    table = BenchmarkStore().load().dropna(subset=["tpot_ms", "output_tok_s"]).head(60).reset_index(drop=True)
    table.loc[0, "model"] = "no-such-model"
    kept = sample_of(table.assign(ttft_ms=np.nan, ttft_mean_ms=np.nan))
    assert len(kept.table) == 59
    with pytest.raises(BadRequest, match="none with ttft"):
        fit(kept, QUICK, Coefficients())
