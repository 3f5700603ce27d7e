"""MLflow tracking: one run per training, in a sqlite store whose artifacts lie beside it; its page.

The store is ./mlruns or the folder in ROOFCAST_MLRUNS. MLflow is imported when first used: it takes a second.
Which registered version is the champion is the matter of `training.registry`.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from ..data import errors
from ..features.frame import FRAME_VERSION
from . import metrics, plots

EXPERIMENT = "roofcast"
MODEL_NAME = "roofcast"
DATABASE = "mlflow.db"
ROWS_FILE = "rows.parquet"
SETTINGS_FILE = "settings.json"
SERVING_REQUIREMENTS = ("mlflow", "numpy", "pandas", "lightgbm")
SERVING_PACKAGES = ("data", "features", "predictor")
_NOT_SERVED = ("__pycache__", "*.parquet", "*.md", "bundle", "importer", "commands")
_TEXT_COLUMNS = (
    "model", "gpu", "platform", "engine", "engine_version", "date", "weight_precision", "kv_precision",
    "spec_decode", "mode",
)  # fmt: skip
EXAMPLE = {
    "model": ["qwen2.5-72b", "llama-3.3-70b"], "platform": ["hgx-b200", "hgx-h200"], "tp": [8, 4],
    "weight_precision": ["fp4", "fp8"], "engine": ["trtllm", "vllm"], "isl": [2048, 1000], "osl": [512, 1000],
    "concurrency": [32, 64],
}  # fmt: skip
TAGS = ("data.fingerprint", "data.digest", "data.rows", "frame.version", "roofcast.version")
LOGGED_FIGURES = (
    "rows", "unanswered", "blend_median_ape", "blend_mean_ape", "blend_p90_ape", "blend_bias",
    "baseline_median_ape", "coverage", "median_width",
)  # fmt: skip
LOGGED_SLICE_FIGURES = ("blend_median_ape", "coverage")
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_PAGE = {
    "mlflow.experimentKind": "custom_model_development"
}  # opens on the runs, not on language-model traces


def store_folder(folder: str | Path | None = None) -> Path:
    """The MLflow store: `folder`, else ROOFCAST_MLRUNS, else ./mlruns; absolute."""
    return Path(folder or os.environ.get("ROOFCAST_MLRUNS") or "mlruns").resolve()


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """An open run; every `log_` method adds to it."""

    run_id: str

    def log_parameters(self, config: Mapping[str, Any]) -> None:
        """Record settings; nested mappings become dotted names."""
        mlflow_module().log_params(_flat(config))

    def log_figures(
        self, prefix: str, figures: Mapping[str, Any], shown: Mapping[str, Any] | None = None
    ) -> None:
        """Record `figures` as `prefix`.json, and the finite numbers of `shown` as metrics `prefix/...`.

        shown: what is worth a metric (None: all of it).
        """
        mlflow = mlflow_module()
        mlflow.log_dict(dict(figures), f"{prefix}.json")
        flat = _flat(figures if shown is None else shown)
        numbers = {name: x for name, x in flat.items() if isinstance(x, (int, float))}
        _log_metrics(mlflow, {f"{prefix}/{_metric_name(name)}": float(x) for name, x in numbers.items()})

    def log_scores(self, scores: pd.DataFrame) -> None:
        """Record a scores frame: errors by protocol and metric, by slice, and the plots of each protocol.

        Metric names are `<protocol>/<metric>/<figure>` and `<protocol>/<metric>/<slice>/<value>/<figure>`.
        """
        mlflow = mlflow_module()
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

    def log_rows(self, table: pd.DataFrame) -> None:
        """Record which rows were learned from, so that a later run can tell the new ones."""
        with TemporaryDirectory() as temporary:
            table[["row_id"]].to_parquet(Path(temporary) / ROWS_FILE, compression="zstd", index=False)
            mlflow_module().log_artifact(str(Path(temporary) / ROWS_FILE))

    def log_bundle(self, bundle: Path) -> str:
        """Log the bundle folder, register it as the next version of model "roofcast", return that version.

        The model carries its signature, an example and the code that answers, so that it is served where
        roofcast is not installed. No alias is moved.
        """
        mlflow = mlflow_module()
        mlflow.log_artifacts(str(bundle), "bundle")
        path = list(sys.path)
        with TemporaryDirectory() as temporary:
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).parents[1] / "predictor" / "pyfunc_model.py"),
                artifacts={"bundle": str(bundle)},
                pip_requirements=[f"{name}=={version(name)}" for name in SERVING_REQUIREMENTS],
                code_paths=[_serving_code(Path(temporary) / "roofcast")],
                signature=signature(),
                input_example=pd.DataFrame(EXAMPLE),
                registered_model_name=MODEL_NAME,
            )
        sys.path[:] = path  # MLflow tried the example with a copy of the code that is gone now
        number = str(logged.registered_model_version)
        client, tags = mlflow.MlflowClient(), mlflow.get_run(self.run_id).data.tags
        for name in TAGS:
            client.set_model_version_tag(MODEL_NAME, number, name, tags[name])
        return number


def database_uri(folder: Path) -> str:
    """The address of the store's database, as MLflow wants it."""
    return f"sqlite:///{folder / DATABASE}"


