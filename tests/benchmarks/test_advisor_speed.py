"""How fast the advisor answers and sweeps, and how many times faster than asking row by row.

Nothing here asserts a time. `--regenerate` writes the figures to docs/advise.md. Not part of the plain test
run: `python -m pytest tests/benchmarks`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from roofcast.predictor import Predictor
from roofcast.predictor.advisor import Advisor, Workload

from ..docs.pages import Part
from ..markdown import markdown_table

pytestmark = pytest.mark.xdist_group("speed")

SWEEP = """
import resource, sys, time
from pathlib import Path
from roofcast.predictor import Predictor
from roofcast.predictor.advisor.sweep import Sweeper, SweepSpace
lengths = tuple((float(i), float(o)) for i in (256, 1024, 2048, 4096, 8192) for o in (128, 256, 512, 1024))
platforms = ("b200", "hgx-h100", "hgx-h200", "hgx-b200", "gb200-nvl72", "gb200-superchip")
space = SweepSpace(model="qwen2.5-72b", platforms=platforms, lengths=lengths, boxes=(1, 2),
                   concurrency=tuple(float(round(2048 ** (k / 37))) + k / 64 for k in range(38)),
                   spec_decode=("none", "eagle"))
sweeper = Sweeper(Predictor.load(), space)
start = time.process_time()
found = sweeper.run(Path(sys.argv[1]))
scale = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
print(found.rows, found.seconds, time.process_time() - start, found.corrected / found.valid, peak)
"""
CHAT = Workload(model="qwen2.5-72b", users=300, isl=2048, osl=512, tpot_ms=30)
EXPERTS = Workload(model="deepseek-r1", request_rate=20, mix=((1000, 500, 2), (8000, 500, 1)))
FIGURES: dict[str, tuple[str, str]] = {}


@pytest.fixture(scope="module")
def advisor() -> Advisor:
    return Advisor(Predictor.load())


@pytest.mark.parametrize(
    ("name", "workload"), [("a dense model", CHAT), ("a mixture, two kinds of requests", EXPERTS)]
)
def test_a_warm_recommendation(
    name: str, workload: Workload, advisor: Advisor, benchmark: BenchmarkFixture
) -> None:
    benchmark.pedantic(lambda: advisor.recommend(workload), rounds=3, warmup_rounds=1)
    if benchmark.stats:
        FIGURES[f"recommendation over all platforms, {name}"] = (
            f"{benchmark.stats.stats.median:.2f} s", "at most 2 s",
        )  # fmt: skip


def test_a_sweep_of_a_million_configurations(advisor: Advisor, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, str(tmp_path / "sweep")], text=True, capture_output=True, check=True
    )
    rows, seconds, cpu, corrected, peak = (float(x) for x in done.stdout.split())
    few = pd.read_parquet(tmp_path / "sweep" / "front.parquet").head(100)
    asked = few[["platform", "num_gpus", "tp", "weight_precision", "engine", "isl", "osl", "concurrency"]]
    start = time.perf_counter()
    for row in asked.to_dict("records"):
        advisor.predictor.predict(model="qwen2.5-72b", **{str(k): v for k, v in row.items()})
    instead = (time.perf_counter() - start) / len(few) * rows
    FIGURES[f"sweep of {rows:,.0f} configurations to Parquet"] = (
        f"{seconds:.1f} s ({cpu:.0f} s of processor time; {corrected:.0%} corrected; "
        f"{instead / seconds:.0f} x faster than row by row)",
        "at most 20 s",
    )
    FIGURES["peak memory of that"] = (f"{peak:.0f} MB", "bounded")
    assert peak < 700


def test_the_figures_are_on_record(repo_root: Path, regenerate: bool) -> None:
    path, table = repo_root / "docs" / "advise.md", markdown_table(("what", "measured", "target"), _rows())
    part = Part(page="docs/advise.md", name="speed", make=lambda: table)
    if regenerate and len(FIGURES) == 4:
        path.write_text(part.in_place(path.read_text(encoding="utf-8")), encoding="utf-8")
    shown = path.read_text(encoding="utf-8")
    assert all(name in shown for name in FIGURES)


def _rows() -> list[list[str]]:
    return [[name, *figures] for name, figures in FIGURES.items()]
