"""Model shapes read from a Hugging Face config.json on disk.

`model_from_config` understands decoders with the usual field names: dense families (llama, mistral, qwen2,
qwen3, gemma 2 and 3, phi3), mixtures of experts (mixtral, qwen2_moe, qwen3_moe, gpt_oss, deepseek v2 and v3,
kimi_k2, glm4_moe, minimax_m2, llama4), latent and sparse attention, sliding windows, and the Qwen3-Next and
Qwen3.5 hybrids. Multimodal wrappers are read through `text_config`, without vision and audio towers.

Field meanings: the configuration classes at https://huggingface.co/docs/transformers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import BadRequest
from .specs import ModelSpec

_TIED_BY_DEFAULT = ("gemma", "gemma2", "gemma3_text")
_UNGATED = ("gpt_neox", "nemotron", "phi", "starcoder2")
# Layers of these kinds are not described by the fields read here: better no answer than a wrong shape.
_FOREIGN_TYPES = ("t5", "bloom", "rwkv", "jamba", "deepseek_v4", "gemma3n_text", "gemma4_text", "lfm2")
_FOREIGN_FIELDS = ("ssm_cfg", "mamba_num_heads", "mamba_d_state", "hybrid_override_pattern", "block_configs")
# What the configuration class knows and the published files leave out.
_CLASS_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    **{kind: {"sliding_window_pattern": 2} for kind in ("gemma2", "gpt_oss")},
    **{k: {"full_attention_interval": 4} for k in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")},
    "gemma3_text": {
        "vocab_size": 262208, "max_position_embeddings": 131072, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 256, "sliding_window_pattern": 6,
    },
    "llama4_text": {"sliding_window_pattern": 4, "n_shared_experts": 1},
}  # fmt: skip
_LAYER_TYPES = {
    "full_attention": "full", "sliding_attention": "sliding", "chunked_attention": "sliding",
    "linear_attention": "linear",
}  # fmt: skip
_QUANTISED = {
    "mxfp4": "mxfp4", "fp4": "fp4", "fp8": "fp8", "awq": "int4", "gptq": "int4", "4bit": "int4",
    "8bit": "int8",
}  # fmt: skip
_FROM_WRAPPER = ("tie_word_embeddings", "torch_dtype", "dtype", "quantization_config", "_name_or_path")
_WINDOW = ("sliding_window", "attention_chunk_size")
_LARGEST = 2**31


@dataclass(frozen=True, kw_only=True)
class _Fields:
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


def model_from_config(path: str | Path, name: str = "") -> ModelSpec:
    """Return the shape that a config.json describes, with parameters counted from the shape.

    `path` is the file or the folder that holds it; `name` defaults to the folder's name. Raises BadRequest
    for a missing or unreadable file, for fields that are missing, negative or contradict each other, and for
    layer kinds that this reader does not know.
    """
    file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest("config", str(file), f"a readable file ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BadRequest("config", str(file), f"JSON ({type(error).__name__})") from error
    if not isinstance(values, dict):
        raise BadRequest("config", str(file), "a JSON object")
    fields = _text_fields(values, str(file))
    draft = _draft(fields, name or (file.parent.name if file.name == "config.json" else file.stem))
    return _with_parameters(draft, fields)


def _text_fields(values: Mapping[str, Any], where: str) -> _Fields:
    """Unwrap multimodal configs, add what the class knows, refuse layer kinds that are not understood."""
    inner = next((values[key] for key in ("text_config", "thinker_config") if key in values), None)
    if inner is not None:
        if not isinstance(inner, dict):
            raise BadRequest("text_config", inner, f"a JSON object in {where}")
        shared = {key: values[key] for key in _FROM_WRAPPER if key in values}
        outer = {"model_type": f"{values.get('model_type', '')}_text"}
        return _text_fields({**outer, **shared, **inner}, f"{where}:text_config")
    kind = values.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise BadRequest("model_type", kind, f"the name of a model class in {where}")
    foreign = ", ".join(key for key in _FOREIGN_FIELDS if values.get(key))
    if kind in _FOREIGN_TYPES or foreign:
        raise BadRequest("model_type", kind, f"a class with known layers; {where} has {foreign or kind}")
    return _Fields(values={**_CLASS_DEFAULTS.get(kind, {}), **values}, where=where)


def _draft(fields: _Fields, name: str) -> ModelSpec:
    kind = str(fields.get("model_type"))
    n_layers, d_model = fields.positive("num_hidden_layers"), fields.positive("hidden_size")
    layers = _layer_kinds(fields, n_layers)
    linear, state, tied = layers.count("linear"), 0, fields.get("tie_word_embeddings")
    if linear:
        # What one layer keeps per sequence: its recurrent state and the convolution's tail.
        keys, values, _, kernel = _linear_widths(fields)
        state = values * fields.positive("linear_key_head_dim") + (2 * keys + values) * (kernel - 1)
    hf_id = str(fields.get("_name_or_path") or "")
    attention, heads = _heads(fields, d_model)
    return ModelSpec(
        name=name,
        hf_id=hf_id if hf_id.count("/") == 1 and not hf_id.startswith((".", "/")) else "",
        family=kind,
        n_layers=n_layers,
        d_model=d_model,
        **heads,
        gated_ffn=kind not in _UNGATED,
        vocab=fields.positive("vocab_size"),
        tied_embeddings=kind in _TIED_BY_DEFAULT if tied is None else bool(tied),
        attention="hybrid" if linear and attention != "mla" else attention,
        sliding_window=fields.count(*_WINDOW, default=0) if "sliding" in layers else 0,
        n_sliding_layers=layers.count("sliding"),
        n_full_attention_layers=layers.count("full"),
        n_linear_attention_layers=linear,
        linear_state_values=state,
        sparse_topk=fields.count("index_topk", default=0),
        index_key_dim=fields.count("index_head_dim", default=0),
        **_feed_forward(fields, n_layers),
        params_total=0.0,
        params_active=0.0,
        native_weight_precision=_precision(fields),
        max_position=fields.count("max_position_embeddings", default=0),
        mtp_layers=fields.count("num_nextn_predict_layers", "mtp_num_hidden_layers", default=0),
        source=f"config.json ({kind})",
    )


def _heads(fields: _Fields, d_model: int) -> tuple[str, dict[str, Any]]:
    n_heads = fields.positive("num_attention_heads")
    if fields.count("kv_lora_rank", default=0):
        nope, rope = fields.positive("qk_nope_head_dim"), fields.positive("qk_rope_head_dim")
        return "mla", {
            "n_heads": n_heads, "n_kv_heads": n_heads, "head_dim": nope + rope,
            "mla_kv_rank": fields.positive("kv_lora_rank"), "mla_rope_dim": rope,
            "mla_q_rank": fields.count("q_lora_rank", default=0), "qk_nope_dim": nope,
            "v_head_dim": fields.positive("v_head_dim"),
        }  # fmt: skip
    n_kv = fields.positive("num_key_value_heads", default=n_heads)
    if n_heads % n_kv:
        raise fields.bad("num_key_value_heads", n_kv, f"a divisor of num_attention_heads = {n_heads}")
    if fields.get("head_dim") is None and d_model % n_heads:
        allowed = f"a divisor of hidden_size = {d_model} without head_dim"
        raise fields.bad("num_attention_heads", n_heads, allowed)
    head_dim = fields.positive("head_dim", default=d_model // n_heads)
    name = "mha" if n_kv == n_heads else "mqa" if n_kv == 1 else "gqa"
    return name, {"n_heads": n_heads, "n_kv_heads": n_kv, "head_dim": head_dim}


def _layer_kinds(fields: _Fields, n_layers: int) -> list[str]:
    """Return "full", "sliding" or "linear" per layer, from the list in the config or the class's pattern."""
    if fields.get("layer_types") is not None:
        listed = fields.listed("layer_types")
        wrong = sorted({str(kind) for kind in listed if str(kind) not in _LAYER_TYPES})
        if wrong or len(listed) != n_layers:
            raise fields.bad("layer_types", wrong or len(listed), f"{n_layers} of {', '.join(_LAYER_TYPES)}")
        return [_LAYER_TYPES[kind] for kind in listed]
    if every := fields.count("full_attention_interval", default=0):
        return ["linear" if (layer + 1) % every else "full" for layer in range(n_layers)]
    if not fields.count(*_WINDOW, default=0) or fields.get("use_sliding_window") is False:
        return ["full"] * n_layers
    if every := fields.count("sliding_window_pattern", default=0):
        return ["sliding" if (layer + 1) % every else "full" for layer in range(n_layers)]
    first = fields.count("max_window_layers", default=0) if fields.get("use_sliding_window") else 0
    return ["full"] * min(first, n_layers) + ["sliding"] * max(n_layers - first, 0)


