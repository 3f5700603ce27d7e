"""The fields of a published config.json: checked, unwrapped, and each under one name.

Classes of models call the same fact by different names, write it layer by layer or leave it to their code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import BadRequest

# Layers of these kinds are not described by the fields read here: better no answer than a wrong shape.
_FOREIGN_TYPES = (
    "t5",
    "bloom",
    "rwkv",
    "jamba",
    "deepseek_v4",
    "deepseek_v41",
    "gemma3n_text",
    "lfm2",
    "step3",
)
_FOREIGN_FIELDS = ("ssm_cfg", "mamba_num_heads", "mamba_d_state", "hybrid_override_pattern", "block_configs",
                   "compress_ratios", "sparse_attention_config")  # fmt: skip
# What the configuration class knows and the published files leave out.
_CLASS_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    **{kind: {"sliding_window_pattern": 2} for kind in ("gemma2", "gpt_oss")},
    **{k: {"full_attention_interval": 4} for k in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")},
    "gemma3_text": {
        "vocab_size": 262208, "max_position_embeddings": 131072, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "sliding_window_pattern": 6,
    },
    "llama4_text": {"sliding_window_pattern": 4, "n_shared_experts": 1},
    **{
        kind: {"num_key_value_heads": 4, "head_dim": 256, "global_head_dim": 512}
        for kind in ("gemma4_text", "gemma4_unified_text")
    },
}  # fmt: skip
# What single classes call by another name.
_SYNONYMS = {
    "moe_num_experts": "num_experts", "moe_k": "num_experts_per_tok", "moe_topk": "num_experts_per_tok",
    "moe_top_k": "num_experts_per_tok", "top_k_experts": "num_experts_per_tok",
    "num_experts_per_token": "num_experts_per_tok", "moe_num_shared_experts": "n_shared_experts",
    "num_shared_expert": "n_shared_experts", "share_expert_dim": "shared_expert_intermediate_size",
    "moe_layer_start_index": "first_k_dense_replace", "num_attention_groups": "num_key_value_heads",
    "expert_intermediate_size": "moe_intermediate_size", "model_max_length": "max_position_embeddings",
}  # fmt: skip
# Written layer by layer by some, though all layers are alike.
_PER_LAYER = ("moe_topk", "moe_intermediate_size", "num_shared_expert", "num_experts", "intermediate_size")
_NESTED = ("text_config", "thinker_config", "language_config", "llm_config")
_FROM_WRAPPER = ("tie_word_embeddings", "torch_dtype", "dtype", "quantization_config", "_name_or_path")
_LARGEST = 2**31


@dataclass(frozen=True, kw_only=True)
class Fields:
    """A configuration's fields, checked; `where` names the file in errors, which are BadRequests."""

    values: Mapping[str, Any]
    where: str

    def get(self, name: str) -> Any:
        """Return a field as it stands, None where it is absent."""
        return self.values.get(name)

    def bad(self, name: str, value: object, allowed: str) -> BadRequest:
        """Return the error that says what `name` should have been."""
        return BadRequest(name, value, f"{allowed}, in {self.where}")

    def count(self, *names: str, default: int | None = None) -> int:
        """Return the first of `names` that is present, a whole number from 0."""
        name = next((name for name in names if self.get(name) is not None), names[0])
        value = default if self.get(name) is None else self.get(name)
        if value is None:
            raise self.bad(name, None, "a whole number above 0")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and 0 <= value < _LARGEST and value == int(value)):
            raise self.bad(name, value, f"a whole number from 0 to {_LARGEST}")
        return int(value)

    def positive(self, *names: str, default: int | None = None) -> int:
        """Return what `count` returns, but refuse 0."""
        value = self.count(*names, default=default)
        if value <= 0:
            raise self.bad(names[0], value, "above 0")
        return value

    def listed(self, name: str) -> list[Any]:
        """Return a field that must be a list, empty where it is absent."""
        value = [] if self.get(name) is None else self.get(name)
        if not isinstance(value, list):
            raise self.bad(name, value, "a list")
        return value


def text_fields(values: Mapping[str, Any], where: str) -> Fields:
    """Unwrap multimodal configs, add what the class knows, refuse layer kinds that are not understood."""
    inner = next((values[key] for key in _NESTED if key in values), None)
    if inner is not None:
        if not isinstance(inner, dict):
            raise BadRequest("text_config", inner, f"a JSON object in {where}")
        shared = {key: values[key] for key in _FROM_WRAPPER if key in values}
        outer = {"model_type": f"{values.get('model_type', '')}_text"}
        return text_fields({**outer, **shared, **inner}, f"{where}:text_config")
    kind = values.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise BadRequest("model_type", kind, f"the name of a model class in {where}")
    foreign = ", ".join(key for key in _FOREIGN_FIELDS if values.get(key))
    if kind in _FOREIGN_TYPES or foreign:
        raise BadRequest("model_type", kind, f"a class with known layers; {where} has {foreign or kind}")
    return Fields(values=_canonical({**_CLASS_DEFAULTS.get(kind, {}), **values}), where=where)


def _canonical(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields under the usual names, a list of one number as that number."""
    alike = {key: values[key][0] for key in _PER_LAYER if _is_one_number(values.get(key))}
    known = {key: value for key, value in {**values, **alike}.items() if value is not None}
    usual = {**{_SYNONYMS[key]: value for key, value in known.items() if key in _SYNONYMS}, **known}
    hybrid = usual.get("linear_attn_config")
    if not isinstance(hybrid, dict):
        hybrid = {name: usual.get(f"linear_{name}") for name in ("num_heads", "head_dim")}
        hybrid["short_conv_kernel_size"] = usual.get("linear_conv_kernel_dim")
    if hybrid.get("num_heads") is not None:  # Kimi Delta Attention: keys and values have the same heads
        usual["linear_num_key_heads"] = usual["linear_num_value_heads"] = hybrid["num_heads"]
        usual["linear_key_head_dim"] = usual["linear_value_head_dim"] = hybrid.get("head_dim")
        usual |= {"linear_conv_kernel_dim": hybrid.get("short_conv_kernel_size"), "delta_gates": True}
        usual["full_rank_gate"] = hybrid.get("use_full_rank_gate", False)
        if isinstance(full := hybrid.get("full_attn_layers"), list):
            layers = usual.get("num_hidden_layers")
            count = layers if isinstance(layers, int) and layers < 10_000 else 0
            kinds = ("full_attention" if n + 1 in full else "linear_attention" for n in range(count))
            usual["layer_types"] = list(kinds)
    return usual


def _is_one_number(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], int)
        and value == value[:1] * len(value)
    )
