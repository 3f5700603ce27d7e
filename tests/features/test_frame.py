"""One frame for training and serving: names, order and finiteness."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from roofcast.data import catalogue
from roofcast.data.vocabulary import MODES
from roofcast.features.baseline import baseline, floor
from roofcast.features.coefficients import Coefficients
from roofcast.features.facts import FloatArray
from roofcast.features.frame import feature_columns, feature_matrix
from roofcast.features.request import Requests, normalise


def matrix_of(r: Requests) -> tuple[FloatArray, tuple[str, ...]]:
    return feature_matrix(r, floor(r), baseline(r, Coefficients()))


def varied(n: int = 2000, seed: int = 0) -> Requests:
    rng = np.random.default_rng(seed)
    tp = rng.choice([1, 2, 4, 8], n)
    columns: dict[str, Any] = {
        "model": rng.choice(list(catalogue.models()), n),
        "gpu": rng.choice(list(catalogue.gpus()), n),
        "tp": tp,
        "num_gpus": tp * rng.choice([1, 2], n),
        "ep": np.where(rng.random(n) < 0.3, tp, 1),
        "dp": np.where(rng.random(n) < 0.3, tp, 1),
        "weight_precision": rng.choice(["bf16", "fp8", "fp4", "int4"], n),
        "mode": rng.choice(list(MODES), n),
        "disagg": rng.random(n) < 0.1,
        "spec_decode": rng.choice(["none", "mtp"], n),
        "isl": rng.integers(1, 20_000, n),
        "osl": rng.integers(1, 3_000, n),
        "concurrency": rng.integers(1, 1000, n),
        "request_rate": rng.uniform(0.01, 20, n),
    }
    return normalise(pd.DataFrame(columns))


def test_names_are_unique_in_an_order_of_their_own_and_name_the_columns() -> None:
    r = varied(50, seed=2)
    matrix, names = matrix_of(r)
    assert len(set(names)) == len(names) == matrix.shape[1]
    assert matrix.dtype == np.float64
    assert matrix_of(varied(5, seed=1))[1] == names
    columns = feature_columns(r, floor(r), baseline(r, Coefficients()))
    assert tuple(columns) == names
    np.testing.assert_array_equal(matrix, np.stack(list(columns.values()), axis=1))


def test_every_feature_of_a_feasible_row_is_finite() -> None:
    r = varied()
    feasible = baseline(r, Coefficients()).feasible
    matrix, names = matrix_of(r)
    assert feasible.sum() > 300
    finite = np.isfinite(matrix[feasible]).all(axis=0)
    assert [name for name, good in zip(names, finite, strict=True) if not good] == []


def test_no_name_of_model_gpu_or_source_is_a_feature_so_that_one_shape_has_one_row() -> None:
    rows = {"model": ["deepseek-r1", "deepseek-v3"], "gpu": ["b200"] * 2, "tp": [8, 8]}
    matrix, names = matrix_of(normalise(rows))
    np.testing.assert_array_equal(matrix[0], matrix[1])
    assert not {"model", "gpu", "source"} & set(names)