def _linear_widths(fields: _Fields) -> tuple[int, int, int, int]:
    """Return key width, value width, value heads and convolution length of a gated DeltaNet layer."""
    heads = fields.positive("linear_num_value_heads")
    keys = fields.positive("linear_num_key_heads") * fields.positive("linear_key_head_dim")
    values = heads * fields.positive("linear_value_head_dim")
    return keys, values, heads, fields.positive("linear_conv_kernel_dim", default=4)


def _feed_forward(fields: _Fields, n_layers: int) -> dict[str, Any]:
    n_experts = fields.count("num_experts", "n_routed_experts", "num_local_experts", default=0)
    if not n_experts:
        return {"d_ff": fields.positive("intermediate_size")}
    chosen = fields.positive("num_experts_per_tok", "experts_per_token")
    if chosen > n_experts:
        raise fields.bad("num_experts_per_tok", chosen, f"at most the {n_experts} experts")
    # Layers without experts are the first few, a listed few, or all but every n-th.
    first = fields.count("first_k_dense_replace", default=0)
    every = fields.positive("decoder_sparse_step", "interleave_moe_layer_step", default=1)
    only = {layer for layer in fields.listed("mlp_only_layers") if isinstance(layer, int)}
    if first > n_layers:
        raise fields.bad("first_k_dense_replace", first, f"at most the {n_layers} layers")
    n_dense = sum(n < first or n in only or (n + 1) % every > 0 for n in range(n_layers))
    width = fields.positive("moe_intermediate_size", "intermediate_size")
    shared = fields.count("shared_expert_intermediate_size", default=0)
    n_shared = 1 if shared else fields.count("n_shared_experts", "num_shared_experts", default=0)
    return {
        "d_ff": fields.positive("intermediate_size_mlp", "intermediate_size") if n_dense else 0,
        "n_experts": n_experts, "experts_per_token": chosen, "n_shared_experts": n_shared,
        "d_ff_expert": width, "d_ff_shared_expert": shared or n_shared * width, "n_dense_layers": n_dense,
    }  # fmt: skip


