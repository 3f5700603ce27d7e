"""The advisor: the cheapest deployment that carries a workload within its limits.

What is least is the expected cost: cost per hour over the probability that the limits hold, among deployments
where that reaches the confidence asked for. Costs within `TIE` of each other are equal, for prices are not
known better: the fewest boxes win.

Two passes. The first predicts every configuration of every platform at a ladder of loads per offer (box, or
part of a rack): that gives each one's capacity, the load up to which the limits hold, and with it how many
are needed and where another platform becomes cheaper. The second predicts the most promising ones on exactly
so many offers, and some more or less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...data import catalogue
from ...data.errors import BadRequest
from ...data.specs import PlatformSpec
from ...features.facts import FloatArray, IntArray
from ...features.memory import memory_fit
from ...features.request import normalise
from ..predictor import Predictor
from .economics import Economics
from .outcomes import TERMS, Outcomes, outcomes
from .recommendation import Crossover, Deployment, Recommendation, Rejected, Replacement
from .space import MOST_BOXES, Configuration, configurations, frame_of, offers
from .words import budget_words, closest_words, fit_words, miss_words, reason_words
from .workload import Workload, resolve_model

_STEP = 1.8  # ladder of loads, each this many times the last
_ABOVE, _BELOW = 6, 18  # rungs above and below the workload's own load
KEPT = 24  # configurations per platform that the physics leaves to be predicted; 48 chose no other
_TRIED = 8  # configurations per platform that the second pass predicts exactly
_NUMBERS = np.array([1.0, 1.15, 1.4, 2.0])  # of the fewest offers that hold the limits
TIE = 1.1  # the least range of a purchase price in the catalogue is 12 % (low to high)
_SAME_ROOM = 0.05  # in log time: no more room than this is worth another price
_STEPS = 160  # loads looked at on each side for a crossover


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """Configurations on so many offers each, with what the workload meets there; shape (n,)."""

    places: IntArray
    count: FloatArray
    outcomes: Outcomes


class Advisor:
    """Recommends deployments from a predictor and economic assumptions."""

    def __init__(self, predictor: Predictor, economics: Economics | None = None) -> None:
        self.predictor = predictor
        self.economics = economics or Economics()

    @classmethod
    def load(cls, bundle: str | Path | None = None, economics: Economics | None = None) -> Advisor:
        """Load the predictor's bundle as `Predictor.load` does."""
        return cls(Predictor.load(bundle), economics)

    def recommend(self, workload: Workload, confidence: float = 0.5) -> Recommendation:
        """Return the best deployment of each platform whose limits hold with that probability, best first.

        Impossible limits are an answer: nothing is ranked, and `closest` says how near one can come. Raises
        UnknownName and BadRequest for names and values, among them a budget under the cheapest platform.
        """
        if not 0 < confidence < 1:
            raise BadRequest("confidence", confidence, "above 0 and below 1")
        return _Search(self, workload, confidence).recommendation()

    def replaces(self, platform: str, instead: str, workload: Workload) -> Replacement:
        """Return how many `instead` platforms one `platform` replaces under the workload's limits.

        Each in its best configuration, at the load up to which the limits hold as often as not; the interval
        joins those of the two throughputs as independent: log widths in quadrature.
        """
        ends = []
        for name in (platform, instead):
            alone = replace(workload, platforms=(name,), budget_usd=None, budget_usd_per_hour=None)
            ends.append(_Search(self, alone, 0.5).full_speed())
        ratio = ends[0][""] / ends[1][""]
        down = math.hypot(math.log(ends[0][""] / ends[0]["_lo"]), math.log(ends[1]["_hi"] / ends[1][""]))
        up = math.hypot(math.log(ends[0]["_hi"] / ends[0][""]), math.log(ends[1][""] / ends[1]["_lo"]))
        lo, hi = ratio * math.exp(-down), ratio * math.exp(up)
        return Replacement(platform=platform, instead=instead, value=ratio, lo=lo, hi=hi)


