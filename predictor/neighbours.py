"""The measured rows nearest to a request, or of its set-up: what an answer can be held against."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np

from ..data.columns import FIGURES
from ..data.files import for_json
from ..data.identity import LENGTHS, LOAD
from ..data.vocabulary import PRECISIONS
from ..features.facts import FloatArray, IntArray
from ..features.memory import uses_host
from ..features.request import Requests, normalise
from ..training.model.support import set_up_keys, support_keys

# What another value costs, in units of a factor e in the tokens per prompt; a doubled length is 0.7.
_OTHER_CHIP, _OTHER_ARCHITECTURE, _OTHER_MODEL, _OTHER_ENGINE, _OTHER_KIND = 0.3, 0.5, 0.3, 0.5, 1.0
_BYTES = np.array([term.weight_bytes for term in PRECISIONS.terms])
# The table's columns that each part of the distance speaks of.
_COLUMNS = {
    "gpu": ("gpu",), "model": ("model",), "engine": ("engine",), "precision": ("weight_precision",),
    "layout": ("num_gpus", "tp", "pp", "ep", "dp"), "pools": ("disagg",), "speculation": ("spec_decode",),
    "mode": ("mode",), "lengths": ("isl", "osl"), "load": ("concurrency", "request_rate"),
}  # fmt: skip
_SAME, _NEAREST = 0.05, 5
CLOSE_LENGTHS = 1.3  # measured lengths within this factor are shown beside predicted ones


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """One measured row: how far it lies (0 is the same request), in what it differs, and who measured what.

    `differs` holds the row's own values where they are not those asked for; `measured` ms and tok/s, None
    where the row does not say, as of its load: requests in flight or per second.
    """

    row_id: str
    distance: float
    concurrency: float | None
    request_rate: float | None
    differs: dict[str, Any]
    measured: dict[str, float | None]
    engine_version: str
    date: str
    source: str
    source_ref: str

    @property
    def load(self) -> float:
        """The load it was measured at: requests per second where they were sent at a rate, else in flight."""
        return self.request_rate or self.concurrency or 0.0


def nearest(r: Requests) -> tuple[Neighbour, ...]:
    """Return the _NEAREST measured rows nearest to the first request; of equals the newest first.

    The distance is the sum of `distances`' parts. Raises BadStore where the table cannot be read.
    """
    table, known = _measured_rows()
    parts = distances(r, known)
    order = np.lexsort((-known.months, np.sum(list(parts.values()), axis=0)))
    return _neighbours(table, order[:_NEAREST], parts)


def of_set_up(r: Requests) -> tuple[Neighbour, ...]:
    """Return the measured rows of the first request's very set-up at any load, lengths near; by load.

    Raises BadStore where the table cannot be read.
    """
    table, known = _measured_rows()
    one = r.take(np.array([0]))
    alike = (set_up_keys(known) == set_up_keys(one)) & ~uses_host(one)
    alike &= np.abs(known.prefix_cached_frac - one.prefix_cached_frac) < _SAME
    for name in LENGTHS:
        alike &= np.abs(np.log(getattr(known, name) / getattr(one, name))) <= np.log(CLOSE_LENGTHS)
    load = np.where(np.isnan(known.request_rate), known.concurrency, known.request_rate)
    rows = np.flatnonzero(alike & ~np.isnan(load))
    rows = rows[np.argsort(load[rows], kind="stable")]
    return _neighbours(table, rows, distances(r, known))


def _neighbours(table: Any, rows: IntArray, parts: Mapping[str, FloatArray]) -> tuple[Neighbour, ...]:
    """Return rows of the table in this order, as far from the request as the parts say."""
    total, found = np.sum(list(parts.values()), axis=0), []
    for at in rows:
        row = table.iloc[at]
        differing = {c: _stated(row[c]) for k, part in parts.items() if part[at] > _SAME for c in _COLUMNS[k]}
        found.append(Neighbour(
            distance=float(total[at]), measured={name: _stated(row[name]) for name in FIGURES},
            differs={name: value for name, value in differing.items() if value is not None},
            **{name: _stated(row[name]) for name in LOAD},
            **{name: row[name] for name in ("row_id", "engine_version", "date", "source", "source_ref")},
        ))  # fmt: skip
    return tuple(found)


def _measured_rows() -> tuple[Any, Requests]:
    """Return the table's rows that can be asked for, and the requests that they answer; read once."""
    from ..data.store import BenchmarkStore

    path = BenchmarkStore().path
    return _read(os.fspath(path), path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=2)
def _read(path: str, changed_ns: int) -> tuple[Any, Requests]:
    from ..data.measurements import medians
    from ..data.store import BenchmarkStore

    table = medians(BenchmarkStore(path).load())
    requests = normalise(table)
    usable = np.flatnonzero(requests.valid)
    return table.iloc[usable].reset_index(drop=True), requests.take(usable)


def _stated(value: Any) -> Any:
    """Return a cell's value, None where the row does not say."""
    return for_json(value) if isinstance(value, float) else value or None


def distances(r: Requests, known: Requests) -> dict[str, FloatArray]:
    """Return how far each known request lies from the first of `r`, by kind of difference, shape (n,) each.

    Numbers count by the logarithm of their ratio, names by a fixed cost; see the constants of this module.
    """
    one = r.take(np.array([0]))
    shape = support_keys(known)[1] != support_keys(one)[1]

    def gap(*names: str) -> FloatArray:
        facts = [[np.maximum(attrgetter(name)(x), 1e-9) for x in (known, one)] for name in names]
        return np.asarray(sum(np.abs(np.log(there / here)) for there, here in facts))

    def other(name: str) -> FloatArray:
        return np.asarray(getattr(known, name) != getattr(one, name), dtype=np.float64)

    chip = _OTHER_CHIP + gap("gpu.bandwidth") + gap("gpu.peak_bf16")
    chip += _OTHER_ARCHITECTURE * (known.gpu.architecture != one.gpu.architecture)
    load = np.fmin(gap("concurrency"), gap("request_rate"))
    both_open = np.isnan(known.concurrency) & np.isnan(known.request_rate) & np.isnan(one.concurrency)
    return {
        "gpu": (known.gpu.codes != one.gpu.codes) * chip,
        "model": shape * (_OTHER_MODEL + gap("model.params_total", "model.params_active", "model.kv_values")),
        "engine": _OTHER_ENGINE * other("engine"),
        "precision": np.abs(np.log(_BYTES[known.weight_precision] / _BYTES[one.weight_precision])),
        "layout": gap("num_gpus", "tp") + 0.5 * gap("pp", "ep", "dp"),
        "pools": _OTHER_KIND * other("disagg"),
        "speculation": _OTHER_KIND * other("spec_decode"),
        "mode": _OTHER_KIND * other("mode"),
        "lengths": gap("isl", "osl"),
        "load": 0.5 * np.where(both_open, 0.0, np.where(np.isnan(load), 2.0 * _OTHER_KIND, load)),
    }
