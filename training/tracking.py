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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from ..data import errors
from ..data.columns import ASKED, COLUMNS
from ..features.frame import FRAME_VERSION

EXPERIMENT = "roofcast"
MODEL_NAME = "roofcast"
DATABASE = "mlflow.db"
ROWS_FILE = "rows.parquet"
SETTINGS_FILE = "settings.json"
SERVING_REQUIREMENTS = ("mlflow", "numpy", "pandas", "lightgbm")
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
_PAGE = {"mlflow.experimentKind": "custom_model_development"}  # opens on runs, not on language-model traces
_NOT_SERVED = ("__pycache__", "*.parquet", "*.md", "bundle", "build", "commands")


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How a registered model answers where roofcast is not installed.

    code: MLflow's model from code; packages: what it imports, dotted; answered: the columns that it answers,
    with MLflow's type of each; example: a request. It takes the columns that can be asked.
    """

    code: Path
    packages: Sequence[str]
    answered: Mapping[str, str]
    example: Mapping[str, Sequence[Any]]

    def signature(self) -> Any:
        """Return the columns as MLflow declares them, all but the model optional.

        Numbers are declared as any type: MLflow's `double` refuses whole numbers in a frame, and its
        `boolean` turns a missing value into true.
        """
        from mlflow.models import ModelSignature
        from mlflow.types import schema

        anything: Any = schema.AnyType
        asked = [
            schema.ColSpec("string" if COLUMNS[name].is_text else anything(), name, required=name == "model")
            for name in ASKED
        ]
        answered = [schema.ColSpec(kind, name) for name, kind in self.answered.items()]
        return ModelSignature(schema.Schema([*asked]), schema.Schema([*answered]))

    def copy_code(self, target: Path) -> str:
        """Copy the packages to `target` and return it, as MLflow wants it."""
        for name in self.packages:
            with as_file(files(name)) as package:
                place = target.joinpath(*name.split(".")[1:])
                shutil.copytree(package, place, ignore=shutil.ignore_patterns(*_NOT_SERVED))
        return str(target)


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """An open run; every `log_` method adds to it."""

    run_id: str

    def log_figures(
        self, prefix: str, figures: Mapping[str, Any], shown: Mapping[str, Any] | None = None
    ) -> None:
        """Record `figures` as `prefix`.json, and the finite numbers of `shown` as metrics `prefix/...`.

        shown: what is worth a metric (None: all of it).
        """
        mlflow_module().log_dict(dict(figures), f"{prefix}.json")
        flat = _flat(figures if shown is None else shown)
        _log_metrics({f"{prefix}/{k}": float(x) for k, x in flat.items() if isinstance(x, (int, float))})

    def log_scores(self, scores: pd.DataFrame) -> None:
        """Record a scores frame: errors by protocol and metric, by slice, and the plots of each protocol.

        Metric names are `<protocol>/<metric>/<figure>` and `<protocol>/<metric>/<slice>/<value>/<figure>`.
        """
        from . import metrics, report

        overall, sliced = metrics.summarise(scores), metrics.slices(scores)
        _log_metrics(_named(overall, ["protocol", "metric"], [c for c in LOGGED_FIGURES if c in overall]))
        _log_metrics(_named(sliced, ["protocol", "metric", "slice", "value"], LOGGED_SLICE_FIGURES))
        with TemporaryDirectory() as temporary:
            for protocol in scores["protocol"].unique():
                folder = Path(temporary) / str(protocol)
                report.draw_predictions(scores, folder / "predicted_against_measured.png", protocol)
                report.draw_residuals(scores, folder / "residuals.png", protocol)
            overall.to_csv(Path(temporary) / "errors.csv", index=False)
            sliced.to_csv(Path(temporary) / "errors_by_slice.csv", index=False)
            mlflow_module().log_artifacts(temporary, "accuracy")

    def log_rows(self, table: pd.DataFrame) -> None:
        """Record which rows were learned from, so that a later run can tell the new ones."""
        with TemporaryDirectory() as temporary:
            table[["row_id"]].to_parquet(Path(temporary) / ROWS_FILE, compression="zstd", index=False)
            mlflow_module().log_artifact(str(Path(temporary) / ROWS_FILE))

    def log_bundle(self, bundle: Path, serving: Serving) -> str:
        """Log the bundle folder, register it as the next version of model "roofcast", return that version.

        The model carries its signature, an example and the code that answers. No alias is moved.
        """
        mlflow = mlflow_module()
        mlflow.log_artifacts(str(bundle), "bundle")
        path = list(sys.path)
        with TemporaryDirectory() as temporary:
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(serving.code),
                artifacts={"bundle": str(bundle)},
                pip_requirements=[f"{name}=={version(name)}" for name in SERVING_REQUIREMENTS],
                code_paths=[serving.copy_code(Path(temporary) / "roofcast")],
                signature=serving.signature(),
                input_example=pd.DataFrame(serving.example),
                registered_model_name=MODEL_NAME,
            )
        sys.path[:] = path  # MLflow tried the example with a copy of the code that is gone now
        number = str(logged.registered_model_version)
        client, tags = mlflow.MlflowClient(), mlflow.get_run(self.run_id).data.tags
        for name in TAGS:
            client.set_model_version_tag(MODEL_NAME, number, name, tags[name])
        return number


def store_folder(folder: str | Path | None = None) -> Path:
    """Return the MLflow store: `folder`, else ROOFCAST_MLRUNS, else ./mlruns; absolute."""
    return Path(folder or os.environ.get("ROOFCAST_MLRUNS") or "mlruns").resolve()


def database_uri(folder: Path) -> str:
    """Return the address of the store's database, as MLflow wants it."""
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
    with open_store(store_folder(folder)), mlflow.start_run(run_name=name, tags={"kind": kind}) as active:
        mlflow.log_params(_flat(config))
        mlflow.log_dict(dict(config), SETTINGS_FILE)
        with warnings.catch_warnings():
            # It guesses a schema for serving and warns of integers: nobody serves the table.
            warnings.simplefilter("ignore")
            dataset = mlflow.data.from_pandas(table, name="benchmarks")
            mlflow.log_input(dataset, context="training")
        # The digest is of the first 10,000 rows, the fingerprint of all.
        values = (fingerprint, dataset.digest, len(table), FRAME_VERSION, version("roofcast"))
        mlflow.set_tags(dict(zip(TAGS, values, strict=True)))
        yield TrainingRun(run_id=active.info.run_id)


