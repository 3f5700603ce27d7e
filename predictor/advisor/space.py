"""What can be bought, how a model can lie on it, and the grid of all such configurations.

An offer is the smallest thing that is bought and holds whole replicas: a box, two boxes joined by their
network, a part of a rack or the rack. More load takes more of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data import catalogue
from ...data.errors import UnknownName
from ...data.sizes import NamedModel
from ...data.specs import ModelSpec, PlatformSpec
from ...data.vocabulary import ENGINES, PRECISIONS, engine_named, precision_named
from ...features.facts import FloatArray, IntArray
from ..layouts import layout_name, layouts
from .economics import Economics

if TYPE_CHECKING:
    import pandas as pd

# A vendor's own engine first, then those that run everywhere: of equals the first is taken.
_ENGINES = sorted((term for term in ENGINES.terms if term.vendors), key=lambda term: len(term.vendors))
_QUANTISED = ("bf16", "fp8", "fp4")  # what the weights of any model may be brought to
# GPUs; a platform of the first number or more is shared out by parts of so many, each a power of two of whole
# trays, as tensor parallelism wants it.
_RACK_PARTS = (16, 32)
_JOINED = 2  # boxes that one replica may span over the network
MOST_BOXES = 4096
# Grace as a warm tier: of long contexts the last 16k tokens stay in HBM and the rest is read every 16 or 64
# tokens; of a mixture's experts half stay. Offered where a host shares its memory coherently.
_HOT_TOKENS = 16384.0
_KV_TIERS = tuple({"kv_hot_tokens": _HOT_TOKENS, "kv_reread_every": every} for every in (16.0, 64.0))
_EXPERT_TIER = {"experts_resident_frac": 0.5}


@dataclass(frozen=True, kw_only=True)
class Offer:
    """`gpus` GPUs that hold whole replicas: `share` platforms [-], at most `most` of them side by side."""

    platform: str
    gpus: int
    share: float
    most: int


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How one replica is served; `tier`: what of it lies in host memory, as request columns."""

    tp: int
    pp: int
    ep: int
    dp: int
    weight_precision: str
    kv_precision: str
    engine: str
    tier: Mapping[str, float] = field(default_factory=dict)

    @property
    def layout(self) -> str:
        """The layout of one replica, such as "tp8" or "tp16 ep16 dp16"."""
        return layout_name(self.tp, self.pp, self.ep, self.dp) + (" +Grace" if self.tier else "")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Configurations of one model, n rows: an offer and how each replica on it is served."""

    model: str
    rows: Sequence[tuple[Offer, Setup]] = ()

    @classmethod
    def of(
        cls, model: NamedModel, platforms: Sequence[PlatformSpec], engines: Sequence[str] = (),
        weight_precisions: Sequence[str] = (), longest: float = 0.0,
    ) -> Grid:  # fmt: skip
        """Return every configuration for sequences of at most `longest` tokens; no names mean all.

        No precision means that which the model's name states, where it states one: that checkpoint. Raises
        UnknownName for an engine or a precision that is not known.
        """
        engines = [engine_named(name)[0] or name for name in engines]
        weight_precisions = [precision_named(name) or name for name in weight_precisions]
        known = {"engine": [term.name for term in _ENGINES], "weight_precision": PRECISIONS}
        asked = [*product(("engine",), engines), *product(("weight_precision",), weight_precisions)]
        for kind, name in asked:
            if name not in known[kind]:
                raise UnknownName(kind, name, known[kind])
        spec = catalogue.model(model.name)
        if model.weight_precision and not weight_precisions:
            weight_precisions = (model.weight_precision,)
            spec = replace(spec, native_weight_precision=model.weight_precision)
        return cls(model=model.name, rows=[
            (offer, setup)
            for platform in platforms
            for offer in offers(platform)
            for setup in _setups(spec, platform, offer, longest)
            if not engines or setup.engine in engines
            if not weight_precisions or setup.weight_precision in weight_precisions
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, kept: NDArray[np.bool_]) -> Grid:
        """Return the configurations marked in `kept`, shape (n,)."""
        return Grid(model=self.model, rows=[self.rows[i] for i in np.flatnonzero(kept).tolist()])

    def per_offer(self, name: str) -> NDArray[Any]:
        """Return a field of each configuration's offer, shape (n,)."""
        return np.array([getattr(offer, name) for offer, _ in self.rows])

    def usd_per_hour(self, economics: Economics) -> FloatArray:
        """Return what one offer of each costs [USD/h], shape (n,); NaN where no price is known."""
        offers = [offer for offer, _ in self.rows]
        cost = {offer: economics.per_hour(offer.platform, offer.share) for offer in set(offers)}
        return np.array([cost[offer] for offer in offers])

    @cached_property
    def _columns(self) -> pd.DataFrame:
        import pandas as pd

        table = pd.DataFrame([{"platform": o.platform, **vars(s), **s.tier} for o, s in self.rows])
        texts = [name for name in table.columns if name != "tier" and table[name].dtype.kind not in "if"]
        return table.drop(columns="tier").astype(dict.fromkeys(texts, "category"))

    def frame(self, rows: IntArray, count: FloatArray) -> pd.DataFrame:
        """Return request columns of some rows on so many offers each; the load is still to come."""
        import pandas as pd

        frame = self._columns.iloc[rows].reset_index(drop=True)
        gpus = self.per_offer("gpus").astype(np.float64)[rows] * count
        return frame.assign(model=pd.Categorical([self.model]).repeat(len(frame)), num_gpus=gpus)


