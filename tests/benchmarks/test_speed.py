"""How fast the shipped bundle answers, and how many times faster than what a user would do instead.

Nothing here asserts a time: a busy machine is slower through no fault of the code. `--regenerate` writes the
medians to docs/performance.md. Not part of the plain test run: `python -m pytest tests/benchmarks`.
"""

from __future__ import annotations

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

from ..small_model import QUESTION
from .conftest import Record

# One worker, so that its own measurements do not disturb each other.
pytestmark = pytest.mark.xdist_group("speed")

ROWS = 200_000
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
        "model": ["qwen2.5-72b", "deepseek-r1", "llama-3.1-8b", "qwen3-235b-a22b", "gpt-oss-120b",
                  "llama-3.3-70b"],
        "gpu": ["h100-sxm", "h200-sxm", "b200-sxm", "gb200", "mi300x", "mi355x"],
        "engine": ["vllm", "sglang", "atom"], "tp": [1, 2, 4, 8], "weight_precision": ["fp8", "fp4"],
        "isl": [2**k for k in range(7, 15) if k != 8], "osl": [2**k for k in range(6, 12)],
        "concurrency": [2**k for k in range(10)],
    }  # fmt: skip
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
    ratio = f"{instead * ROWS / seconds:.0f} x faster than `predict` row by row"
    measured = f"{ROWS / seconds:,.0f} rows/s"
    FIGURES[f"`predict_frame`, {ROWS:,} rows with intervals"] = (measured, "at least 50,000 rows/s", ratio)


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
    command = [sys.executable, "-c", PEAK.format(path=str(path))]
    megabytes = float(subprocess.run(command, text=True, capture_output=True, check=True).stdout)
    FIGURES[f"peak memory of the process, {ROWS:,} rows"] = (f"{megabytes:.0f} MB", "under 800 MB", "-")
    assert megabytes < 800  # 13 answers with bounds and two levels of physics: 110 MB of numbers


def test_the_figures_are_on_record(on_record: Record) -> None:
    on_record("performance.md", ("what", "measured", "target", "instead"), FIGURES, 4)
