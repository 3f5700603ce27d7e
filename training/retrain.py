"""Retrain when benchmarks have landed: a challenger is fitted and judged, and takes over or does not.

Both are judged as procedures, for a finished model cannot be asked about rows it has learned: on the same
folds, the champion's settings learn from the rows that it had, the challenger's from these and the new ones,
and both answer the same held-out groups with the same physics; the rule is that of `training.judge`.
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
from . import registry, tracking
from .crossfit import Procedure
from .fit import Settings, sample_of
from .judge import decide, judge, novelties, shift
from .model.bundle import load_bundle
from .registry import CHALLENGER, CHAMPION, KEPT, PROMOTED, number_of, version_of
from .splits import PROTOCOLS
from .tracking import Serving, training_run
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


def _procedure(champion: Any, known: NDArray[np.bool_]) -> Procedure:
    """Return how the champion was trained, on the rows that it knew. Raises BadStore where there are none."""
    if not known.any():
        raise BadStore("the table holds no row that the champion learned from: train anew")
    path = registry.recorded(champion, tracking.SETTINGS_FILE)
    return Procedure(settings=Settings(**json.loads(path.read_text("utf-8"))), rows=known)


def retrain(
    *, serving: Serving, shipped: Path, store: Path | None = None, folder: Path | None = None,
    margin: float = MARGIN, force: bool = False, settings: Settings | None = None,
    protocols: Sequence[str] = PROTOCOLS, n_folds: int = FOLDS, progress: Progress = silent,
) -> RetrainResult:  # fmt: skip
    """Train a challenger on the table in `store` and promote it if it is better; see the module.

    shipped: the bundle that a registry without a champion adopts first. folder: MLflow store (None:
    ROOFCAST_MLRUNS or ./mlruns). margin: by what share of itself an error may grow. force: train although
    nothing is new, or this table was judged before. A killed run leaves the old champion or the new one, and
    the next goes on from there. Raises BadStore for a table or registry that cannot be used.
    """
    start = time.perf_counter()
    if not 0 <= margin < 1:
        raise BadRequest("margin", margin, "0 or more, under 1")
    progress("opening the registry", 0.0)
    with registry.registry(folder) as place:
        mlflow = tracking.mlflow_module()
        # The registry's lock is ours: retrainings that say they run are dead.
        running = "attributes.status = 'RUNNING' and tags.kind = 'retrain'"
        for run in mlflow.search_runs(None, running, output_format="list"):
            mlflow.MlflowClient().set_terminated(run.info.run_id, status="KILLED")
        champion = version_of(CHAMPION) or _adopt(shipped, serving, place)
        rows, fingerprint = BenchmarkStore(store).snapshot()
        learned = pd.read_parquet(registry.recorded(champion, tracking.ROWS_FILE))["row_id"].astype(str)
        new = rows["row_id"][~rows["row_id"].isin(learned)]
        result = _without_training(champion, fingerprint, len(new), place, force)
        if result is None:
            result = _challenge(
                rows, fingerprint, new, champion, settings or Settings(), serving, place, margin, progress,
                protocols=protocols, n_folds=n_folds,
            )  # fmt: skip
    progress("done", 1.0)
    return replace(result, seconds=time.perf_counter() - start)


def _challenge(
    rows: pd.DataFrame, fingerprint: str, new: pd.Series[Any], champion: Any, settings: Settings,
    serving: Serving, place: Path, margin: float, progress: Progress, **folds: Any,
) -> RetrainResult:  # fmt: skip
    """Train a challenger on all rows, judge it against the champion's procedure, promote the better one."""
    mlflow = tracking.mlflow_module()
    with training_run(asdict(settings), rows, fingerprint, folder=place, kind="retrain") as run:
        progress("looking for drift", 0.02)
        news = _news(rows, rows["row_id"].isin(new).to_numpy(), place)
        mlflow.log_params({"margin": margin, "champion": number_of(champion)})
        run.log_figures("drift", news)
        sample = sample_of(rows)
        learnt = learn(
            sample, settings, **folds,
            champion=_procedure(champion, ~sample.table["row_id"].isin(new).to_numpy()),
            progress=within(progress, 0.03, 0.95),
        )  # fmt: skip
        progress("judging", 0.95)
        scores = all_scores(learnt.champion, bounds=False)
        judged = judge(scores, learnt.scores, set(new))
        better, reason = decide(judged, margin)
        figures = judged.set_index(judged["part"].str.cat(judged[["protocol", "metric"]], sep="/"))
        errors = figures[["rows", "champion", "challenger"]].round(3).astype(float).to_dict("index")
        judgement = {str(name): {str(k): v for k, v in row.items()} for name, row in errors.items()}
        run.log_figures("judgement", judgement)
        learnt.log(run)
        run.log_rows(rows)
        progress("writing the challenger", 0.96)
        with TemporaryDirectory() as temporary:
            bundle = learnt.save(Path(temporary) / "bundle", sample, fingerprint)
            number = run.log_bundle(bundle, serving)
        result = RetrainResult(
            decision=PROMOTED if better else KEPT, reason=reason, challenger=number,
            champion=number if better else number_of(champion), new_rows=len(new), drift=news,
            judgement=judgement, run_id=run.run_id,
        )  # fmt: skip
        progress("registering the challenger", 0.97)
        mlflow.MlflowClient().set_registered_model_alias(tracking.MODEL_NAME, CHALLENGER, number)
        # The decision comes last: without it the next run trains anew.
        tags = {"judged_against": number_of(champion), "reason": reason, "decision": result.decision}
        registry.tag_version(number, tags)
        mlflow.set_tags(tags)
        progress(result.decision, 0.98)
        if better:
            registry.promote(number, place)
    return result


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


def _without_training(
    champion: Any, fingerprint: str, new_rows: int, place: Path, force: bool
) -> RetrainResult | None:
    """Return the result that needs no training: a promotion to finish, a table judged before, nothing new."""
    challenger, current = version_of(CHALLENGER), number_of(champion)
    tags = challenger.tags if challenger and challenger.tags.get("judged_against") == current else {}
    number = number_of(challenger)
    if tags.get("decision") == PROMOTED:
        registry.promote(number, place)
        reason = f"a promotion that was interrupted is finished: {tags.get('reason')}"
        return RetrainResult(decision=PROMOTED, reason=reason, champion=number, challenger=number)
    if force:
        return None
    known = RetrainResult(decision=KEPT, reason="", champion=current, challenger=number, new_rows=new_rows)
    if tags.get("decision") == KEPT and tags.get("data.fingerprint") == fingerprint:
        again = f"this table was judged before: {tags.get('reason')} (--force trains again)"
        return replace(known, reason=again)
    if not new_rows:
        nothing = "the table has no row that the champion has not learned (--force trains again)"
        return replace(known, decision=NOTHING_NEW, reason=nothing, challenger=None)
    return None


def _news(rows: pd.DataFrame, new: NDArray[np.bool_], place: Path) -> dict[str, Any]:
    """Return what is new, and how the new rows, (n,), lie to the champion's answers on known ground."""
    news: dict[str, Any] = {"rows": int(new.sum()), "new": novelties(rows, new), "shift": {}}
    try:
        bundle = tracking.download_bundle(f"models:/{tracking.MODEL_NAME}@{CHAMPION}", folder=place)
        news["shift"] = shift(load_bundle(bundle)[0], rows[new].reset_index(drop=True))
    except BadBundle as error:
        news["note"] = f"the champion cannot answer: {error}"
    return news
