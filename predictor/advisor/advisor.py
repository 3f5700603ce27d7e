"""The advisor: the cheapest deployment that carries a workload within its limits.

What is least is the expected cost: cost per hour over the probability that the limits hold, among deployments
where that reaches the confidence asked for. Within `TIE` costs are equal: the fewest boxes win.

The first pass predicts every configuration at a ladder of loads per offer (box, or part of a rack): it gives
its capacity, the load up to which the limits hold, and so how many are needed and where another platform gets
cheaper. The second predicts the most promising ones on exactly so many offers, and some more or less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...data import catalogue
from ...data.errors import BadRequest
from ...data.sizes import resolve_model
from ...data.specs import PlatformSpec
from ...features.facts import FloatArray, IntArray
from ...features.memory import memory_fit
from ...features.names import told
from ...features.request import normalise
from ..predictor import Predictor
from .economics import Economics
from .outcomes import Outcomes, outcomes
from .recommendation import OVER_BUDGET, Crossover, Deployment, Reason, Recommendation, Replacement
from .space import MOST_BOXES, Grid, Offer, Setup, offers
from .workload import Workload

_STEP = 1.8  # ladder of loads, each this many times the last
_ABOVE, _BELOW = 6, 18  # rungs above and below the workload's own load
KEPT = 24  # configurations per platform that the physics leaves to be predicted; 48 chose no other
_TRIED = 8  # configurations per platform that the second pass predicts exactly
_NUMBERS = np.array([1.0, 1.15, 1.4, 2.0])  # of the fewest offers that hold the limits
TIE = 1.1  # the least range of a purchase price in the catalogue is 12 % (low to high)
_SAME_ROOM = 0.05  # in log time: no more room than this is worth another price
_STEPS = 160  # loads looked at on each side for a crossover


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
        free = replace(workload, budget_usd=None, budget_usd_per_hour=None)
        asked = (replace(free, platforms=(name,)) for name in (platform, instead))
        ours, theirs = (_Search(self, each, 0.5).full_speed() for each in asked)
        ratio = float(ours[0] / theirs[0])
        down = math.hypot(math.log(ours[0] / ours[1]), math.log(theirs[2] / theirs[0]))
        up = math.hypot(math.log(ours[2] / ours[0]), math.log(theirs[0] / theirs[1]))
        interval = {"lo": ratio * math.exp(-down), "hi": ratio * math.exp(up)}
        return Replacement(platform=platform, instead=instead, value=ratio, **interval)


class _Search:
    """One workload on its way to a recommendation: the grid, and what is known of each configuration."""

    def __init__(self, advisor: Advisor, workload: Workload, confidence: float) -> None:
        self.model, self.economics = advisor.predictor.model, advisor.economics
        self.workload, self.confidence = workload, confidence
        self.named = resolve_model(workload.model)
        self.rejected: dict[str, Reason] = {}
        self.closest: list[tuple[float, float, Deployment, Reason]] = []
        self._take(self._fitting(self._priced()))
        if len(self.grid):
            self._climb()

    def _take(self, grid: Grid) -> None:
        self.grid, self.hourly = grid, grid.usd_per_hour(self.economics)
        self.platform, self.share, self.most = map(grid.per_offer, ("platform", "share", "most"))
        self.scale = np.ones(len(grid))  # of the estimated cost, once exact trials are known

    def recommendation(self) -> Recommendation:
        """Rank the best trial of each platform and put the answer together.

        In the order of expected cost; of those that tie at the top the one of the fewest boxes comes first.
        """

        def expected(d: Deployment) -> float:
            return d.cost.usd_per_hour / d.probability

        ranked = sorted(self._judged(), key=expected) if len(self.grid) else []
        if ranked:
            ties = [d for d in ranked if expected(d) <= TIE * expected(ranked[0])]
            first = min(ties, key=lambda d: max(d.boxes, 1.0))
            ranked = [first, *(d for d in ranked if d is not first)]
            ranked = [replace(d, cost_ratio=d.cost.usd_per_hour / first.cost.usd_per_hour) for d in ranked]
        nearest, limited_by = None, None
        if not ranked and self.closest:
            _, _, nearest, limited_by = min(self.closest, key=lambda entry: entry[:2])
        elif not ranked:
            over = any(reason.code in OVER_BUDGET for reason in self.rejected.values())
            limited_by = Reason("budget" if over else "nothing")
        return Recommendation(
            workload=self.workload, model=self.named.name, confidence=self.confidence, ranked=tuple(ranked),
            rejected=self.rejected, closest=nearest, limited_by=limited_by,
            crossovers=tuple(self._crossovers(ranked[0].platform)) if ranked else (),
            notes=tuple(filter(None, [told(self.named)])),
        )  # fmt: skip

    def full_speed(self) -> FloatArray:
        """Return the output [tok/s] of one platform at its capacity, by BOUNDS."""
        platform = self.workload.platforms[0]
        if not len(self.grid):
            raise BadRequest("platform", platform, str(next(iter(self.rejected.values()))))
        row = (self.capacity / self.share).argmax(keepdims=True)
        if not self.capacity[row]:
            raise BadRequest("limits", platform, "limits that it can hold at some load")
        found = self._outcomes(row, np.ones(1), self.capacity[row])
        return np.asarray(found.tok_s[0, :, 0] / self.share[row])

    def _priced(self) -> list[PlatformSpec]:
        """Return the platforms that may be bought; those without a price are rejected."""
        w, priced = self.workload, []
        for name in {catalogue.platform(name).name: None for name in w.platforms} or catalogue.platforms():
            if math.isnan(self.economics.per_hour(name)):
                self.rejected[name] = Reason("no-price", self.economics.basis)
            else:
                priced.append(catalogue.platform(name))
        for field, budget, cost in (
            ("budget_usd", w.budget_usd, self.economics.purchase),
            ("budget_usd_per_hour", w.budget_usd_per_hour, self.economics.per_hour),
        ):
            least = min((cost(s.name, min(o.share for o in offers(s))) for s in priced), default=math.nan)
            if budget is not None and budget < least:
                raise BadRequest(field, budget, f"at least {least:,.2f}, the cheapest platform's cost")
        return priced

    def _fitting(self, platforms: Sequence[PlatformSpec]) -> Grid:
        """Return the configurations that fit into memory; platforms without any are rejected."""
        w, kept = self.workload, list[tuple[Offer, Setup]]()
        longest = max(w.kinds, key=lambda kind: kind.isl + kind.osl)
        for spec in platforms:
            grid = Grid.of(self.named, (spec,), w.engines, w.weight_precisions, longest.isl + longest.osl)
            if not len(grid):
                self.rejected[spec.name] = Reason("no-setup")
                continue
            frame = grid.frame(np.arange(len(grid)), np.ones(len(grid)))
            r = normalise(frame.assign(isl=longest.isl, osl=longest.osl, concurrency=1.0))
            fit = memory_fit(r)
            good = r.valid & fit.fits
            kept += grid.take(good).rows
            if not r.valid.any():
                self.rejected[spec.name] = Reason("cannot-start", r.reason[0])
            elif not good.any():
                at = int(np.where(r.valid, fit.needed_bytes / fit.available_bytes, np.inf).argmin())
                needed, available = (b[at] / 1e9 for b in (fit.needed_bytes, fit.available_bytes))
                self.rejected[spec.name] = Reason("too-small", needed, available, {"tp": r.tp[at]})
        return Grid(model=self.named.name, rows=kept)

    def _outcomes(self, rows: IntArray, n: FloatArray, load: FloatArray, physics: bool = False) -> Outcomes:
        return outcomes(self.model, self.grid.frame(rows, n), self.workload, load, physics)

    def _climb(self) -> None:
        """First pass: all configurations at a ladder of loads per offer, by physics; then the best ones."""
        load = self.workload.load
        lowest = 1.0 if self.workload.closed else load / MOST_BOXES
        rungs = load * _STEP ** np.arange(-_BELOW, _ABOVE + 1.0)
        self.ladder = np.unique([max(lowest, min(load, rungs[0])), *rungs[rungs >= lowest]])
        self._look(physics=True)
        order = np.lexsort((-self.room.max(axis=1), self._expected(load)[1].min(axis=1)))
        kept = np.zeros(len(order), dtype=bool)
        for name in np.unique(self.platform):
            kept[order[self.platform[order] == name][:KEPT]] = True
        self._take(self.grid.take(kept))
        self._look(physics=False)

    def _look(self, physics: bool) -> None:
        """Predict every configuration at every rung: odds, room, and the capacity that follows.

        That is the load per offer up to which the odds reach the confidence, 0 where never: between the last
        rung that holds and the next one the odds are taken as linear in the logarithm of the load.
        """
        shape = (len(self.grid), len(self.ladder))
        rows, loads = np.repeat(np.arange(shape[0]), shape[1]), np.tile(self.ladder, shape[0])
        found = self._outcomes(rows, np.ones(len(rows)), loads, physics)
        self.room = np.where(found.fits & found.served, found.room.min(axis=0), -np.inf).reshape(shape)
        self.odds = odds = found.probability.reshape(shape)
        holds = odds >= self.confidence
        last = shape[1] - 1 - holds[:, ::-1].argmax(axis=1)
        after = np.minimum(last + 1, shape[1] - 1)
        here, there = (odds[np.arange(shape[0]), at] for at in (last, after))
        # Odds of 0 beyond mean that not everybody has a slot: no line leads there.
        falls = (there > 0) & (here > there)
        share = np.where(falls, (here - self.confidence) / np.maximum(here - there, 1e-9), 0.0)
        load = np.exp(np.log(self.ladder[last]) + share * np.log(self.ladder[after] / self.ladder[last]))
        self.capacity = np.where(holds.any(axis=1), load, 0.0)

    def _judged(self) -> Iterator[Deployment]:
        """Second pass: yield each platform's best exact trial; where none will do, reject the platform."""
        counts, cost = self._expected(self.workload.load)
        names = dict.fromkeys(self.platform.tolist())
        rows_of = {name: np.flatnonzero(self.platform == name) for name in names}
        tried = [t for rows in rows_of.values() for t in self._promising(rows, counts[rows], cost[rows])]
        self.tried, self.count = np.array([row for row, _ in tried]), np.array([n for _, n in tried])
        self.found = self._outcomes(self.tried, self.count, np.full(len(tried), self.workload.load))
        for name, rows in rows_of.items():
            best = self._best(name, np.flatnonzero(self.platform[self.tried] == name), cost[rows].min())
            if best:
                yield best

    def _promising(self, rows: IntArray, counts: FloatArray, cost: FloatArray) -> list[tuple[int, float]]:
        """Return configurations of one platform and numbers of offers that are worth an exact trial."""
        chosen = {
            (rows[i], count + more)
            for i in np.argsort(cost.min(axis=1), kind="stable")[:_TRIED]
            for count, at in zip(counts[i], cost[i], strict=True)
            for more in (-1.0, 0.0, 1.0)
            if np.isfinite(at) and count + more >= 1.0
        }
        if not chosen:
            # Nothing holds anywhere: the configuration and load that come nearest.
            needed = self.workload.load / self.ladder
            near = np.where(needed <= self.most[rows][:, None], self.room[rows], -np.inf)
            cost = self.hourly[rows][:, None] * np.ceil(needed)
            cost = np.where(near >= near.max() - _SAME_ROOM, cost, np.inf)
            row, rung = np.unravel_index(int(cost.argmin()), near.shape)
            chosen = {(rows[row], max(1.0, math.ceil(needed[rung] - 1e-6)))}
        return sorted((int(row), float(n)) for row, n in chosen if n <= self.most[row])

    def _best(self, platform: str, here: IntArray, estimate: float) -> Deployment | None:
        """Return the best of one platform's trials, or None and enter the reason among the rejected."""
        found, odds, w = self.found, self.found.probability[here], self.workload
        rows, count = self.tried[here], self.count[here]
        hourly = count * self.hourly[rows]
        holds = odds >= self.confidence
        if not holds.any():
            room = found.room[:, here].min(axis=0)
            at = int(np.lexsort((hourly, -np.where(found.served[here], room, -np.inf)))[0])
            self.rejected[platform] = found.missed(here[at], w, self.confidence)
            nearest = self._deployment(here[at]), found.nearest_limit(here[at], w)
            self.closest.append((-round(float(room[at]), 1), float(hourly[at]), *nearest))
            return None
        cost = np.where(holds, hourly / np.maximum(odds, 1e-9), np.inf)
        # Crossovers start from what the exact trial found.
        self.scale[self.platform == platform] = cost.min() / estimate if np.isfinite(estimate) else 1.0
        buy = self.economics.purchase(platform) * self.share[rows] * count
        kept = holds & (hourly <= (w.budget_usd_per_hour or math.inf))
        kept = kept & (buy <= w.budget_usd) if w.budget_usd else kept
        if kept.any():
            cost = np.where(kept, cost, np.inf).round(4)
            return self._deployment(here[np.lexsort((-found.tok_s[0, 0, here], cost))[0]])
        least = self._deployment(here[int(np.where(holds, hourly, np.inf).argmin())])
        why = "hour", least.cost.usd_per_hour, w.budget_usd_per_hour
        if w.budget_usd is not None and not least.cost.purchase_usd <= w.budget_usd:
            why = "purchase", least.cost.purchase_usd, w.budget_usd
        self.rejected[platform] = Reason(*why, {"what": least.what})
        return None

    def _expected(self, load: float) -> tuple[FloatArray, FloatArray]:
        """Return numbers of offers worth a look and the expected cost of each [USD/h], shape (n, k).

        The odds are read off the ladder, linear in the logarithm of the load per offer; inf: not enough.
        """
        with np.errstate(divide="ignore"):
            fewest = np.maximum(np.ceil(load / self.capacity - 1e-6), 1.0)[:, None]
        counts = np.minimum(np.ceil(fewest * _NUMBERS - 1e-6), MOST_BOXES)
        each = np.log(np.clip(load / counts, self.ladder[0], self.ladder[-1]))
        logs = np.log(self.ladder)
        rung = np.clip(np.searchsorted(logs, each, side="right") - 1, 0, max(len(logs) - 2, 0))
        after = np.minimum(rung + 1, len(logs) - 1)
        share = (each - logs[rung]) / np.maximum(logs[after] - logs[rung], 1e-9)
        low, high = (np.take_along_axis(self.odds, at, axis=1) for at in (rung, after))
        odds = np.where(high > 0, low + share * (high - low), low)
        cost = counts * (self.hourly * self.scale)[:, None] / np.maximum(odds, 1e-9)
        fine = (np.maximum(fewest, counts) <= self.most[:, None]) & np.isfinite(fewest) & (odds > 0)
        return counts, np.where(fine, cost, np.inf)

    def _deployment(self, at: int) -> Deployment:
        row, count = int(self.tried[at]), float(self.count[at])
        (offer, setup), v = self.grid.rows[row], self.found.values(at)
        output, share = v["output_tok_s"], count * offer.share
        cost = self.economics.cost(offer.platform, share, output, v["total_tok_s"][""] / output[""])
        return Deployment(
            **vars(setup), **v, platform=offer.platform, boxes=share, gpus=int(count * offer.gpus),
            replicas=int(count * (offer.gpus // (setup.tp * setup.pp))), cost=cost, cost_ratio=math.nan,
            capacity=float(self.capacity[row] / offer.share),
        )  # fmt: skip

    def _crossovers(self, best: str) -> Iterator[Crossover]:
        """Yield the nearest load above and below at which another platform is the cheapest."""
        load = self.workload.load
        for direction, end in (("above", self.ladder[-1]), ("below", self.ladder[0])):
            loads = np.geomspace(load, end, _STEPS)[1:] if end != load else np.array([])
            for at in dict.fromkeys((np.round(loads) if self.workload.closed else loads).tolist()):
                counts, cost = self._expected(at)
                if not np.isfinite(cost).any():
                    continue
                boxes = np.maximum(counts * self.share[:, None], 1.0)
                cheap = np.where(cost <= TIE * cost.min(), boxes, np.inf).argmin() // boxes.shape[1]
                if self.platform[cheap] != best:
                    yield Crossover(load=at, platform=str(self.platform[cheap]), direction=direction)
                    break
