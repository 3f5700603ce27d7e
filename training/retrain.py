"""Retrain when benchmarks have landed: a challenger is fitted and judged, and takes over or does not.

Champion and challenger are judged as procedures, for a finished model cannot be asked about rows it has
learned: on the same folds, the champion's procedure (its settings) learns from the rows that the champion
had, the challenger's from these and the new ones, and both answer the same held-out groups with the same
physics. The challenger is promoted if no protocol gets worse by more than a margin, neither over all rows nor
over those the champion knew, and the new rows get better. Every step is recorded in MLflow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.errors import BadBundle, BadRequest, BadStore
from ..data.progress import Progress, silent, within
from ..data.store import TABLE_FILE, BenchmarkStore
from . import crossfit, drift
from .learner import Sample, Settings, sample_of
from .model.bundle import load_bundle
from .registry import (
    CHALLENGER,
    CHAMPION,
    KEPT,
    PROMOTED,
    number_of,
    promote,
    registry,
    rows_of,
    tag_version,
    version_of,
)
from .tracking import (
    EXPERIMENT,
    MODEL_NAME,
    SETTINGS_FILE,
    TrainingRun,
    download_bundle,
    mlflow_module,
    training_run,
)
from .train import FOLDS, learn

# Of a protocol's errors. Two trainings that differ in nothing but the seed differ by up to 1.2 % there.
MARGIN = 0.03
FEWEST_JUDGED = 30  # rows; a protocol's metric with fewer is shown but does not decide
NOTHING_NEW = "nothing new"
_MEASURE = ["row_id", "protocol", "metric"]


@dataclass(frozen=True, kw_only=True)
class RetrainResult:
    """What was decided and why, versions in the registry, what is new, errors [%] by part/protocol/metric."""

    decision: str
    reason: str
    champion: str
    challenger: str | None = None
    new_rows: int = 0
    drift: dict[str, Any] = field(default_factory=dict)
    judgement: dict[str, dict[str, float]] = field(default_factory=dict)
    run_id: str | None = None
    seconds: float = 0.0


def retrain(
    *,
    store: Path | None = None,
    folder: Path | None = None,
    margin: float = MARGIN,
    force: bool = False,
    settings: Settings | None = None,
    protocols: Sequence[str] = crossfit.TAUGHT_BY,
    n_folds: int = FOLDS,
    progress: Progress = silent,
) -> RetrainResult:
    """Train a challenger on the table in `store` and promote it if it is better; see the module.

    folder: MLflow store (None: ROOFCAST_MLRUNS or ./mlruns). margin: by what share of itself an error may
    grow. force: train although nothing is new, or this table was judged before. A registry without a
    champion adopts the shipped bundle first. A run that was killed leaves the old champion or the new one,
    and the next run goes on from there. Raises BadStore for a table or registry that cannot be used.
    """
    start = time.perf_counter()
    if not 0 <= margin < 1:
        raise BadRequest("margin", margin, "0 or more, under 1")
    progress("opening the registry", 0.0)
    with registry(folder) as place:
        _close_dead_runs()
        champion = version_of(CHAMPION) or _adopt(place)
        table, fingerprint = BenchmarkStore(store).snapshot()
        new = ~table["row_id"].isin(rows_of(champion)).to_numpy()
        result = _known_outcome(champion, fingerprint, int(new.sum()), place, force)
        if result is None:
            settings = settings or Settings()
            with training_run(asdict(settings), table, fingerprint, folder=place, kind="retrain") as run:
                task = _Task(
                    run=run, place=place, champion=champion, table=table, fingerprint=fingerprint, new=new,
                    settings=settings, protocols=protocols, n_folds=n_folds, margin=margin, tell=progress,
                )  # fmt: skip
                result = _challenge(task)
    progress("done", 1.0)
    return RetrainResult(**{**vars(result), "seconds": time.perf_counter() - start})


@dataclass(frozen=True, kw_only=True)
class _Task:
    """All that one retraining works on; `new` marks the rows that the champion has not learned."""

    run: TrainingRun
    place: Path
    champion: Any
    table: pd.DataFrame
    fingerprint: str
    new: NDArray[np.bool_]
    settings: Settings
    protocols: Sequence[str]
    n_folds: int
    margin: float
    tell: Progress


def _challenge(task: _Task) -> RetrainResult:
    """Drift, cross-fits of both, judgement, registration, decision: each recorded before the next begins."""
    mlflow, run, tell = mlflow_module(), task.run, task.tell
    tell("looking for drift", 0.02)
    news = _drift(task)
    run.log_parameters({"margin": task.margin, "champion": number_of(task.champion)})
    run.log_figures("drift", news)
    sample = sample_of(task.table)
    learnt = learn(
        sample, task.settings, protocols=task.protocols, n_folds=task.n_folds, former=_former(task, sample),
        progress=within(tell, 0.03, 0.95),
    )  # fmt: skip
    tell("judging", 0.95)
    old_scores = crossfit.point_scores(learnt.former)
    judged = judge(old_scores, learnt.scores, set(task.table["row_id"][task.new]))
    better, reason = decide(judged, task.margin)
    run.log_figures("judgement", figures := _figures(judged))
    learnt.log(run)
    run.log_rows(task.table)
    tell("writing the challenger", 0.96)
    with TemporaryDirectory() as temporary:
        number = run.log_bundle(learnt.save(Path(temporary) / "bundle", sample, task.fingerprint))
    decision = PROMOTED if better else KEPT
    tell("registering the challenger", 0.97)
    mlflow.MlflowClient().set_registered_model_alias(MODEL_NAME, CHALLENGER, number)
    # The decision comes last: without it the next run trains anew.
    tags = {"judged_against": number_of(task.champion), "reason": reason, "decision": decision}
    tag_version(number, tags)
    mlflow.set_tags(tags)
    tell(decision, 0.98)
    if better:
        promote(number, task.place)
    return RetrainResult(
        decision=decision, reason=reason, champion=number if better else number_of(task.champion),
        challenger=number, new_rows=int(task.new.sum()), drift=news, judgement=figures, run_id=run.run_id,
    )  # fmt: skip


def _drift(task: _Task) -> dict[str, Any]:
    """Return what is new, and how the new rows lie to the champion's answers where it should know."""
    rows = task.table[task.new].reset_index(drop=True)
    news: dict[str, Any] = {"rows": len(rows), "new": drift.novelties(task.table, task.new)}
    uri = f"models:/{MODEL_NAME}/{task.champion.version}"
    try:
        model, _ = load_bundle(download_bundle(uri, folder=task.place))
    except BadBundle as error:
        return {**news, "shift": {}, "note": f"the champion cannot answer: {error}"}
    return {**news, "shift": drift.shift(model, rows)}