def _precision(fields: _Fields) -> str:
    """Return the format of the stored weights: what the quantisation says, else the tensor type."""
    quantised = fields.get("quantization_config")
    if not isinstance(quantised, dict):
        tensor = str(fields.get("torch_dtype") or fields.get("dtype") or "").removeprefix("torch.")
        return {"float32": "fp32", "float8_e4m3fn": "fp8"}.get(tensor, "bf16")
    groups = quantised.get("config_groups")
    listed = groups.values() if isinstance(groups, dict) else ()
    weights = json.dumps([group.get("weights") for group in listed if isinstance(group, dict)]).lower()
    for bits in (4, 8):
        if f'"num_bits": {bits}' in weights or quantised.get("bits") == bits:
            return f"fp{bits}" if '"float"' in weights else f"int{bits}"
    if quantised.get("load_in_8bit") is True:
        return "int8"
    text = json.dumps(quantised).lower()
    return next((stored for word, stored in _QUANTISED.items() if word in text), "bf16")


def _with_parameters(spec: ModelSpec, fields: _Fields) -> ModelSpec:
    """Count the parameters; biases and norms (under 0.1 %) are left out, speculative layers too."""
    d, heads = spec.d_model, spec.n_heads
    if spec.attention == "mla":
        queries = heads * spec.head_dim
        query = spec.mla_q_rank * (d + queries) if spec.mla_q_rank else d * queries
        up = spec.mla_kv_rank * heads * (spec.qk_nope_dim + spec.v_head_dim)
        full = query + d * (spec.mla_kv_rank + spec.mla_rope_dim) + up + heads * spec.v_head_dim * d
    else:
        gate = 2 if fields.get("attn_output_gate") or spec.family == "qwen3_next" else 1
        full = d * spec.head_dim * ((gate + 1) * heads + 2 * spec.n_kv_heads)
    indexers = fields.count("index_n_heads", default=0)
    full += indexers * (spec.mla_q_rank * spec.index_key_dim + d) + d * spec.index_key_dim
    linear = 0
    if spec.n_linear_attention_layers:
        keys, values, value_heads, kernel = _linear_widths(fields)
        linear = d * (2 * keys + 3 * values + 2 * value_heads) + (2 * keys + values) * kernel
    matrix = (3.0 if spec.gated_ffn else 2.0) * d
    embedding = float(spec.vocab * d * (1 if spec.tied_embeddings else 2))
    body = embedding + matrix * spec.d_ff * (spec.n_dense_layers if spec.is_moe else spec.n_layers)
    body += spec.n_moe_layers * (matrix * spec.d_ff_shared_expert + d * spec.n_experts)
    body += full * (spec.n_full_attention_layers + spec.n_sliding_layers)
    body += linear * spec.n_linear_attention_layers
    expert = spec.n_moe_layers * matrix * spec.d_ff_expert
    return replace(
        spec,
        params_total=body + expert * spec.n_experts,
        params_active=body + expert * spec.experts_per_token,
        params_embedding=embedding,
    )
