"""One training is one run: what it records is read back, and its bundle comes from the registry."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from roofcast.data import errors
from roofcast.training import tracking

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose database exists: MLflow's migrations take seconds, once is enough."""
    folder = tmp_path_factory.mktemp("store")
    with tracking.open_store(folder):
        return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "bundle"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"schema": 1}))
    (folder / "tpot.txt").write_text("tree")
    return folder


@pytest.fixture(scope="module")
def logged(migrated: Path, bundle: Path, table: pd.DataFrame, scores: pd.DataFrame) -> tuple[Path, str]:
    config = {"learner": {"rounds": 300, "rate": 0.05}, "seed": 1}
    with tracking.training_run(config, table, "f00d", folder=migrated) as run:
        run.log_scores(scores)
        run.log_figures(
            "coefficients", {"bandwidth": {"h100-sxm": 0.8}, "unit": "share", "loss": float("nan")}
        )
        run.log_bundle(bundle)
    return migrated, run.run_id


def _run(folder: Path, run_id: str) -> object:
    with tracking.open_store(folder):
        return mlflow.get_run(run_id)


def test_a_run_records_settings_data_and_errors(logged: tuple[Path, str], table: pd.DataFrame) -> None:
    run = _run(*logged)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"learner.rounds": "300", "learner.rate": "0.05", "seed": "1"}
    assert run.data.tags["data.fingerprint"] == "f00d"
    assert run.data.tags["data.rows"] == str(len(table))
    assert run.inputs.dataset_inputs[0].dataset.digest == run.data.tags["data.digest"]
    assert run.data.metrics["configuration/tpot_ms/blend_median_ape"] < 10
    assert 0.8 < run.data.metrics["platform/ttft_ms/gpu/b200-sxm/coverage"] <= 1
    assert run.data.metrics["coefficients/bandwidth.h100-sxm"] == 0.8
    assert "coefficients/loss" not in run.data.metrics


def test_plots_tables_and_bundle_lie_with_the_run_and_are_small(logged: tuple[Path, str]) -> None:
    folder, run_id = logged
    artifacts = folder / "artifacts" / run_id / "artifacts"
    names = {path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file()}
    assert {"accuracy/errors.csv", "accuracy/platform/residuals.png", "bundle/manifest.json"} <= names
    assert "coefficients.json" in names
    assert all(path.stat().st_size < 150_000 for path in artifacts.rglob("*.png"))


@pytest.mark.parametrize("uri", ["models:/roofcast@champion", "models:/roofcast/1"])
def test_the_bundle_comes_back_from_the_registry(logged: tuple[Path, str], bundle: Path, uri: str) -> None:
    fetched = tracking.download_bundle(uri, folder=logged[0])
    assert (fetched / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()
    assert (fetched / "tpot.txt").read_text() == "tree"


def test_the_champion_moves_only_when_asked(
    logged: tuple[Path, str], bundle: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    folder = logged[0]
    other = tmp_path / "bundle"
    shutil.copytree(bundle, other)
    (other / "tpot.txt").write_text("another tree")
    with tracking.training_run({}, table, "f00d", folder=folder) as run:
        assert run.log_bundle(other, alias=None) == "2"
    champion = tracking.download_bundle("models:/roofcast@champion", folder=folder)
    assert (champion / "tpot.txt").read_text() == "tree"


def test_a_training_that_fails_is_kept_as_failed(migrated: Path, table: pd.DataFrame) -> None:
    before = mlflow.get_tracking_uri()
    with pytest.raises(ZeroDivisionError), tracking.training_run({}, table, "f00d", folder=migrated) as run:
        raise ZeroDivisionError
    assert _run(migrated, run.run_id).info.status == "FAILED"
    assert mlflow.get_tracking_uri() == before


@pytest.mark.parametrize("uri", ["models:/roofcast@nobody", "models:/no-such-model@champion", "nonsense:/x"])
def test_a_bundle_that_is_not_there_is_one_clear_line(migrated: Path, uri: str) -> None:
    with pytest.raises(errors.BadBundle, match=uri.split(":")[0]):
        tracking.download_bundle(uri, folder=migrated)


def test_asking_an_absent_store_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(errors.BadBundle, match="no MLflow store"):
        tracking.download_bundle("models:/roofcast@champion", folder=tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_the_store_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROOFCAST_MLRUNS", str(tmp_path))
    assert tracking.store_folder() == tmp_path
    monkeypatch.delenv("ROOFCAST_MLRUNS")
    assert tracking.store_folder() == Path("mlruns").resolve()
