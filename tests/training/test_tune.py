"""A study starts at the shipped parameters, goes on, is shared, and is judged on rows it has not seen."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from roofcast.data import errors
from roofcast.data.store import BenchmarkStore
from roofcast.features.coefficients import Coefficients
from roofcast.training import crossfit, splits, tracking, tune
from roofcast.training.fit import DEFAULT_PARAMETERS, Sample, Settings, sample_of
from roofcast.training.model.times import TREES

ONE = {"protocols": ("configuration",), "n_folds": 2}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossfit, "WORKERS", 1)
    monkeypatch.setattr(tune, "calibrate", lambda table, **_: Coefficients())
    few = dict.fromkeys(TREES, 20)
    monkeypatch.setattr(tune, "Settings", partial(Settings, trees=few, threads=1))


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return BenchmarkStore().load().sample(600, random_state=1).reset_index(drop=True)


@pytest.fixture(scope="module")
def sample(rows: pd.DataFrame) -> Sample:
    return sample_of(rows)


@pytest.mark.parametrize("place", ["{}/study.journal", "sqlite:///{}/study.db"])
def test_a_study_starts_at_the_shipped_parameters_and_goes_on_where_it_is_kept(
    sample: Sample, place: str, tmp_path: Path
) -> None:
    storage = place.format(tmp_path)
    first = tune.search(sample, trials=1, storage=storage, **ONE)
    assert {name: DEFAULT_PARAMETERS[name] for name in first.trials[0].params} == first.trials[0].params
    second = tune.search(sample, trials=1, storage=storage, **ONE)
    assert len(second.trials) == 2
    assert second.trials[1].params != first.trials[0].params
    assert second.best_value <= first.best_value


def test_a_study_of_other_data_or_without_trials_is_refused(sample: Sample, tmp_path: Path) -> None:
    kept = tmp_path / "study.journal"
    with pytest.raises(errors.BadRequest, match="trials = 0"):
        tune.search(sample, trials=0, storage=kept, **ONE)
    tune.search(sample, trials=1, storage=kept, identity={"table": "f00d"}, **ONE)
    with pytest.raises(errors.BadStore, match=r"made with table f00d, not beef: .* give another --storage"):
        tune.search(sample, trials=1, storage=kept, identity={"table": "beef"}, **ONE)
    with pytest.raises(errors.BadStore, match="made with physics"):
        tune.search(sample.take(np.arange(300)), trials=1, storage=kept, **ONE)


def test_a_trial_that_falls_behind_is_not_fitted_to_the_end(sample: Sample) -> None:
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=-1.0))
    folds = tune.prepare(sample, ["configuration"], 3)
    study.optimize(lambda trial: tune.objective(trial, sample, folds), n_trials=1)
    (trial,) = study.trials
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert list(trial.intermediate_values) == [0]


def test_no_family_is_searched_and_set_aside_where_shipped_parameters_differ_from_themselves_by_nothing(
    sample: Sample,
) -> None:
    inside, aside = tune.set_aside(sample)
    assert 0.1 < len(aside) / len(sample.table) < 0.3
    for protocol in ("family", "configuration"):
        labels = splits.group_labels(sample.table, protocol)
        assert not set(labels[inside]) & set(labels[aside])
    shipped = tune.settings_of(optuna.trial.FixedTrial(tune.SHIPPED))
    assert shipped.parameters == DEFAULT_PARAMETERS
    changed = tune.settings_of(optuna.trial.FixedTrial({**tune.SHIPPED, "num_leaves": 40}))
    assert changed.parameters == {**DEFAULT_PARAMETERS, "num_leaves": 40}
    (compared,) = tune.confirm(sample, aside, shipped, **ONE).to_dict("records")
    assert (compared["protocol"], compared["difference"]) == ("configuration", 0.0)
    assert compared["shipped"] == compared["best"]
    assert compared["rows"] > 20


def test_a_search_leaves_its_trials_in_mlflow_and_its_pictures(
    rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("ROOFCAST_MLRUNS", str(tmp_path / "mlruns"))
    rows.to_parquet(tmp_path / "table.parquet", index=False)
    out = tmp_path / "out"
    where = {"storage": tmp_path / "study.journal", "store": tmp_path / "table.parquet", "out": out}
    result = tune.tune(trials=3, **where, **ONE)
    assert (result.complete, result.pruned) == (3, 0)
    assert result.best_value <= result.shipped_value
    assert sum(result.importance.values()) == pytest.approx(1.0)
    assert all((out / name).stat().st_size > 5000 for name in ("tuning.png", "importance.png"))
    assert len(pd.read_csv(out / "tuning.csv")) == 3
    with tracking.open_store(tmp_path / "mlruns"):
        mine = f"tags.`mlflow.parentRunId` = '{result.run_id}'"
        children = mlflow.search_runs(["1"], filter_string=mine, output_format="list")
        parent = mlflow.get_run(result.run_id)
    assert len(children) == 3
    assert min(run.data.metrics["objective"] for run in children) == pytest.approx(result.best_value)
    assert parent.data.metrics["tuning/best_value"] == pytest.approx(result.best_value)
