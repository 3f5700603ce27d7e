"""Two references without physics, to be beaten on the same rows and folds: look-up, and LightGBM alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data import catalogue, errors
from .metrics import LEARNED_AS

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

PRECISION_BITS = {"fp32": 32.0, "bf16": 16.0, "fp16": 16.0, "fp8": 8.0, "int8": 8.0, "fp4": 4.0, "int4": 4.0}
REQUEST_NUMBERS = (
    "num_gpus", "num_nodes", "tp", "pp", "ep", "dp", "replicas", "disagg", "prefill_gpus", "decode_gpus",
    "isl", "osl", "concurrency", "request_rate", "prefix_cached_frac",
)  # fmt: skip
CODES = ("model", "gpu", "engine", "weight_precision", "kv_precision", "spec_decode", "mode")
GPU_FACTS = ("memory_bytes", "memory_bandwidth", "link_bandwidth", "link_domain")
MODEL_FACTS = (
    "params_total", "params_active", "n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff",
    "vocab", "n_experts", "experts_per_token", "d_ff_expert", "mla_kv_rank", "sliding_window",
)  # fmt: skip

# A wrong engine, mode or speculative decoding is worth this many standard deviations of a number.
MISMATCH_PENALTY = 2.0
MISMATCH_CODES = ("code_engine", "code_mode", "code_spec_decode")
DISTANCE = (
    "params_active", "system_bandwidth", "system_flops", "isl", "osl", "concurrency_per_gpu", "tp",
    "weight_bits",
)  # fmt: skip

_PURE_ML: dict[str, Any] = {
    "objective": "regression", "learning_rate": 0.06, "num_leaves": 63, "min_data_in_leaf": 10,
    "feature_fraction": 0.8, "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1,
}  # fmt: skip


def references_of(table: pd.DataFrame, train: Rows, test: Rows, seed: int) -> dict[str, Floats]:
    """Both references for the tested rows, by "neighbour_<metric>" and "pure_ml_<metric>", (len(test),).

    NaN for percentiles and means that no row of `train` has.
    """
    raw, weight = raw_columns(table), table["weight"].to_numpy(dtype=np.float64)
    measured = {metric: table[metric].to_numpy(dtype=np.float64) for metric in LEARNED_AS}
    none = {k: np.full(len(test), np.nan) for k, x in measured.items() if not np.nansum(x[train])}
    found = {name: values for name, values in measured.items() if name not in none}
    near = {f"neighbour_{k}": neighbour(raw, x, train, test) for k, x in found.items()}
    learnt = {f"pure_ml_{k}": pure_ml(raw, x, train, test, weight, seed) for k, x in found.items()}
    return near | learnt | {f"{name}_{k}": x for name in ("neighbour", "pure_ml") for k, x in none.items()}


def raw_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The table's rows as plain numbers, with the catalogue's facts: no estimate of any time.

    Text columns become codes (`code_<name>`), the date becomes days; what is unknown is NaN.
    """
    raw = table[list(REQUEST_NUMBERS)].astype(np.float64).reset_index(drop=True)
    for name in CODES:
        raw[f"code_{name}"] = pd.factorize(table[name].astype(str), sort=True)[0].astype(np.float64)
    age = pd.to_datetime(table["date"], errors="coerce") - pd.Timestamp("2020-01-01")
    raw["date_days"] = age.dt.days.to_numpy(np.float64)
    raw["weight_bits"] = table["weight_precision"].map(PRECISION_BITS).to_numpy(np.float64)
    raw = raw.join(_facts(table["model"], catalogue.models(), MODEL_FACTS))
    raw = raw.join(_facts(table["gpu"], catalogue.gpus(), GPU_FACTS))
    raw["system_bandwidth"] = raw["memory_bandwidth"] * raw["num_gpus"]
    pairs = table[["gpu", "weight_precision"]].astype(str).reset_index(drop=True)
    peaks = pairs.groupby(list(pairs), as_index=False).size()
    peaks["peak"] = [_peak_flops(*pair) for pair in peaks[list(pairs)].itertuples(index=False)]
    raw["system_flops"] = pairs.merge(peaks, how="left")["peak"] * raw["num_gpus"]
    raw["concurrency_per_gpu"] = raw["concurrency"] / raw["num_gpus"]
    return raw


