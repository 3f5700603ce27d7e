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
from . import crossfit, trust
from .fit import Fitted, Sample, Settings, fit, sample_of
from .metrics import summarise
from .model.bundle import save_bundle
from .model.model import Model
from .model.support import support_of
from .splits import PROTOCOLS

if TYPE_CHECKING:
    from .tracking import Serving, TrainingRun

FOLDS = 3
# Calibration steps and share of the trees in folds that only teach trust: errors are those of another seed.
QUICK_STEPS, QUICK_TREES = 4, 0.75
_RANGES = ("isl", "osl", "concurrency", "num_gpus", "tp")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Where the bundle is, the errors by protocol and metric, the MLflow run, and how long it took [s]."""

    bundle: Path
    metrics: dict[str, dict[str, float]]
    run_id: str | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What one training learned: fitted parts, model, held-out scores, the champion's records."""

    fitted: Fitted
    model: Model
    scores: pd.DataFrame
    champion: list[crossfit.Records]

    def errors(self) -> dict[str, dict[str, float]]:
        """Return median absolute percentage error and coverage by "protocol/metric"."""
        kept = ("rows", "blend_median_ape", "coverage")
        rows = summarise(self.scores).to_dict("records")
        return {f"{row['protocol']}/{row['metric']}": {k: float(row[k]) for k in kept} for row in rows}

    def save(self, folder: Path, sample: Sample, fingerprint: str) -> Path:
        """Write the bundle of the model and return its folder."""
        ranges = {c: (float(sample.table[c].min()), float(sample.table[c].max())) for c in _RANGES}
        return save_bundle(self.model, folder, fingerprint=fingerprint, errors=self.errors(), ranges=ranges)

    def log(self, run: TrainingRun) -> None:
        """Record coefficients, each booster's gain by feature as shares, and scores in a run."""
        coefficients, shares = self.fitted.coefficients, {}
        for name, booster in self.fitted.boosters.items():
            gain = booster.feature_importance("gain")
            shares[name] = {self.fitted.names[i]: float(gain[i] / gain.sum()) for i in np.argsort(-gain)}
        values = {name: entry.value for name, entry in coefficients.entries.items()}
        run.log_figures("coefficients", coefficients.to_dict(), values)
        run.log_figures("importances", shares)
        run.log_scores(self.scores)


def learn(
    sample: Sample, settings: Settings, *, protocols: Sequence[str] = PROTOCOLS, n_folds: int = FOLDS,
    champion: crossfit.Procedure | None = None, progress: Progress = silent,
) -> Learnt:  # fmt: skip
    """Cross-fit the protocols (and the champion's procedure beside), learn trust, and fit on all rows."""

    def quick(full: Settings) -> Settings:
        trees = {name: max(round(QUICK_TREES * count), 1) for name, count in full.trees.items()}
        return replace(full, trees=trees, calibration_steps=min(full.calibration_steps, QUICK_STEPS))

    records = crossfit.cross_fit(
        sample, protocols, quick(settings), n_folds=n_folds, progress=within(progress, 0.0, 0.8),
        champion=champion and replace(champion, settings=quick(champion.settings)),
    )  # fmt: skip
    own, beside = records[: len(protocols)], records[len(protocols) :]
    work = [joblib.delayed(fit)(sample, settings), joblib.delayed(trust.learn_trust)(own)]
    work += [joblib.delayed(trust.protocol_scores)(own, number) for number in range(len(own))]
    done: list[Any] = []
    for part in joblib.Parallel(n_jobs=crossfit.WORKERS, return_as="generator")(work):
        done.append(part)
        progress("learning intervals, fitting on all rows", 0.8 + 0.2 * len(done) / len(work))
    fitted, taught, *scores = done
    model = Model(
        coefficients=fitted.coefficients, boosters=fitted.boosters, residuals=fitted.residuals,
        feature_names=fitted.names, support=support_of(sample.requests), blend=taught.blend,
        spreads=taught.spreads, intervals=taught.intervals,
    )  # fmt: skip
    return Learnt(fitted=fitted, model=model, scores=pd.concat(scores, ignore_index=True), champion=beside)


def train(
    *, serving: Serving | None, store: Path | None = None, out: Path | None = None,
    settings: Settings | None = None, protocols: Sequence[str] = PROTOCOLS, progress: Progress = silent,
) -> TrainResult:  # fmt: skip
    """Train on the table in `store` (None: the shipped one) and write the bundle to `out` (None: ./bundle).

    serving: how the model is served; with it the run is recorded in MLflow and the model made champion,
    whatever the champion was (`retrain` judges first). Raises BadStore if the table cannot be read.
    """
    start = time.perf_counter()
    settings = settings or Settings()
    table, fingerprint = BenchmarkStore(store).snapshot()
    sample = sample_of(table)
    learnt = learn(sample, settings, protocols=protocols, progress=within(progress, 0.0, 0.92))
    progress("writing the bundle", 0.93)
    bundle, run_id = learnt.save(out or Path("bundle"), sample, fingerprint), None
    if serving:
        from .registry import promote, registry
        from .tracking import training_run

        with registry() as place, training_run(asdict(settings), table, fingerprint, folder=place) as run:
            learnt.log(run)
            run.log_rows(table)
            promote(run.log_bundle(bundle, serving), place)
            run_id = run.run_id
    progress("done", 1.0)
    seconds = time.perf_counter() - start
    return TrainResult(bundle=bundle, metrics=learnt.errors(), run_id=run_id, seconds=seconds)
