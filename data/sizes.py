"""What names a model: the catalogue, a config.json, or a size alone.

A size ("300b"; "1t-a32b": experts, 32 G parameters active) is the nearest shape of the catalogue, scaled.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

from . import catalogue
from .errors import BadRequest
from .huggingface import model_from_config
from .specs import ModelSpec

# What grows with the width of a model's layers, and with their number.
_WIDTHS = ("d_model", "d_ff", "d_ff_expert", "d_ff_shared_expert")
_DEPTHS = (
    "n_dense_layers", "n_ffn_layers", "n_sliding_layers", "n_full_attention_layers",
    "n_linear_attention_layers",
)  # fmt: skip
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)([bt])(?:-a(\d+(?:\.\d+)?)b)?$")


def resolve_model(text: str) -> tuple[str, str]:
    """Return the catalogue name that a model goes by, and a note where it is a stand-in.

    Raises UnknownName with the nearest names; BadRequest for a size or a config.json that makes no sense.
    """
    size = _SIZE.match(text.strip().lower())
    if not size:
        if text.endswith(".json") or Path(text).is_dir():
            return catalogue.add_model(model_from_config(text)), f"model read from {text}"
        return catalogue.model(text).name, ""
    params = float(size[1]) * (1e12 if size[2] == "t" else 1e9)
    active = float(size[3]) * 1e9 if size[3] else params
    if not 0 < active <= params:
        raise BadRequest("model", text, "active parameters above 0 and at most the total")

    def distance(spec: ModelSpec) -> float:
        gap = abs(math.log(spec.params_total / params))
        return gap + abs(math.log(spec.params_active / active)) * (1.0 if size[3] else 0.0)

    # Stand-ins entered for other questions are no shapes to scale.
    same_kind = [m for m in catalogue.shipped_models().values() if m.is_moe == bool(size[3])]
    near = min((m for m in same_kind if size[3] or (m.attention == "gqa" and m.gated_ffn)), key=distance)
    name = catalogue.add_model(_scaled(near, params, active, size[0]))
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
