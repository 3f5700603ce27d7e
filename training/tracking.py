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

EXPERIMENT = MODEL_NAME = "roofcast"
DATABASE = "mlflow.db"
ROWS_FILE = "rows.parquet"
SETTINGS_FILE = "settings.json"
TAGS = ("data.fingerprint", "data.digest", "data.rows", "frame.version", "roofcast.version")
LOGGED_FIGURES = (
    "rows", "unanswered", "blend_median_ape", "blend_mean_ape", "blend_p90_ape", "blend_bias",
    "baseline_median_ape", "coverage", "median_width",
)  # fmt: skip
_REQUIRED = ("mlflow", "numpy", "pandas", "lightgbm")
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}  # fmt: skip
_NOT_SERVED = ("__pycache__", "*.parquet", "*.md", "bundle", "build", "commands")


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How a registered model answers: MLflow's model from code, the packages it imports, columns, a request.

    answered: MLflow's type by column that it answers. It takes the columns that can be asked.
    """

    code: Path
    packages: Sequence[str]
    answered: Mapping[str, str]
    example: Mapping[str, Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """An open run; every `log_` method adds to it."""

    run_id: str

    def log_figures(
        self, prefix: str, figures: Mapping[str, Any], shown: Mapping[str, Any] | None = None
    ) -> None:
        """Record `figures` as `prefix`.json, and the finite numbers of `shown` (None: all) as metrics."""
        mlflow_module().log_dict(dict(figures), f"{prefix}.json")
        flat = {f"{prefix}/{k}": x for k, x in _flat(figures if shown is None else shown).items()}
        _log_metrics({name: float(x) for name, x in flat.items() if isinstance(x, (int, float))})

    def log_scores(self, scores: pd.DataFrame) -> None:
        """Record errors as metrics `<protocol>/<metric>/[<slice>/<value>/]<figure>`, and the plots."""
        from . import metrics, report

        overall, sliced = metrics.summarise(scores), metrics.slices(scores)
        logged: dict[str, float] = {}
        for frame, figures in ((overall, LOGGED_FIGURES), (sliced, ("blend_median_ape", "coverage"))):
            keys = [name for name in ("protocol", "metric", "slice", "value") if name in frame]
            for row in frame.to_dict("records"):
                path = "/".join(str(row[key]) or "unknown" for key in keys)
                logged |= {f"{path}/{name}": float(row[name]) for name in figures if name in row}
        _log_metrics(logged)
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
            path = Path(temporary) / ROWS_FILE
            table[["row_id"]].to_parquet(path, compression="zstd", index=False)
            mlflow_module().log_artifact(str(path))

    def log_bundle(self, bundle: Path, serving: Serving) -> str:
        """Register the bundle, with its code, as the next version of the model; return that version."""
        mlflow = mlflow_module()
        from mlflow.models import ModelSignature
        from mlflow.types import schema

        mlflow.log_artifacts(str(bundle), "bundle")
        # Numbers as any type: MLflow's `double` refuses whole numbers, its `boolean` turns a gap into true.
        anything: Any = schema.AnyType
        kinds = {name: "string" if COLUMNS[name].is_text else anything() for name in ASKED}
        asked = [schema.ColSpec(kind, name, required=name == "model") for name, kind in kinds.items()]
        answered = [schema.ColSpec(kind, name) for name, kind in serving.answered.items()]
        path = list(sys.path)
        with TemporaryDirectory() as temporary:
            for name in serving.packages:
                with as_file(files(name)) as package:
                    place = Path(temporary, *name.split("."))
                    shutil.copytree(package, place, ignore=shutil.ignore_patterns(*_NOT_SERVED))
            logged = mlflow.pyfunc.log_model(
                name="model", python_model=str(serving.code), artifacts={"bundle": str(bundle)},
                pip_requirements=[f"{name}=={version(name)}" for name in _REQUIRED],
                code_paths=[str(Path(temporary) / "roofcast")],
                signature=ModelSignature(schema.Schema([*asked]), schema.Schema([*answered])),
                input_example=pd.DataFrame(serving.example), registered_model_name=MODEL_NAME,
            )  # fmt: skip
        sys.path[:] = path  # MLflow tried the example with a copy of the code that is gone now
        number = str(logged.registered_model_version)
        tags = mlflow.get_run(self.run_id).data.tags
        for name in TAGS:
            mlflow.MlflowClient().set_model_version_tag(MODEL_NAME, number, name, tags[name])
        return number


def store_folder(folder: str | Path | None = None) -> Path:
    """Return the MLflow store: `folder`, else ROOFCAST_MLRUNS, else ./mlruns; absolute."""
    return Path(folder or os.environ.get("ROOFCAST_MLRUNS") or "mlruns").resolve()


@contextmanager
def open_store(folder: Path) -> Iterator[Path]:
    """Point MLflow at the store in `folder`, made where it is missing; what was in force comes back."""
    mlflow = mlflow_module()
    folder.mkdir(parents=True, exist_ok=True)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / DATABASE}")
    mlflow.set_registry_uri(f"sqlite:///{folder / DATABASE}")
    try:
        if mlflow.get_experiment_by_name(EXPERIMENT) is None:
            # Its page opens on runs, not on language-model traces.
            page = {"mlflow.experimentKind": "custom_model_development"}
            mlflow.create_experiment(EXPERIMENT, (folder / "artifacts").as_uri(), tags=page)
        mlflow.set_experiment(EXPERIMENT)
        yield folder
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


@contextmanager
def training_run(
    config: Mapping[str, Any], table: pd.DataFrame, fingerprint: str, *, folder: str | Path | None = None,
    kind: str = "train",
) -> Iterator[TrainingRun]:  # fmt: skip
    """Open one run that records `config`, the table's MLflow digest, its `fingerprint`, and versions.

    kind: what is done (train, retrain, tune, adopt), a tag. A run whose block raises is kept as FAILED.
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
    options = {
        "backend-store-uri": f"sqlite:///{place / DATABASE}",
        "host": host,
        "port": str(port),
        "workers": "1",
    }
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    return [sys.executable, "-m", "mlflow", "ui", *given]


def download_bundle(uri: str, *, folder: str | Path | None = None) -> Path:
    """Return the bundle folder of "models:/roofcast@champion" or "models:/roofcast/3"; raises BadBundle."""
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


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
