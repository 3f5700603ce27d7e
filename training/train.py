"""One whole training: table in, tracked run and bundle out.

Cross-fits by protocol teach blend weights and intervals; the model that is kept is fitted on all rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd

from ..data.progress import Progress, silent, within
from ..data.store import BenchmarkStore
from . import crossfit, metrics
from .learner import Fitted, Sample, Settings, fit, sample_of
from .model.bundle import save_bundle
from .model.model import CORRECTED, Model
from .model.support import support_of

if TYPE_CHECKING:
    from .tracking import TrainingRun

FOLDS = 3
# Of calibration, and share of the trees, in folds that only teach trust and judge: two thirds of the time,
# errors and weights as near to those of all steps and trees as another seed's.
QUICK_STEPS, QUICK_TREES = 4, 0.75


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Where the bundle is, the errors by protocol and metric, the MLflow run, and how long it took [s]."""

    bundle: Path
    metrics: dict[str, dict[str, float]]
    run_id: str | None
    seconds: float


def model_of(fitted: Fitted, sample: Sample, trust: crossfit.Trust) -> Model:
    """Assemble the model that predicts from its trained parts."""
    return Model(
        coefficients=fitted.coefficients,
        boosters=fitted.boosters,
        siblings=fitted.siblings,
        feature_names=fitted.names,
        support=support_of(sample.requests),
        blend=trust.blend,
        spreads=trust.spreads,
        intervals=trust.intervals,
    )


def errors_by_protocol(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return median absolute percentage error and coverage by "protocol/metric"."""
    kept = ("rows", "blend_median_ape", "coverage")
    records = metrics.summarise(scores).to_dict("records")
    return {f"{row['protocol']}/{row['metric']}": {k: float(row[k]) for k in kept} for row in records}


def _ranges(table: pd.DataFrame) -> dict[str, tuple[float, float]]:
    columns = ("isl", "osl", "concurrency", "num_gpus", "tp")
    return {c: (float(table[c].min()), float(table[c].max())) for c in columns}


def importances(fitted: Fitted) -> dict[str, dict[str, float]]:
    """Return each booster's gain by feature, as shares, largest first."""
    out = {}
    for name in CORRECTED:
        gain = fitted.boosters[name].feature_importance("gain")
        order = np.argsort(-gain)
        out[name] = {fitted.names[i]: float(gain[i] / gain.sum()) for i in order}
    return out


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What one training learned: the fitted parts, the model assembled from them, its held-out scores.

    former: the records of the procedure judged beside, if there was one.
    """

    fitted: Fitted
    model: Model
    scores: pd.DataFrame
    former: list[crossfit.Records]

    def save(self, folder: Path, sample: Sample, fingerprint: str) -> Path:
        """Write the bundle of the model and return its folder."""
        errors = errors_by_protocol(self.scores)
        return save_bundle(
            self.model, folder, fingerprint=fingerprint, errors=errors, ranges=_ranges(sample.table)
        )

    def log(self, run: TrainingRun) -> None:
        """Record coefficients, importances and scores in a run."""
        coefficients = self.fitted.coefficients
        values = {name: entry.value for name, entry in coefficients.entries.items()}
        run.log_figures("coefficients", coefficients.to_dict(), values)
        run.log_figures("importances", importances(self.fitted))
        run.log_scores(self.scores)


def _quick(settings: Settings) -> Settings:
    """Return the settings for folds that only teach trust and judge."""
    trees = {name: max(round(QUICK_TREES * count), 1) for name, count in settings.trees.items()}
    return replace(settings, trees=trees, calibration_steps=min(settings.calibration_steps, QUICK_STEPS))


def learn(
    sample: Sample,
    settings: Settings,
    *,
    protocols: Sequence[str] = crossfit.TAUGHT_BY,
    n_folds: int = FOLDS,
    former: crossfit.Former | None = None,
    progress: Progress = silent,
) -> Learnt:
    """Cross-fit the protocols (and `former` beside), learn trust from them, and fit on all rows."""
    records = crossfit.cross_fit(
        sample,
        protocols,
        _quick(settings),
        n_folds=n_folds,
        former=former and replace(former, settings=_quick(former.settings)),
        progress=within(progress, 0.0, 0.8),
    )
    own, beside = records[: len(protocols)], records[len(protocols) :]
    work = [joblib.delayed(fit)(sample, settings), joblib.delayed(crossfit.learn_trust)(own)]
    work += [joblib.delayed(crossfit.protocol_scores)(own, number) for number in range(len(own))]
    done: list[Any] = []
    for part in joblib.Parallel(n_jobs=crossfit.WORKERS, return_as="generator")(work):
        done.append(part)
        progress("learning intervals, fitting on all rows", 0.8 + 0.2 * len(done) / len(work))
    fitted, trust, *parts = done
    scores = pd.concat(parts, ignore_index=True)
    return Learnt(fitted=fitted, model=model_of(fitted, sample, trust), scores=scores, former=beside)


def train(
    *,
    store: Path | None = None,
    out: Path | None = None,
    track: bool = True,
    settings: Settings | None = None,
    protocols: Sequence[str] = crossfit.TAUGHT_BY,
    progress: Progress = silent,
) -> TrainResult:
    """Train on the benchmark table in `store` (None: the shipped one) and write the bundle to `out`.

    out: folder (None: ./bundle). track: record the run in MLflow and register the model as champion,
    whatever the champion was: `retrain` judges first. Takes two to three minutes on 2 cores. Raises BadStore
    if the table cannot be read.
    """
    start = time.perf_counter()
    settings = settings or Settings()
    table, fingerprint = BenchmarkStore(store).snapshot()
    sample = sample_of(table)
    learnt = learn(sample, settings, protocols=protocols, progress=within(progress, 0.0, 0.92))
    progress("writing the bundle", 0.93)
    bundle = learnt.save(out or Path("bundle"), sample, fingerprint)
    run_id = _track(settings, table, fingerprint, learnt, bundle) if track else None
    progress("done", 1.0)
    errors = errors_by_protocol(learnt.scores)
    return TrainResult(bundle=bundle, metrics=errors, run_id=run_id, seconds=time.perf_counter() - start)


def _track(settings: Settings, table: pd.DataFrame, fingerprint: str, learnt: Learnt, bundle: Path) -> str:
    from .registry import promote, registry
    from .tracking import training_run

    with registry() as place, training_run(asdict(settings), table, fingerprint, folder=place) as run:
        learnt.log(run)
        run.log_rows(table)
        promote(run.log_bundle(bundle), place)
        return run.run_id
