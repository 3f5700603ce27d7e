"""MLflow tracking and registry: one run per training, in a sqlite store whose artifacts lie beside it.

The store is ./mlruns or the folder in ROOFCAST_MLRUNS. MLflow is imported when first used: it takes a second.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from ..data import errors
from . import metrics, plots

EXPERIMENT = "roofcast"
MODEL_NAME = "roofcast"
CHAMPION = "champion"
SERVING_REQUIREMENTS = ("mlflow", "numpy", "pandas", "lightgbm")
LOGGED_FIGURES = (
    "rows", "unanswered", "blend_median_ape", "blend_mean_ape", "blend_p90_ape", "blend_bias",
    "baseline_median_ape", "coverage", "median_width",
)  # fmt: skip
LOGGED_SLICE_FIGURES = ("rows", "blend_median_ape", "coverage")
# The most that one log_batch call of MLflow takes.
METRIC_BATCH, PARAMETER_BATCH = 1000, 100


def store_folder(folder: str | Path | None = None) -> Path:
    """The MLflow store: `folder`, else ROOFCAST_MLRUNS, else ./mlruns; absolute."""
    return Path(folder or os.environ.get("ROOFCAST_MLRUNS") or "mlruns").resolve()


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """An open run; every `log_` method adds to it."""

    run_id: str
    folder: Path

    def log_parameters(self, config: Mapping[str, Any]) -> None:
        """Record settings; nested mappings become dotted names."""
        mlflow = _mlflow()
        values = list(_flat(config).items())
        for start in range(0, len(values), PARAMETER_BATCH):
            mlflow.log_params(dict(values[start : start + PARAMETER_BATCH]))

    def log_figures(self, prefix: str, figures: Mapping[str, Any]) -> None:
        """Record the finite numbers in `figures` as metrics `prefix/...` and all of it as `prefix`.json."""
        mlflow = _mlflow()
        mlflow.log_dict(dict(figures), f"{prefix}.json")
        numbers = {name: x for name, x in _flat(figures).items() if isinstance(x, (int, float))}
        _log_metrics(mlflow, {f"{prefix}/{_metric_name(name)}": float(x) for name, x in numbers.items()})

    def log_scores(self, scores: pd.DataFrame) -> None:
        """Record a scores frame: errors by protocol and metric, by slice, and the plots of each protocol.

        Metric names are `<protocol>/<metric>/<figure>` and `<protocol>/<metric>/<slice>/<value>/<figure>`.
        """
        mlflow = _mlflow()
        overall, sliced = metrics.summarise(scores), metrics.slices(scores)
        values = _named(overall, ["protocol", "metric"], [c for c in LOGGED_FIGURES if c in overall])
        values |= _named(sliced, ["protocol", "metric", "slice", "value"], list(LOGGED_SLICE_FIGURES))
        _log_metrics(mlflow, values)
        with TemporaryDirectory() as temporary:
            for protocol in scores["protocol"].unique():
                folder = Path(temporary) / str(protocol)
                plots.predicted_against_measured(scores, folder / "predicted_against_measured.png", protocol)
                plots.residuals(scores, folder / "residuals.png", protocol)
            overall.to_csv(Path(temporary) / "errors.csv", index=False)
            sliced.to_csv(Path(temporary) / "errors_by_slice.csv", index=False)
            mlflow.log_artifacts(temporary, "accuracy")

    def log_bundle(self, bundle: Path, *, alias: str | None = CHAMPION) -> str:
        """Log the bundle folder, register it as the next version of model "roofcast" and return that version.

        `alias` is moved to the new version (None: left where it is).
        """
        mlflow = _mlflow()
        mlflow.log_artifacts(str(bundle), "bundle")
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"bundle": str(bundle)},
            pip_requirements=[f"{name}=={version(name)}" for name in SERVING_REQUIREMENTS],
            registered_model_name=MODEL_NAME,
        )
        number = str(logged.registered_model_version)
        if alias:
            mlflow.MlflowClient().set_registered_model_alias(MODEL_NAME, alias, number)
        return number


@contextmanager
def open_store(folder: Path) -> Iterator[Path]:
    """Point MLflow at the store in `folder`, creating it and the experiment where they are missing.

    The addresses that were in force come back at the end.
    """
    mlflow = _mlflow()
    folder.mkdir(parents=True, exist_ok=True)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_registry_uri(f"sqlite:///{folder / 'mlflow.db'}")
    try:
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            mlflow.create_experiment(EXPERIMENT, artifact_location=(folder / "artifacts").as_uri())
        mlflow.set_experiment(EXPERIMENT)
        yield folder
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


@contextmanager
def training_run(
    config: Mapping[str, Any], table: pd.DataFrame, fingerprint: str, *, folder: str | Path | None = None
) -> Iterator[TrainingRun]:
    """Open one run that records `config`, the table's MLflow digest and its `fingerprint`.

    A run whose block raises is kept and marked FAILED. MLflow's tracking address is put back afterwards.
    """
    mlflow = _mlflow()
    with open_store(store_folder(folder)) as place, mlflow.start_run() as active:
        run = TrainingRun(run_id=active.info.run_id, folder=place)
        run.log_parameters(config)
        dataset = _log_table(mlflow, table)
        tags = {"data.fingerprint": fingerprint, "data.digest": dataset.digest, "data.rows": len(table)}
        mlflow.set_tags(tags)
        yield run


def download_bundle(uri: str, *, folder: str | Path | None = None) -> Path:
    """The bundle folder of a registered model ("models:/roofcast@champion", "models:/roofcast/3") or a run's.

    Raises BadBundle with the reason if there is no store, no such version, or no bundle in it.
    """
    place = store_folder(folder)
    if not (place / "mlflow.db").is_file():
        raise errors.BadBundle(f"{uri}: no MLflow store in {place} (set ROOFCAST_MLRUNS or train first)")
    mlflow = _mlflow()
    with open_store(place):
        try:
            found = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
        except (mlflow.exceptions.MlflowException, OSError) as error:
            raise errors.BadBundle(f"{uri}: {error}") from error
    manifests = sorted(found.rglob("manifest.json"))
    if not manifests:
        raise errors.BadBundle(f"{uri}: holds no roofcast bundle (no manifest.json)")
    return manifests[0].parent


def _mlflow() -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    return mlflow


def _log_table(mlflow: Any, table: pd.DataFrame) -> Any:
    """Record the table as the run's input; MLflow digests its first 10,000 rows, the fingerprint all."""
    with warnings.catch_warnings():
        # It guesses a schema for serving and warns of integers: nobody serves the table.
        warnings.simplefilter("ignore")
        dataset = mlflow.data.from_pandas(table, name="benchmarks")
        mlflow.log_input(dataset, context="training")
    return dataset


def _log_metrics(mlflow: Any, values: Mapping[str, float]) -> None:
    finite = [(name, value) for name, value in values.items() if math.isfinite(value)]
    for start in range(0, len(finite), METRIC_BATCH):
        mlflow.log_metrics(dict(finite[start : start + METRIC_BATCH]))


def _named(frame: pd.DataFrame, keys: list[str], figures: list[str]) -> dict[str, float]:
    named = {}
    for row in frame.to_dict("records"):
        prefix = "/".join(_metric_name(str(row[key]) or "unknown") for key in keys)
        named.update({f"{prefix}/{figure}": float(row[figure]) for figure in figures})
    return named


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _metric_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "_-./" else "_" for c in text)
