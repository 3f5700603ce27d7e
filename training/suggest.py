"""Suggest what to measure next on a platform: the setups that would narrow the intervals of most questions.

A measured setup moves questions nearer to what is known: its own (another load of it) to the stratum
`setup`, those of its GPU, model shape and engine to `family`, those of its shape to `parts`. Each stratum has
its calibrated interval, so the gain of a setup is known before it is measured: the sum, over the questions it
moves, of how much their log interval narrows. Setups are taken greedily, each judged given those before it;
since the gain of one more never grows, that is within 1 - 1/e of the best choice (Nemhauser et al. 1978).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..data import catalogue
from ..data.errors import BadRequest
from ..data.store import BenchmarkStore
from ..features.baseline import floor, floor_and_baseline
from ..features.facts import FloatArray
from ..features.frame import feature_matrix
from ..features.request import Requests, normalise
from .model.model import Model, corrections, interval_keys, spreads
from .model.support import NEW_SOURCE, STRATA, support_keys
from .model.times import LEARNED

ENGINES = {"nvidia": ("vllm", "trtllm", "sglang"), "amd": ("vllm", "sglang")}
_BITS = {"bf16": 16, "fp8": 8, "fp4": 4, "int4": 4}
LENGTHS = ((1024, 1024), (1024, 8192), (8192, 1024))
LOADS = (1, 8, 64)
SETUP_COLUMNS = ["model", "engine", "weight_precision", "tp", "isl", "osl"]
_ALIKE = 0.05  # gains that differ by less are a tie
# The source of a measurement to come is not asked about.
KNOWN = tuple(name for name in STRATA if not name.endswith(NEW_SOURCE))
_SETUP, _FAMILY, _PARTS, _MODEL, _GPU = range(len(KNOWN))


class Choice(NamedTuple):
    """A setup: row among the questions, how many come nearer, by how much the mean log interval narrows."""

    row: int
    moved: int
    narrowed: float


def widths(model: Model, r: Requests) -> FloatArray:
    """Return log(upper / lower), mean over times, as if each request were in each stratum, shape (n, 5)."""
    low, base = floor_and_baseline(r, model.coefficients)
    matrix, _ = feature_matrix(r, low, base)
    raw, near = corrections(model.boosters, model.residuals, r, base, matrix)
    out = np.zeros((len(r), len(KNOWN)))
    for column, name in enumerate(KNOWN):
        stratum = np.full(len(r), name)
        spread = spreads(model.spreads, matrix, raw, near, stratum)
        keys = interval_keys(r, stratum)
        for time in LEARNED:
            lower, upper = model.intervals[time].interval(np.zeros(len(r)), keys, spread[time])
            out[:, column] += (upper - lower) / len(LEARNED)
    # Knowing more is never counted as a loss, however few rows a nearer stratum was calibrated on.
    narrower: FloatArray = np.minimum.accumulate(out[:, ::-1], axis=1)[:, ::-1]
    return narrower


def choose(model: Model, r: Requests, budget: int, weight: FloatArray | None = None) -> list[Choice]:
    """Choose up to `budget` setups among the requests, all on one GPU, best first.

    weight: how often each request is asked, shape (n,) (None: once). Ends early where nothing gains. Of those
    that gain alike, the one most like its family's goes first: likeness is exp(-octaves / 2) over layout,
    lengths and precision, less that to the nearest chosen one.
    """
    asked = np.ones(len(r)) if weight is None else weight
    covered, width = np.zeros(len(r)), widths(model, r)
    keys = support_keys(r)  # of GPU, shape, family and setup
    rings = [(s, np.unique(keys[3 - s], return_inverse=True)[1]) for s in (_PARTS, _FAMILY, _SETUP)]
    octaves = np.stack([np.log2(r.tp), np.log2(r.isl), np.log2(r.osl), 4.0 * r.weight_precision], axis=1)
    # Each request's stratum once a first measurement has made the GPU known.
    named = model.support.stratum(r)
    now = np.array([KNOWN.index(str(stratum).removesuffix(NEW_SOURCE)) for stratum in named])
    seen = np.isin(keys[1], model.support.shapes)
    now = np.where(now == _GPU, np.where(seen, _PARTS, _MODEL), now)
    chosen: list[Choice] = []
    for _ in range(budget):
        nearer, gain = width[np.arange(len(r)), now], np.zeros(len(r))
        for stratum, ring in rings:
            then = np.minimum(nearer, width[:, stratum])
            gain += np.bincount(ring, asked * (nearer - then))[ring]
            # A narrower ring gains again only what it adds to the wider one round it.
            nearer = then
        if gain.max() <= 0:
            break
        ties = np.flatnonzero(gain > (1 - _ALIKE) * gain.max())
        family = rings[1][1]
        ties, members = ties[family[ties] == family[ties[0]]], np.flatnonzero(family == family[ties[0]])
        spots, first = np.unique(octaves[ties], axis=0, return_index=True)
        likeness = np.exp(-0.5 * np.abs(spots[:, None] - octaves[members][None]).sum(axis=2))
        central = (np.maximum(likeness - covered[members], 0.0) * asked[members]).sum(axis=1).argmax()
        covered[members] = np.maximum(covered[members], likeness[central])
        best = int(ties[first[central]])
        before = now
        for stratum, ring in rings:
            now = np.where(ring == ring[best], np.minimum(now, stratum), now)
        moved = int((now < before).sum())
        chosen.append(Choice(row=best, moved=moved, narrowed=float(gain[best] / asked.sum())))
    return chosen


def questions(platform: str, models: Sequence[str] = ()) -> pd.DataFrame:
    """Return what can be asked of a platform: models, engines, precisions, layouts, lengths and loads.

    models: names (none given: the catalogue's). Raises UnknownName for a platform or model that is not known.
    """
    where = catalogue.platform(platform)
    gpu = catalogue.gpu(where.gpu)
    names = [catalogue.model(name).name for name in models] or list(catalogue.models())
    degrees = [tp for tp in (1, 2, 4, 8) if tp <= where.num_gpus]
    rows = product(names, ENGINES.get(gpu.vendor, ("vllm",)), _BITS, degrees, LENGTHS, LOADS)
    columns = ["model", "engine", "weight_precision", "tp", "lengths", "concurrency"]
    frame = pd.DataFrame(rows, columns=columns).assign(gpu=gpu.name, platform=where.name)
    published = {name: catalogue.model(name).native_weight_precision for name in names}
    own = frame["model"].map(published).replace("mxfp4", "fp4")
    # Nobody serves weights wider than the ones published, or narrower than the chip multiplies.
    narrow = frame["weight_precision"].map(_BITS) < own.map(_BITS)
    units = frame["weight_precision"].map(gpu.has_units)
    frame = frame[(frame["weight_precision"] == own) | (narrow & units)].reset_index(drop=True)
    frame[["isl", "osl"]] = pd.DataFrame(frame.pop("lengths").tolist())
    return frame


def suggest(
    model: Model, *, platform: str, budget: int, models: Sequence[str] = (), store: Path | None = None
) -> pd.DataFrame:
    """Return the `budget` setups to measure next on a platform, best first, a row each.

    Every setup is one server to start and LOADS to run on it. A model counts by the square root of how often
    the table in `store` measures it, and once at least. Columns: the setup, support now, moved, narrowed (see
    Choice). Raises UnknownName for names not known, BadRequest for a budget under 1.
    """
    if budget < 1:
        raise BadRequest("budget", budget, "1 or more")
    asked = questions(platform, models)
    r = normalise(asked)
    fits = np.flatnonzero(r.valid & floor(r).feasible)
    asked, r = asked.iloc[fits].reset_index(drop=True), r.take(fits)
    demand = BenchmarkStore(store).load()["model"].value_counts()
    rows = asked["model"].map(demand).fillna(0.0).to_numpy(dtype=np.float64)
    chosen = choose(model, r, budget, np.sqrt(np.maximum(rows, 1.0)))
    taken = [one.row for one in chosen]
    return asked.loc[taken, SETUP_COLUMNS].reset_index(drop=True).assign(
        concurrency=", ".join(map(str, LOADS)), support=model.support.stratum(r)[taken],
        moved=[one.moved for one in chosen], narrowed=[one.narrowed for one in chosen],
    )  # fmt: skip
