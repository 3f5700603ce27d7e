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


def test_many_rows_in_groups_of_rounds_sum_to_what_lightgbm_says(matrix: np.ndarray) -> None:
    import lightgbm as lgb

    target = np.nan_to_num(matrix[:, 0]) + np.nan_to_num(matrix[:, 1]) ** 2
    booster = lgb.train({"verbosity": -1, "num_leaves": 8}, lgb.Dataset(matrix, target), num_boost_round=137)
    trees = Trees(booster.model_to_string())
    assert trees.rounds == 137
    np.testing.assert_allclose(trees.predict(matrix), booster.predict(matrix), rtol=0, atol=1e-10)


def test_threads_and_sizes_do_not_disturb_each_other(trained: Model, matrix: np.ndarray) -> None:
    booster = trained.boosters["tpot"]
    trees = Trees(booster.model_to_string())
    trees._step = 3  # many short walks, so that threads are caught in the middle of one another's
    wanted = booster.predict(matrix)
    sizes = [3000, 1, 2000, 63, 0, 3000, 1024, 1, 2500] * 10
    with ThreadPoolExecutor(8) as pool:
        for size, found in zip(sizes, pool.map(lambda n: trees.predict(matrix[:n]), sizes), strict=True):
            np.testing.assert_allclose(found, wanted[:size], rtol=0, atol=1e-12)


def test_the_text_and_its_feature_names_are_kept_and_another_width_is_refused(trained: Model) -> None:
    text = trained.boosters["tpot"].model_to_string()
    trees = Trees(text)
    assert (trees.model_to_string(), trees.feature_names) == (text, trained.feature_names)
    with pytest.raises(BadBundle, match="features"):
        trees.predict(np.zeros((1, 3)))


@pytest.mark.parametrize(
    "text", ["", "tree\n", "tree\nend of trees\n", "PK\x03\x04", "tree\nfeature_names=a\n\n"]
)
def test_a_text_that_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(BadBundle, match="not a whole LightGBM model"):
        Trees(text)