@contextmanager
def open_store(folder: Path) -> Iterator[Path]:
    """Point MLflow at the store in `folder`, creating it and the experiment where they are missing.

    The addresses that were in force come back at the end.
    """
    mlflow = mlflow_module()
    folder.mkdir(parents=True, exist_ok=True)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(database_uri(folder))
    mlflow.set_registry_uri(database_uri(folder))
    try:
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            place = (folder / "artifacts").as_uri()
            mlflow.create_experiment(EXPERIMENT, artifact_location=place, tags=_PAGE)
        mlflow.set_experiment(EXPERIMENT)
        yield folder
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


@contextmanager
def training_run(
    config: Mapping[str, Any],
    table: pd.DataFrame,
    fingerprint: str,
    *,
    folder: str | Path | None = None,
    kind: str = "train",
) -> Iterator[TrainingRun]:
    """Open one run that records `config`, the table's MLflow digest, its `fingerprint`, and versions.

    kind: what is done (train, retrain, tune, adopt), a tag. A run whose block raises is kept and marked
    FAILED. MLflow's tracking address is put back afterwards.
    """
    mlflow = mlflow_module()
    name = f"{kind} {fingerprint[:8]}"
    with (
        open_store(store_folder(folder)),
        mlflow.start_run(run_name=name, tags={"kind": kind}) as active,
    ):
        run = TrainingRun(run_id=active.info.run_id)
        run.log_parameters(config)
        mlflow.log_dict(dict(config), SETTINGS_FILE)
        dataset = _log_table(mlflow, table)
        values = (fingerprint, dataset.digest, len(table), FRAME_VERSION, version("roofcast"))
        mlflow.set_tags(dict(zip(TAGS, values, strict=True)))
        yield run


def signature() -> Any:
    """The request columns that the registered model takes, all but the model optional, and what it answers.

    Numbers are declared as any type: MLflow's `double` refuses whole numbers in a frame, and its `boolean`
    turns a missing value into true.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import schema

    from ..predictor.predictor import ANSWER_COLUMNS, KNOWN_COLUMNS

    kinds = {"support": "string", "reason": "string", "feasible": "boolean"}
    anything: Any = schema.AnyType
    asked = [
        schema.ColSpec("string" if name in _TEXT_COLUMNS else anything(), name, required=name == "model")
        for name in KNOWN_COLUMNS
    ]
    answered = [schema.ColSpec(kinds.get(name, "double"), name) for name in ANSWER_COLUMNS]
    return ModelSignature(schema.Schema([*asked]), schema.Schema([*answered]))


def ui_command(folder: str | Path | None = None, *, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
    """The command that serves the store's MLflow page. Raises BadStore where there is no store."""
    place = store_folder(folder)
    if not (place / DATABASE).is_file():
        raise errors.BadStore(f"no MLflow store in {place} (set ROOFCAST_MLRUNS or train first)")
    if not 0 < port < 65536:
        raise errors.BadRequest("port", port, "1 to 65535")
    options = [
        "--backend-store-uri",
        database_uri(place),
        "--host",
        host,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    return [sys.executable, "-m", "mlflow", "ui", *options]


def download_bundle(uri: str, *, folder: str | Path | None = None) -> Path:
    """The bundle folder of a registered model ("models:/roofcast@champion", "models:/roofcast/3") or a run's.

    Raises BadBundle with the reason if there is no store, no such version, or no bundle in it.
    """
    place = store_folder(folder)
    if not (place / DATABASE).is_file():
        raise errors.BadBundle(f"{uri}: no MLflow store in {place} (set ROOFCAST_MLRUNS or train first)")
    mlflow = mlflow_module()
    with open_store(place):
        try:
            found = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
        except (mlflow.exceptions.MlflowException, OSError) as error:
            raise errors.BadBundle(f"{uri}: {error}") from error
    manifests = sorted(found.rglob("manifest.json"))
    if not manifests:
        raise errors.BadBundle(f"{uri}: holds no roofcast bundle (no manifest.json)")
    return manifests[0].parent


def mlflow_module() -> Any:
    """MLflow, imported late and kept quiet: no telemetry, no bars, no word unless it is a warning."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow

    return mlflow


def _serving_code(target: Path) -> str:
    """Copy the packages that a prediction needs to `target` and return it, as MLflow wants it."""
    for name in SERVING_PACKAGES:
        with as_file(files(f"roofcast.{name}")) as package:
            shutil.copytree(package, target / name, ignore=shutil.ignore_patterns(*_NOT_SERVED))
    return str(target)


def _log_table(mlflow: Any, table: pd.DataFrame) -> Any:
    """Record the table as the run's input; MLflow digests its first 10,000 rows, the fingerprint all."""
    with warnings.catch_warnings():
        # It guesses a schema for serving and warns of integers: nobody serves the table.
        warnings.simplefilter("ignore")
        dataset = mlflow.data.from_pandas(table, name="benchmarks")
        mlflow.log_input(dataset, context="training")
    return dataset


def _log_metrics(mlflow: Any, values: Mapping[str, float]) -> None:
    mlflow.log_metrics({name: value for name, value in values.items() if math.isfinite(value)})


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
