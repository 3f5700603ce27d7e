"""The built wheel works by itself: away from the source tree, from an empty directory."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

# One worker runs this file, so that the wheel is built once.
pytestmark = pytest.mark.xdist_group("wheel")

PACKAGES = ("data", "features", "training", "predictor")
WHEEL_BYTES_MAX = 40_000_000
QUESTION = shlex.split(
    "--model qwen2.5-72b --platform hgx-b200 --tp 8 --weight-precision fp4 --concurrency 32"
)
RUN_AS_MODULE = """
import runpy, sys
sys.argv = ["roofcast", "predict", *{question!r}, "--json"]
try:
    runpy.run_module("roofcast.predictor", run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
"""
PREDICT = """
from roofcast.predictor import Predictor
assert Predictor.load().predict(model="qwen2.5-72b", gpu="b200-sxm", tp=8, concurrency=32).tpot_ms > 0
"""
REPORT = """
import json, sys
loaded = {name: module.__file__ for name, module in sys.modules.items() if name.startswith("roofcast.")}
top = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps({"top": top, "ours": loaded}), file=sys.stderr)
"""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A wheel and the folder it was installed in."""

    wheel: Path
    target: Path

    def run(self, *arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
        """Run Python in the directory, finding roofcast in the installed wheel before anywhere else."""
        environment = {**os.environ, "PYTHONPATH": str(self.target)}
        return subprocess.run(
            [sys.executable, *arguments], cwd=directory, env=environment, text=True, capture_output=True
        )


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build from a copy, lest the build's leftovers lie in the source tree and in the next wheel."""
    work = tmp_path_factory.mktemp("wheel")
    source, target = work / "source", work / "target"
    for package in PACKAGES:
        shutil.copytree(repo_root / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repo_root / name, source)
    quiet = ("--quiet", "--disable-pip-version-check", "--no-deps")
    _pip("wheel", *quiet, "--no-build-isolation", "--wheel-dir", str(work), str(source))
    (wheel,) = work.glob("*.whl")
    _pip("install", *quiet, "--target", str(target), str(wheel))
    return Installed(wheel=wheel, target=target)


def test_the_wheel_holds_every_module_and_all_package_data(installed: Installed, repo_root: Path) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = [path for package in PACKAGES for path in (repo_root / package).rglob("*.py")]
    modules = [path for path in modules if not path.is_relative_to(repo_root / "data/build")]
    patterns = ("data/*.toml", "data/*.parquet", "data/*.csv", "data/*.md", "training/*.md")
    data = [path for pattern in patterns for path in repo_root.glob(pattern)]
    bundle = [path for path in (repo_root / "predictor/bundle").iterdir() if path.is_file()]
    typed = [repo_root / package / "py.typed" for package in PACKAGES]
    wanted = {f"roofcast/{path.relative_to(repo_root)}" for path in modules + data + bundle + typed}
    needed = ("data/benchmarks.parquet", "data/SOURCES.md", "predictor/bundle/manifest.json")
    assert {f"roofcast/{name}" for name in needed} <= wanted
    assert held == wanted


def test_the_wheel_is_small_and_carries_its_licence_and_its_command(installed: Installed) -> None:
    assert installed.wheel.stat().st_size < WHEEL_BYTES_MAX
    with zipfile.ZipFile(installed.wheel) as archive:
        about = [name for name in archive.namelist() if ".dist-info/" in name]
        texts = {name.split("/", 1)[1]: archive.read(name).decode() for name in about}
    assert "Apache License" in texts["licenses/LICENSE"]
    assert "License-Expression: Apache-2.0" in texts["METADATA"]
    assert "roofcast = roofcast.predictor.cli:main" in texts["entry_points.txt"]


def test_an_installed_wheel_answers_from_an_empty_directory(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("-m", "roofcast.predictor", "predict", *QUESTION, "--json", directory=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert 0 < answer["floor_tpot_ms"] < answer["tpot_ms"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "code", [PREDICT, RUN_AS_MODULE.format(question=QUESTION)], ids=["library", "command line"]
)
def test_predicting_loads_neither_source_tree_nor_learning_library(
    code: str, installed: Installed, tmp_path: Path
) -> None:
    done = installed.run("-c", code + REPORT, directory=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stderr.splitlines()[-1])
    assert report["ours"]
    assert all(Path(file).is_relative_to(installed.target) for file in report["ours"].values())
    assert not set(report["top"]) & {"mlflow", "optuna", "sklearn", "matplotlib", "pandera"}


def test_importing_the_predictor_package_imports_nothing_else(installed: Installed, tmp_path: Path) -> None:
    done = installed.run("-c", "import roofcast.predictor\n" + REPORT, directory=tmp_path)
    report = json.loads(done.stderr.splitlines()[-1])
    assert set(report["ours"]) == {"roofcast.predictor"}
    assert not set(report["top"]) & {"numpy", "pandas", "lightgbm"}
