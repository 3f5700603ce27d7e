"""Catalogue facts as columns, gathered row by row: the physics works on arrays, not on objects.

A column holds one number per catalogue entry, in the catalogue's order; indexing it by an array of places
gives an array of length n. Derived numbers of a model (parameters by role, KV values) are worked out once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..data import catalogue
from ..data.specs import GpuSpec, ModelSpec, PlatformSpec
from ..data.vocabulary import PRECISIONS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# Architectures share calibrated efficiencies; those without rows of their own borrow from a relative.
ARCHITECTURES = ("ampere", "hopper", "blackwell", "cdna3", "cdna4", "other")
ARCHITECTURE_OF = {"blackwell-ultra": "blackwell", "rubin": "blackwell", "ada": "ampere"}
# Chips for which engines ship kernels that widen 8- and 4-bit floats on the fly (Marlin and the like, Quark).
_WIDENING = ("turing", "ampere", "ada", "hopper", "blackwell", "blackwell-ultra", "rubin", "cdna3", "cdna4")
_INTEGERS = np.isin(PRECISIONS, ("int8", "int4"))
BOX = 8.0  # GPUs of a machine at most; a larger scale-up domain is a rack's, whose trays share it
# Host memory of a GPU whose platform does not say: a box of 2 TB for eight GPUs.
HOST_BYTES = 256e9
_LEAST_PCIE = 8e9  # of a GPU whose data sheet names none: PCIe 3.0 with 8 lanes
NIC_BANDWIDTH = 50e9  # B/s per GPU one way (400 Gb/s), where the platform does not say
# What the physics takes of a model as it is published, under the same name and under another.
_AS_PUBLISHED = ("n_layers", "d_model", "n_heads", "is_moe", "linear_state_values", "n_experts",
                 "experts_per_token", "params_total", "params_active")  # fmt: skip
_RENAMED = {"sliding_layers": "n_sliding_layers", "linear_layers": "n_linear_attention_layers",
            "moe_layers": "n_moe_layers", "index_values": "index_key_dim",
            "embedding_params": "params_embedding"}  # fmt: skip


class Arrays:
    """A record whose fields are arrays of shape (n,), records and mappings of such, or one value for all."""

    def take(self, rows: NDArray[Any]) -> Self:
        """Return the record of a subset of rows."""
        return type(self)(**{name: _taken(part, rows) for name, part in vars(self).items()})

    def put(self, rows: IntArray, other: Arrays) -> Self:
        """Return the record with some rows replaced by those of another."""
        fresh = {name: values.copy() for name, values in vars(self).items()}
        for name, values in vars(other).items():
            fresh[name][rows] = values
        return type(self)(**fresh)

    def followed_by(self, other: Arrays) -> Self:
        """Return the rows of this record and then those of another."""
        return type(self)(**{name: _joined(part, vars(other)[name]) for name, part in vars(self).items()})


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, Mapping):
        return {name: _joined(values, second[name]) for name, values in first.items()}
    return first.followed_by(second) if isinstance(first, Arrays) else np.concatenate([first, second])


def _taken(part: Any, rows: NDArray[Any]) -> Any:
    if isinstance(part, np.ndarray):
        return part[rows]
    if isinstance(part, Mapping):
        return {name: values[rows] for name, values in part.items()}
    return part.take(rows) if hasattr(part, "take") else part


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Columns of facts gathered by code: attribute access gives an array of shape (n,)."""

    columns: Mapping[str, FloatArray]
    codes: IntArray

    def __getattr__(self, name: str) -> FloatArray:
        try:
            column: FloatArray = vars(self)["columns"][name]
        except KeyError:
            raise AttributeError(name) from None
        gathered = column[self.codes]
        gathered.setflags(write=False)
        vars(self)[name] = gathered  # asked for again and again: found without this method next time
        return gathered

    def take(self, rows: BoolArray | IntArray) -> Facts:
        """Return the same facts for a subset of rows."""
        return Facts(columns=self.columns, codes=self.codes[rows])


def _parameters(spec: ModelSpec) -> dict[str, float]:
    """Return the parameters by role, all layers together; expert_params: of one routed expert in one layer.

    passed_params: of the feed-forward layers that one token passes through. Attention has what embeddings,
    feed-forward layers and experts leave of the published total; where that is not plausible (layer counts
    that include other blocks), a quarter of the parameters without embeddings.
    """
    per_width = (3.0 if spec.gated_ffn else 2.0) * spec.d_model  # matrices of a feed-forward layer
    body = spec.params_total - spec.params_embedding
    expert = per_width * spec.d_ff_expert
    experts = spec.n_moe_layers * spec.n_experts * expert
    shared_width = spec.d_ff_shared_expert or spec.d_ff_expert * spec.n_shared_experts
    shared = per_width * shared_width * spec.n_moe_layers
    dense_layers = spec.n_dense_layers if spec.is_moe else spec.n_ffn_layers or spec.n_layers
    rest = body - per_width * spec.d_ff * dense_layers - experts - shared
    attention = rest if rest > 0.002 * body else 0.25 * body
    dense = max(body - experts - attention - shared, 0.0)
    return {
        "expert_params": expert, "experts_total": experts, "shared_params": shared,
        "attention_params": attention, "dense_params": dense,
        "passed_params": dense + shared + spec.n_moe_layers * spec.experts_per_token * expert,
    }  # fmt: skip


