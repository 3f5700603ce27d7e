"""The answer of the advisor: ranked deployments, what was rejected and why, where the ranking turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...data.files import for_json
from .economics import Cost
from .workload import Workload

if TYPE_CHECKING:
    from rich.console import RenderResult


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One deployment under the workload.

    boxes: platforms bought [-], a part of a rack as its share; batch: requests in flight per replica; rates
    [tok/s] of the whole, times [ms] at the workload's percentile, each by "", "_lo", "_hi" (90 % interval);
    probability that all limits hold, and of each; cost_ratio to the recommended one's cost per hour;
    capacity: load at which the limits stop to hold, per platform; tier: what lies in host memory, as request
    columns.
    """

    platform: str
    boxes: float
    gpus: int
    tp: int
    pp: int
    ep: int
    dp: int
    replicas: int
    weight_precision: str
    kv_precision: str
    engine: str
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
    tier: Mapping[str, float]
    reason: str = ""

    @property
    def what(self) -> str:
        """The thing that is bought, in words: "2 x hgx-b200", "16 GPUs of a gb200-nvl72"."""
        if self.boxes < 1:
            return f"{self.gpus} GPUs of a {self.platform}"
        return f"{self.boxes:g} x {self.platform}"

    @property
    def layout(self) -> str:
        """The layout of one replica, such as "tp8" or "tp16 ep16 dp16"."""
        degrees = {name: getattr(self, name) for name in ("tp", "pp", "ep", "dp")}
        text = " ".join(f"{k}{v}" for k, v in degrees.items() if v > 1 or k == "tp")
        return f"{text} +Grace" if self.tier else text


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A platform that was not recommended, and why."""

    platform: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """From this load on (upwards or downwards) another platform is the cheapest that holds the limits."""

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
        return (
            f"one {self.platform} replaces {self.value:.1f} {self.instead} ({self.lo:.1f} to {self.hi:.1f})"
        )


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """Deployments that hold the limits, cheapest first; where there is none, the closest that can be had.

    `rejected` has every other platform with its reason; `limited_by` says what stands between the closest
    deployment and the limits.
    """

    workload: Workload
    model: str
    confidence: float
    ranked: tuple[Deployment, ...]
    rejected: tuple[Rejected, ...]
    crossovers: tuple[Crossover, ...]
    closest: Deployment | None
    limited_by: str
    notes: tuple[str, ...]

    @property
    def best(self) -> Deployment | None:
        """The cheapest deployment that holds the limits, or None."""
        return self.ranked[0] if self.ranked else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values fit for JSON; None for no number."""
        plain: dict[str, Any] = for_json(asdict(self))
        return {"met": bool(self.ranked), **plain}

    def __rich_console__(self, console: object, options: object) -> RenderResult:
        from .tables import recommendation_tables

        yield from recommendation_tables(self)