def _former(task: _Task, sample: Sample) -> crossfit.Former:
    """Return the champion's procedure: its settings, and the rows that it had."""
    path = mlflow_module().artifacts.download_artifacts(
        run_id=task.champion.run_id, artifact_path=SETTINGS_FILE
    )
    settings = Settings(**json.loads(Path(path).read_text("utf-8")))
    known = ~sample.table["row_id"].isin(task.table["row_id"][task.new]).to_numpy()
    if not known.any():
        raise BadStore(
            "the table holds no row that the champion learned from: nothing to compare, train anew"
        )
    return crossfit.Former(settings=settings, rows=known)


def judge(champion: pd.DataFrame, challenger: pd.DataFrame, new: set[str]) -> pd.DataFrame:
    """Return median errors [%] of two scores frames by part (all, known, new), protocol and metric."""
    kept = [*_MEASURE, "measured", "blend"]
    both = champion[kept].merge(challenger[[*_MEASURE, "blend"]], on=_MEASURE, suffixes=("_champion", ""))
    for name, column in (("champion", "blend_champion"), ("challenger", "blend")):
        both[name] = 100 * (both[column] / both["measured"] - 1).abs()
    both = both.dropna(subset=["champion", "challenger"])
    fresh = both["row_id"].isin(new)
    parts = {"all": both, "known": both[~fresh], "new": both[fresh]}
    by = ["protocol", "metric"]
    tables = [
        rows.groupby(by, sort=False)
        .agg(rows=("row_id", "size"), champion=("champion", "median"), challenger=("challenger", "median"))
        .reset_index()
        .assign(part=part)
        for part, rows in parts.items()
        if len(rows)
    ]
    return pd.concat(tables, ignore_index=True)


