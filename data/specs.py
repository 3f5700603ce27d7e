"""What roofcast knows of one GPU, one platform, one model: frozen records in SI units.

Missing numbers are 0 and missing text is "". Peaks are dense, link rates one way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from .errors import BadRequest

WEIGHT_PRECISIONS = ("fp32", "bf16", "fp16", "fp8", "fp4", "int8", "int4")
_SIXTEEN_BIT = ("bf16", "fp16")


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Sources that disagree on one field: the value in use, and the others with who says so."""

    field: str
    in_use: float | str
    others: tuple[str, ...]
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What every entry says: its name, other names it goes by, where its numbers come from."""

    name: str
    aliases: tuple[str, ...] = ()
    source: str
    notes: str = ""
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GpuSpec(Entry):
    """One chip as a serving engine sees it.

    memory_bytes [B] usable by programs (what nvidia-smi or rocm-smi reports); memory_bandwidth [B/s];
    flops [FLOP/s] dense peak by number format, absent where the chip has no unit for it; link_bandwidth [B/s]
    one way per GPU over the scale-up fabric; link_domain: GPUs within one such fabric; pcie_bandwidth [B/s]
    one way; tdp_w [W].
    """

    vendor: str
    architecture: str
    sm: str = ""
    memory_bytes: float
    memory_bandwidth: float
    flops: Mapping[str, float]
    link: str
    link_bandwidth: float
    link_domain: int
    pcie_bandwidth: float = 0.0
    tdp_w: float = 0.0

    def math_precision(self, weight_precision: str) -> str:
        """Return the format in which this chip multiplies when weights are stored as `weight_precision`.

        A format without units is weight-only: weights are widened and multiplied in 16 bits.
        Raises BadRequest for a precision that is none of WEIGHT_PRECISIONS.
        """
        if weight_precision not in WEIGHT_PRECISIONS:
            raise BadRequest("weight_precision", weight_precision, "one of " + ", ".join(WEIGHT_PRECISIONS))
        sixteen = next((p for p in _SIXTEEN_BIT if p in self.flops), "fp32")
        # Blackwell Ultra keeps a token int8 unit, slower than its bf16 one: nobody multiplies on it.
        token = weight_precision == "int8" and self.flops.get("int8", 0.0) < self.flops[sixteen]
        widened = weight_precision == "int4" or weight_precision not in self.flops or token
        return sixteen if widened else weight_precision

    def has_units(self, precision: str) -> bool:
        """Tell whether the chip multiplies in `precision` itself; bf16 and fp16 count as one class."""
        used = self.math_precision(precision)
        return used == precision or (used in _SIXTEEN_BIT and precision in _SIXTEEN_BIT)

    def peak_flops(self, weight_precision: str) -> float:
        """Return the dense peak [FLOP/s] that matrix products reach with weights of that precision.

        >>> from roofcast.data.catalogue import gpu
        >>> gpu("h100-sxm").peak_flops("fp4") == gpu("h100-sxm").flops["bf16"]
        True
        """
        return self.flops[self.math_precision(weight_precision)]


@dataclass(frozen=True, kw_only=True)
class PlatformSpec(Entry):
    """A thing one buys: GPUs, their fabric, the host memory beside them.

    scale_up_domain: GPUs joined by the fast fabric; link_bandwidth [B/s] one way per GPU; host_memory_bytes
    [B] and host_memory_bandwidth [B/s] of all hosts together; c2c_bandwidth [B/s] one way per host CPU
    (Grace); nic_bandwidth [B/s] one way per GPU; power_w [W].
    """

    gpu: str
    num_gpus: int
    scale_up_domain: int
    link_bandwidth: float
    host_cpus: int = 0
    host_memory_bytes: float = 0.0
    host_memory_bandwidth: float = 0.0
    c2c_bandwidth: float = 0.0
    nic_bandwidth: float = 0.0
    power_w: float = 0.0

    @property
    def c2c_bandwidth_per_gpu(self) -> float:
        """One-way NVLink-C2C rate [B/s] when every GPU reads at once."""
        return self.c2c_bandwidth * self.host_cpus / self.num_gpus


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Entry):
    """The shape of one language model; widths and counts are numbers, `params_*` are parameters.

    head_dim is the width of one query-key head (for MLA qk_nope_dim + mla_rope_dim). d_ff is the dense FFN,
    d_ff_expert one routed expert, d_ff_shared_expert all shared experts together. Attention layers split into
    n_full_attention_layers, n_sliding_layers (window `sliding_window` tokens) and n_linear_attention_layers.
    Beyond the plain shape: linear_state_values, what one linear layer keeps per sequence (recurrent state and
    convolution); sparse_topk, the most keys a query attends to in sparse attention; index_key_dim, the values
    per token and layer its indexer caches; kv_values_per_token_layer, the values cached per token and
    full-attention layer where the heads do not tell (compressed or shared KV, indexer keys included);
    n_ffn_layers, where not every block holds an FFN.
    """

    hf_id: str = ""
    family: str
    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int = 0
    gated_ffn: bool = True
    vocab: int
    tied_embeddings: bool = False
    attention: str
    mla_kv_rank: int = 0
    mla_rope_dim: int = 0
    mla_q_rank: int = 0
    qk_nope_dim: int = 0
    v_head_dim: int = 0
    sliding_window: int = 0
    n_sliding_layers: int = 0
    n_full_attention_layers: int = 0
    n_linear_attention_layers: int = 0
    linear_state_values: int = 0
    sparse_topk: int = 0
    index_key_dim: int = 0
    kv_values_per_token_layer: float = 0.0
    n_ffn_layers: int = 0
    n_experts: int = 0
    experts_per_token: int = 0
    n_shared_experts: int = 0
    d_ff_expert: int = 0
    d_ff_shared_expert: int = 0
    n_dense_layers: int = 0
    params_total: float
    params_active: float
    params_embedding: float = 0.0
    native_weight_precision: str = "bf16"
    max_position: int = 0
    mtp_layers: int = 0

    @property
    def is_moe(self) -> bool:
        """Whether tokens are routed to experts."""
        return self.n_experts > 0

    @property
    def n_moe_layers(self) -> int:
        """Layers that hold routed experts."""
        return (self.n_ffn_layers or self.n_layers) - self.n_dense_layers if self.n_experts else 0

    @property
    def shape_key(self) -> str:
        """All that decides the speed: equal for models that differ only in training (R1 and R1-0528).

        Only what is not the field's default, so that a field added later leaves the shapes that bundles know.
        """
        shape = {f.name: getattr(self, f.name) for f in _SHAPE_FIELDS if getattr(self, f.name) != f.default}
        return "|".join(f"{name}={value}" for name, value in shape.items())


_NO_SHAPE = (
    *(f.name for f in fields(Entry)), "hf_id", "family", "native_weight_precision", "max_position",
    "params_total", "params_active", "params_embedding",
)  # fmt: skip
_SHAPE_FIELDS = tuple(f for f in fields(ModelSpec) if f.name not in _NO_SHAPE)
