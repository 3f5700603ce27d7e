"""One training is one run: what it records is read back, and its bundle comes from the registry."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest

from roofcast.data import errors
from roofcast.features.frame import FRAME_VERSION
from roofcast.predictor import Predictor
from roofcast.predictor.commands.learn import serving
from roofcast.training import registry, tracking

mlflow = pytest.importorskip("mlflow")
Logged = tuple[Path, str]
BUNDLE = Path(str(files("roofcast.predictor").joinpath("bundle")))


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose database exists: MLflow's migrations take seconds, once is enough."""
    folder = tmp_path_factory.mktemp("store")
    with tracking.open_store(folder):
        return folder


@pytest.fixture(scope="module")
def logged(migrated: Path, table: pd.DataFrame, scores: pd.DataFrame) -> Logged:
    config = {"learner": {"rounds": 300, "rate": 0.05}, "seed": 1}
    with tracking.training_run(config, table, "f00d", folder=migrated) as run:
        run.log_scores(scores)
        figures = {"bandwidth": {"h100-sxm": 0.8}, "unit": "share", "loss": float("nan")}
        run.log_figures("coefficients", figures)
        run.log_rows(table)
        registry.promote(run.log_bundle(BUNDLE, serving()), migrated)
    return migrated, run.run_id


def test_a_run_records_settings_data_and_errors(logged: Logged, table: pd.DataFrame) -> None:
    with tracking.open_store(logged[0]):
        run = mlflow.get_run(logged[1])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"learner.rounds": "300", "learner.rate": "0.05", "seed": "1"}
    tags = {"data.fingerprint": "f00d", "data.rows": str(len(table)), "kind": "train"}
    assert run.data.tags == run.data.tags | tags | {"frame.version": str(FRAME_VERSION)}
    assert run.inputs.dataset_inputs[0].dataset.digest == run.data.tags["data.digest"]
    assert run.data.metrics["configuration/tpot_ms/blend_median_ape"] < 10
    assert 0.8 < run.data.metrics["platform/ttft_ms/gpu/b200-sxm/coverage"] <= 1
    assert run.data.metrics["coefficients/bandwidth.h100-sxm"] == 0.8
    assert "coefficients/loss" not in run.data.metrics


def test_plots_tables_and_bundle_lie_with_the_run_and_come_back_from_the_registry(logged: Logged) -> None:
    artifacts = logged[0] / "artifacts" / logged[1] / "artifacts"
    found = {path.relative_to(artifacts).as_posix(): path.stat().st_size for path in artifacts.rglob("*.*")}
    assert {"accuracy/errors.csv", "accuracy/platform/residuals.png", "coefficients.json"} <= set(found)
    assert "bundle/manifest.json" in found
    assert all(size < 150_000 for name, size in found.items() if name.endswith(".png"))
    for uri in ("models:/roofcast@champion", "models:/roofcast/1"):
        fetched = tracking.download_bundle(uri, folder=logged[0])
        for path in BUNDLE.iterdir():
            assert (fetched / path.name).read_bytes() == path.read_bytes()


def test_a_version_says_what_it_was_made_of_and_becomes_champion_only_when_asked(
    logged: Logged, table: pd.DataFrame
) -> None:
    folder = logged[0]
    with tracking.training_run({}, table, "beef", folder=folder) as run:
        assert run.log_bundle(BUNDLE, serving()) == "2"
    with tracking.open_store(folder):
        champion = registry.version_of("champion")
        newest = mlflow.MlflowClient().get_model_version("roofcast", "2")
        assert registry.number_of(champion) == "1"
        learned = pd.read_parquet(registry.recorded(champion, tracking.ROWS_FILE))
        assert list(learned["row_id"]) == list(table["row_id"])
        assert newest.tags["data.fingerprint"] == "beef"
        assert set(newest.tags) == set(tracking.TAGS)
        with pytest.raises(errors.BadStore, match="version 2 does not say what it learned from"):
            registry.recorded(newest, tracking.ROWS_FILE)


