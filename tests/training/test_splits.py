"""Splits keep their promise: what a protocol calls unseen is unseen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofcast.data import errors
from roofcast.training import splits

label_lists = st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=200).filter(
    lambda x: len(set(x)) > 1
)


@given(labels=label_lists, n_folds=st.integers(2, 8), seed=st.integers(0, 50), alone=st.booleans())
def test_every_row_is_tested_once_and_no_group_is_on_both_sides_whenever_it_is_asked(
    labels: list[str], n_folds: int, seed: int, alone: bool
) -> None:
    array = np.array(labels)
    found, again = (splits.folds(array, n_folds, seed, leave_one_out=alone) for _ in range(2))
    assert 2 <= len(found) <= n_folds
    assert sorted(np.concatenate([test for _, test in found])) == list(range(len(labels)))
    for (train, test), (_, same) in zip(found, again, strict=True):
        assert np.array_equal(test, same)
        assert len(test)
        assert not set(array[train]) & set(array[test])
        assert len(train) + len(test) == len(labels)


@given(labels=label_lists, data=st.data())
def test_a_configuration_that_straddles_two_groups_leaves_training(
    labels: list[str], data: st.DataObject
) -> None:
    configs = np.array(data.draw(st.lists(st.integers(0, 9), min_size=len(labels), max_size=len(labels))))
    for train, test in splits.folds(np.array(labels), 3, 0, configs=configs.astype(str)):
        assert not set(configs[train]) & set(configs[test])


def test_large_groups_are_left_out_alone_small_ones_pooled_and_many_balanced() -> None:
    labels = np.repeat(["h100", "b200", "mi300x", "l4", "a10", "v100"], [500, 300, 200, 5, 4, 3])
    tested = [sorted(set(labels[test])) for _, test in splits.folds(labels, 4, 0, leave_one_out=True)]
    assert sorted(tested) == [["a10", "l4", "v100"], ["b200"], ["h100"], ["mi300x"]]
    # The shared fold never outgrows the largest group.
    labels = np.repeat([f"model-{k:02d}" for k in range(60)], [400, 300, 200, *[50] * 57])
    sizes = [len(test) for _, test in splits.folds(labels, 12, 0, leave_one_out=True)]
    assert (max(sizes), len(sizes)) == (400, 12)
    labels = np.random.default_rng(0).integers(0, 300, 6000).astype(str)
    sizes = [len(test) for _, test in splits.folds(labels, 5, 0)]
    assert max(sizes) - min(sizes) < 0.02 * sum(sizes)


def test_what_cannot_be_split_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(errors.BadRequest, match="2 or more groups"):
        splits.folds(np.array(["a", "a"]), 5, 0)
    with pytest.raises(errors.BadRequest, match="configuration, family"):
        splits.group_labels(table, "row")


def test_models_of_one_shape_are_one_group() -> None:
    models = [
        "deepseek-r1",
        "deepseek-v3",
        "llama-3-70b",
        "llama-3.1-70b",
        "llama-3.3-70b",
        "llama-3.1-8b",
        "??",
    ]
    codes = pd.factorize(splits.shape_labels(pd.Series(models)))[0]
    assert codes.tolist() == [0, 0, 1, 1, 1, 2, 3]


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
def test_no_protocol_leaks_a_group_or_a_configuration(table: pd.DataFrame, protocol: str) -> None:
    labels, configs = splits.group_labels(table, protocol), table["config_group"].to_numpy()
    found = splits.protocol_folds(table, protocol, n_folds=4, seed=1)
    assert sum(len(test) for _, test in found) == len(table)
    for train, test in found:
        assert not set(labels[train]) & set(labels[test])
        assert not set(configs[train]) & set(configs[test])
        assert len(train)


def test_one_set_up_under_two_names_or_of_unknown_layout_is_one_configuration(table: pd.DataFrame) -> None:
    names = ["deepseek-r1", "deepseek-v3", "qwen2.5-72b"]
    twins = table.iloc[[0, 0, 0]].assign(config_group=list("xyz"), model=names, isl=[1024.0, 1000.0, 1024.0])
    labels = splits.configuration_labels(twins)
    assert labels[0] == labels[1] != labels[2]
    runs = table.iloc[[0, 0, 0, 0]].assign(config_group=list("wxyz"), ep=[1.0, 8.0, np.nan, 8.0])
    assert len(set(splits.configuration_labels(runs))) == 1
    assert len(set(splits.configuration_labels(runs.iloc[[0, 1, 3]]))) == 2
