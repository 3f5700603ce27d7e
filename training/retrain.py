"""Retrain when benchmarks have landed: a challenger is fitted and judged, and takes over or does not.

Champion and challenger are judged as procedures, for a finished model cannot be asked about rows it has
learned: on the same folds, the champion's procedure (its settings) learns from the rows that the champion
had, the challenger's from these and the new ones, and both answer the same held-out groups with the same
physics. The rule of promotion is that of `training.judge`. Every step is recorded in MLflow.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
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
from . import crossfit, registry, tracking
from .fit import Sample, Settings, sample_of
from .judge import decide, judge, novelties, shift
from .model.bundle import load_bundle
from .registry import CHALLENGER, CHAMPION, KEPT, PROMOTED, number_of, version_of
from .splits import PROTOCOLS
from .tracking import Serving, TrainingRun, training_run
from .train import FOLDS, learn
from .trust import all_scores

# Of a protocol's errors. Two trainings that differ in nothing but the seed differ by up to 1.2 % there.
MARGIN = 0.03
NOTHING_NEW = "nothing new"


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


@dataclass(frozen=True, kw_only=True)
class _Table:
    """The table that is learned from; `new` marks the rows that the champion has not learned, shape (n,)."""

    rows: pd.DataFrame
    fingerprint: str
    new: NDArray[np.bool_]


def retrain(
    *,
    serving: Serving,
    shipped: Path,
    store: Path | None = None,
    folder: Path | None = None,
    margin: float = MARGIN,
    force: bool = False,
    settings: Settings | None = None,
    protocols: Sequence[str] = PROTOCOLS,
    n_folds: int = FOLDS,
    progress: Progress = silent,
) -> RetrainResult:
    """Train a challenger on the table in `store` and promote it if it is better; see the module.

    serving: how a registered model is served. shipped: the bundle that a registry without a champion adopts
    first. folder: MLflow store (None: ROOFCAST_MLRUNS or ./mlruns). margin: by what share of itself an error
    may grow. force: train although nothing is new, or this table was judged before. A run that was killed
    leaves the old champion or the new one, and the next run goes on from there. Raises BadStore for a table
    or registry that cannot be used.
    """
    start = time.perf_counter()
    if not 0 <= margin < 1:
        raise BadRequest("margin", margin, "0 or more, under 1")
    progress("opening the registry", 0.0)
    with registry.registry(folder) as place:
        _close_dead_runs()
        champion = version_of(CHAMPION) or _adopt(shipped, serving, place)
        rows, fingerprint = BenchmarkStore(store).snapshot()
        new = ~rows["row_id"].isin(registry.rows_of(champion)).to_numpy()
        table = _Table(rows=rows, fingerprint=fingerprint, new=new)
        result = _without_training(champion, table, place, force)
        if result is None:
            settings = settings or Settings()
            with training_run(asdict(settings), rows, fingerprint, folder=place, kind="retrain") as run:
                news = _news(run, table, champion, margin, place, progress)
                sample = sample_of(rows)
                learnt = learn(
                    sample, settings, protocols=protocols, n_folds=n_folds,
                    champion=_procedure(champion, sample, table), progress=within(progress, 0.03, 0.95),
                )  # fmt: skip
                progress("judging", 0.95)
                scores = all_scores(learnt.champion, bounds=False)
                judged = judge(scores, learnt.scores, set(rows["row_id"][new]))
                better, reason = decide(judged, margin)
                run.log_figures("judgement", figures := _figures(judged))
                learnt.log(run)
                run.log_rows(rows)
                progress("writing the challenger", 0.96)
                with TemporaryDirectory() as temporary:
                    bundle = learnt.save(Path(temporary) / "bundle", sample, fingerprint)
                    number = run.log_bundle(bundle, serving)
                result = RetrainResult(
                    decision=PROMOTED if better else KEPT, reason=reason, challenger=number,
                    champion=number if better else number_of(champion), new_rows=int(new.sum()), drift=news,
                    judgement=figures, run_id=run.run_id,
                )  # fmt: skip
                _register(result, champion, place, progress)
    progress("done", 1.0)
    return replace(result, seconds=time.perf_counter() - start)


def _close_dead_runs() -> None:
    """Mark as killed the retrainings that say they run: the registry's lock is ours, so they do not."""
    mlflow = tracking.mlflow_module()
    dead = mlflow.search_runs(
        experiment_names=[tracking.EXPERIMENT], output_format="list",
        filter_string="attributes.status = 'RUNNING' and tags.kind = 'retrain'",
    )  # fmt: skip
    for run in dead:
        mlflow.MlflowClient().set_terminated(run.info.run_id, status="KILLED")


