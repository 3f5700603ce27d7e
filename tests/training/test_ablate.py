"""Leaving a part out changes that part alone, and a difference counts only beyond its noise."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

from roofcast.data.store import BenchmarkStore
from roofcast.features.baseline import baseline
from roofcast.features.coefficients import Coefficients
from roofcast.training import ablate
from roofcast.training.ablate import Variant, ablate_sample, compare, physics_names, variants, version_number
from roofcast.training.ablate_page import FULL, RESEEDED, SOURCE, reading
from roofcast.training.learner import Sample, Settings, learning_frame, sample_of

QUICK = Settings(trees={"tpot": 8, "ttft": 8, "e2e": 8}, threads=1, calibration_steps=2)
KEY = "family/tpot_ms"


@pytest.fixture(scope="module")
def sample() -> Sample:
    table = BenchmarkStore().load()
    table = table[table["source_family"].isin(["inferencex", "sglang-docs", "aic-nvidia"])]
    return sample_of(table.sample(400, random_state=3).reset_index(drop=True))


def _frame(error: float | np.ndarray, rows: int = 400) -> pd.DataFrame:
    names = [f"r{k}" for k in range(rows)]
    blend = 10.0 * (1.0 + error * np.ones(rows))
    return pd.DataFrame({"row_id": names, "protocol": "family", "metric": "tpot_ms", "measured": 10.0,
                         "blend": blend})  # fmt: skip


def _groups(rows: int = 400, size: int = 4) -> dict[str, pd.Series]:
    return {"family": pd.Series(np.arange(rows) // size, index=[f"r{k}" for k in range(rows)])}


def test_physics_features_are_those_that_follow_the_estimates(sample: Sample) -> None:
    names = set(physics_names(sample))
    assert {"log_tpot", "log_e2e", "log_tpot_over_floor", "share_kv", "log_batch", "log_weights_s"} <= names
    assert not names & {"log_isl", "log_concurrency", "tp", "months", "engine", "log_params_total"}


def test_a_version_is_a_number_that_grows_with_the_release() -> None:
    releases = ["v0.6.1", "sglang:v0.6.9-cu130", "0.6.10.post1", "0.19 (first publication)", "1.0.0rc3"]
    others = [
        "",
        "nightly-dev-20260216",
        "TensorRT 10.11",
        "rocm/atom:rocm7.2.3_ubuntu24.04_pytorch_release_2.10",
    ]
    number = version_number(pd.DataFrame({"engine_version": [*releases, *others]}))
    assert (np.diff(number[: len(releases)]) > 0).all()
    assert np.isnan(number[len(releases) :]).all()


def test_a_variant_changes_its_own_part_alone(sample: Sample) -> None:
    base = baseline(sample.requests, Coefficients())
    matrix, names, target = learning_frame(sample, base)
    changed, fewer, same = Variant(without=("months", "tp")).frame(sample, base)
    assert set(names) - set(fewer) == {"months", "tp"}
    np.testing.assert_array_equal(changed, matrix[:, [n in fewer for n in names]])
    np.testing.assert_array_equal(same["tpot"], target["tpot"])
    whole, all_names, seconds = Variant(baseline_target=False).frame(sample, base)
    assert all_names == names
    np.testing.assert_array_equal(whole, matrix)
    np.testing.assert_allclose(np.exp(seconds["tpot"]) * 1e3, sample.table["tpot_ms"].to_numpy(np.float64))
    added, more, _ = Variant(version=True).frame(sample, base)
    assert more == (*names, "engine_version")
    np.testing.assert_array_equal(added[:, -1], version_number(sample.table))


def test_a_difference_is_that_of_the_medians_on_the_rows_that_both_answer() -> None:
    other = _frame(-0.25).head(101)
    other.loc[0, "blend"] = np.nan
    cell = compare(_frame(0.1), other, _groups())[KEY]
    assert cell["rows"] == 100
    assert cell["error"] == pytest.approx(25.0)
    assert cell["difference"] == pytest.approx(15.0)
    assert cell["standard_error"] == pytest.approx(0.0, abs=1e-9)


def test_the_standard_error_is_that_of_repeating_the_measurement_with_other_groups() -> None:
    rng = np.random.default_rng(1)

    def repeat() -> dict[str, float]:
        shared = np.repeat(rng.normal(0.0, 0.1, (2, 100)), 4, axis=1)
        return compare(_frame(shared[0]), _frame(shared[1]), _groups())[KEY]

    repeats = [repeat() for _ in range(150)]
    spread = np.std([cell["difference"] for cell in repeats])
    assert np.mean([cell["standard_error"] for cell in repeats]) == pytest.approx(spread, rel=0.25)


def test_only_what_is_beyond_noise_and_another_seed_is_read_as_a_difference() -> None:
    noise = {"difference": -0.3, "standard_error": 0.1}

    def read(difference: float, error: float) -> str:
        cell = {"difference": difference, "standard_error": error}
        return reading({KEY: cell, "model/ttft_ms": noise}, {KEY: noise, "model/ttft_ms": noise})

    assert read(0.9, 0.5) == read(0.29, 0.01) == "Nothing beyond noise."
    assert read(0.9, 0.4) == "Worse in TPOT (family)."
    assert read(-0.9, 0.4) == "Better in TPOT (family)."


def test_all_variants_are_judged_on_the_same_rows_and_a_stopped_run_goes_on(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablate, "calibrate", lambda table, **_: Coefficients())

    def run() -> dict[str, ablate.Cells]:
        with joblib.parallel_config(backend="threading"):
            return ablate_sample(sample, protocols=("family",), settings=QUICK, n_folds=2, cache=tmp_path)

    figures = run()
    monkeypatch.setattr(ablate, "fit", None)
    assert run() == figures
    sources = sample.table["source_family"]
    assert set(figures) == {*variants(sample), *(SOURCE + name for name in sources.unique())}
    measured = int(sample.table["tpot_ms"].notna().sum())
    assert all(figures[name][KEY]["rows"] == measured for name in variants(sample))
    assert figures[FULL][KEY]["difference"] == 0.0
    others = sample.table[sources != "inferencex"]["tpot_ms"].notna().sum()
    assert figures[SOURCE + "inferencex"][KEY]["rows"] == others
    base = baseline(sample.requests, Coefficients()).tpot_s * 1e3
    error = np.nanmedian(100 * np.abs(base / sample.table["tpot_ms"].to_numpy(np.float64) - 1))
    assert figures["without the learned correction"][KEY]["error"] == pytest.approx(error)


def test_the_page_shows_every_variant_with_its_reading_and_what_was_run(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BenchmarkStore.create(tmp_path / "table.parquet", sample.table)
    cell = {"rows": 400.0, "error": 12.5, "difference": 0.5, "standard_error": 0.1}
    quiet = {**cell, "difference": 0.05}
    sources = [SOURCE + name for name in sample.table["source_family"].unique()]
    names = [*variants(sample), *sources]
    made = {name: {KEY: quiet if name == RESEEDED else cell} for name in names}
    monkeypatch.setattr(ablate, "ablate_sample", lambda sample, **_: made)
    told = ablate.ablate(store=store.path, out=tmp_path)
    text = (tmp_path / "ablations.md").read_text(encoding="utf-8")
    assert told["page"] == str(tmp_path / "ablations.md")
    assert f"fingerprint of the table: {store.snapshot()[1]}" in text
    assert f"\n| {FULL} | 12.50 % | The reference. |" in text
    assert f"\n| {RESEEDED} | +0.05 ± 0.10 | Nothing beyond noise. |" in text
    assert text.count("| **+0.50** ± 0.10 | Worse in every figure. |") == len(names) - 2
