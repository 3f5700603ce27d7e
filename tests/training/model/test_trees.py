"""The trees answer as LightGBM's own package does, and a text that is no model is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from roofcast.data.errors import BadBundle
from roofcast.training.model.model import Model
from roofcast.training.model.trees import Trees


@pytest.fixture(scope="module")
def matrix(trained: Model) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(3000, len(trained.feature_names)))
    values[::7, ::5] = np.nan
    return values


@pytest.mark.parametrize("rows", [0, 1, 63, 3000])
def test_predictions_are_lightgbms(rows: int, trained: Model, matrix: np.ndarray) -> None:
    booster = trained.boosters["tpot"]
    trees = Trees(booster.model_to_string())
    wanted = booster.predict(matrix[:rows]) if rows else np.zeros(0)
    np.testing.assert_allclose(trees.predict(matrix[:rows]), wanted, rtol=0, atol=1e-12)


def test_many_rows_in_groups_of_rounds_sum_to_the_same(matrix: np.ndarray) -> None:
    import lightgbm as lgb

    target = np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 1]) ** 2
    booster = lgb.train({"verbosity": -1, "num_leaves": 8}, lgb.Dataset(matrix, target), num_boost_round=137)
    trees = Trees(booster.model_to_string())
    assert trees.rounds == 137
    np.testing.assert_allclose(trees.predict(matrix), booster.predict(matrix), rtol=0, atol=1e-10)
    np.testing.assert_allclose(trees.predict(matrix)[:5], trees.predict(matrix[:5]), rtol=0, atol=1e-10)


def test_the_text_and_its_feature_names_are_kept(trained: Model) -> None:
    text = trained.boosters["tpot"].model_to_string()
    assert Trees(text).model_to_string() == text
    assert Trees(text).feature_names == trained.feature_names


@pytest.mark.parametrize(
    "text", ["", "tree\n", "tree\nend of trees\n", "PK\x03\x04", "tree\nfeature_names=a\n\n"]
)
def test_a_text_that_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(BadBundle, match="not a whole LightGBM model"):
        Trees(text)


def test_a_matrix_of_another_width_is_refused(trained: Model) -> None:
    with pytest.raises(BadBundle, match="features"):
        Trees(trained.boosters["tpot"].model_to_string()).predict(np.zeros((1, 3)))


def test_threads_and_sizes_do_not_disturb_each_other(trained: Model, matrix: np.ndarray) -> None:
    booster = trained.boosters["tpot"]
    trees = Trees(booster.model_to_string())
    trees._step = 3  # many short walks, so that threads are caught in the middle of one another's
    wanted = booster.predict(matrix)
    sizes = [3000, 1, 2000, 63, 3000, 1024, 1, 2500] * 10
    with ThreadPoolExecutor(8) as pool:
        for size, found in zip(sizes, pool.map(lambda n: trees.predict(matrix[:n]), sizes), strict=True):
            np.testing.assert_allclose(found, wanted[:size], rtol=0, atol=1e-12)
