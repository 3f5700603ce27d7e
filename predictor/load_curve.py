"""The load curve: one configuration, answered at every load from one request to all that it holds.

The load is a number of requests in flight (a closed loop, or static batches) or a request rate (an open
loop). The configuration is understood once and held fixed; one call answers all loads, so close together that
the largest one that holds given limits can be read off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.columns import BOUNDS, GOODPUT
from ..data.errors import BadRequest
from ..data.files import for_json
from ..data.identity import LOAD
from ..features.facts import FloatArray
from ..features.measured import MeasuredFabric
from ..features.memory import memory_fit
from ..features.percentiles import log_percentile, users_spreads
from ..features.request import Requests
from ..features.serving import sent_at_a_rate
from ..features.work import decode_layout
from ..training.model.model import Answers, Model, answer
from ..training.model.times import PERCENTS
from .load_axis import AT_RATE, Axis
from .neighbours import Neighbour, of_set_up
from .prediction import BOUNDED, Prediction, Remark, Shown, numbers_of, times_at

if TYPE_CHECKING:
    import pandas as pd

LIMITED = ("ttft_ms", "tpot_ms")
USERS = "users_"  # percentiles of users, who do not all start at once as a benchmark's requests do
_SATURATED = 0.95  # of the most throughput
_FULL = 1.001  # in flight over the batch: above, somebody waits for a slot


@dataclass(frozen=True, kw_only=True)
class LargestLoad(Shown):
    """The largest load that holds `limits` [ms] at a percentile [%] of the requests; None where none does.

    load_lo, load_hi: the same with the times at the upper and at the lower end of their 90 % interval.
    limited_by: the limit that the next load breaks (where none holds: the one that is missed most), or
    "capacity": no more has a slot, or is sustained; "memory" where the configuration does not fit. times: at
    that load, or the least of any [ms].
    """

    over: str
    limits: Mapping[str, float]
    percentile: float
    load: float | None
    load_lo: float | None
    load_hi: float | None
    limited_by: str
    times: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        plain: dict[str, Any] = for_json(asdict(self))
        return plain


@dataclass(frozen=True, kw_only=True)
class Curve(Shown):
    """One configuration at every load, the least first.

    request: as understood, all but the load. over: "concurrency" [requests in flight] or "request_rate"
    [1/s]. columns: by name a number for each load: the load; `concurrency`; the answers of a `Prediction`
    with `_lo` and `_hi`; `ttft_pN_ms` and `tpot_pN_ms` for each N of `percentiles` (the
    median has the plain names), as a benchmark client measures them, and with `users_` before the name of
    users, who do not all start at once: what limits are held against; `kv_bytes` and `free_bytes` per GPU
    [B]; `served`, 1 where everybody has a slot, or the rate is sustained. shown: the places of the loads that
    were asked for, or are round; the others lie between. most: the requests that memory and the engine hold
    at once, or the rate that is sustained. memory: bytes per GPU [B]. measured: rows of the same set-up, by
    load. A configuration that does not fit (`feasible` False) has no loads; `reason` and `memory` say why.
    """

    request: Mapping[str, Any]
    over: str
    columns: Mapping[str, tuple[float, ...]]
    shown: tuple[int, ...]
    percentiles: tuple[float, ...]
    most: float
    memory: Mapping[str, float]
    support: str
    feasible: bool
    reason: str
    notes: tuple[Remark, ...]
    measured: tuple[Neighbour, ...]

    @property
    def points(self) -> list[dict[str, float]]:
        """The loads that are shown, each with its numbers by name."""
        return [self._row(at) for at in self.shown]

    def at(self, load: float) -> dict[str, float]:
        """Return the numbers at the load nearest to this one; of a configuration that fits."""
        return self._row(int(np.abs(np.log(self._column(self.over) / load)).argmin()))

    @property
    def saturation(self) -> float | None:
        """The smallest load whose throughput is within 5 % of the most that any served load has.

        More load buys waiting, not tokens. None where the configuration does not fit.
        """
        if not self.feasible:
            return None
        rate = self._served("output_tok_s")
        return float(self._served(self.over)[rate >= _SATURATED * rate.max()].min())

    def largest(
        self, *, ttft_ms: float | None = None, tpot_ms: float | None = None,
        percentile: float = float(PERCENTS[0]),
    ) -> LargestLoad:  # fmt: skip
        """Return the largest load at which so many % of the requests keep within these limits [ms].

        Raises BadRequest for no limit, one that is not above 0, or a percentile that the curve does not have.
        """
        limits = {k: float(v) for k, v in zip(LIMITED, (ttft_ms, tpot_ms), strict=True) if v is not None}
        for name, limit in limits.items() or ((LIMITED[0], None),):
            if limit is None or not limit > 0.0:
                raise BadRequest(name, limit, f"a number above 0 for {' or '.join(LIMITED)}, or for both")
        if percentile not in self.percentiles:
            known = ", ".join(f"{percent:g}" for percent in self.percentiles)
            raise BadRequest("percentile", percentile, f"one of the curve's, {known}")
        loads, times = self._served(self.over), {}
        for name in limits:
            over = self._served(USERS + percentile_name(name, percentile)) / self._served(name)
            times[name] = {bound: over * self._served(name + bound) for bound in BOUNDS}
        held = {}
        for bound in BOUNDS:
            within = [times[name][bound] <= limit for name, limit in limits.items()]
            held[bound] = float(loads[np.logical_and.reduce(within)].max(initial=0.0)) or None
        if held[""] is None:
            there = after = {name: float(time[""].min(initial=np.inf)) for name, time in times.items()}
        else:
            here = int(np.searchsorted(loads, held[""]))
            beyond = min(here + 1, len(loads) - 1)
            there, after = ({k: float(time[""][at]) for k, time in times.items()} for at in (here, beyond))
        broken = max(limits, key=lambda name: after[name] / limits[name])
        spared = "capacity" if self.feasible else "memory"
        return LargestLoad(
            over=self.over, limits=limits, percentile=percentile, times=there,
            load=held[""], load_lo=held["_hi"], load_hi=held["_lo"],
            limited_by=broken if limits[broken] < after[broken] < np.inf else spared,
        )  # fmt: skip

    def to_frame(self) -> pd.DataFrame:
        """Return the loads that are shown as a frame, a row each."""
        import pandas as pd

        return pd.DataFrame(self.points, columns=[*self.columns])

    def to_dict(self) -> dict[str, Any]:
        """Return the request, the loads that are shown and what was measured as plain values, for JSON."""
        facts = ("over", "feasible", "reason", "support", "most", "saturation", "memory", "percentiles")
        plain: dict[str, Any] = for_json({
            **self.request, **{name: getattr(self, name) for name in facts}, "points": self.points,
            "measured": [asdict(row) for row in self.measured],
        })  # fmt: skip
        return plain

    def _column(self, name: str) -> FloatArray:
        return np.array(self.columns[name], dtype=np.float64)

    def _served(self, name: str) -> FloatArray:
        """Return a column's numbers at the loads that are served."""
        return self._column(name)[self._column("served") > 0.0]

    def _row(self, at: int) -> dict[str, float]:
        return {name: values[at] for name, values in self.columns.items()}


