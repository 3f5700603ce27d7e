"""One frame for training and serving: names, order and finiteness."""

from __future__ import annotations

import numpy as np
import pandas as pd

from roofcast.data import catalogue
from roofcast.data.vocabulary import MODES
from roofcast.features.baseline import baseline, floor
from roofcast.features.coefficients import Coefficients
from roofcast.features.facts import FloatArray
from roofcast.features.frame import STATISTICS, feature_columns, feature_matrix, of_statistic
from roofcast.features.request import Requests, normalise


def matrix_of(r: Requests) -> tuple[FloatArray, tuple[str, ...]]:
    return feature_matrix(r, floor(r), baseline(r, Coefficients()))


def varied(n: int, seed: int = 0) -> Requests:
    rng = np.random.default_rng(seed)
    tp = rng.choice([1, 2, 4, 8], n)
    names = {
        "model": list(catalogue.models()), "gpu": list(catalogue.gpus()), "mode": list(MODES),
        "weight_precision": ["bf16", "fp8", "fp4", "int4"], "spec_decode": ["none", "mtp"],
    }  # fmt: skip
    most = {"isl": 20_000, "osl": 3_000, "concurrency": 1000}
    return normalise(pd.DataFrame({
        **{name: rng.choice(each, n) for name, each in names.items()},
        **{name: rng.integers(1, each, n) for name, each in most.items()},
        **{name: np.where(rng.random(n) < 0.3, tp, 1) for name in ("ep", "dp")},
        "tp": tp, "num_gpus": tp * rng.choice([1, 2], n), "disagg": rng.random(n) < 0.1,
        "request_rate": rng.uniform(0.01, 20, n),
    }))  # fmt: skip


def test_names_are_unique_in_an_order_of_their_own_and_name_the_columns() -> None:
    r = varied(50, seed=2)
    matrix, names = matrix_of(r)
    assert len(set(names)) == len(names)
    assert matrix_of(varied(5, seed=1))[1] == names
    columns = feature_columns(r, floor(r), baseline(r, Coefficients()))
    assert (*columns, "statistic", "log_over_median") == names
    np.testing.assert_array_equal(matrix[:, :-2], np.stack(list(columns.values()), axis=1))


def test_another_statistic_is_asked_in_columns_of_its_own_and_leaves_the_median_asked_in_the_matrix() -> None:
    matrix, _ = matrix_of(varied(5))
    over = np.linspace(0.1, 0.5, 5)
    asked = of_statistic(matrix, "p90", over)
    assert not matrix[:, -2:].any()
    np.testing.assert_array_equal(asked[:, :-2], matrix[:, :-2])
    np.testing.assert_array_equal(asked[:, -2:].T, [np.full(5, STATISTICS.index("p90")), over])


def test_every_feature_of_a_feasible_row_is_finite() -> None:
    r = varied(2000)
    feasible = baseline(r, Coefficients()).feasible
    matrix, names = matrix_of(r)
    assert feasible.sum() > 300
    assert np.array(names)[~np.isfinite(matrix[feasible]).all(axis=0)].tolist() == []


def test_no_name_of_model_gpu_or_source_is_a_feature_so_that_one_shape_has_one_row() -> None:
    matrix, names = matrix_of(
        normalise({"model": ["deepseek-r1", "deepseek-v3"], "gpu": ["b200"] * 2, "tp": [8, 8]})
    )
    np.testing.assert_array_equal(matrix[0], matrix[1])
    assert not {"model", "gpu", "source"} & set(names)
