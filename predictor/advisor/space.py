"""What can be bought and how a model can lie on it: offers, layouts, precisions, engines, as columns.

An offer is the smallest thing that is bought and holds whole replicas: a box, two boxes joined by their
network, a part of a rack or the rack. More load takes more of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...data import catalogue
from ...data.errors import UnknownName
from ...data.specs import GpuSpec, ModelSpec, PlatformSpec
from ...data.vocabulary import PRECISIONS

if TYPE_CHECKING:
    import pandas as pd

ENGINES = {"nvidia": ("trtllm", "vllm", "sglang"), "amd": ("vllm", "sglang")}
_NARROWER = ("bf16", "fp8", "fp4")  # that a model may be quantised to
_RACK = 16  # GPUs; a platform of this many or more is shared out by parts
# Parts of a rack that are used alone: a power of two of whole trays, as tensor parallelism wants it.
RACK_PARTS = (16, 32)
_JOINED = 2  # boxes that one replica may span over the network
MOST_BOXES = 4096
# Grace as a warm tier: of long contexts the last 16k tokens stay in HBM and the rest is read every 16 or 64
# tokens; of a mixture's experts half stay. Offered where a host shares its memory coherently.
HOT_TOKENS = 16384.0
KV_TIERS = tuple((("kv_hot_tokens", HOT_TOKENS), ("kv_reread_every", every)) for every in (16.0, 64.0))
EXPERT_TIER = (("experts_resident_frac", 0.5),)
Tier = tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """`gpus` GPUs that hold whole replicas: `share` platforms [-], at most `most` of them side by side."""

    platform: str
    gpus: int
    share: float
    most: int


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One way to serve: an offer, the layout of a replica on it, precision, engine, what lies in Grace."""

    offer: Offer
    tp: int
    pp: int
    ep: int
    dp: int
    weight_precision: str
    kv_precision: str
    engine: str
    tier: Tier = ()

    @property
    def replicas(self) -> int:
        """Replicas on one offer."""
        return self.offer.gpus // (self.tp * self.pp)

    def columns(self) -> dict[str, object]:
        """Return the request columns of one offer."""
        names = ("tp", "pp", "ep", "dp", "weight_precision", "kv_precision", "engine")
        columns: dict[str, object] = {name: getattr(self, name) for name in names}
        return {"platform": self.offer.platform, **columns, **dict(self.tier)}


def offers(platform: PlatformSpec) -> Iterator[Offer]:
    """Yield what of a platform can be used alone: boxes, two joined ones, parts of a rack, the rack."""
    gpus = platform.num_gpus
    if gpus >= _RACK:
        for part in RACK_PARTS:
            yield Offer(platform=platform.name, gpus=part, share=part / gpus, most=gpus // part)
    yield Offer(platform=platform.name, gpus=gpus, share=1.0, most=MOST_BOXES)
    if 1 < gpus < _RACK and platform.nic_bandwidth:
        yield Offer(platform=platform.name, gpus=_JOINED * gpus, share=_JOINED, most=MOST_BOXES // _JOINED)


def layouts(model: ModelSpec, offer: Offer, platform: PlatformSpec) -> Iterator[tuple[int, int, int, int]]:
    """Yield (tp, pp, ep, dp) that engines start: tp divides the heads, experts are whole or spread over tp.

    On joined boxes only what needs both: tp across them, or a pipeline stage on each.
    """
    boxes = max(offer.gpus // platform.num_gpus, 1)
    degrees = sorted({2**k for k in range(offer.gpus.bit_length()) if 2**k <= offer.gpus} | {offer.gpus})
    for tp in degrees:
        for pp in (1, boxes) if boxes > 1 else (1,):
            if tp * pp > offer.gpus or (boxes > 1 and tp * pp <= platform.num_gpus):
                continue
            splits = model.n_heads % tp == 0
            if splits:
                yield tp, pp, 1, 1
            if model.is_moe and tp > 1:
                if splits:
                    yield tp, pp, tp, 1
                yield tp, pp, tp, tp


def precisions(model: ModelSpec, gpu: GpuSpec, wanted: Sequence[str] = ()) -> list[str]:
    """Return the weight precisions to consider: the model's own, and narrower ones the GPU multiplies in."""
    native = {"fp16": "bf16", "mxfp4": "fp4", "nvfp4": "fp4", "fp32": "bf16"}.get(
        model.native_weight_precision, model.native_weight_precision
    )
    bytes_native = PRECISIONS.term(native).weight_bytes
    narrower = [p for p in _NARROWER if PRECISIONS.term(p).weight_bytes < bytes_native and gpu.has_units(p)]
    # Four-bit weights of a mixture run on chips without four-bit units too: widened on the way.
    return [p for p in dict.fromkeys([native, *narrower]) if not wanted or p in wanted]


def tiers(model: ModelSpec, platform: PlatformSpec, longest: float) -> list[Tier]:
    """Return the uses of host memory to consider, none first; `longest` is the longest sequence [tokens]."""
    useful: list[Tier] = [()]
    if platform.c2c_bandwidth:
        useful += KV_TIERS if longest > 2.0 * HOT_TOKENS else ()
        useful += (EXPERT_TIER,) if model.is_moe else ()
    return useful


def configurations(
    model: ModelSpec,
    platform: PlatformSpec,
    engines: Sequence[str] = (),
    wanted: Sequence[str] = (),
    longest: float = 0.0,
) -> list[Configuration]:
    """Return every configuration of a platform for sequences of at most `longest` tokens.

    The KV cache is in 8 bits beside narrow weights. Raises UnknownName for an engine or precision unknown.
    """
    servers = tuple(dict.fromkeys(chain(*ENGINES.values())))
    for kind, given, names in (("engine", engines, servers), ("weight_precision", wanted, PRECISIONS)):
        for name in given:
            if name not in names:
                raise UnknownName(kind, name, names)
    gpu = catalogue.gpu(platform.gpu)
    known = ENGINES.get(gpu.vendor.lower(), ("vllm",))
    return [
        Configuration(
            offer=offer, tp=tp, pp=pp, ep=ep, dp=dp, weight_precision=weight, engine=engine,
            kv_precision="bf16" if weight == "bf16" else "fp8", tier=tier,
        )
        for offer in offers(platform)
        for tp, pp, ep, dp in layouts(model, offer, platform)
        for weight in precisions(model, gpu, wanted)
        for engine in known
        if not engines or engine in engines
        for tier in tiers(model, platform, longest)
    ]  # fmt: skip


def frame_of(
    model: str, rows: Sequence[Configuration], places: NDArray[np.int64], boxes: NDArray[np.float64]
) -> pd.DataFrame:
    """Return request columns of rows[places] on so many offers each, n rows; the load is still to come."""
    import pandas as pd

    table = pd.DataFrame([row.columns() for row in rows])
    for name in table.columns:
        if table[name].dtype.kind not in "if":
            table[name] = table[name].astype("category")
    frame = table.iloc[places].reset_index(drop=True)
    gpus = np.array([row.offer.gpus for row in rows], dtype=np.float64)[places]
    return frame.assign(model=pd.Categorical([model]).repeat(len(frame)), num_gpus=gpus * boxes)
