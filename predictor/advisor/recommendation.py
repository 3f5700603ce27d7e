"""The answer of the advisor: ranked deployments, what was rejected and why, where the ranking turns.

Why something was rejected or missed is a record, which becomes a sentence here, when it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...data.files import for_json
from ..prediction import Shown
from .economics import Cost
from .space import Setup
from .workload import Workload

if TYPE_CHECKING:
    import pandas as pd

TEXTS = {
    "no-price": "no price known to {value}",
    "no-setup": "no engine or precision of those asked for runs there",
    "cannot-start": "cannot be started: {value}",
    "too-small": "does not fit: at best {value:,.1f} GB per GPU of {allowed:,.1f} GB available (tp{tp:g})",
    "memory": "does not fit into memory",
    "no-slots": "no room or speed for {value}, however many",
    "misses": "misses {value} at its best",
    "unsure": "holds the limits with probability {value:.2f} only, {allowed:g} is asked for",
    "purchase": "{what} for ${value:,.0f} passes the budget of ${allowed:,.0f}",
    "hour": "{what} at ${value:,.2f} per hour passes the budget of ${allowed:,.2f}",
    "slow": "{limit} of {value:,.4g} ms against {allowed:,.4g} ms, limited by {term}",
    "floor": "{limit} of {value:,.4g} ms against {allowed:,.4g} ms, limited by {term}: its floor, which "
    "nothing beats, is {floor_ms:,.3g} ms",
    "budget": "what holds the limits passes the budget",
    "nothing": "nothing fits into memory, or has a price",
}
OVER_BUDGET = ("purchase", "hour")


@dataclass(frozen=True)
class Reason:
    """What stands against something: the `value` there is, the one `allowed`, and `facts` that go with it."""

    code: str
    value: Any = None
    allowed: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        value = self.value
        if isinstance(value, Mapping):
            value = " and ".join(f"{name.upper()} by {share:.0%}" for name, share in value.items())
        return TEXTS[self.code].format(value=value, allowed=self.allowed, **self.facts)


@dataclass(frozen=True, kw_only=True)
class Deployment(Setup):
    """One deployment under the workload.

    boxes: platforms bought [-], a part of a rack as its share; batch: requests in flight per replica; rates
    [tok/s] of the whole, times [ms] at the workload's percentile, each by "", "_lo", "_hi" (90 % interval);
    probability that all limits hold, and of each; cost_ratio to the recommended one's cost per hour;
    capacity: load at which the limits stop to hold, per platform.
    """

    platform: str
    boxes: float
    gpus: int
    replicas: int
    batch: float
    output_tok_s: Mapping[str, float]
    total_tok_s: Mapping[str, float]
    ttft_ms: Mapping[str, float]
    tpot_ms: Mapping[str, float]
    probability: float
    held: Mapping[str, float]
    cost: Cost
    cost_ratio: float
    capacity: float
    bottleneck: str
    support: str

    @property
    def what(self) -> str:
        """What is bought, such as "2 x hgx-b200" or "16 GPUs of a gb200-nvl72"."""
        part = f"{self.gpus} GPUs of a {self.platform}"
        return part if self.boxes < 1 else f"{self.boxes:g} x {self.platform}"


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """From this load on, in this direction, another platform is the cheapest that holds the limits."""

    load: float
    platform: str
    direction: str


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """How many `instead` platforms one `platform` replaces, with its 90 % interval."""

    platform: str
    instead: str
    value: float
    lo: float
    hi: float

    def __str__(self) -> str:
        interval = f"({self.lo:.1f} to {self.hi:.1f})"
        return f"one {self.platform} replaces {self.value:.1f} {self.instead} {interval}"


@dataclass(frozen=True, kw_only=True)
class Recommendation(Shown):
    """Deployments that hold the limits, cheapest first; where there is none, the closest that can be had.

    `rejected` has the reason of every other platform; `limited_by` says what stands between the closest
    deployment and the limits.
    """

    workload: Workload
    model: str
    confidence: float
    ranked: tuple[Deployment, ...]
    rejected: Mapping[str, Reason]
    crossovers: tuple[Crossover, ...]
    closest: Deployment | None
    limited_by: Reason | None
    notes: tuple[str, ...]

    @property
    def best(self) -> Deployment | None:
        """The cheapest deployment that holds the limits, or None."""
        return self.ranked[0] if self.ranked else None

    def reason(self, d: Deployment) -> str:
        """Return in one sentence why a ranked deployment stands where it stands."""
        fits = f"{d.what} at {d.weight_precision.upper()} ({d.layout})"
        if "experts_resident_frac" in d.tier:
            fits += f" with {1.0 - d.tier['experts_resident_frac']:.0%} of the experts in Grace"
        elif "kv_hot_tokens" in d.tier:
            fits += f" with the KV beyond {d.tier['kv_hot_tokens']:g} tokens in Grace, read every "
            fits += f"{d.tier['kv_reread_every']:g} tokens (may change quality),"
        fits += f" holds the limits for {self.workload.load_text()}"
        if d.platform != self.ranked[0].platform:
            return f"{fits} with probability {d.probability:.2f}, at {d.cost_ratio:.2f} times the cost"
        if len(self.ranked) == 1:
            return f"{fits}, and no other platform does"
        after = self.ranked[1]
        return f"{fits}; {after.what}, the next, costs {after.cost_ratio:.2f} times as much"

    def _parts(self) -> Iterable[object]:
        return tuple(import_module("roofcast.predictor.advisor.tables").recommendation_tables(self))

    def to_frame(self) -> pd.DataFrame:
        """Return a row per ranked deployment, cheapest first; bounds are columns like `ttft_ms_lo`."""
        import pandas as pd

        frame = pd.json_normalize(self.to_dict()["ranked"], sep="_")
        return frame.rename(columns=lambda name: name.removesuffix("_value").replace("__", "_"))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values fit for JSON, reasons as sentences; None for no number."""
        return dict(for_json({
            "met": bool(self.ranked), **asdict(self), "limited_by": str(self.limited_by or ""),
            "ranked": [asdict(d) | {"reason": self.reason(d)} for d in self.ranked],
            "rejected": [{"platform": p, "reason": str(why)} for p, why in self.rejected.items()],
            "closest": asdict(self.closest) | {"reason": ""} if self.closest else None,
        }))  # fmt: skip