class _Search:
    """One workload on its way to a recommendation."""

    def __init__(self, advisor: Advisor, workload: Workload, confidence: float) -> None:
        self.model, self.economics = advisor.predictor.model, advisor.economics
        self.workload, self.confidence = workload, confidence
        self.name, self.note = resolve_model(workload.model)
        self.rejected: dict[str, str] = {}
        self.rows = self._fitting(self._platforms())
        self.hourly = np.array([self.economics.per_hour(c.offer.platform, c.offer.share) for c in self.rows])
        self.most = np.array([c.offer.most for c in self.rows], dtype=np.float64)
        self.platform = np.array([c.offer.platform for c in self.rows])
        self.scale = np.ones(len(self.rows))

    def recommendation(self) -> Recommendation:
        """Run both passes and put the answer together."""
        ranked: list[Deployment] = []
        closest: list[tuple[float, float, Deployment, str]] = []
        crossovers: tuple[Crossover, ...] = ()
        if self.rows:
            self._climb()
            trials = {
                str(p): self._trial(np.flatnonzero(self.platform == p)) for p in dict.fromkeys(self.platform)
            }
            for platform, trial in trials.items():
                self._judge(platform, trial, ranked, closest)
            ranked = _in_order(ranked)
            crossovers = self._crossovers(ranked)
        best = min(closest, key=lambda entry: entry[:2]) if closest and not ranked else None
        first = ranked[0].cost.usd_per_hour if ranked else math.nan
        ranked = [replace(d, cost_ratio=d.cost.usd_per_hour / first) for d in ranked]
        return Recommendation(
            workload=self.workload,
            model=self.name,
            confidence=self.confidence,
            ranked=tuple(replace(d, reason=reason_words(d, ranked, self.workload)) for d in ranked),
            rejected=tuple(Rejected(platform=p, reason=why) for p, why in self.rejected.items()),
            crossovers=crossovers,
            closest=best[2] if best else None,
            limited_by=best[3] if best else "" if ranked else self._nothing(),
            notes=tuple(filter(None, (self.note,))),
        )

    def full_speed(self) -> dict[str, float]:
        """Return the output [tok/s] of one platform at its capacity, by "", "_lo", "_hi"."""
        if not self.rows:
            raise BadRequest("platform", self.workload.platforms[0], next(iter(self.rejected.values())))
        self._climb()
        share = np.array([c.offer.share for c in self.rows])
        place = int((self.capacity / share).argmax())
        if not self.capacity[place]:
            raise BadRequest("limits", self.workload.platforms[0], "limits that it can hold at some load")
        frame = frame_of(self.name, self.rows, np.array([place]), np.ones(1))
        found = outcomes(self.model, frame, self.workload, self.capacity[[place]])
        return {bound: float(value[0] / share[place]) for bound, value in found.output_tok_s.items()}

    def _nothing(self) -> str:
        """Return what limits where no deployment can be named at all."""
        if any("budget" in reason for reason in self.rejected.values()):
            return "what holds the limits passes the budget"
        return "nothing fits into memory, or has a price"

    def _platforms(self) -> list[PlatformSpec]:
        """Return the platforms that may be bought; those without a price are rejected."""
        wanted = [catalogue.platform(name) for name in self.workload.platforms]
        priced = []
        for spec in wanted or catalogue.platforms().values():
            if math.isnan(self.economics.per_hour(spec.name)):
                self.rejected[spec.name] = f"no price known to {self.economics.basis}"
            else:
                priced.append(spec)
        for field, cost in (
            ("budget_usd", self.economics.purchase),
            ("budget_usd_per_hour", self.economics.per_hour),
        ):
            budget = getattr(self.workload, field)
            least = min((cost(s.name, min(o.share for o in offers(s))) for s in priced), default=math.nan)
            if budget is not None and budget < least:
                raise BadRequest(field, budget, f"at least {least:,.2f}, the cheapest platform's cost")
        return priced

    def _fitting(self, platforms: Sequence[PlatformSpec]) -> list[Configuration]:
        """Return the configurations that fit into memory; platforms without any are rejected."""
        model, kept = catalogue.models()[self.name], []
        longest = max(self.workload.kinds, key=lambda kind: kind.isl + kind.osl)
        for spec in platforms:
            rows = configurations(
                model, spec, self.workload.engines, self.workload.weight_precisions, longest.isl + longest.osl
            )
            if not rows:
                self.rejected[spec.name] = "no engine or precision of those asked for runs there"
                continue
            frame = frame_of(self.name, rows, np.arange(len(rows)), np.ones(len(rows)))
            r = normalise(frame.assign(isl=longest.isl, osl=longest.osl, concurrency=1.0))
            fit = memory_fit(r)
            here = [row for row, good in zip(rows, r.valid & fit.fits, strict=True) if good]
            if not here:
                self.rejected[spec.name] = fit_words(r, fit)
            kept += here
        return kept

    def _climb(self) -> None:
        """First pass: all configurations at a ladder of loads per offer, by physics; then the best ones."""
        load = self.workload.load
        lowest = 1.0 if self.workload.closed else load / MOST_BOXES
        rungs = load * _STEP ** np.arange(-_BELOW, _ABOVE + 1.0)
        self.ladder = np.unique([max(lowest, min(load, rungs[0])), *rungs[rungs >= lowest]])
        self._look(physics=True)
        every = np.arange(len(self.rows))
        cost = self._expected(load, every)[1].min(axis=1)
        order = np.lexsort((-self.room.max(axis=1), cost))
        turn = np.empty(len(order), dtype=np.int64)
        for name in np.unique(self.platform):
            here = order[self.platform[order] == name]
            turn[here] = np.arange(len(here))
        self._keep(turn < KEPT)
        self._look(physics=False)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        self.rows = [row for row, good in zip(self.rows, kept, strict=True) if good]
        for name in ("hourly", "most", "platform", "scale"):
            setattr(self, name, getattr(self, name)[kept])

    def _look(self, physics: bool) -> None:
        """Predict every configuration at every rung: odds, room, and the capacity that follows."""
        places = np.repeat(np.arange(len(self.rows)), len(self.ladder))
        loads = np.tile(self.ladder, len(self.rows))
        frame = frame_of(self.name, self.rows, places, np.ones(len(places)))
        found = outcomes(self.model, frame, self.workload, loads, physics)
        shape = (len(self.rows), len(self.ladder))
        self.odds = found.probability.reshape(shape)
        room = np.minimum(found.room["ttft"], found.room["tpot"])
        self.room = np.where(found.fits & found.served, room, -np.inf).reshape(shape)
        self.capacity = _capacity(self.ladder, self.odds, self.confidence)

    def _trial(self, rows: IntArray) -> _Trial:
        """Second pass for one platform: the cheapest estimates on exact numbers of offers."""
        load = self.workload.load
        counts, cost = self._expected(load, rows)
        chosen = {
            (rows[i], count + more)
            for i in np.argsort(cost.min(axis=1), kind="stable")[:_TRIED]
            for count, at in zip(counts[i], cost[i], strict=True)
            for more in (-1.0, 0.0, 1.0)
            if np.isfinite(at) and count + more >= 1.0
        }
        if not chosen:
            # Nothing holds anywhere: the configuration and load that come nearest.
            reachable = load / self.ladder <= self.most[rows][:, None]
            near = np.where(reachable, self.room[rows], -np.inf)
            cost = self.hourly[rows][:, None] * np.ceil(load / self.ladder)
            cost = np.where(near >= near.max() - _SAME_ROOM, cost, np.inf)
            place, rung = np.unravel_index(int(cost.argmin()), near.shape)
            chosen = {(rows[place], max(1.0, math.ceil(load / self.ladder[rung] - 1e-6)))}
        pairs = sorted((int(place), float(n)) for place, n in chosen if n <= self.most[place])
        places, counts = np.array([p for p, _ in pairs]), np.array([n for _, n in pairs])
        frame = frame_of(self.name, self.rows, places, counts)
        loads = np.full(len(places), load)
        return _Trial(places=places, count=counts, outcomes=outcomes(self.model, frame, self.workload, loads))

    def _judge(
        self, platform: str, trial: _Trial, ranked: list[Deployment],
        closest: list[tuple[float, float, Deployment, str]],
    ) -> None:  # fmt: skip
        """Enter the platform's best trial among the ranked, or its reason among the rejected."""
        found, hourly = trial.outcomes, trial.count * self.hourly[trial.places]
        odds = found.probability
        holds = odds >= self.confidence
        if not holds.any():
            room = np.minimum(found.room["ttft"], found.room["tpot"])
            place = int(np.lexsort((hourly, -np.where(found.served, room, -np.inf)))[0])
            deployment = self._deployment(trial, place)
            self.rejected[platform] = miss_words(found, place, self.workload, self.confidence)
            words = closest_words(found, place, self.workload)
            closest.append((-round(float(room[place]), 1), float(hourly[place]), deployment, words))
            return
        cost = np.where(holds, hourly / np.maximum(odds, 1e-9), np.inf)
        here = np.flatnonzero(self.platform == platform)
        estimate = self._expected(self.workload.load, here)[1].min()
        # Crossovers start from what the exact trial found.
        self.scale[here] = cost.min() / estimate if np.isfinite(estimate) else 1.0
        affordable = self._affordable(trial) & holds
        if affordable.any():
            cost = np.where(affordable, cost, np.inf).round(4)
            ranked.append(self._deployment(trial, int(np.lexsort((-found.output_tok_s[""], cost))[0])))
        else:
            least = self._deployment(trial, int(np.where(holds, hourly, np.inf).argmin()))
            self.rejected[platform] = budget_words(least, self.workload)

    def _affordable(self, trial: _Trial) -> NDArray[np.bool_]:
        """Return which trials keep to the budget, shape (n,)."""
        w, economics = self.workload, self.economics
        offers = [(self.rows[p].offer, n) for p, n in zip(trial.places, trial.count, strict=True)]
        buy = np.array([economics.purchase(o.platform, float(n * o.share)) for o, n in offers])
        hour = np.array([economics.per_hour(o.platform, float(n * o.share)) for o, n in offers])
        kept: NDArray[np.bool_] = hour <= (w.budget_usd_per_hour or math.inf)
        return kept & (buy <= w.budget_usd) if w.budget_usd else kept

    def _expected(self, load: float, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return numbers of offers worth a look and the expected cost of each [USD/h], shape (n, k).

        The odds are read off the ladder, linear in the logarithm of the load per offer; inf: not enough.
        """
        with np.errstate(divide="ignore"):
            fewest = np.maximum(np.ceil(load / self.capacity[rows] - 1e-6), 1.0)
        counts = np.minimum(np.ceil(fewest[:, None] * _NUMBERS - 1e-6), MOST_BOXES)
        each = np.log(np.clip(load / counts, self.ladder[0], self.ladder[-1]))
        logs = np.log(self.ladder)
        place = np.clip(np.searchsorted(logs, each, side="right") - 1, 0, max(len(logs) - 2, 0))
        after = np.minimum(place + 1, len(logs) - 1)
        share = (each - logs[place]) / np.maximum(logs[after] - logs[place], 1e-9)
        own = np.arange(len(rows))[:, None]
        low, high = self.odds[rows][own, place], self.odds[rows][own, after]
        odds = np.where(high > 0, low + share * (high - low), low)
        cost = counts * self.hourly[rows][:, None] * self.scale[rows][:, None] / np.maximum(odds, 1e-9)
        fine = (fewest[:, None] <= self.most[rows][:, None]) & (counts <= self.most[rows][:, None])
        return counts, np.where(fine & np.isfinite(fewest)[:, None] & (odds > 0), cost, np.inf)

    def _deployment(self, trial: _Trial, place: int) -> Deployment:
        row, count = trial.places[place], trial.count[place]
        c, v = self.rows[row], trial.outcomes.row(place)
        share = float(count * c.offer.share)
        per_output = v["total_tok_s"][""] / v["output_tok_s"][""]
        return Deployment(
            platform=c.offer.platform, boxes=share, gpus=int(count * c.offer.gpus), tp=c.tp, pp=c.pp, ep=c.ep,
            dp=c.dp, replicas=int(count * c.replicas), weight_precision=c.weight_precision,
            kv_precision=c.kv_precision, engine=c.engine, batch=v["batch"], output_tok_s=v["output_tok_s"],
            total_tok_s=v["total_tok_s"], ttft_ms=v["ttft_ms"], tpot_ms=v["tpot_ms"],
            probability=float(trial.outcomes.probability[place]), held=v["held"],
            cost=self.economics.cost(c.offer.platform, share, v["output_tok_s"], per_output),
            cost_ratio=math.nan, capacity=float(self.capacity[row] / c.offer.share),
            bottleneck=TERMS[v["bottleneck"]], support=str(v["support"]), tier=dict(c.tier),
        )  # fmt: skip

    def _crossovers(self, ranked: Sequence[Deployment]) -> tuple[Crossover, ...]:
        """Return the nearest load above and below at which another platform is the cheapest."""
        if not ranked:
            return ()
        load, out = self.workload.load, []
        for direction, end in (("above", self.ladder[-1]), ("below", self.ladder[0])):
            loads = np.geomspace(load, end, _STEPS)[1:] if end != load else np.array([])
            if self.workload.closed:
                loads = np.array(list(dict.fromkeys(np.round(loads))))
            for at in loads:
                winner = self._cheapest_at(float(at))
                if winner not in ("", ranked[0].platform):
                    out.append(Crossover(load=float(at), platform=winner, direction=direction))
                    break
        return tuple(out)

    def _cheapest_at(self, load: float) -> str:
        counts, cost = self._expected(load, np.arange(len(self.rows)))
        if not np.isfinite(cost).any():
            return ""
        share = np.array([c.offer.share for c in self.rows])[:, None]
        boxes = np.where(cost <= TIE * cost.min(), np.maximum(counts * share, 1.0), np.inf)
        return str(self.platform[int(np.argmin(boxes)) // boxes.shape[1]])


def _in_order(ranked: Sequence[Deployment]) -> list[Deployment]:
    """Return deployments by expected cost; of those that tie at the top the fewest boxes come first."""

    def expected(d: Deployment) -> float:
        return d.cost.usd_per_hour / d.probability

    ordered = sorted(ranked, key=expected)
    ties = [d for d in ordered if expected(d) <= TIE * expected(ordered[0])]
    first = min(ties, key=lambda d: d.boxes if d.boxes >= 1 else 1.0) if ties else None
    return [first, *(d for d in ordered if d is not first)] if first else []


def _capacity(ladder: FloatArray, odds: FloatArray, confidence: float) -> FloatArray:
    """Return the load per offer up to which the odds reach the confidence, shape (n,); 0 where never.

    ladder: (k,) ascending; odds: (n, k). Between the last rung that holds and the next one the odds are taken
    as linear in the logarithm of the load.
    """
    holds = odds >= confidence
    last = odds.shape[1] - 1 - holds[:, ::-1].argmax(axis=1)
    after = np.minimum(last + 1, odds.shape[1] - 1)
    rows = np.arange(len(odds))
    here, there = odds[rows, last], odds[rows, after]
    # Odds of 0 beyond mean that not everybody has a slot: no line leads there.
    share = np.where((there > 0) & (here > there), (here - confidence) / np.maximum(here - there, 1e-9), 0.0)
    found = np.exp(np.log(ladder[last]) + share * np.log(ladder[after] / ladder[last]))
    return np.where(holds.any(axis=1), found, 0.0)
