"""How fast the shipped bundle answers, and how many times faster than what a user would do instead.

Nothing here asserts a time: a busy machine is slower through no fault of the code. `--regenerate` writes the
medians to docs/performance.md. Not part of the plain test run: `python -m pytest tests/benchmarks`.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from roofcast.predictor import Predictor
from roofcast.training.model.bundle import MANIFEST

pytestmark = [
    pytest.mark.skipif(
        not files("roofcast.predictor").joinpath("bundle", MANIFEST).is_file(),
        reason="no bundle is shipped yet",
    ),
    # One worker, so that its own measurements do not disturb each other.
    pytest.mark.xdist_group("speed"),
]

ROWS = 200_000
QUESTION: dict[str, Any] = {
    "model": "qwen2.5-72b",
    "gpu": "b200-sxm",
    "num_gpus": 8,
    "tp": 8,
    "weight_precision": "fp4",
    "engine": "trtllm",
    "isl": 2048,
    "osl": 512,
    "concurrency": 32,
}
COMMAND = shlex.split(
    "-m roofcast.predictor predict --model qwen2.5-72b --platform hgx-b200 --tp 8 --weight-precision fp4 "
    "--engine trtllm --isl 2048 --osl 512 --concurrency 32"
)
PEAK = """
import resource, sys
import pandas as pd
from roofcast.predictor import Predictor
frame = pd.read_parquet({path!r})
answers = Predictor.load().predict_frame(frame)
assert len(answers) == len(frame)
scale = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6)
"""
# What a user would write: the same trees through LightGBM's Python package, features ready made.
INSTEAD_COLD = """
import json, sys
from pathlib import Path
import lightgbm, numpy, pandas
bundle = Path(sys.argv[1])
boosters = [lightgbm.Booster(model_file=str(bundle / f"{name}.txt")) for name in ("tpot", "ttft", "e2e")]
row = pandas.DataFrame(numpy.zeros((1, boosters[0].num_feature())))
print([b.predict(row) for b in boosters])
"""
FIGURES: dict[str, tuple[str, str, str]] = {}


def _median_seconds(benchmark: BenchmarkFixture, work: Callable[[], object], rounds: int) -> float:
    """Time `work` by pytest-benchmark; where that is switched off (under xdist), by one plain call."""
    benchmark.pedantic(work, rounds=rounds, warmup_rounds=1)
    return float(benchmark.stats.stats.median) if benchmark.stats else _once(work)


def _once(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load()


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """A sweep of ROWS configurations in random order: six models, six GPUs, three engines and many loads."""
    levels: dict[str, list[Any]] = {
        "model": [
            "qwen2.5-72b",
            "deepseek-r1",
            "llama-3.1-8b",
            "qwen3-235b-a22b",
            "gpt-oss-120b",
            "llama-3.3-70b",
        ],
        "gpu": ["h100-sxm", "h200-sxm", "b200-sxm", "gb200", "mi300x", "mi355x"],
        "engine": ["vllm", "trtllm", "sglang"],
        "tp": [1, 2, 4, 8],
        "weight_precision": ["fp8", "fp4"],
        "isl": [128, 512, 1024, 2048, 4096, 8192, 16384],
        "osl": [64, 128, 256, 512, 1024, 2048],
        "concurrency": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
    }
    sweep = pd.MultiIndex.from_product(levels.values(), names=levels.keys()).to_frame(index=False)
    return sweep.sample(n=ROWS, random_state=0, ignore_index=True).assign(num_gpus=lambda table: table["tp"])


def test_one_warm_prediction(predictor: Predictor, benchmark: BenchmarkFixture) -> None:
    seconds = _median_seconds(benchmark, lambda: predictor.predict(**QUESTION), 300)
    frame = pd.DataFrame([QUESTION])
    instead = min(_once(lambda: predictor.predict_frame(frame)) for _ in range(20))
    ratio = f"{instead / seconds:.1f} x faster than a frame of one row"
    FIGURES["one warm `predict`"] = (f"{seconds * 1e3:.2f} ms", "at most 2 ms", ratio)


def test_a_large_frame(predictor: Predictor, frame: pd.DataFrame, benchmark: BenchmarkFixture) -> None:
    seconds = _median_seconds(benchmark, lambda: predictor.predict_frame(frame), 3)
    few = frame.head(200).to_dict("records")
    instead = _once(lambda: [predictor.predict(**{str(k): v for k, v in row.items()}) for row in few]) / 200
    FIGURES[f"`predict_frame`, {ROWS:,} rows with intervals"] = (
        f"{ROWS / seconds:,.0f} rows/s",
        "at least 50,000 rows/s",
        f"{instead * ROWS / seconds:.0f} x faster than `predict` row by row",
    )


def test_a_cold_shell(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    def run(arguments: list[str]) -> None:
        subprocess.run([sys.executable, *arguments], cwd=tmp_path, check=True, capture_output=True)

    seconds = _median_seconds(benchmark, lambda: run(COMMAND), 5)
    bundle = str(files("roofcast.predictor").joinpath("bundle"))
    instead = min(_once(lambda: run(["-c", INSTEAD_COLD, bundle])) for _ in range(3))
    ratio = f"{instead / seconds:.1f} x faster than three bare LightGBM boosters through its Python package"
    FIGURES["`roofcast predict` from a cold shell"] = (f"{seconds:.2f} s", "at most 1.5 s", ratio)


def test_the_memory_of_a_large_frame_is_bounded(frame: pd.DataFrame, tmp_path: Path) -> None:
    pytest.importorskip("resource")
    path = tmp_path / "frame.parquet"
    frame.to_parquet(path)
    done = subprocess.run(
        [sys.executable, "-c", PEAK.format(path=str(path))], text=True, capture_output=True, check=True
    )
    megabytes = float(done.stdout)
    FIGURES[f"peak memory of the process, {ROWS:,} rows"] = (f"{megabytes:.0f} MB", "under 600 MB", "-")
    assert megabytes < 600


def test_the_figures_are_on_record(repo_root: Path, regenerate: bool) -> None:
    path = repo_root / "docs" / "performance.md"
    if regenerate and len(FIGURES) == 4:
        path.write_text(_document(), encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    assert all(name in text for name in FIGURES)


def _document() -> str:
    rows = "".join(f"| {name} | {' | '.join(figures)} |\n" for name, figures in FIGURES.items())
    return (
        f"# Performance\n\nMedians on {os.cpu_count()} cores ({platform.machine()}, Python "
        f"{platform.python_version()}) with the shipped bundle. Measured by\n\n"
        "    python -m pytest tests/benchmarks --regenerate\n\n"
        f"| what | measured | target | instead |\n|---|---|---|---|\n{rows}\n{NOTES}"
    )


NOTES = """\
Where the time goes, and what keeps it there:

- **A cold start** imports numpy, typer and rich, and reads the catalogues and the bundle. One request needs
  no pandas (`features/cells.py` reads it from lists), and the trees are walked by LightGBM's own library
  without its Python package, which would import scikit-learn, scipy and pandas (`training/model/trees.py`).
- **One prediction** is a few hundred numpy calls on arrays of one row: it costs calls, not numbers.
- **A frame** spends four fifths of its time in the trees, in proportion to their number times their depth.
  Rows are sorted so that like ones follow each other, and many rows walk a few trees at a time: that makes
  the trees two to three times faster than one call of LightGBM on the frame as it came. Chunks of 8,192 rows
  on two threads keep the physics' arrays in the processor's cache and the memory bounded.
"""
