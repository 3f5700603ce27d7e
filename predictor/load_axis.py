"""The loads of a curve: those asked for, and the steps from one request to all that a configuration holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from ..data.columns import COLUMNS
from ..data.errors import BadRequest
from ..data.identity import LOAD
from ..data.vocabulary import ARRIVALS, MODES
from ..features.facts import FloatArray
from ..features.measured import MeasuredFabric
from ..features.request import Requests
from ..training.model.model import Model, answer

# Numbers; or in words "1,2,8", "1-64" (round numbers between) or "auto" (all that the configuration holds).
Loads: TypeAlias = Sequence[float] | float | str | None
IN_FLIGHT, AT_RATE = LOAD
# By axis: the modes, and how requests come; a burst is an offline run of so many prompts.
_MODES = {IN_FLIGHT: ("closed-loop", "static-batch"), AT_RATE: ("open-loop", "server")}
_ARRIVALS = {IN_FLIGHT: ("steady", "burst"), AT_RATE: ("poisson", "constant")}
_BY = {"mode": _MODES, "arrival": _ARRIVALS}
_MIDDLE = 32.0  # requests in flight at which the configuration is understood where no load was asked for
_MORE_THAN_ANY = {"concurrency": 1e9, "request_rate": 1e12}
_EACH_TO, _STEP = 128.0, 1.02  # every number in flight up to here, then this factor apart
_SHARES = (0.02, 0.05, *np.arange(1, 10) / 10.0, 0.95, 1.0)  # of the rate that is sustained


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What the load is, "concurrency" or "request_rate"; the mode; how requests come; the loads asked for.

    asked: empty for all that a configuration holds.
    """

    over: str
    mode: str
    arrival: str
    asked: tuple[float, ...]

    @classmethod
    def of(cls, request: Mapping[str, Any], concurrency: Loads, rates: Loads) -> Axis:
        """Return the axis of loads as they were asked for; raises BadRequest for what is none.

        request: may hold mode and arrival.
        """
        if concurrency is not None and rates is not None:
            raise BadRequest("rates", rates, "either concurrency or rates")
        mode, arrival = (MODES.find(request.get("mode") or ""), ARRIVALS.find(request.get("arrival") or ""))
        at_rate = rates is not None or (concurrency is None and mode in _MODES[AT_RATE])
        over = AT_RATE if at_rate else IN_FLIGHT
        burst = not at_rate and arrival == "burst"
        modes = ("offline",) if burst else _MODES[over]
        for name, found, allowed in (("mode", mode, modes), ("arrival", arrival, _ARRIVALS[over])):
            if request.get(name) and found not in allowed:
                other = "" if at_rate or burst else f"; with rates {' or '.join(_BY[name][AT_RATE])}"
                raise BadRequest(name, request[name], " or ".join(allowed) + other)
        asked = _numbers(over, rates if at_rate else concurrency)
        return cls(over=over, mode=mode or modes[0], arrival=arrival or _ARRIVALS[over][0], asked=asked)

    @property
    def middle(self) -> dict[str, Any]:
        """The load at which the configuration is understood, as request columns."""
        if self.asked or self.over == IN_FLIGHT:
            load = self.asked[len(self.asked) // 2] if self.asked else _MIDDLE
            return {"mode": self.mode, "arrival": self.arrival, self.over: load}
        return {"mode": _MODES[IN_FLIGHT][0], "arrival": None, IN_FLIGHT: _MIDDLE}

    def put(self, r: Requests, loads: Sequence[float] | FloatArray) -> Requests:
        """Return the first request at each of these loads."""
        n = len(loads)
        load, none = np.array(loads, dtype=np.float64), np.full(n, np.nan)
        return replace(
            r.take(np.zeros(n, dtype=np.int64)), mode=np.full(n, MODES.index(self.mode)),
            arrival=np.full(n, ARRIVALS.index(self.arrival)),
            concurrency=load if self.over == IN_FLIGHT else none,
            request_rate=load if self.over == AT_RATE else none,
        )  # fmt: skip

    def most(self, r: Requests, model: Model, fabric: MeasuredFabric | None) -> float:
        """Return the requests that memory and engine hold at once, or the most requests per second [1/s].

        At a rate that is the larger one of the physics' limit and of what is answered beyond it.
        """
        beyond = answer(model, self.put(r, [_MORE_THAN_ANY[self.over]]), fabric)
        if self.over == IN_FLIGHT:
            return float(beyond.baseline.batch[0] * r.replicas[0])
        return max(float(beyond.baseline.request_s[0]), float(beyond.values["output_tok_s"][0] / r.osl[0]))

    def loads(self, most: float) -> tuple[FloatArray, FloatArray]:
        """Return all loads up to `most`, rising and close together, and those to be shown."""
        if self.over == IN_FLIGHT:
            steps = np.arange(1, math.ceil(math.log(max(most / _EACH_TO, 1.0), _STEP)) + 1)
            fine = np.append(np.arange(1.0, _EACH_TO + 1.0), np.floor(_EACH_TO * _STEP**steps))
            fine, shown = np.minimum(fine, most), np.array(_between(1.0, most))
        else:
            scale = 10.0 ** (2 - math.floor(math.log10(most)))  # three digits are enough
            fine = np.maximum(np.floor(most * scale * np.arange(1, 101) / 100.0), 1.0) / scale
            shown = fine[np.round(np.array(_SHARES) * 100).astype(np.int64) - 1]
        shown = np.array(self.asked) if self.asked else np.unique(shown)
        return np.union1d(fine, shown), shown


def _numbers(over: str, given: Loads) -> tuple[float, ...]:
    """Return the loads that were asked for, rising; none for None and "auto"."""
    if given is None or given == "auto":
        return ()
    column, found = COLUMNS[over], tuple[float, ...]()
    try:
        if isinstance(given, str) and "," not in given and "-" in given:
            low, high = map(float, given.split("-"))
            found = _between(low, high) if 0.0 < low <= high < math.inf else ()
        else:
            many = given.split(",") if isinstance(given, str) else given
            found = tuple(map(float, [many] if isinstance(many, int | float) else many))
    except (TypeError, ValueError):
        pass  # no numbers: refused below
    if not found or not all(column.low <= load <= column.high for load in found):
        each = f"each from {column.low:g} to {column.high:g}"
        raise BadRequest(over, given, f"numbers (1,2,8), a range (1-64) or auto, {each}")
    return tuple(sorted(set(found)))


def _between(low: float, high: float) -> tuple[float, ...]:
    """Return both ends, and between them the powers of two and the middles of those.

    >>> _between(1.0, 10.0)
    (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
    """
    powers = 2.0 ** np.arange(math.floor(math.log2(low)), math.log2(high) + 1.0)
    steps = np.append(powers, 1.5 * powers)
    steps = steps[(steps > low) & (steps < high) & ((low % 1.0 > 0.0) | (steps % 1.0 == 0.0))]
    return tuple(sorted({low, *steps.tolist(), high}))
