"""What a deployment costs: purchase and power, or rent; per hour, per token, per token per second.

    own   usd/h = purchase x (1 / years + other_share) / 8766 h + power x PUE x usd/kWh
    rent  usd/h = GPUs x usd per GPU and hour

Prices come from data/prices.toml and can be overridden by platform. The default assumptions bring owning to
0.9 to 1.0 of what the cost model of SemiAnalysis (InferenceX, 2026-08) gives for a large cloud.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...data import catalogue
from ...data.prices import price
from .workload import ABOVE_0, check

HOURS_PER_YEAR = 8766.0
BASES = {"own": "purchase", "rent": "on-demand", "reserve": "reserved"}  # and the kind of price each takes


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a deployment costs at the load it was asked for; NaN where the price is not known.

    usd_per_m_output and _total: USD per million tokens, with the 90 % interval of the throughput;
    break_even_utilisation [-]: share of the hours in use above which owning is cheaper than renting.
    """

    purchase_usd: float
    usd_per_hour: float
    usd_per_m_output: float
    usd_per_m_output_lo: float
    usd_per_m_output_hi: float
    usd_per_m_total: float
    usd_per_m_total_lo: float
    usd_per_m_total_hi: float
    usd_per_tok_s: float
    tokens_per_joule: float
    break_even_utilisation: float


@dataclass(frozen=True, kw_only=True)
class Economics:
    """Assumptions: how it is paid (`basis`: own, rent or reserve) and what owning takes.

    amortisation_years [y]; other_share [1/y]: capital, staff and space per year as a share of the purchase;
    usd_per_kwh [USD/kWh]; pue [-] of the power at the platform; utilisation [-]: share of the hours that the
    load is there (an owned machine costs all hours). purchase_usd and usd_per_gpu_hour override the
    catalogue by platform name. Raises BadRequest for what is out of range, UnknownName for a platform.
    """

    basis: str = "own"
    amortisation_years: float = 4.0
    other_share: float = 0.1
    usd_per_kwh: float = 0.08
    pue: float = 1.3
    utilisation: float = 1.0
    purchase_usd: Mapping[str, float] = field(default_factory=dict)
    usd_per_gpu_hour: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check("basis", self.basis, self.basis in BASES, f"one of {', '.join(BASES)}")
        for name, good, allowed in (
            ("amortisation_years", 0 < self.amortisation_years < math.inf, ABOVE_0),
            ("other_share", 0 <= self.other_share < math.inf, "at least 0"),
            ("usd_per_kwh", 0 < self.usd_per_kwh < math.inf, ABOVE_0),
            ("pue", 1 <= self.pue < math.inf, "at least 1"),
            ("utilisation", 0 < self.utilisation <= 1, "above 0 and at most 1"),
        ):
            check(name, getattr(self, name), good, allowed)
        for name in ("purchase_usd", "usd_per_gpu_hour"):
            own = {catalogue.platform(platform).name: usd for platform, usd in getattr(self, name).items()}
            for platform, usd in own.items():
                check(f"price of {platform}", usd, 0 < usd < math.inf, ABOVE_0)
            object.__setattr__(self, name, own)

    def purchase(self, platform: str, share: float = 1.0) -> float:
        """Return what `share` platforms cost to buy [USD], NaN where no price is known."""
        return self.purchase_usd.get(platform, _usd(platform, "purchase")) * share

    def rent_per_hour(self, platform: str, share: float = 1.0) -> float:
        """Return what `share` platforms cost to rent [USD/h], NaN where no offer is known."""
        known = _usd(platform, BASES["reserve" if self.basis == "reserve" else "rent"])
        return self.usd_per_gpu_hour.get(platform, known) * share * catalogue.platform(platform).num_gpus

    def own_per_hour(self, platform: str, share: float = 1.0) -> float:
        """Return the cost of owning [USD/h]: amortisation, other costs, power (TDP where none is known)."""
        spec, yearly = catalogue.platform(platform), 1.0 / self.amortisation_years + self.other_share
        watts = (spec.power_w or catalogue.gpu(spec.gpu).tdp_w * spec.num_gpus) * self.pue * share
        return self.purchase(platform, share) * yearly / HOURS_PER_YEAR + watts / 1e3 * self.usd_per_kwh

    def per_hour(self, platform: str, share: float = 1.0) -> float:
        """Return the cost [USD/h] on the chosen basis, NaN where the price is not known."""
        return (self.own_per_hour if self.basis == "own" else self.rent_per_hour)(platform, share)

    def cost(self, platform: str, share: float, output: Mapping[str, float], total_per_output: float) -> Cost:
        """Return the costs of `share` platforms that give output ["", "_lo", "_hi"] tokens per second.

        total_per_output: tokens in and out per token out [-].
        """
        hour, purchase = self.per_hour(platform, share), self.purchase(platform, share)
        # Rented on demand, a machine is given back when it is idle.
        used = hour if self.basis == "rent" else hour / self.utilisation
        per_m = {"": output[""], "_lo": output["_hi"], "_hi": output["_lo"]}
        per_m = {bound: used / (tok_s * 3600.0) * 1e6 for bound, tok_s in per_m.items()}
        watts = (catalogue.platform(platform).power_w or math.nan) * self.pue * share  # at the meter
        return Cost(
            purchase_usd=purchase, usd_per_hour=hour, usd_per_tok_s=purchase / output[""],
            **{f"usd_per_m_output{bound}": usd for bound, usd in per_m.items()},
            **{f"usd_per_m_total{bound}": usd / total_per_output for bound, usd in per_m.items()},
            tokens_per_joule=output[""] / watts,
            break_even_utilisation=self.own_per_hour(platform, share) / self.rent_per_hour(platform, share),
        )  # fmt: skip


def _usd(platform: str, kind: str) -> float:
    found = price(platform, kind)
    return found.usd if found else math.nan
