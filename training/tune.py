"""Search the learner's parameters with Optuna: grouped protocols as the objective, a journal as memory.

The objective is the mean over protocols of the median absolute log error of TPOT, TTFT and end-to-end time,
on folds inside the rows given: pass training groups only, and what is left out stays unseen by the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from ..predictor.model import CORRECTED
from . import crossfit
from .learner import DEFAULT_PARAMETERS, Sample, Settings

STUDY = "roofcast"


def suggest(trial: optuna.Trial) -> Settings:
    """Return the settings of one trial; the number of trees is a budget of prediction time and stays."""
    parameters: dict[str, Any] = {
        **DEFAULT_PARAMETERS,
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.15, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 31, 127, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 60, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.2, 0.9),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 20.0, log=True),
    }
    return Settings(parameters=parameters)


def objective(sample: Sample, settings: Settings, protocols: Sequence[str], n_folds: int) -> float:
    """Return the mean over protocols and times of the median absolute log error (full correction applied)."""
    errors = []
    for records in crossfit.cross_fit(sample, protocols, settings, n_folds=n_folds):
        for name in CORRECTED:
            gap = np.log(records.measured_s[name] / records.base_s[name]) - records.raw[name]
            errors.append(float(np.nanmedian(np.abs(gap))))
    return float(np.mean(errors))


def tune(
    sample: Sample,
    *,
    trials: int,
    journal: str | Path,
    protocols: Sequence[str] = crossfit.TAUGHT_BY,
    n_folds: int = 3,
    progress: crossfit.Progress | None = None,
) -> optuna.Study:
    """Run `trials` more trials of the study kept in `journal` (made where missing) and return the study.

    A journal may be continued later, or by several processes at once. The first trial of a new study is
    DEFAULT_PARAMETERS, so that the best one is never worse than what ships.
    """
    journal = Path(journal)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    sampler = optuna.samplers.TPESampler(seed=len(journal.read_bytes()) if journal.exists() else 0)
    study = optuna.create_study(study_name=STUDY, storage=storage, load_if_exists=True, sampler=sampler)
    if not study.trials:
        searched = ("learning_rate", "num_leaves", "min_data_in_leaf", "feature_fraction", "bagging_fraction")
        study.enqueue_trial({name: DEFAULT_PARAMETERS[name] for name in (*searched, "lambda_l2")})

    def report(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if progress:
            progress(f"trial {trial.number}: {trial.value:.4f}", (trial.number % trials + 1) / trials)

    study.optimize(
        lambda trial: objective(sample, suggest(trial), protocols, n_folds),
        n_trials=trials,
        callbacks=[report],
    )
    return study