def test_a_version_whose_bundle_does_not_load_is_not_promoted(
    logged: Logged, table: pd.DataFrame, tmp_path: Path
) -> None:
    shutil.copytree(BUNDLE, tmp_path / "bundle")
    with tracking.training_run({}, table, "f00d", folder=logged[0]) as run:
        number = run.log_bundle(tmp_path / "bundle", serving())
        damaged = tracking.download_bundle(f"models:/roofcast/{number}", folder=logged[0]) / "tpot.txt"
        damaged.write_text("no tree")
        with pytest.raises(errors.BadBundle, match="damaged"):
            registry.promote(number, logged[0])
        assert registry.number_of(registry.version_of("champion")) == "1"


def test_the_registered_model_answers_frames_as_the_predictor_does(logged: Logged) -> None:
    columns = {"model": ["qwen2.5-72b", "no-such"], "platform": ["hgx-b200", None], "tp": [8, 4]}
    asked = pd.DataFrame({**columns, "disagg": [False, 1]}, index=[7, 3])
    with pytest.MonkeyPatch.context() as patch, tracking.open_store(logged[0]):
        patch.setattr(sys, "path", list(sys.path))
        model = mlflow.pyfunc.load_model("models:/roofcast@champion")
        answered = model.predict(asked)
    pd.testing.assert_frame_equal(answered, Predictor.load(BUNDLE).predict_frame(asked))
    outputs = model.metadata.signature.outputs.input_names()
    assert list(answered.columns) == outputs
    assert "no-such" in answered["reason"][3]
    assert model.metadata.signature.inputs.required_input_names() == ["model"]
    pd.testing.assert_frame_equal(model.input_example, pd.DataFrame(serving().example))
    with pytest.raises(mlflow.exceptions.MlflowException, match="model"):
        model.predict(pd.DataFrame({"tp": [8]}))


def test_the_model_carries_the_code_that_answers(logged: Logged, tmp_path: Path) -> None:
    """Where roofcast is not installed, as on a Spark worker, the model brings its own."""
    script = (
        "import sys, mlflow, pandas as pd\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f)]\n"
        f"mlflow.set_tracking_uri('sqlite:///{logged[0]}/mlflow.db')\n"
        f"mlflow.set_registry_uri('sqlite:///{logged[0]}/mlflow.db')\n"
        "m = mlflow.pyfunc.load_model('models:/roofcast@champion')\n"
        "print(m.predict(m.input_example)['tpot_ms'].notna().all())\n"
        "import roofcast.predictor\n"
        "print(roofcast.predictor.__file__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    answered, where = done.stdout.split()
    assert answered == "True"
    assert str(logged[0]) in where


def test_a_training_that_fails_is_kept_as_failed(migrated: Path, table: pd.DataFrame) -> None:
    before = mlflow.get_tracking_uri()
    with pytest.raises(ZeroDivisionError), tracking.training_run({}, table, "f00d", folder=migrated) as run:
        raise ZeroDivisionError
    assert mlflow.get_tracking_uri() == before
    with tracking.open_store(migrated):
        assert mlflow.get_run(run.run_id).info.status == "FAILED"


def test_a_bundle_or_store_that_is_not_there_is_one_clear_line_and_is_not_created(
    migrated: Path, tmp_path: Path
) -> None:
    for uri in ("models:/roofcast@nobody", "models:/no-such-model@champion", "nonsense:/x"):
        with pytest.raises(errors.BadBundle, match=uri.split(":")[0]):
            tracking.download_bundle(uri, folder=migrated)
    with pytest.raises(errors.BadBundle, match="no MLflow store"):
        tracking.download_bundle("models:/roofcast@champion", folder=tmp_path / "absent")
    with pytest.raises(errors.BadStore, match="no MLflow store"):
        tracking.ui_command(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_the_store_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for value, place in ((str(tmp_path), tmp_path), ("", Path("mlruns").resolve())):
        monkeypatch.setenv("ROOFCAST_MLRUNS", value)
        assert tracking.store_folder() == place


def test_the_page_is_served_from_the_stores_own_database(logged: Logged) -> None:
    command = tracking.ui_command(logged[0], host="0.0.0.0", port=5050)
    assert command[:4] == [sys.executable, "-m", "mlflow", "ui"]
    assert command[4:] == [
        "--backend-store-uri", f"sqlite:///{logged[0]}/mlflow.db", "--host", "0.0.0.0", "--port", "5050",
        "--workers", "1",
    ]  # fmt: skip
    with pytest.raises(errors.BadRequest, match="port = 70000"):
        tracking.ui_command(logged[0], port=70000)
