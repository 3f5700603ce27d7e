from __future__ import annotations

from pathlib import Path

import optuna

from roofcast.data.store import BenchmarkStore
from roofcast.training.learner import DEFAULT_PARAMETERS, sample_of
from roofcast.training.tune import suggest, tune


def test_a_study_starts_at_the_defaults_and_goes_on_from_its_journal(tmp_path: Path) -> None:
    sample = sample_of(BenchmarkStore().load().sample(400, random_state=1).reset_index(drop=True))
    journal = tmp_path / "study.journal"
    first = tune(sample, trials=1, journal=journal, protocols=["configuration"], n_folds=2)
    assert {name: DEFAULT_PARAMETERS[name] for name in first.trials[0].params} == first.trials[0].params
    second = tune(sample, trials=1, journal=journal, protocols=["configuration"], n_folds=2)
    assert len(second.trials) == 2
    assert second.best_value <= first.best_value


def test_a_trial_changes_only_what_is_searched() -> None:
    settings = suggest(
        optuna.trial.FixedTrial(
            {
                **dict.fromkeys(DEFAULT_PARAMETERS, 0.3),
                "num_leaves": 40,
                "min_data_in_leaf": 9,
                "learning_rate": 0.05,
                "bagging_fraction": 0.7,
                "lambda_l2": 1.0,
            }
        )
    )
    assert settings.parameters["num_leaves"] == 40
    assert settings.parameters["objective"] == DEFAULT_PARAMETERS["objective"]
