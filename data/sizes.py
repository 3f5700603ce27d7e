"""What names a model: the catalogue, a checkpoint's name, a config.json, or a size alone.

A size ("300b"; "1t-a32b": experts, 32 G parameters active) is the nearest shape of the catalogue, scaled.
"""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from . import catalogue
from .errors import BadRequest
from .huggingface import model_from_config
from .specs import ModelSpec
from .vocabulary import PRECISIONS

# What grows with the width of a model's layers, and with their number.
_WIDTHS = ("d_model", "d_ff", "d_ff_expert", "d_ff_shared_expert")
_DEPTHS = (
    "n_dense_layers", "n_ffn_layers", "n_sliding_layers", "n_full_attention_layers",
    "n_linear_attention_layers",
)  # fmt: skip
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)([bt])(?:-a(\d+(?:\.\d+)?)b)?$")


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """The model that a text names: its catalogue name, the precisions that the text states, and how.

    how: "" for a name of the catalogue, "understood" for one taken apart, "config" for a config.json at
    `where`, "scaled" for a size; about: what of the model is to be told.
    """

    name: str
    weight_precision: str = ""
    kv_precision: str = ""
    how: str = ""
    about: str = ""
    where: str = ""


def resolve_model(text: str) -> NamedModel:
    """Return the model that a text names: the one door for names, sizes, config.json files and folders.

    Raises UnknownName with the nearest names; BadRequest for a size or a config.json that makes no sense.
    """
    if text in catalogue.shipped_models():  # as most are, and nothing of the name is to be looked at
        return NamedModel(name=text)
    if size := _SIZE.match(text.strip().lower()):
        return _of_size(text, size)
    own = catalogue.model_called(text)
    if own and own.name not in catalogue.shipped_models():  # its config.json said all, its name nothing
        return NamedModel(name=own.name)
    if own is None and (file := config_file(text)):
        return _of_config(file)
    from .spellings import checkpoint

    stated = checkpoint(text)
    if own is None and (size := _SIZE.match(stated.base)):  # "7b-int4"
        return replace(_of_size(text, size), weight_precision=stated.weight_precision,
                       kv_precision=stated.kv_precision)  # fmt: skip
    spec = own or catalogue.model(text)
    told = ", ".join([spec.name, *(f"weight_precision {p}" for p in [stated.weight_precision] if p)])
    return NamedModel(name=spec.name, weight_precision=stated.weight_precision,
                      kv_precision=stated.kv_precision, how="" if own and told == spec.name else "understood",
                      about=told, where=text)  # fmt: skip


def config_file(path: str | Path) -> Path | None:
    """Return the config.json that a path means, None where it means none: the path of a .json file, a folder
    that holds one, or the folder of a model in a hub's cache (models--OWNER--NAME, its newest snapshot).
    """
    place = Path(path)
    with suppress(OSError, ValueError, RuntimeError):  # a name that no file, or no user, can have
        if "://" in str(path):  # an address in a hub: its name says which model
            return None
        place = place.expanduser()
        if place.suffix == ".json":
            return place
        if (place / "config.json").is_file():
            return place / "config.json"
        found = sorted(place.glob("snapshots/*/config.json"), key=lambda file: file.stat().st_mtime)
        return found[-1] if found else None
    return None


def _model_name(file: Path) -> str:
    """Return the name of the model that a file describes: its folder's, its repository's in a hub's cache."""
    parts = file.absolute().parts
    if "snapshots" in parts[1:]:
        return parts[parts.index("snapshots") - 1].rsplit("--", 1)[-1]
    return file.absolute().parent.name if file.name == "config.json" else file.stem


def _of_config(file: Path) -> NamedModel:
    spec = model_from_config(file, _model_name(file))
    name = catalogue.add_model(spec)
    counted = f"{spec.params_total / 1e9:.1f} G parameters, {spec.params_active / 1e9:.1f} G active"
    # Of a known shape under its known name, which may be published in another format.
    native, known = spec.native_weight_precision, catalogue.models()[name].native_weight_precision
    return NamedModel(name=name, weight_precision=PRECISIONS.find(native) if native != known else "",
                      how="config", about=counted, where=str(file))  # fmt: skip


def _of_size(text: str, size: re.Match[str]) -> NamedModel:
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
    return NamedModel(name=name, how="scaled", about=near.name, where=text)


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