def decide(judged: pd.DataFrame, margin: float) -> tuple[bool, str]:
    """Return whether the challenger takes over, and why; `judged` as from `judge`.

    A protocol's change is the geometric mean over its metrics of challenger / champion.
    """
    ratio = np.maximum(judged["challenger"], 1e-6) / np.maximum(judged["champion"], 1e-6)
    rows = judged.assign(log=np.log(ratio))
    new = rows[rows["part"] == "new"]
    binding = rows[(rows["part"] != "new") & (rows["rows"] >= FEWEST_JUDGED)]
    changes = np.exp(binding.groupby(["part", "protocol"])["log"].mean())
    if len(changes) and changes.max() > 1 + margin:
        part, protocol = changes.idxmax()
        here = binding[(binding["part"] == part) & (binding["protocol"] == protocol)]
        errors = "; ".join(
            f"{metric} {before:.1f} % to {after:.1f} %"
            for metric, before, after in zip(
                here["metric"], here["champion"], here["challenger"], strict=True
            )
        )
        return False, (
            f"protocol {protocol} gets worse on {part} rows by a factor of {changes.max():.3f}, "
            f"the margin is {1 + margin:g}: {errors}"
        )
    if not len(new):
        return False, "no new row has a measurement that both can answer"
    gain = float(np.exp(new["log"].mean()))
    if gain >= 1:
        return False, f"the new rows get no better: their errors change by a factor of {gain:.3f}"
    return True, f"the errors of the new rows change by a factor of {gain:.3f}, no protocol gets worse"


def _figures(judged: pd.DataFrame) -> dict[str, dict[str, float]]:
    return {
        f"{row['part']}/{row['protocol']}/{row['metric']}": {
            name: round(float(row[name]), 3) for name in ("rows", "champion", "challenger")
        }
        for row in judged.to_dict("records")
    }


def _known_outcome(
    champion: Any, fingerprint: str, new_rows: int, place: Path, force: bool
) -> RetrainResult | None:
    """Return the result that needs no training: a promotion to finish, a table judged before, nothing new."""
    challenger, current = version_of(CHALLENGER), number_of(champion)
    tags = challenger.tags if challenger and challenger.tags.get("judged_against") == current else {}
    number = number_of(challenger)
    if tags.get("decision") == PROMOTED:
        promote(number, place)
        reason = f"a promotion that was interrupted is finished: {tags.get('reason')}"
        return RetrainResult(decision=PROMOTED, reason=reason, champion=number, challenger=number)
    if force:
        return None
    if tags.get("decision") == KEPT and tags.get("data.fingerprint") == fingerprint:
        reason = f"this table was judged before: {tags.get('reason')} (--force trains again)"
        return RetrainResult(
            decision=KEPT, reason=reason, champion=current, challenger=number, new_rows=new_rows
        )
    if not new_rows:
        reason = "the table has no row that the champion has not learned (--force trains again)"
        return RetrainResult(decision=NOTHING_NEW, reason=reason, champion=current)
    return None


def _adopt(place: Path) -> Any:
    """Register the shipped bundle as the first champion and return its version."""
    with (
        as_file(files("roofcast.predictor").joinpath("bundle")) as bundle,
        as_file(files("roofcast.data").joinpath(TABLE_FILE)) as path,
    ):
        table, fingerprint = BenchmarkStore(path).snapshot()
        _, manifest = load_bundle(bundle)
        if manifest["data_fingerprint"] != fingerprint:
            raise BadStore(
                "the shipped bundle is of another table than the shipped one: roofcast train first"
            )
        with training_run(asdict(Settings()), table, fingerprint, folder=place, kind="adopt") as run:
            run.log_rows(table)
            promote(run.log_bundle(bundle), place)
    return version_of(CHAMPION)


def _close_dead_runs() -> None:
    """Mark as killed the retrainings that say they run: the registry's lock is ours, so they do not."""
    mlflow = mlflow_module()
    dead = mlflow.search_runs(
        experiment_names=[EXPERIMENT],
        filter_string="attributes.status = 'RUNNING' and tags.kind = 'retrain'",
        output_format="list",
    )
    for run in dead:
        mlflow.MlflowClient().set_terminated(run.info.run_id, status="KILLED")