def _kv_values(spec: ModelSpec) -> float:
    """Return the key and value numbers kept per token in one full-attention layer.

    GQA: 2 x n_kv_heads x head_dim. MLA: the latent and the rotary part, kept once whatever the heads
    (DeepSeek-V2, arXiv 2405.04434). Sparse attention adds its indexer's keys.
    """
    latent = spec.mla_kv_rank + spec.mla_rope_dim if spec.attention == "mla" else 0
    values = spec.kv_values_per_token_layer or latent or 2 * spec.n_kv_heads * spec.head_dim
    return float(values) + spec.index_key_dim


def _model_row(spec: ModelSpec) -> dict[str, float]:
    mla = spec.mla_kv_rank > 0
    hybrid = spec.n_sliding_layers + spec.n_linear_attention_layers
    native = PRECISIONS.find(spec.native_weight_precision) or PRECISIONS[0]
    return {
        **{name: getattr(spec, name) for name in _AS_PUBLISHED},
        **{name: getattr(spec, published) for name, published in _RENAMED.items()},
        **_parameters(spec),
        "n_kv_heads": 1 if mla else max(spec.n_kv_heads, 1),
        "is_mla": mla,
        "full_layers": spec.n_full_attention_layers or spec.n_layers - hybrid,
        "window": spec.sliding_window or 1e12,
        "sparse_topk": spec.sparse_topk or 1e12,
        "kv_values": _kv_values(spec),
        "score_width": spec.qk_nope_dim + spec.mla_rope_dim + spec.v_head_dim if mla else 2 * spec.head_dim,
        "decode_width": 2 * spec.mla_kv_rank + spec.mla_rope_dim if mla else 2 * spec.head_dim,
        "head_params": float(spec.vocab) * spec.d_model,
        "max_position": spec.max_position or 1e12,
        "native_precision": PRECISIONS.index(native),
        "native_mxfp4": spec.native_weight_precision == "mxfp4",
        "attention_bf16": spec.family == "gpt-oss",
    }


def _gpu_row(spec: GpuSpec) -> dict[str, float]:
    published = spec.architecture.split()[0]
    family = ARCHITECTURE_OF.get(published, published)
    home = next((p for p in catalogue.platforms().values() if p.gpu == spec.name), None)
    host_bytes, host_bandwidth = _host(home, spec) if home else (HOST_BYTES, spec.pcie_bandwidth)
    return {
        "memory_bytes": spec.memory_bytes,
        "bandwidth": spec.memory_bandwidth,
        "link_bandwidth": spec.link_bandwidth,
        "num_gpus": np.nan,  # as a platform has it; of a GPU alone nobody knows
        "domain": max(spec.link_domain, 1),
        # A box of one chip has no other link than its network.
        "nic_bandwidth": spec.link_bandwidth if spec.link.startswith("ethernet") else NIC_BANDWIDTH,
        "pcie_bandwidth": max(spec.pcie_bandwidth, _LEAST_PCIE),
        "architecture": ARCHITECTURES.index(family if family in ARCHITECTURES else "other"),
        "is_nvidia": spec.vendor.lower() == "nvidia",
        "widens": published in _WIDENING,
        "host_bytes": host_bytes,
        "host_bandwidth": host_bandwidth,
        **{f"peak_{precision}": spec.peak_flops(precision) for precision in PRECISIONS},
        **{f"units_{precision}": spec.has_units(precision) for precision in PRECISIONS},
    }


def _host(platform: PlatformSpec, gpu: GpuSpec) -> tuple[float, float]:
    """Return the host memory [B] and its one-way rate [B/s] that each GPU of a platform gets.

    Over NVLink-C2C the slower of link and memory, over PCIe the card's; shared by all GPUs that read at once.
    """
    link = platform.c2c_bandwidth_per_gpu or gpu.pcie_bandwidth
    rate = min(link, platform.host_memory_bandwidth / platform.num_gpus or link)
    return platform.host_memory_bytes / platform.num_gpus or HOST_BYTES, rate


def _platform_row(spec: PlatformSpec) -> dict[str, float]:
    """Return the GPU's place in the catalogue, GPUs in all and in a domain, rates [B/s] and bytes per GPU."""
    host_bytes, host_bandwidth = _host(spec, catalogue.gpus()[spec.gpu])
    return {
        "gpu": list(catalogue.gpus()).index(spec.gpu),
        "num_gpus": spec.num_gpus,
        "domain": spec.scale_up_domain,
        "nic_bandwidth": spec.nic_bandwidth or NIC_BANDWIDTH,
        "host_bytes": host_bytes,
        "host_bandwidth": host_bandwidth,
    }


@catalogue.follows_models
def _columns(kind: str) -> dict[str, FloatArray]:
    if kind == "model":
        rows = [_model_row(model) for model in catalogue.models().values()]
    elif kind == "gpu":
        rows = [_gpu_row(gpu) for gpu in catalogue.gpus().values()]
    else:
        rows = [_platform_row(platform) for platform in catalogue.platforms().values()]
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}


def facts_of(kind: str, codes: IntArray) -> Facts:
    """Return the facts of each "model", "gpu" or "platform" by its place in the catalogue."""
    return Facts(columns=_columns(kind), codes=codes)


def runs_precisions(gpu: Facts) -> BoolArray:
    """Return which of PRECISIONS engines run on each GPU, shape (n, len(PRECISIONS)).

    A format without units is weight-only: any GPU widens integers, some floats too.
    """
    return _runs()[gpu.codes]


@cache
def _runs() -> BoolArray:
    columns = _columns("gpu")
    units = np.stack([columns[f"units_{p}"] for p in PRECISIONS], axis=1) > 0
    return np.asarray(units | _INTEGERS | (columns["widens"] > 0)[:, None])
