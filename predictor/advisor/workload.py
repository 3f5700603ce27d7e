"""What is to be served: model, load, lengths, limits and budget, checked at the door."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ...data import catalogue
from ...data.columns import COLUMNS
from ...data.errors import BadRequest
from ...data.huggingface import model_from_config
from ...data.specs import ModelSpec

DEFAULT_ISL, DEFAULT_OSL = (float(COLUMNS[name].default or 0.0) for name in ("isl", "osl"))
# Two seconds to the first token and 20 tokens per second and user, where no limit is given.
DEFAULT_TTFT_MS, DEFAULT_TPOT_MS, DEFAULT_PERCENTILE = 2000.0, 50.0, 90.0
MOST_KINDS = 32
# What grows with the width of a model's layers, and with their number.
_WIDTHS = ("d_model", "d_ff", "d_ff_expert", "d_ff_shared_expert")
_DEPTHS = (
    "n_dense_layers", "n_ffn_layers", "n_sliding_layers", "n_full_attention_layers",
    "n_linear_attention_layers",
)  # fmt: skip
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)([bt])(?:-a(\d+(?:\.\d+)?)b)?$")


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
            check(name, value, value is None or 0 < value < math.inf, "a number above 0")
        for name in ("ttft_ms", "tpot_ms"):
            check(name, getattr(self, name), getattr(self, name) > 0, "a number above 0")
        check("percentile", self.percentile, 0 < self.percentile < 100, "above 0 and below 100")
        cached = self.prefix_cached_frac
        check("prefix_cached_frac", cached, 0 <= cached <= 1, "a share from 0 to 1")
        check("mix", f"{len(self.mix)} kinds", len(self.mix) <= MOST_KINDS, f"at most {MOST_KINDS}")
        for isl, osl, share in self._mix:
            for name, value in (("isl", isl), ("osl", osl)):
                check(name, value, 1 <= value < math.inf, "a number of at least 1")
            check("share", share, 0 < share < math.inf, "a number above 0")
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
        whole = sum(share for _, _, share in self._mix)
        prompts = [isl if self.context is None else max(self.context - osl, isl) for isl, osl, _ in self._mix]
        return tuple(
            Kind(
                isl=prompt, osl=osl, cached=1.0 - isl * (1.0 - self.prefix_cached_frac) / prompt,
                share=share / whole,
            )
            for prompt, (isl, osl, share) in zip(prompts, self._mix, strict=True)
        )  # fmt: skip


def check(name: str, value: object, good: bool, allowed: str) -> None:
    """Raise BadRequest for a value that is not good."""
    if not good:
        raise BadRequest(name, value, allowed)


def resolve_model(text: str) -> tuple[str, str]:
    """Return the catalogue name that a workload's model goes by, and a note where it is a stand-in.

    Raises UnknownName with the nearest names, and BadRequest for a config.json that cannot be read.
    """
    size = _SIZE.match(text.strip().lower())
    if size:
        return _of_size(text, size)
    if text.endswith(".json") or Path(text).is_dir():
        return catalogue.add_model(model_from_config(text)), f"model read from {text}"
    return catalogue.model(text).name, ""


def _of_size(text: str, size: re.Match[str]) -> tuple[str, str]:
    """Enter the nearest catalogue model of that size and kind, scaled to it."""
    params = float(size[1]) * (1e12 if size[2] == "t" else 1e9)
    active = float(size[3]) * 1e9 if size[3] else params
    check("model", text, 0 < active <= params, "active parameters above 0 and at most the total")

    def distance(spec: ModelSpec) -> float:
        gap = abs(math.log(spec.params_total / params))
        return gap + abs(math.log(spec.params_active / active)) * (1.0 if size[3] else 0.0)

    # Stand-ins entered for other questions are no shapes to scale.
    same_kind = [m for m in catalogue.shipped_models().values() if m.is_moe == bool(size[3])]
    near = min((m for m in same_kind if m.attention != "mla" or size[3]), key=distance)
    name = catalogue.add_model(_scaled(near, params, active, text.strip().lower()))
    return name, f"model of size {text}: the shape of {near.name}, scaled"


def _scaled(spec: ModelSpec, params: float, active: float, name: str) -> ModelSpec:
    """Return a spec with `params` parameters: layers and widths grow alike, heads in steps that divide well.

    Parameters go with layers x width^2, so each grows by the cube root of the ratio.
    """
    ratio = params / spec.params_total
    step = 1 << max(spec.n_heads.bit_length() - 3, 0)
    heads = max(step, step * round(spec.n_heads * ratio ** (1 / 3) / step))
    width = heads / spec.n_heads
    layers = max(1, round(spec.n_layers * ratio / width**2))
    depth = layers / spec.n_layers
    grown = {name: round(getattr(spec, name) * width) for name in _WIDTHS}
    grown |= {name: round(getattr(spec, name) * depth) for name in _DEPTHS}
    return replace(
        spec, name=name, hf_id="", aliases=(), conflicts=(), source=f"{spec.name} scaled to {params:.3g}",
        **grown, n_layers=layers, n_heads=heads, params_total=params,
        params_active=active if spec.is_moe else params, params_embedding=spec.params_embedding * width,
    )  # fmt: skip