def _adopt(bundle: Path, serving: Serving, place: Path) -> Any:
    """Register the shipped bundle as the first champion and return its version."""
    with as_file(files("roofcast.data").joinpath(TABLE_FILE)) as path:
        table, fingerprint = BenchmarkStore(path).snapshot()
    _, manifest = load_bundle(bundle)
    if manifest["data_fingerprint"] != fingerprint:
        raise BadStore("the shipped bundle is of another table than the shipped one: roofcast train first")
    with training_run(asdict(Settings()), table, fingerprint, folder=place, kind="adopt") as run:
        run.log_rows(table)
        registry.promote(run.log_bundle(bundle, serving), place)
    return version_of(CHAMPION)


def _without_training(champion: Any, table: _Table, place: Path, force: bool) -> RetrainResult | None:
    """Return the result that needs no training: a promotion to finish, a table judged before, nothing new."""
    challenger, current = version_of(CHALLENGER), number_of(champion)
    tags = challenger.tags if challenger and challenger.tags.get("judged_against") == current else {}
    number, new_rows = number_of(challenger), int(table.new.sum())
    if tags.get("decision") == PROMOTED:
        registry.promote(number, place)
        reason = f"a promotion that was interrupted is finished: {tags.get('reason')}"
        return RetrainResult(decision=PROMOTED, reason=reason, champion=number, challenger=number)
    if force:
        return None
    known = RetrainResult(decision=KEPT, reason="", champion=current, challenger=number, new_rows=new_rows)
    if tags.get("decision") == KEPT and tags.get("data.fingerprint") == table.fingerprint:
        again = f"this table was judged before: {tags.get('reason')} (--force trains again)"
        return replace(known, reason=again)
    if not new_rows:
        nothing = "the table has no row that the champion has not learned (--force trains again)"
        return replace(known, decision=NOTHING_NEW, reason=nothing, challenger=None)
    return None


def _news(
    run: TrainingRun, table: _Table, champion: Any, margin: float, place: Path, progress: Progress
) -> dict[str, Any]:
    """Record and return what is new, and how the new rows lie to the champion's answers on known ground."""
    progress("looking for drift", 0.02)
    rows = table.rows[table.new].reset_index(drop=True)
    news: dict[str, Any] = {"rows": len(rows), "new": novelties(table.rows, table.new), "shift": {}}
    try:
        model, _ = load_bundle(registry.bundle_of(number_of(champion), place))
        news["shift"] = shift(model, rows)
    except BadBundle as error:
        news["note"] = f"the champion cannot answer: {error}"
    tracking.mlflow_module().log_params({"margin": margin, "champion": number_of(champion)})
    run.log_figures("drift", news)
    return news


def _procedure(champion: Any, sample: Sample, table: _Table) -> crossfit.Procedure:
    """Return the champion's procedure: its settings, and the rows that it had."""
    path = registry.recorded(champion, tracking.SETTINGS_FILE)
    known = ~sample.table["row_id"].isin(table.rows["row_id"][table.new]).to_numpy()
    if not known.any():
        raise BadStore(
            "the table holds no row that the champion learned from: nothing to compare, train anew"
        )
    return crossfit.Procedure(settings=Settings(**json.loads(path.read_text("utf-8"))), rows=known)


def _figures(judged: pd.DataFrame) -> dict[str, dict[str, float]]:
    return {
        f"{row['part']}/{row['protocol']}/{row['metric']}": {
            name: round(float(row[name]), 3) for name in ("rows", "champion", "challenger")
        }
        for row in judged.to_dict("records")
    }


def _register(result: RetrainResult, champion: Any, place: Path, progress: Progress) -> None:
    """Make the new version the challenger, write down what was decided of it, and promote it if so."""
    mlflow, number = tracking.mlflow_module(), str(result.challenger)
    progress("registering the challenger", 0.97)
    mlflow.MlflowClient().set_registered_model_alias(tracking.MODEL_NAME, CHALLENGER, number)
    # The decision comes last: without it the next run trains anew.
    tags = {"judged_against": number_of(champion), "reason": result.reason, "decision": result.decision}
    registry.tag_version(number, tags)
    mlflow.set_tags(tags)
    progress(result.decision, 0.98)
    if result.decision == PROMOTED:
        registry.promote(number, place)
