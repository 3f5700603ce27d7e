"""Out-of-fold predictions: each protocol's folds are fitted apart, on their training groups alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from ..data.progress import Progress, silent
from ..features.baseline import baseline
from ..features.facts import FloatArray
from ..features.frame import feature_matrix
from . import splits
from .fit import Fitted, Sample, Settings, fit, measured_seconds
from .model.model import corrections
from .model.support import support_of
from .model.times import base_seconds
from .references import references_of

WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Records:
    """Out-of-fold predictions of n rows of a sample; shape (n,) but for the matrix of features, (n, k).

    rows: positions in the sample; fold: which one tested each. By name in CORRECTED: measured_s, base_s [s],
    raw, the whole log correction, near, how much was measured near. references: by "name_metric", or empty.
    """

    protocol: str
    sample: Sample
    rows: NDArray[np.intp]
    fold: NDArray[np.intp]
    stratum: NDArray[np.str_]
    matrix: FloatArray
    in_flight: FloatArray
    measured_s: Mapping[str, FloatArray]
    base_s: Mapping[str, FloatArray]
    raw: Mapping[str, FloatArray]
    near: Mapping[str, FloatArray]
    references: Mapping[str, FloatArray]

    @cached_property
    def held(self) -> Sample:
        """The rows themselves."""
        return self.sample.take(self.rows)

    def take(self, positions: NDArray[np.intp]) -> Records:
        """Return the records of a subset."""
        return replace(self, **{k: _by_name(lambda x: x[positions], getattr(self, k)) for k in _BY_ROW})


_BY_ROW = tuple(field.name for field in fields(Records))[2:]  # all but protocol and sample


def joined(records: Sequence[Records]) -> Records:
    """Return records of one sample as one, in order; the protocol is the first one's."""
    return replace(records[0], **{k: _stacked([getattr(one, k) for one in records]) for k in _BY_ROW})


def _by_name(work: Callable[..., Any], *values: Any) -> Any:
    """Apply `work` to arrays, or to those under each name of mappings."""
    if isinstance(values[0], Mapping):
        return {name: work(*(value[name] for value in values)) for name in values[0]}
    return work(*values)


def _stacked(parts: Sequence[Any]) -> Any:
    return _by_name(lambda *arrays: np.concatenate(arrays), *parts)


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """A way to learn that is judged beside: its settings, and which rows of the sample it may see, (n,).

    It takes each fold's physics as calibrated on all of the fold's rows, so that only the learning differs.
    """

    settings: Settings
    rows: NDArray[np.bool_]


def cross_fit(
    sample: Sample, protocols: Sequence[str], settings: Settings, *, n_folds: int | None = None,
    references: bool = False, champion: Procedure | None = None,
    reworded: Mapping[str, Sequence[Sample]] | None = None, progress: Progress = silent,
) -> list[Records]:  # fmt: skip
    """Predict every row by a model that saw none of its group, under each protocol; two folds at a time.

    n_folds: per protocol (None: its own number). references: predict by nearest neighbour and by pure ML too.
    champion: predict by that procedure on the same folds too; its records follow, in the same order.
    reworded: by protocol, the sample's rows in other words, row for row, to be answered by the same models;
    their records come last.
    """
    folds = {p: splits.protocol_folds(sample.table, p, n_folds, settings.seed) for p in protocols}
    tasks = [(p, k, train, test) for p in protocols for k, (train, test) in enumerate(folds[p])]
    run = joblib.Parallel(n_jobs=WORKERS, return_as="generator")
    alone, again = replace(settings, threads=1), reworded or {}
    work = run(
        joblib.delayed(_fold)(
            sample, train, test, alone, references, champion, [one.take(test) for one in again.get(p, ())]
        )
        for p, _, train, test in tasks
    )
    done: list[list[dict[str, Any]]] = []
    for protocol, k, _, _ in tasks:
        done.append(next(work))
        progress(f"{protocol}: fold {k + 1} of {len(folds[protocol])}", len(done) / len(tasks))

    def records(protocol: str, answer: int, sample: Sample = sample) -> Records:
        mine = [
            {"rows": test, "fold": np.full(len(test), k), **answered[answer]}
            for (name, k, _, test), answered in zip(tasks, done, strict=True)
            if name == protocol
        ]
        parts = {name: _stacked([part[name] for part in mine]) for name in mine[0]}
        return Records(protocol=protocol, sample=sample, **parts)

    procedures = 2 if champion else 1
    own = [records(p, procedure) for procedure in range(procedures) for p in protocols]
    return own + [records(p, procedures + i, one) for p in again for i, one in enumerate(again[p])]


def _fold(
    sample: Sample, train: NDArray[np.intp], test: NDArray[np.intp], settings: Settings, references: bool,
    champion: Procedure | None, reworded: Sequence[Sample],
) -> list[dict[str, Any]]:  # fmt: skip
    """Fit one fold; return what it, and the champion's procedure, say of the tested rows; last, reworded."""
    learnt, held = sample.take(train), sample.take(test)
    fitted = fit(learnt, settings, asked=None if reworded else held.requests)
    compared = references_of(sample.table, train, test, settings.seed) if references else {}
    out = [answers(fitted, learnt, held) | {"references": compared}]
    if champion is not None:
        known = sample.take(train[champion.rows[train]])
        other = fit(known, replace(champion.settings, threads=1), fitted.coefficients, held.requests)
        out.append(answers(other, known, held) | {"references": {}})
    return out + [answers(fitted, learnt, one) | {"references": {}} for one in reworded]


def answers(fitted: Fitted, learnt: Sample, held: Sample) -> dict[str, Any]:
    """Return what a model fitted on `learnt` says of the rows of `held`, by field of Records."""
    base = baseline(held.requests, fitted.coefficients)
    matrix, _ = feature_matrix(held.requests, held.floor, base)
    raw, near = corrections(fitted.boosters, fitted.residuals, held.requests, base, matrix)
    return {
        "stratum": support_of(learnt.requests).stratum(held.requests), "matrix": matrix,
        "in_flight": base.concurrency, "measured_s": measured_seconds(held, base), "raw": raw, "near": near,
        "base_s": base_seconds(held.requests, base),
    }  # fmt: skip
