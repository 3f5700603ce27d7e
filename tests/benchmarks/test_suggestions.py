"""What a budget of measurements buys: setups chosen by `suggest` beside setups drawn at random.

A GPU is taken out of the table. Of its measured setups a few are put back, chosen or drawn; the boosters are
fitted anew, and the rest of the GPU's rows are answered. Minutes long: `python -m pytest tests/benchmarks -k
suggest -s` prints the table of docs/retrain.md.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from roofcast.data.store import BenchmarkStore
from roofcast.features.facts import FloatArray
from roofcast.predictor import Predictor
from roofcast.training.fit import Sample, Settings, fit, sample_of
from roofcast.training.metrics import METRICS
from roofcast.training.model.model import Model, answer
from roofcast.training.model.support import NEW_SOURCE, support_keys, support_of
from roofcast.training.suggest import KNOWN, choose, widths

GPUS = ("b200-sxm", "mi355x", "h200-sxm")
BUDGETS = (4, 16)
DRAWS = 6


@pytest.fixture(scope="module")
def sample() -> Sample:
    return sample_of(BenchmarkStore().load())


def _errors(model: Model, held: Sample) -> FloatArray:
    """Return each row's absolute percentage error, mean over what was measured of it."""
    answers = answer(model, held.requests)
    with np.errstate(all="ignore"):
        errors = [100 * np.abs(answers.values[m] / held.table[m].to_numpy(float) - 1) for m in METRICS]
    return np.asarray(np.nanmean(errors, axis=0))


def _compare(shipped: Model, sample: Sample, gpu: str) -> list[dict[str, Any]]:
    """Return a row per budget and random draw, the suggestion beside it.

    The error is taken on the rows that neither has measured; the width over all of the GPU's rows, by the
    strata they are in then.
    """
    on_it = (sample.table["gpu"] == gpu).to_numpy()
    inside, there = np.flatnonzero(~on_it), np.flatnonzero(on_it)
    base, asked = sample.take(inside), sample.take(there)
    settings = Settings(threads=1)
    fitted = fit(base, settings)
    start = replace(
        shipped, coefficients=fitted.coefficients, boosters=fitted.boosters, support=support_of(base.requests)
    )
    setup, width = support_keys(asked.requests)[3], widths(start, asked.requests)

    def measured(setups: Any) -> tuple[NDArray[np.bool_], FloatArray, float]:
        taken = np.isin(setup, setups)
        known = sample.take(np.concatenate([inside, there[taken]]))
        support = support_of(known.requests)
        strata = [KNOWN.index(s.removesuffix(NEW_SOURCE)) for s in support.stratum(asked.requests).tolist()]
        boosters = fit(known, settings, fitted.coefficients).boosters
        model = replace(start, boosters=boosters, support=support)
        return taken, _errors(model, asked), float(width[np.arange(len(setup)), strata].mean())

    rows = []
    rng = np.random.default_rng(0)
    for budget in BUDGETS:
        chosen = setup[[one.row for one in choose(start, asked.requests, budget)]]
        ours_taken, ours, our_width = measured(chosen)
        for _ in range(DRAWS):
            taken, drawn, width_then = measured(rng.choice(np.unique(setup), budget, replace=False))
            left = ~taken & ~ours_taken
            errors = {"suggest_error": np.nanmedian(ours[left]), "random_error": np.nanmedian(drawn[left])}
            sizes = {"suggest_width": our_width, "random_width": width_then}
            rows.append({"gpu": gpu, "budget": budget, "rows": int(left.sum()), **errors, **sizes})
    return rows


def test_suggested_setups_narrow_and_correct_more_than_random_ones(sample: Sample) -> None:
    shipped = Predictor.load().model
    rows = pd.DataFrame([row for gpu in GPUS for row in _compare(shipped, sample, gpu)])
    rows["wins"] = (rows["suggest_error"] < rows["random_error"]).astype(float)
    table = rows.groupby(["gpu", "budget"]).mean()
    table.round(3).to_string(sys.stdout)
    assert (table["suggest_width"] < table["random_width"]).all()
    assert table["suggest_error"].mean() < table["random_error"].mean()