def neighbour(raw: pd.DataFrame, measured: Floats, train: Rows, test: Rows) -> Floats:
    """The measured value of the nearest training row, shape (len(test),), scaled by nothing.

    raw: `raw_columns` of the whole table; measured: one figure, (rows,), NaN where unknown; train, test: row
    indices. Rows of the same model and GPU are preferred; near is Euclidean in the standardised logs of
    DISTANCE plus a penalty for another engine, mode or speculation.
    """
    from sklearn.neighbors import NearestNeighbors

    train = _measured(measured, train)
    points = _points(raw, train)
    pair = pd.factorize(raw["code_model"] * 10_000 + raw["code_gpu"])[0]
    asked = np.where(np.isin(pair[test], pair[train]), pair[test], -1)
    result = np.full(len(test), np.nan)
    for code in np.unique(asked):
        here, among = asked == code, train if code < 0 else train[pair[train] == code]
        search = NearestNeighbors(n_neighbors=1).fit(points[among])
        nearest = search.kneighbors(points[test[here]], return_distance=False)[:, 0]
        result[here] = measured[among[nearest]]
    return result


def pure_ml(
    raw: pd.DataFrame, measured: Floats, train: Rows, test: Rows, weight: Floats, seed: int
) -> Floats:
    """LightGBM's prediction, (len(test),), learnt from log(measured) on raw columns; weight: (rows,)."""
    train = _measured(measured, train)
    data = lightgbm.Dataset(
        raw.iloc[train], np.log(measured[train]), weight=weight[train],
        categorical_feature=[f"code_{name}" for name in CODES], params={"verbosity": -1},
    )  # fmt: skip
    booster = lightgbm.train({**_PURE_ML, "seed": seed}, data, num_boost_round=300)
    return np.exp(np.asarray(booster.predict(raw.iloc[test]), dtype=np.float64))


def _measured(measured: Floats, rows: Rows) -> Rows:
    kept = rows[np.isfinite(measured[rows]) & (measured[rows] > 0)]
    if not len(kept):
        raise errors.BadRequest("train", len(rows), "rows of which at least one has the figure measured")
    return kept


def _points(raw: pd.DataFrame, train: Rows) -> Floats:
    """Every row as a point, standardised on the training rows; what is unknown sits at their mean."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(raw[list(DISTANCE)].to_numpy(np.float64))
    logs[~np.isfinite(logs)] = np.nan
    frame = pd.DataFrame(logs)
    spread = frame.iloc[train].std().replace(0.0, 1.0)
    numbers = ((frame - frame.iloc[train].mean()) / spread).fillna(0.0).to_numpy()
    codes = [raw[name].to_numpy() for name in MISMATCH_CODES]
    # Two rows that differ are sqrt(2) apart in one-hot coordinates: divide it out.
    blocks = [(code[:, None] == np.unique(code)) * (MISMATCH_PENALTY / np.sqrt(2)) for code in codes]
    return np.hstack([numbers, *blocks])


def _facts(names: pd.Series[Any], specs: Mapping[str, Any], fields: tuple[str, ...]) -> pd.DataFrame:
    known = {x: [float(getattr(specs.get(x), field, np.nan)) for field in fields] for x in names.unique()}
    return pd.DataFrame(names.map(known).tolist(), columns=list(fields))


def _peak_flops(gpu: str, precision: str) -> float:
    with suppress(errors.UnknownName, errors.BadRequest):
        return catalogue.gpu(gpu).peak_flops(precision)
    return np.nan
