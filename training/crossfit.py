"""Out-of-fold predictions by protocol, and what they teach: how far to trust the correction, how sure to be.

Each protocol's folds are fitted apart: calibration and boosters see the training groups alone. The records of
all protocols then calibrate blend weights and intervals by stratum of support (see `model.support`). To
judge fold k of a protocol, the records of rows tested in it are left out of that calibration
(cross-conformal prediction, Vovk 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import joblib
import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.progress import Progress, silent
from ..features.baseline import baseline
from ..features.facts import FloatArray
from . import splits
from .conformal import fit_intervals
from .learner import Fitted, Frame, Sample, Settings, fit, fit_spread, learning_frame, measured_seconds
from .metrics import METRICS
from .model.intervals import IntervalTable
from .model.model import (
    CORRECTED,
    corrections,
    interval_keys,
    log_times,
    shrink,
    spread_matrix,
    spread_of,
    spreads,
)
from .model.support import STRATA, levels, support_of
from .references import neighbour, pure_ml, raw_columns

_SPREAD_PARTS = 2
_WEIGHTS = np.linspace(0.0, 1.2, 13)
# Where the blend is learned: the most that a log error counts, and by what share a weight may be worse.
_MOST_OFF, _AS_GOOD = 0.5, 0.02
_FEWEST_ROWS = 200  # a stratum with fewer records takes the next farther stratum's blend weight
# What intervals may miss, and what calibration spends of it: all where the same set-up was measured at other
# loads. Farther off, groups held out together differ less among themselves than from the next one.
ALPHA = 0.1
_SPENT = {stratum: ALPHA if stratum == "setup" else 0.07 for stratum in STRATA}
# What the shipped model learns its trust from, and so what every protocol is judged with.
TAUGHT_BY = ("configuration", "family", "platform", "model", "source")
WORKERS = 2
# The time that each metric is learned as: throughput is end-to-end time, by Little's law.
_LEARNED_AS = dict(zip(METRICS, CORRECTED, strict=True))
_FORMER = "former_"


@dataclass(frozen=True, kw_only=True)
class Records:
    """Out-of-fold predictions of one protocol; arrays in the order of `rows` (table positions), n each."""

    protocol: str
    rows: NDArray[np.intp]
    fold: NDArray[np.intp]
    stratum: NDArray[np.str_]
    sample: Sample
    base_s: Mapping[str, FloatArray]
    raw: Mapping[str, FloatArray]
    near: Mapping[str, FloatArray]
    matrix: FloatArray
    measured_s: Mapping[str, FloatArray]
    in_flight: FloatArray
    references: Mapping[str, FloatArray]

    def take(self, rows: NDArray[np.intp]) -> Records:
        """Return the records of a subset."""
        return Records(
            protocol=self.protocol, rows=self.rows[rows], fold=self.fold[rows], stratum=self.stratum[rows],
            sample=self.sample.take(rows), in_flight=self.in_flight[rows],
            base_s=_rows_of(self.base_s, rows), raw=_rows_of(self.raw, rows),
            near=_rows_of(self.near, rows), matrix=self.matrix[rows],
            measured_s=_rows_of(self.measured_s, rows), references=_rows_of(self.references, rows),
        )  # fmt: skip


def _rows_of(columns: Mapping[str, FloatArray], rows: NDArray[np.intp]) -> dict[str, FloatArray]:
    return {name: values[rows] for name, values in columns.items()}


@dataclass(frozen=True, kw_only=True)
class Former:
    """A procedure to judge beside: its settings, and which rows of the sample it may learn from, shape (n,).

    It takes each fold's physics as calibrated on all of the fold's rows, so that only the learning differs.
    """

    settings: Settings
    rows: NDArray[np.bool_]


def _fold(
    sample: Sample,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
    settings: Settings,
    references: bool,
    former: Former | None,
) -> dict[str, Any]:
    """Fit one fold and return what it says of the tested rows; run in a worker process."""
    learnt, held = sample.take(train), sample.take(test)
    fitted = fit(learnt, settings, asked=held.requests)
    out = answers(fitted, learnt, held)
    if former is not None:
        known = sample.take(train[former.rows[train]])
        past = replace(former.settings, threads=1)
        then = answers(fit(known, past, fitted.coefficients, asked=held.requests), known, held)
        out |= {f"{_FORMER}{name}": values for name, values in then.items()}
    if references:
        out |= _references(sample.table, train, test, settings.seed)
    return out


def answers(fitted: Fitted, learnt: Sample, held: Sample, frame: Frame = learning_frame) -> dict[str, Any]:
    """Return what a model fitted on `learnt` says of the rows of `held`, for `records_of`; arrays by name."""
    base = baseline(held.requests, fitted.coefficients)
    matrix = frame(held, base)[0]
    out: dict[str, Any] = {"in_flight": base.concurrency, "matrix": matrix}
    raw, near = corrections(fitted.boosters, fitted.siblings, held.requests, base, matrix)
    for name in CORRECTED:
        out |= {f"raw_{name}": raw[name], f"near_{name}": near[name]}
        out[f"base_{name}"] = getattr(base, f"{name}_s")
    out |= {f"measured_{name}": values for name, values in measured_seconds(held, base).items()}
    return out | {"stratum": support_of(learnt.requests).stratum(held.requests)}


def _references(
    table: pd.DataFrame, train: NDArray[np.intp], test: NDArray[np.intp], seed: int
) -> dict[str, FloatArray]:
    raw = raw_columns(table)
    weight = table["weight"].to_numpy(dtype=np.float64)
    out = {}
    for metric in METRICS:
        measured = table[metric].to_numpy(dtype=np.float64)
        out[f"neighbour_{metric}"] = neighbour(raw, measured, train, test)
        out[f"pure_ml_{metric}"] = pure_ml(raw, measured, train, test, weight=weight, seed=seed)
    return out


def cross_fit(
    sample: Sample,
    protocols: Sequence[str],
    settings: Settings,
    *,
    n_folds: int | None = None,
    references: bool = False,
    former: Former | None = None,
    progress: Progress = silent,
) -> list[Records]:
    """Predict every row by a model that saw none of its group, under each protocol; two folds at a time.

    n_folds: folds per protocol (None: the protocol's own number). references: predict by nearest neighbour
    and by pure ML on the same folds too. former: predict by that procedure on the same folds too; its records
    follow, in the order of the protocols. progress: called with a label and the share done.
    """
    folds = {p: splits.protocol_folds(sample.table, p, n_folds, settings.seed) for p in protocols}
    tasks = [(p, k, train, test) for p in protocols for k, (train, test) in enumerate(folds[p])]
    run = joblib.Parallel(n_jobs=WORKERS, return_as="generator")
    alone = replace(settings, threads=1)
    done = run(joblib.delayed(_fold)(sample, *rows, alone, references, former) for _, _, *rows in tasks)
    parts: dict[str, list[dict[str, Any]]] = {p: [] for p in protocols}
    for number, ((protocol, k, _, _), part) in enumerate(zip(tasks, done, strict=True)):
        parts[protocol].append(part)
        progress(f"{protocol}: fold {k + 1} of {len(folds[protocol])}", (number + 1) / len(tasks))
    tested = {p: [test for _, test in folds[p]] for p in protocols}
    return [
        records_of(sample, p, tested[p], [_named(part, prefix) for part in parts[p]])
        for prefix in ("", _FORMER)[: 1 if former is None else 2]
        for p in protocols
    ]


def _named(part: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the entries whose names begin with the prefix, without it; of none, those without _FORMER."""
    if not prefix:
        return {name: values for name, values in part.items() if not name.startswith(_FORMER)}
    return {name.removeprefix(prefix): values for name, values in part.items() if name.startswith(prefix)}


def records_of(
    sample: Sample, protocol: str, tested: Sequence[NDArray[np.intp]], parts: Sequence[Mapping[str, Any]]
) -> Records:
    """Return one protocol's records from the `answers` of its folds."""
    rows = np.concatenate(tested)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def named(prefix: str) -> dict[str, FloatArray]:
        return {k.removeprefix(prefix): v for k, v in joined.items() if k.startswith(prefix)}

    return Records(
        protocol=protocol,
        rows=rows,
        fold=np.concatenate([np.full(len(test), k) for k, test in enumerate(tested)]),
        stratum=joined["stratum"],
        sample=sample.take(rows),
        base_s=named("base_"),
        raw=named("raw_"),
        near=named("near_"),
        matrix=joined["matrix"],
        measured_s=named("measured_"),
        in_flight=joined["in_flight"],
        references={k: v for k, v in joined.items() if k.startswith(("neighbour_", "pure_ml_"))},
    )


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What records teach: weight of the correction, spread and interval table, by name in CORRECTED."""

    blend: Mapping[str, Mapping[str, float]]
    spreads: Mapping[str, lgb.Booster]
    intervals: Mapping[str, IntervalTable]


def predicted_log(records: Records, blend: Mapping[str, Mapping[str, float]]) -> dict[str, FloatArray]:
    """Return the blended log seconds by name in CORRECTED, shape (n,)."""
    applied = shrink(blend, records.raw, records.stratum)
    return log_times(records.sample.requests, records.sample.floor, records.base_s, applied)


def _blend_weights(
    records: Sequence[Records], keep: Sequence[NDArray[np.bool_]]
) -> dict[str, dict[str, float]]:
    """Return, per name and stratum, the weight that makes the mean absolute log error least.

    Errors count up to `_MOST_OFF`: beyond, a row tells of a server in another state, not of the correction.
    The optimum is flat, and few sources stand behind the strata of new ones: of all weights as good the mean.
    """
    out: dict[str, dict[str, float]] = {}
    for name in CORRECTED:
        raw = np.concatenate([r.raw[name][k] for r, k in zip(records, keep, strict=True)])
        with np.errstate(all="ignore"):
            gaps = [
                np.log(r.measured_s[name] / r.base_s[name])[k] for r, k in zip(records, keep, strict=True)
            ]
        gap = np.concatenate(gaps)
        stratum = np.concatenate([r.stratum[k] for r, k in zip(records, keep, strict=True)])
        weights: dict[str, float] = {}
        farther = 1.0
        for place in reversed(STRATA):
            here = (stratum == place) & np.isfinite(gap)
            if here.sum() >= _FEWEST_ROWS:
                each = [np.minimum(np.abs(gap[here] - w * raw[here]), _MOST_OFF).mean() for w in _WEIGHTS]
                off = np.array(each)
                farther = float(_WEIGHTS[off <= (1.0 + _AS_GOOD) * off.min()].mean())
            weights[place] = farther
        out[name] = weights
    return out


def learn_trust(records: Sequence[Records], leave_out: Iterable[int] = ()) -> Trust:
    """Fit blend weights, then intervals, on the records of all protocols but those of `leave_out` rows."""
    left = np.fromiter(leave_out, dtype=np.intp)
    keep = [~np.isin(r.rows, left) for r in records]
    blend = _blend_weights(records, keep)
    predicted = [predicted_log(r, blend) for r in records]

    def kept(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([part[k] for part, k in zip(parts, keep, strict=True)])

    stratum = kept([r.stratum for r in records])
    matrix = kept([r.matrix for r in records])
    keys = kept([interval_keys(r.sample.requests, r.stratum) for r in records])
    spent = {str(key): _SPENT[str(key).partition("|")[0]] for key in np.unique(keys)}
    # The folds that are kept, in turn: each protocol has some in every part.
    turns = [np.unique(r.fold[k], return_inverse=True)[1] for r, k in zip(records, keep, strict=True)]
    part = np.concatenate([(turn + number) % _SPREAD_PARTS for number, turn in enumerate(turns)])
    boosters, intervals = {}, {}
    for name in CORRECTED:
        with np.errstate(all="ignore"):
            gaps = [np.log(r.measured_s[name]) - p[name] for r, p in zip(records, predicted, strict=True)]
        residual = kept(gaps)
        raw, near = kept([r.raw[name] for r in records]), kept([r.near[name] for r in records])
        seen = spread_matrix(matrix, raw, near, stratum)
        boosters[name] = fit_spread(seen, residual)
        scale = _held_out_spread(seen, residual, part)
        intervals[name] = fit_intervals(residual, keys, alpha=ALPHA, spent=spent, scale=scale)
    return Trust(blend=blend, spreads=boosters, intervals=intervals)


def _held_out_spread(matrix: FloatArray, residual: FloatArray, part: NDArray[np.intp]) -> FloatArray:
    """Return each row's expected size of error, shape (n,), by a model that saw no row of its part."""
    scale = np.ones(len(residual))
    for number in np.unique(part):
        here = part == number
        if not np.isfinite(residual[~here]).any():
            continue
        scale[here] = spread_of(fit_spread(matrix[~here], residual[~here]), matrix[here])
    return scale


def _teaching(records: Sequence[Records]) -> list[Records]:
    """Return the records that trust is learned from: those of TAUGHT_BY; of none of these, all."""
    return [one for one in records if one.protocol in TAUGHT_BY] or list(records)


def protocol_scores(records: Sequence[Records], number: int) -> pd.DataFrame:
    """Return the scores frame of one of the protocols; each fold is judged by what the others taught."""
    taught, one = _teaching(records), records[number]
    trust = {int(k): learn_trust(taught, one.rows[one.fold == k]) for k in np.unique(one.fold)}
    return scores(one, trust)


def all_scores(records: Sequence[Records]) -> pd.DataFrame:
    """Return the scores frame of all protocols, two at a time."""
    run = joblib.Parallel(n_jobs=WORKERS)
    parts = run(joblib.delayed(protocol_scores)(records, number) for number in range(len(records)))
    joined: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return joined


def point_scores(
    records: Sequence[Records], weights: Mapping[str, Mapping[str, float]] | None = None
) -> pd.DataFrame:
    """Return what `all_scores` says of `measured` and `blend` alone; learning intervals takes longer.

    weights: of the correction, by name in CORRECTED and stratum, in place of the learned ones.
    """
    frames = []
    taught = _teaching(records)
    for one in records:
        for fold in np.unique(one.fold):
            part = one.take(np.flatnonzero(one.fold == fold))
            learned = weights or _blend_weights(taught, [~np.isin(r.rows, part.rows) for r in taught])
            logs = predicted_log(part, learned)
            for metric, name in _LEARNED_AS.items():
                to_value = _value(part, metric)
                columns = {"measured": to_value(part.measured_s[name]), "blend": to_value(np.exp(logs[name]))}
                frame = part.sample.table[["row_id"]].assign(protocol=one.protocol, metric=metric, **columns)
                frames.append(frame.loc[np.isfinite(frame["measured"])])
    joined: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return joined


def scores(records: Records, trust: Mapping[int, Trust]) -> pd.DataFrame:
    """Return the scores frame of one protocol: one row per table row and metric.

    trust: by fold, learnt without that fold's rows.
    """
    frames = []
    table = records.sample.table
    columns = table[["row_id", "gpu", "model", "engine", "weight_precision", "mode", "source"]]
    for fold, learnt in trust.items():
        here = np.flatnonzero(records.fold == fold)
        part = records.take(here)
        logs = predicted_log(part, learnt.blend)
        keys = interval_keys(part.sample.requests, part.stratum)
        scale = spreads(learnt.spreads, part.matrix, part.raw, part.near, part.stratum)
        whole = log_times(part.sample.requests, part.sample.floor, part.base_s, part.raw)
        for metric, name in _LEARNED_AS.items():
            low, high = learnt.intervals[name].interval(logs[name], keys, scale[name])
            to_value = _value(part, metric)
            bounds = np.sort(np.stack([to_value(np.exp(low)), to_value(np.exp(high))]), axis=0)
            frame = columns.iloc[here].reset_index(drop=True).assign(
                protocol=records.protocol, fold=fold, metric=metric, row=records.rows[here],
                measured=to_value(part.measured_s[name]), blend=to_value(np.exp(logs[name])),
                corrected=to_value(np.exp(whole[name])),
                blend_lo=bounds[0], blend_hi=bounds[1], baseline=to_value(part.base_s[name]),
                floor=to_value(getattr(part.sample.floor, f"{name}_s")), support=levels(part.stratum),
                stratum=part.stratum,
            )  # fmt: skip
            for reference in ("neighbour", "pure_ml"):
                if f"{reference}_{metric}" in part.references:
                    frame[reference] = part.references[f"{reference}_{metric}"]
            frames.append(frame.loc[np.isfinite(frame["measured"])])
    joined: pd.DataFrame = pd.concat(frames, ignore_index=True)
    return joined


def _value(part: Records, metric: str) -> Callable[[FloatArray], FloatArray]:
    """Return the map from seconds to the metric's unit."""
    tokens = part.in_flight * part.sample.requests.osl
    return (lambda seconds: tokens / seconds) if metric == "output_tok_s" else (lambda seconds: seconds * 1e3)