def offers(platform: PlatformSpec) -> Iterator[Offer]:
    """Yield what of a platform can be used alone: boxes, two joined ones, parts of a rack, the rack."""
    gpus = platform.num_gpus
    if gpus >= _RACK_PARTS[0]:
        for part in _RACK_PARTS:
            yield Offer(platform=platform.name, gpus=part, share=part / gpus, most=gpus // part)
    yield Offer(platform=platform.name, gpus=gpus, share=1.0, most=MOST_BOXES)
    if 1 < gpus < _RACK_PARTS[0] and platform.nic_bandwidth:
        yield Offer(platform=platform.name, gpus=_JOINED * gpus, share=_JOINED, most=MOST_BOXES // _JOINED)


def _setups(model: ModelSpec, platform: PlatformSpec, offer: Offer, longest: float) -> Iterator[Setup]:
    """Yield the setups that engines start on an offer; the KV cache is in 8 bits beside narrow weights."""
    gpu = catalogue.gpu(platform.gpu)
    tiers: list[Mapping[str, float]] = [{}]
    if platform.c2c_bandwidth:
        tiers += _KV_TIERS if longest > 2.0 * _HOT_TOKENS else ()
        tiers += (_EXPERT_TIER,) if model.is_moe else ()
    own = PRECISIONS.term(PRECISIONS.find(model.native_weight_precision))
    own = own if own.bits <= 16 else PRECISIONS.term("bf16")
    narrower = [t for t in map(PRECISIONS.term, _QUANTISED) if t.weight_bytes < own.weight_bytes]
    # The model's own weights run on chips without units for them too: widened on the way.
    weights = [own.name, *(t.name for t in narrower if gpu.has_units(t.name))]
    engines = [term.name for term in _ENGINES if gpu.vendor.lower() in term.vendors]
    degrees = layouts(model.n_heads, model.is_moe, offer.gpus, platform.num_gpus)
    if offer.gpus > platform.num_gpus:  # on joined boxes only what needs both
        degrees = (each for each in degrees if each[0] * each[1] > platform.num_gpus)
    for (tp, pp, ep, dp), weight, engine, tier in product(degrees, weights, engines, tiers):
        kv = "bf16" if weight == "bf16" else "fp8"
        yield Setup(
            tp=tp, pp=pp, ep=ep, dp=dp, weight_precision=weight, kv_precision=kv, engine=engine, tier=tier
        )
