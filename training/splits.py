"""Grouped splits: what must be unseen under each protocol, and folds that keep it unseen.

Unseen is, under `configuration`, this very set-up; `family`: this model on this GPU under this engine;
`platform`: this GPU; `model`: every model of this shape; `source`: all runs of this origin. Groups are split,
not rows, and a configuration that lives in two groups leaves training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data import catalogue, errors
from ..data.identity import FAMILY, LENGTHS, LOAD, SET_UP, backbone, two_digits
from ..data.vocabulary import ENGINES
from ..features.cells import Rows
from ..features.names import engine_codes

PROTOCOLS = ("configuration", "family", "platform", "model", "source")
LEAVE_ONE_OUT = ("platform", "model", "source")

SOMETIMES_UNKNOWN = ("tp", "ep", "spec_decode")

Labels = NDArray[np.str_]
Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


def shape_labels(models: pd.Series[Any]) -> Labels:
    """Shape per row; a model that the catalogue does not know is a shape of its own."""
    shapes = {name: backbone(spec) for name, spec in catalogue.models().items()}
    return models.astype(str).map(lambda name: shapes.get(name, name)).to_numpy(dtype=np.str_)


def group_labels(table: pd.DataFrame, protocol: str) -> Labels:
    """The group of each row, shape (rows,): rows of one group are never on both sides of a split.

    Raises BadRequest for a protocol outside PROTOCOLS.
    """
    if protocol not in PROTOCOLS:
        raise errors.BadRequest("protocol", protocol, f"one of {', '.join(PROTOCOLS)}")
    if protocol == "configuration":
        return configuration_labels(table)
    parts = {"platform": ("gpu",), "source": ("source_family",), "model": ("shape",), "family": FAMILY}[
        protocol
    ]
    rows = _with_family(table)[list(parts)].itertuples(index=False)
    return np.array(["|".join(map(str, names)) for names in rows], dtype=np.str_)


def _with_family(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the columns of FAMILY: an engine that goes by two names is one."""
    engine = np.array(ENGINES)[engine_codes(Rows(table[["engine"]]))]
    return table.assign(shape=shape_labels(table["model"]), engine=engine)


def configuration_labels(table: pd.DataFrame) -> Labels:
    """`config_group`, joined where two groups are, or may be, one set-up under two names.

    Groups that agree in SET_UP, LOAD and lengths to two digits are joined, transitively: to a learner they
    are the same row. Where one of SOMETIMES_UNKNOWN is not known, agreement in the rest is enough.
    """
    named = _with_family(table)
    setup = named[[c for c in (*SET_UP, *LOAD) if c in named]].replace("", np.nan)
    for column in LENGTHS:
        setup[column] = two_digits(table[column].to_numpy(np.float64))
    config, exact = pd.factorize(table["config_group"])[0], setup.groupby(list(setup), dropna=False).ngroup()
    less = [name for name in setup if name not in SOMETIMES_UNKNOWN]
    loose = setup.groupby(less, dropna=False).ngroup()
    blank = setup[list(SOMETIMES_UNKNOWN)].isna().any(axis=1)
    key = np.where(blank.groupby(loose).transform("any"), loose, exact + len(table))
    joined = pd.Series(np.arange(len(table)))
    while True:
        merged = joined.groupby(key).transform("min").groupby(config).transform("min")
        if merged.equals(joined):
            return merged.astype(str).to_numpy(dtype=np.str_)
        joined = merged


def folds(
    labels: Labels, n_folds: int, seed: int, *, configs: Labels | None = None, leave_one_out: bool = False
) -> list[Fold]:
    """(train, test) row indices per fold: every row is tested once, no group is on both sides.

    Groups go, largest first, to the lightest fold (ties shuffled by `seed`); with `leave_one_out` those of
    1 % of the rows or more have their own. Rows of a tested `configs` label leave training.

    >>> [test.tolist() for _, test in folds(np.array(["a", "a", "b", "c"]), 2, seed=0)]
    [[0, 1], [2, 3]]
    """
    groups, group_of = np.unique(labels, return_inverse=True)
    if n_folds < 2 or len(groups) < 2:
        raise errors.BadRequest("n_folds", n_folds, f"2 or more, with 2 or more groups (not {len(groups)})")
    alone = 0.01 * len(labels) if leave_one_out else np.inf
    fold_of = _assign(np.bincount(group_of), n_folds, seed, alone)[group_of]
    code = pd.factorize(configs)[0] if configs is not None else None
    result = []
    for fold in range(int(fold_of.max()) + 1):
        tested = fold_of == fold
        trained = ~tested if code is None else ~tested & ~np.isin(code, code[tested])
        result.append((np.flatnonzero(trained), np.flatnonzero(tested)))
    return result


def protocol_folds(
    table: pd.DataFrame, protocol: str, n_folds: int | None = None, seed: int = 0
) -> list[Fold]:
    """The folds of one protocol (10, or 8 where groups are left out alone), guarded against straddling."""
    n_folds = n_folds or (8 if protocol in LEAVE_ONE_OUT else 10)
    labels = group_labels(table, protocol)
    configs = None if protocol == "configuration" else configuration_labels(table)
    return folds(labels, n_folds, seed, configs=configs, leave_one_out=protocol in LEAVE_ONE_OUT)


def _assign(sizes: NDArray[np.intp], n_folds: int, seed: int, alone: float) -> NDArray[np.intp]:
    """The fold of each group; groups of `alone` rows or more have their own, as far as that is fair."""
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    n_folds = min(n_folds, len(sizes))
    fold_of, load, rest = np.empty(len(sizes), dtype=np.intp), np.zeros(n_folds), sizes.sum()
    own = True
    for taken, group in enumerate(order):
        left, rest = n_folds - taken - 1, rest - sizes[group]
        # No shared fold is to outgrow the largest group.
        crowded = rest > 0 and (left < 1 or rest / left > sizes[order[0]])
        own = own and sizes[group] >= alone and not crowded
        lightest = int(load.argmin())
        fold_of[group] = lightest
        load[lightest] += np.inf if own else sizes[group]
    return fold_of
