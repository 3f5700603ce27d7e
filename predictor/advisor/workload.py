"""What is to be served: model, load, lengths, limits and budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...data.columns import COLUMNS, default_of
from ...data.errors import BadRequest

DEFAULT_ISL, DEFAULT_OSL = (default_of(name) for name in ("isl", "osl"))
# Two seconds to the first token and 20 tokens per second and user, where no limit is given.
DEFAULT_TTFT_MS, DEFAULT_TPOT_MS, DEFAULT_PERCENTILE = 2000.0, 50.0, 90.0
MOST_KINDS = 32
ABOVE_0 = "a number above 0"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of request: tokens in and out, share of the prompt that is cached, share of all requests."""

    isl: float
    osl: float
    cached: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A workload to place.

    model: a catalogue name, a config.json (or its folder), or a size ("300b", "1t-a32b": experts with 32 G
    active), answered with the nearest known shape, scaled. Load: `users` with a request in flight each, or
    `request_rate` [1/s]. Lengths [tokens]: isl and osl, or `mix`, a list of (isl, osl, share). `context`
    [tokens]: what a user's conversation holds; what is not new in a request (isl) is kept in the KV cache.
    prefix_cached_frac: share of the prompt that all users have in common. Limits [ms] hold at `percentile` of
    the requests; math.inf switches one off. Budget: to buy [USD] or per hour [USD/h]. Empty `platforms`,
    `engines` and `weight_precisions` mean all. Raises BadRequest or UnknownName.
    """

    model: str
    users: float | None = None
    request_rate: float | None = None
    isl: float = DEFAULT_ISL
    osl: float = DEFAULT_OSL
    mix: tuple[tuple[float, float, float], ...] = ()
    context: float | None = None
    prefix_cached_frac: float = 0.0
    ttft_ms: float = DEFAULT_TTFT_MS
    tpot_ms: float = DEFAULT_TPOT_MS
    percentile: float = DEFAULT_PERCENTILE
    budget_usd: float | None = None
    budget_usd_per_hour: float | None = None
    platforms: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    weight_precisions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one = (self.users is None) != (self.request_rate is None)
        check("users", self.users, one, "either users or request_rate, one of them")
        for name in ("users", "request_rate", "budget_usd", "budget_usd_per_hour", "context"):
            value = getattr(self, name)
            check(name, value, value is None or 0 < value < math.inf, ABOVE_0)
        for name, column in (("users", "concurrency"), ("request_rate", "request_rate")):
            value, most = getattr(self, name), COLUMNS[column].high
            check(name, value, value is None or value <= most, f"{ABOVE_0}, {most:g} at most")
        check("ttft_ms", self.ttft_ms, self.ttft_ms > 0, ABOVE_0)
        check("tpot_ms", self.tpot_ms, self.tpot_ms > 0, ABOVE_0)
        check("percentile", self.percentile, 0 < self.percentile < 100, "above 0 and below 100")
        cached = self.prefix_cached_frac
        check("prefix_cached_frac", cached, 0 <= cached <= 1, "a share from 0 to 1")
        check("mix", f"{len(self.mix)} kinds", len(self.mix) <= MOST_KINDS, f"at most {MOST_KINDS}")
        for isl, osl, share in self._mix:
            check("isl", isl, 1 <= isl < math.inf, "a number of at least 1")
            check("osl", osl, 1 <= osl < math.inf, "a number of at least 1")
            check("share", share, 0 < share < math.inf, ABOVE_0)
            enough = self.context is None or self.context >= isl + osl
            check("context", self.context, enough, f"at least isl + osl = {isl + osl:g}")

    @property
    def _mix(self) -> tuple[tuple[float, float, float], ...]:
        return self.mix or ((self.isl, self.osl, 1.0),)

    @property
    def closed(self) -> bool:
        """Whether the load is a number of users, each with a request in flight."""
        return self.users is not None

    @property
    def load(self) -> float:
        """Requests in flight, or requests per second."""
        return float(self.users if self.users is not None else self.request_rate or 0.0)

    def load_text(self, load: float | None = None) -> str:
        """Return a load (None: its own) with its unit, such as "20 users" or "3.5 requests/s"."""
        value = self.load if load is None else load
        number = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
        return f"{number} {'requests/s' if not self.closed else 'user' if value == 1 else 'users'}"

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of requests as the predictor takes them, shares adding up to 1."""
        whole, kinds = sum(share for _, _, share in self._mix), list[Kind]()
        for isl, osl, share in self._mix:
            prompt = isl if self.context is None else max(self.context - osl, isl)
            cached = 1.0 - isl * (1.0 - self.prefix_cached_frac) / prompt
            kinds.append(Kind(isl=prompt, osl=osl, cached=cached, share=share / whole))
        return tuple(kinds)


def check(name: str, value: object, good: bool, allowed: str) -> None:
    """Raise BadRequest for a value that is not good."""
    if not good:
        raise BadRequest(name, value, allowed)