def percentile_name(name: str, percent: float) -> str:
    """Return the column of a time at a percentile [%]; the median has the plain name.

    >>> percentile_name("ttft_ms", 99.0), percentile_name("ttft_ms", 50.0)
    ('ttft_p99_ms', 'ttft_ms')
    """
    return name if percent == 50.0 else f"{name.removesuffix('_ms')}_p{percent:g}_ms"


def load_curve(
    found: Prediction, model: Model, r: Requests, axis: Axis, fabric: MeasuredFabric | None,
    percentiles: Sequence[float], measured: bool,
) -> Curve:  # fmt: skip
    """Return the curve of a request as it was understood; `Predictor.curve` is the door.

    Raises BadStore where the table of measured rows cannot be read.
    """
    fit = memory_fit(r)
    memory = {"weights": fit.weight_bytes, "sequence": fit.sequence_bytes, "needed": fit.needed_bytes,
              "available": fit.available_bytes}  # fmt: skip
    # What does not fit has the columns, and no loads.
    most = axis.most(r, model, fabric) if found.feasible else 0.0
    loads, shown = axis.loads(most) if found.feasible else (np.ones(1), np.zeros(0))
    at_loads = axis.put(r, loads)
    columns = _columns(at_loads, answer(model, at_loads, fabric), percentiles)
    if found.feasible and axis.over == AT_RATE:
        most = float(loads[columns["served"] > 0.0].max(initial=0.0))
    if not axis.asked:
        # Where throughput has reached its most, or nobody is served, further loads are not worth a line.
        peak = loads[np.argmax(columns["output_tok_s"])]
        shown = np.union1d(shown[shown < most], [most] if most else [])
        shown = shown[: np.searchsorted(shown, peak) + 1]
    kept = slice(None) if found.feasible else slice(0)
    return Curve(
        request={k: v for k, v in found.request.items() if k not in LOAD}
        | {"mode": axis.mode, "arrival": axis.arrival},
        over=axis.over, columns={name: tuple(values[kept].tolist()) for name, values in columns.items()},
        shown=tuple(np.searchsorted(loads, shown).tolist()), most=most,
        percentiles=tuple(map(float, percentiles)),
        memory={f"{name}_bytes": float(values[0]) for name, values in memory.items()},
        support=found.support, feasible=found.feasible, reason=found.reason, notes=found.notes,
        measured=of_set_up(axis.put(r, [1.0])) if measured and found.feasible else (),
    )  # fmt: skip


def _columns(r: Requests, answers: Answers, percentiles: Sequence[float]) -> dict[str, FloatArray]:
    """Return the columns of a `Curve`, shape (n,) each."""
    base, values, fit = answers.baseline, answers.values, memory_fit(r)
    at_rate, rate = sent_at_a_rate(r), values["output_tok_s"] / r.osl
    kv = base.batch / decode_layout(r).dp * fit.held_bytes
    slots = base.concurrency <= base.batch * r.replicas * _FULL
    # Little's law gives the requests in flight at a rate.
    in_flight = np.where(at_rate, rate * values["e2e_ms"] / 1e3, r.concurrency)
    columns = {"request_rate": r.request_rate} if at_rate.all() else {}
    # Goodput where limits were asked for.
    numbers = {k: v for k, v in numbers_of(answers).items() if k in BOUNDED or np.isfinite(v).any()}
    good = [name for name in numbers if name.startswith(GOODPUT)]
    columns |= {"concurrency": in_flight, **{name: numbers[name] for name in (*BOUNDED, *good)}}
    others = [percent for percent in percentiles if percentile_name(LIMITED[0], percent) not in values]
    times = times_at(answers.requests, answers, others) if others else {}
    columns |= {percentile_name(k, p): times[k][i] for i, p in enumerate(others) for k in LIMITED}
    for percent in percentiles:
        for name, width in zip(LIMITED, users_spreads(answers.requests, base, percent), strict=True):
            log = log_percentile(values[name][:, None], width[:, None], np.ones(1), percent)
            columns[USERS + percentile_name(name, percent)] = np.exp(log)
    free = np.maximum(fit.available_bytes - fit.weight_bytes - kv, 0.0)
    served = np.where(at_rate, base.stable, slots).astype(np.float64)
    return columns | {"kv_bytes": kv, "free_bytes": free, "served": served}