def ui_command(folder: str | Path | None = None, *, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
    """Return the command that serves the store's MLflow page. Raises BadStore where there is no store."""
    place = store_folder(folder)
    if not (place / DATABASE).is_file():
        raise errors.BadStore(f"no MLflow store in {place} (set ROOFCAST_MLRUNS or train first)")
    if not 0 < port < 65536:
        raise errors.BadRequest("port", port, "1 to 65535")
    options = {"backend-store-uri": database_uri(place), "host": host, "port": str(port), "workers": "1"}
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    return [sys.executable, "-m", "mlflow", "ui", *given]


def download_bundle(uri: str, *, folder: str | Path | None = None) -> Path:
    """Return the bundle folder of a registered model ("models:/roofcast@champion", "models:/roofcast/3").

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
    """Return MLflow, imported late and kept quiet: no telemetry, no bars, no word unless it is a warning."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow

    return mlflow


def _log_metrics(values: Mapping[str, float]) -> None:
    named = {"".join(c if c.isalnum() or c in "_-./" else "_" for c in k): v for k, v in values.items()}
    mlflow_module().log_metrics({name: value for name, value in named.items() if math.isfinite(value)})


def _named(frame: pd.DataFrame, keys: Sequence[str], figures: Sequence[str]) -> dict[str, float]:
    return {
        "/".join([*(str(row[key]) or "unknown" for key in keys), figure]): float(row[figure])
        for row in frame.to_dict("records")
        for figure in figures
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
