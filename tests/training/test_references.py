"""The two references do what they say: look up the nearest row, or learn from raw columns alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from roofcast.data import errors
from roofcast.training import references, splits
from roofcast.training.metrics import LEARNED_AS


@pytest.fixture(scope="module")
def raw(table: pd.DataFrame) -> pd.DataFrame:
    return references.raw_columns(table)


def test_raw_columns_are_numbers_row_for_row_unknown_where_a_name_is(
    table: pd.DataFrame, raw: pd.DataFrame
) -> None:
    assert len(raw) == len(table)
    assert all(raw[column].dtype == np.float64 for column in raw)
    bandwidth = raw["system_bandwidth"].to_numpy() / table["num_gpus"] / 1e12
    assert np.allclose(bandwidth[table["gpu"] == "b200-sxm"], 8.0, rtol=0.05)
    odd = references.raw_columns(table.head(3).assign(model="no-such-model", gpu="no-such-gpu"))
    assert odd[["params_active", "memory_bandwidth", "system_flops"]].isna().all(axis=None)


def test_a_configuration_measured_before_is_found_again(table: pd.DataFrame, raw: pd.DataFrame) -> None:
    twice = table.drop_duplicates("config_group").index.to_numpy()
    again = np.setdiff1d(np.arange(len(table)), twice)
    measured = pd.factorize(table["config_group"])[0] + 1.0
    assert np.array_equal(references.neighbour(raw, measured, twice, again), measured[again])


def test_the_neighbour_has_the_same_model_and_gpu_where_there_is_one(
    table: pd.DataFrame, raw: pd.DataFrame
) -> None:
    pair = pd.factorize(table["model"] + table["gpu"])[0] + 1.0
    for protocol in ("configuration", "platform"):
        for train, test in splits.protocol_folds(table, protocol, 5, 0):
            known = np.isin(pair[test], pair[train])
            found = references.neighbour(raw, pair, train, test)
            assert np.array_equal(found[known], pair[test][known])
            assert np.isin(found, pair[train]).all()


def test_rows_without_the_figure_are_never_neighbours(table: pd.DataFrame, raw: pd.DataFrame) -> None:
    measured = table["tpot_ms"].to_numpy().copy()
    measured[::2] = np.nan
    rows = np.arange(len(table))
    assert np.isfinite(references.neighbour(raw, measured, rows, rows)).all()
    with pytest.raises(errors.BadRequest):
        references.neighbour(raw, np.full(len(table), np.nan), rows, rows)


def test_a_statistic_that_no_row_has_is_no_reference(table: pd.DataFrame) -> None:
    silent = table.assign(**{name: np.nan for name in LEARNED_AS if name != "tpot_ms"})
    train, test = splits.protocol_folds(silent, "configuration", 5, 0)[0]
    found = references.references_of(silent, train, test, 4)
    known = {name for name, values in found.items() if np.isfinite(values).all()}
    assert set(found) == {f"{by}_{name}" for by in ("neighbour", "pure_ml") for name in LEARNED_AS}
    assert known == {"neighbour_tpot_ms", "pure_ml_tpot_ms"}


def test_pure_ml_learns_what_it_saw_and_repeats_itself(table: pd.DataFrame, raw: pd.DataFrame) -> None:
    measured = table["tpot_ms"].to_numpy()
    train, test = splits.protocol_folds(table, "configuration", 5, 0)[0]
    once, again = (references.pure_ml(raw, measured, train, test, np.ones(len(raw)), 4) for _ in range(2))
    assert np.array_equal(once, again)
    assert np.median(np.abs(once / measured[test] - 1)) < 0.15
