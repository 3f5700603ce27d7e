"""Search the learner's parameters with Optuna: nested in training groups, pruned, resumable, shared.

A fifth of the families (GPU x model shape x engine) is set aside first. On the others each trial is fitted
fold by fold, the protocols in turn; its value is the mean over folds and times of the median absolute log
error with the full correction. A trial that is worse than the best one on the folds both have seen ends
(Wilcoxon's signed ranks). At last the best parameters and the shipped ones are judged on the rows set aside.
"""

from __future__ import annotations

import hashlib
import itertools
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import BaseTrial, FixedTrial, FrozenTrial, TrialState

from ..data.errors import BadRequest, BadStore
from ..data.files import for_json
from ..data.progress import Progress, silent, within
from ..data.store import BenchmarkStore
from ..features.baseline import baseline
from ..features.coefficients import Coefficients
from ..features.facts import FloatArray
from ..features.frame import FRAME_VERSION, feature_matrix
from . import crossfit, splits
from .calibrate import calibrate
from .fit import DEFAULT_PARAMETERS, Sample, Settings, fit, sample_of
from .model.times import LEARNED
from .tracking import mlflow_module, training_run

STUDY = "roofcast"
# Least, greatest, and whether it is searched in the logarithm.
SEARCHED: dict[str, tuple[Any, Any, bool]] = {
    "learning_rate": (0.03, 0.15, True), "num_leaves": (31, 127, True), "min_data_in_leaf": (5, 60, True),
    "feature_fraction": (0.2, 0.9, False), "bagging_fraction": (0.5, 1.0, False),
    "lambda_l2": (0.1, 20.0, True),
}  # fmt: skip
SHIPPED = {name: DEFAULT_PARAMETERS[name] for name in SEARCHED}
SET_ASIDE = 5  # one family in so many
FOLDS = 2
# Replayed over a study of nineteen whole trials: a quarter of the folds saved, none of the best four cut off.
_WORSE, _FEWEST_FOLDS = 0.1, 4


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """The study so far: trials of each kind, its best parameters and value beside the shipped ones'.

    confirmation: rows of `confirm` (none where nothing beat the shipped parameters); importance: share of
    the value's variance by parameter; seconds: of this call.
    """

    complete: int
    pruned: int
    shipped_value: float
    best_value: float
    best: dict[str, float]
    importance: dict[str, float]
    confirmation: list[dict[str, Any]] = field(default_factory=list)
    run_id: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Fold:
    """One fold of one protocol: rows to learn from, rows to test on, and the calibrated baseline."""

    protocol: str
    train: NDArray[np.intp]
    test: NDArray[np.intp]
    coefficients: Coefficients


def settings_of(trial: BaseTrial) -> Settings:
    """Return the settings of one trial; the number of trees is a budget of prediction time and stays."""
    searched = {
        name: (trial.suggest_int if isinstance(low, int) else trial.suggest_float)(name, low, high, log=log)
        for name, (low, high, log) in SEARCHED.items()
    }
    return Settings(parameters=DEFAULT_PARAMETERS | searched)


def prepare(
    sample: Sample, protocols: Sequence[str], n_folds: int, progress: Progress = silent
) -> list[Fold]:
    """Return the folds of all protocols in turn; the baseline is calibrated once, for no trial changes it."""
    seed = Settings().seed
    split = {p: splits.protocol_folds(sample.table, p, n_folds, seed) for p in protocols}
    turns = [(p, *split[p][k]) for k in range(n_folds) for p in protocols if k < len(split[p])]
    run = joblib.Parallel(n_jobs=crossfit.WORKERS, return_as="generator")
    done = run(joblib.delayed(calibrate)(sample.table.iloc[train], seed=seed) for _, train, _ in turns)
    folds = []
    for turn, coefficients in zip(turns, done, strict=True):
        folds.append(Fold(*turn, coefficients))
        progress("calibrating the baseline on each fold", len(folds) / len(turns))
    return folds


def gaps(sample: Sample, fold: Fold, settings: Settings) -> dict[str, FloatArray]:
    """Return |log(measured / predicted)| of the tested rows by name in LEARNED, NaN where not measured."""
    learnt, held = sample.take(fold.train), sample.take(fold.test)
    found = crossfit.answers(fit(learnt, settings, fold.coefficients, held.requests), learnt, held)
    measured, base, raw = found["measured_s"], found["base_s"], found["raw"]
    return {name: np.abs(np.log(measured[name] / base[name]) - raw[name]) for name in LEARNED}


