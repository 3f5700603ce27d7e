"""A small real model for tests: trained here, saved and loaded as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.features.baseline import baseline, floor
from roofcast.features.coefficients import Coefficients
from roofcast.features.frame import feature_matrix
from roofcast.features.request import normalise
from roofcast.predictor import Predictor
from roofcast.training.model.bundle import save_bundle
from roofcast.training.model.intervals import IntervalTable, Level
from roofcast.training.model.model import Model, spread_matrix
from roofcast.training.model.residuals import coordinates_of, residuals_of
from roofcast.training.model.support import STRATA, set_up_keys, support_of
from roofcast.training.model.times import CORRECTED, LEARNED, MEAN, TREES

QUESTION: dict[str, Any] = {
    "model": "qwen2.5-72b", "gpu": "b200-sxm", "num_gpus": 8, "tp": 8, "weight_precision": "fp4",
    "engine": "trtllm", "isl": 2048, "osl": 512, "concurrency": 32,
}  # fmt: skip
# Half width of the log interval and weight of the correction, by stratum of support.
_WIDTH = dict(zip(STRATA, (0.1, 0.15, 0.3, 0.5, 0.6, 0.2, 0.3, 0.6, 1.0, 1.2), strict=True))
_WEIGHT = dict(zip(STRATA, (1.0, 0.9, 0.6, 0.3, 0.2) * 2, strict=True))


def requests_frame(n: int, seed: int = 0) -> pd.DataFrame:
    """Return n plausible closed-loop requests, drawn at random."""
    rng = np.random.default_rng(seed)
    tp = rng.choice([1, 2, 4, 8], n)
    frame = pd.DataFrame({
        "model": rng.choice(["qwen2.5-72b", "llama-3.1-8b", "deepseek-r1", "qwen3-32b"], n),
        "gpu": rng.choice(["b200-sxm", "h100-sxm", "h200-sxm", "mi300x"], n),
        "num_gpus": tp, "tp": tp, "engine": rng.choice(["vllm", "trtllm", "sglang"], n),
        "weight_precision": "fp8", "isl": rng.integers(16, 8000, n), "osl": rng.integers(1, 2000, n),
        "concurrency": rng.integers(1, 512, n),
    })  # fmt: skip
    foreign = (frame["gpu"] == "mi300x") & (frame["engine"] == "trtllm")
    return frame.assign(engine=frame["engine"].mask(foreign, "vllm"))


@pytest.fixture(scope="session")
def trained() -> Model:
    """A model of 20 trees per time, fitted to the baseline times a known pattern and noise."""
    import lightgbm as lgb

    r = normalise(requests_frame(1500, seed=1))
    low, base = floor(r), baseline(r, Coefficients())
    rows = np.flatnonzero(base.feasible)
    matrix, names = feature_matrix(r, low, base)
    rng = np.random.default_rng(2)
    options = {"num_leaves": 8, "verbosity": -1, "deterministic": True, "force_row_wise": True, "seed": 3}
    boosters, spreads = {}, {}
    even = 1e-6 * rng.normal(size=len(rows))  # the logarithm of a spread of one, everywhere
    for name in TREES:
        wave = 0.3 if name in LEARNED else 0.0  # a tail's trees say what it is over its median's
        target = wave * np.sin(np.log(r.concurrency)) + 0.1 * rng.normal(size=len(r))
        data = lgb.Dataset(matrix[rows], target[rows], feature_name=list(names))
        boosters[name] = lgb.train(options, data, num_boost_round=20)
        if name not in LEARNED:
            continue
        place = np.full(len(rows), STRATA[0])
        seen = spread_matrix(matrix[rows], target[rows], np.zeros(len(rows)), place)
        spreads[name] = lgb.train(options, lgb.Dataset(seen, even), num_boost_round=3)
    levels = {n: Level(lower=-width, upper=width, rows=100, guaranteed=True) for n, width in _WIDTH.items()}
    left = {name: 0.05 * rng.normal(size=len(rows)) for name in (*LEARNED, MEAN)}
    place = coordinates_of(r, base.concurrency)[rows]
    return Model(
        coefficients=Coefficients(),
        boosters=boosters,
        residuals=residuals_of(set_up_keys(r)[rows], place, np.ones(len(rows)), left),
        feature_names=tuple(names),
        support=support_of(r.take(rows)),
        blend=dict.fromkeys(CORRECTED, _WEIGHT),
        spreads=spreads,
        intervals={name: IntervalTable(alpha=0.1, levels=levels) for name in CORRECTED},
    )


@pytest.fixture(scope="session")
def bundle(trained: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model as a bundle folder; not to be changed: copy it."""
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    facts: dict[str, Any] = {"errors": {"configuration": {"tpot_ms": 0.05}}, "ranges": {"isl": [16, 8000]}}
    return save_bundle(trained, folder, fingerprint="0" * 64, created="2026-11-01T00:00:00+00:00", **facts)


@pytest.fixture(scope="session")
def predictor(bundle: Path) -> Predictor:
    """The predictor of that bundle."""
    return Predictor.load(bundle)
