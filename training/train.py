"""One whole training: table in, tracked run and bundle out.

Cross-fits by protocol teach blend weights and intervals; the model that is kept is fitted on all rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data.store import BenchmarkStore
from ..predictor.bundles import save_bundle
from ..predictor.model import CORRECTED, Model, support_of
from . import crossfit, metrics
from .learner import Fitted, Sample, Settings, fit, sample_of

FOLDS = 3


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """Where the bundle is, the errors by protocol and metric, the MLflow run, and how long it took [s]."""

    bundle: Path
    metrics: dict[str, dict[str, float]]
    run_id: str | None
    seconds: float


def _silent(label: str, share: float) -> None:
    """Report progress to nobody."""


def model_of(fitted: Fitted, sample: Sample, trust: crossfit.Trust) -> Model:
    """Assemble the model that predicts from its trained parts."""
    return Model(
        coefficients=fitted.coefficients,
        boosters=fitted.boosters,
        feature_names=fitted.names,
        support=support_of(sample.requests),
        blend=trust.blend,
        intervals=trust.intervals,
    )


def errors_by_protocol(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return median absolute percentage error and coverage by "protocol/metric"."""
    kept = ("rows", "blend_median_ape", "coverage")
    records = metrics.summarise(scores).to_dict("records")
    return {f"{row['protocol']}/{row['metric']}": {k: float(row[k]) for k in kept} for row in records}


def _ranges(table: pd.DataFrame) -> dict[str, tuple[float, float]]:
    columns = ("isl", "osl", "concurrency", "num_gpus", "tp")
    return {c: (float(np.nanmin(table[c])), float(np.nanmax(table[c]))) for c in columns}


def importances(fitted: Fitted) -> dict[str, dict[str, float]]:
    """Return each booster's gain by feature, as shares, largest first."""
    out = {}
    for name in CORRECTED:
        gain = fitted.boosters[name].feature_importance("gain")
        order = np.argsort(-gain)
        out[name] = {fitted.names[i]: float(gain[i] / gain.sum()) for i in order}
    return out


def train(
    *,
    store: Path | None = None,
    out: Path | None = None,
    track: bool = True,
    settings: Settings | None = None,
    protocols: Sequence[str] = crossfit.TAUGHT_BY,
    progress: crossfit.Progress | None = None,
) -> TrainResult:
    """Train on the benchmark table in `store` (None: the shipped one) and write the bundle to `out`.

    out: folder (None: ./bundle). track: record the run in MLflow and register the model as champion.
    Takes under 2 minutes on 2 cores. Raises BadStore if the table cannot be read.
    """
    start = time.perf_counter()
    settings, progress = settings or Settings(), progress or _silent
    benchmarks = BenchmarkStore(store)
    table, fingerprint = benchmarks.load(), benchmarks.fingerprint()
    sample = sample_of(table)
    records = crossfit.cross_fit(
        sample,
        protocols,
        settings,
        n_folds=FOLDS,
        progress=lambda label, share: progress(label, 0.85 * share),
    )
    progress("fitting on all rows", 0.87)
    fitted = fit(sample, settings)
    model = model_of(fitted, sample, crossfit.learn_trust(records))
    scores = crossfit.all_scores(records)
    errors = errors_by_protocol(scores)
    progress("writing the bundle", 0.93)
    bundle = save_bundle(
        model, out or Path("bundle"), fingerprint=fingerprint, errors=errors, ranges=_ranges(sample.table)
    )
    run_id = _track(settings, table, fingerprint, scores, fitted, bundle) if track else None
    progress("done", 1.0)
    return TrainResult(bundle=bundle, metrics=errors, run_id=run_id, seconds=time.perf_counter() - start)


def _track(
    settings: Settings,
    table: pd.DataFrame,
    fingerprint: str,
    scores: pd.DataFrame,
    fitted: Fitted,
    bundle: Path,
) -> str:
    from .tracking import training_run

    config: Mapping[str, Any] = asdict(settings)
    with training_run(config, table, fingerprint) as run:
        run.log_figures("coefficients", fitted.coefficients.to_dict())
        run.log_figures("importances", importances(fitted))
        run.log_scores(scores)
        run.log_bundle(bundle)
        return run.run_id