def objective(trial: optuna.Trial, sample: Sample, folds: Sequence[Fold]) -> float:
    """Return the trial's value; raise TrialPruned as soon as it falls behind the best on the same folds."""
    settings, errors = settings_of(trial), []
    for step, fold in enumerate(folds):
        errors.append(float(np.mean([np.nanmedian(gap) for gap in gaps(sample, fold, settings).values()])))
        # The fold's own error, not the mean so far: that grows as the harder protocols come in.
        trial.report(errors[-1], step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return float(np.mean(errors))


def search(
    sample: Sample, *, trials: int, storage: str | Path, identity: dict[str, Any] | None = None,
    protocols: Sequence[str] = splits.PROTOCOLS, n_folds: int = FOLDS,
    callbacks: Sequence[Callable[[optuna.Study, FrozenTrial], None]] = (), progress: Progress = silent,
) -> optuna.Study:  # fmt: skip
    """Run `trials` more trials of the study in `storage`, which others may share, on the rows of `sample`.

    storage: journal file or database URL; a study starts there with SHIPPED. identity: what makes values
    comparable. Raises BadStore if the study there was made on something else, BadRequest for no trials.
    """
    if trials < 1:
        raise BadRequest("trials", trials, "1 or more")
    place = str(storage)
    kept = RDBStorage(place) if "://" in place else JournalStorage(JournalFileBackend(place))
    with warnings.catch_warnings():
        # It has been called experimental since 2024.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=_WORSE, n_startup_steps=_FEWEST_FOLDS)
    study = optuna.create_study(study_name=STUDY, storage=kept, load_if_exists=True, pruner=pruner)
    # Seeded by how far the study is, so that a resumed one does not repeat its first guesses.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials), constant_liar=True)
    # The features at the prior coefficients change where the physics does.
    matrix, _ = feature_matrix(sample.requests, sample.floor, baseline(sample.requests, Coefficients()))
    physics = hashlib.sha256(np.round(matrix, 5).tobytes()).hexdigest()[:12]
    made_with = {"protocols": "+".join(protocols), "folds": n_folds, "physics": physics, **(identity or {})}
    for name, value in made_with.items():
        if (other := study.user_attrs.get(name, value)) != value:
            made = f"{place}: this study was made with {name} {other}, not {value}"
            raise BadStore(f"{made}: its values do not compare; give another --storage")
        study.set_user_attr(name, value)
    study.enqueue_trial(SHIPPED, skip_if_exists=True)
    done = itertools.count(1)

    def report_trial(study: optuna.Study, trial: FrozenTrial) -> None:
        progress(f"trial {trial.number}: {trial.state.name.lower()}", 0.1 + 0.9 * next(done) / trials)

    folds = prepare(sample, protocols, n_folds, within(progress, 0.0, 0.1))
    value = partial(objective, sample=sample, folds=folds)
    study.optimize(value, n_trials=trials, callbacks=[*callbacks, report_trial])
    return study


def set_aside(sample: Sample, seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows to search on and the rows set aside: whole families, one in SET_ASIDE."""
    return splits.protocol_folds(sample.table, "family", SET_ASIDE, seed)[0]


def confirm(
    sample: Sample, aside: NDArray[np.intp], best: Settings, *,
    protocols: Sequence[str] = splits.PROTOCOLS, n_folds: int = FOLDS, progress: Progress = silent,
) -> pd.DataFrame:  # fmt: skip
    """Compare `best` with the shipped parameters on the rows set aside, a row per protocol.

    Columns: median absolute log errors, the mean over families of their difference with its standard error.
    """
    family = splits.group_labels(sample.table, "family")
    parts = []
    for fold in prepare(sample, protocols, n_folds, progress):
        judged = replace(fold, test=np.intersect1d(fold.test, aside))
        if not len(judged.test):
            continue
        shipped, found = (gaps(sample, judged, settings) for settings in (Settings(), best))
        for name in LEARNED:
            columns = {"family": family[judged.test], "shipped": shipped[name], "best": found[name]}
            parts.append(pd.DataFrame(columns).dropna().assign(protocol=fold.protocol, metric=name))
    rows = pd.concat(parts)
    rows["difference"] = rows["best"] - rows["shipped"]
    by = rows.groupby("protocol", sort=False)
    medians = rows.groupby(["protocol", "metric"])[["shipped", "best"]].median().groupby("protocol").mean()
    means = rows.groupby(["protocol", "family"])["difference"].mean().groupby("protocol")
    return medians.assign(difference=means.mean(), standard_error=means.sem(), rows=by.size()).reset_index()


def tune(
    *, trials: int, storage: str | Path = "study.journal", store: Path | None = None, out: Path | None = None,
    track: bool = True, protocols: Sequence[str] = splits.PROTOCOLS, n_folds: int = FOLDS,
    progress: Progress = silent,
) -> TuneResult:  # fmt: skip
    """Search on the table in `store`, confirm on the rows set aside, and report; raises as `search` does.

    out: folder for `write_report` (None: not written). track: one MLflow run, with a child for each trial.
    """
    start = time.perf_counter()
    table, fingerprint = BenchmarkStore(store).snapshot()
    sample = sample_of(table)
    inside, aside = set_aside(sample)
    identity = {"table": fingerprint, "frame version": FRAME_VERSION}
    with ExitStack() as stack:
        run = stack.enter_context(training_run({}, table, fingerprint, kind="tune")) if track else None
        study = search(
            sample.take(inside), trials=trials, storage=storage, identity=identity,
            protocols=protocols, n_folds=n_folds, callbacks=[_log_trial] if track else [],
            progress=within(progress, 0.0, 0.85),
        )  # fmt: skip
        result = _result(study)
        if result.best_value < result.shipped_value:
            best = settings_of(FixedTrial(study.best_params))
            compared = confirm(
                sample, aside, best, protocols=protocols, n_folds=n_folds,
                progress=within(progress, 0.85, 1.0),
            )  # fmt: skip
            result = replace(result, confirmation=for_json(compared.to_dict("records")))
        result = replace(result, run_id=run.run_id if run else None, seconds=time.perf_counter() - start)
        if run:
            run.log_figures("tuning", asdict(result))
            with TemporaryDirectory() as temporary:
                write_report(study, Path(temporary))
                mlflow_module().log_artifacts(temporary, "tuning")
    if out is not None:
        write_report(study, out)
    return result


def _result(study: optuna.Study) -> TuneResult:
    """Return what the study has found so far."""
    states = [trial.state for trial in study.trials]
    # Without a value where that trial was cut off: anything whole is better then.
    shipped = [t.value for t in study.trials if t.params == SHIPPED and t.value is not None]
    values = {t.value for t in study.get_trials(states=[TrialState.COMPLETE])}
    shares = dict(optuna.importance.get_param_importances(study)) if len(values) > 2 else {}
    return TuneResult(
        complete=states.count(TrialState.COMPLETE), pruned=states.count(TrialState.PRUNED),
        shipped_value=shipped[0] if shipped else float("inf"), best_value=study.best_value,
        best=study.best_params, importance=shares,
    )  # fmt: skip


def _log_trial(study: optuna.Study, trial: FrozenTrial) -> None:
    """Record a trial and each fold's error, which Optuna's own callback leaves out, in a child run."""
    mlflow, tags = mlflow_module(), {"kind": "trial", "state": trial.state.name.lower()}
    with mlflow.start_run(run_name=f"trial {trial.number}", nested=True, tags=tags):
        mlflow.log_params(trial.params)
        for step, value in trial.intermediate_values.items():
            mlflow.log_metric("fold_error", value, step=step)
        if trial.value is not None:
            mlflow.log_metric("objective", trial.value)


def write_report(study: optuna.Study, folder: Path) -> None:
    """Write tuning.csv (every trial), tuning.png (their history) and, from three on, importance.png."""
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as drawn

    folder.mkdir(parents=True, exist_ok=True)
    trials = study.trials_dataframe(attrs=("number", "value", "state", "params"))
    trials.to_csv(folder / "tuning.csv", index=False)
    pictures: dict[str, Callable[[optuna.Study], Any]] = {"tuning.png": drawn.plot_optimization_history}
    if _result(study).importance:
        pictures["importance.png"] = drawn.plot_param_importances
    with warnings.catch_warnings():
        # Its matplotlib pictures have been called experimental since 2020.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        for name, draw in pictures.items():
            figure = draw(study).figure
            figure.savefig(folder / name, dpi=72, bbox_inches="tight")
            pyplot.close(figure)
