"""Model shapes read from a Hugging Face config.json on disk.

`model_from_config` understands decoders with the usual field names: dense families (llama, mistral, qwen2,
qwen3, gemma 2 to 4, phi3), mixtures of experts (mixtral, qwen2_moe, qwen3_moe, gpt_oss, deepseek v2 and v3,
kimi_k2, glm4_moe, minimax_m2, llama4, ernie4_5_moe, hunyuan, step3p5), latent and sparse attention, sliding
windows (mimo_v2_flash's with other heads), and the Qwen3-Next, Qwen3.5 and Kimi Linear hybrids. Multimodal
wrappers are read through `text_config`, without vision and audio towers.

Field meanings: the configuration classes at https://huggingface.co/docs/transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .config_fields import Fields, text_fields
from .errors import BadRequest
from .specs import ModelSpec

_TIED_BY_DEFAULT = (
    "gemma",
    "gemma2",
    "gemma3_text",
    "gemma4_text",
    "gemma4_unified_text",
    "cohere",
    "cohere2",
)
_UNGATED = ("gpt_neox", "nemotron", "phi", "starcoder2")
_LAYER_TYPES = {
    "full_attention": "full", "sliding_attention": "sliding", "chunked_attention": "sliding",
    "linear_attention": "linear", "indexed_attention": "full", "deepseek_sparse_attention": "full",
}  # fmt: skip
_QUANTISED = {
    "fp4": "fp4", "fp8": "fp8", "awq": "int4", "gptq": "int4", "4bit": "int4",
    "8bit": "int8",
}  # fmt: skip
_WINDOW = ("sliding_window", "attention_chunk_size")


def model_from_config(path: str | Path, name: str = "") -> ModelSpec:
    """Return the shape that a config.json describes, with parameters counted from the shape.

    `path` is the file or the folder that holds it; `name` defaults to the folder's name. Raises BadRequest
    for a missing or unreadable file, for fields that are missing, negative or contradict each other, and for
    layer kinds that this reader does not know.
    """
    file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise BadRequest("config", str(file), f"a readable file ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BadRequest("config", str(file), f"JSON ({type(error).__name__})") from error
    if not isinstance(values, dict):
        raise BadRequest("config", str(file), "a JSON object")
    fields = text_fields(values, str(file))
    draft = _draft(fields, name or (file.parent.name if file.name == "config.json" else file.stem))
    return _with_parameters(draft, fields)


def _draft(fields: Fields, name: str) -> ModelSpec:
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
        kv_values_per_token_layer=_kv_values(fields, heads),
        sparse_topk=fields.count("index_topk", default=0),
        index_key_dim=round(
            fields.count("index_head_dim", default=0)
            * _indexed(fields)
            / fields.positive("index_kpool", default=1)
        ),
        **_feed_forward(fields, n_layers),
        params_total=0.0,
        params_active=0.0,
        native_weight_precision=_precision(fields),
        max_position=fields.count("max_position_embeddings", default=0),
        mtp_layers=fields.count("num_nextn_predict_layers", "mtp_num_hidden_layers", default=0),
        source=f"config.json ({kind})",
    )


def _heads(fields: Fields, d_model: int) -> tuple[str, dict[str, Any]]:
    n_heads = fields.positive("num_attention_heads")
    if fields.count("kv_lora_rank", default=0):
        nope, rope = fields.positive("qk_nope_head_dim"), fields.count("qk_rope_head_dim")
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


def _kv_values(fields: Fields, heads: Mapping[str, int]) -> float:
    """Return the values cached per token and full layer where key heads do not tell, else 0.

    Keys and values may differ in width, full layers in heads from the sliding ones; layers at the end may
    use the cache of earlier ones.
    """
    if "mla_kv_rank" in heads:
        return 0.0
    head = fields.count("global_head_dim", default=heads["head_dim"])
    n_kv = fields.count("num_global_key_value_heads", default=heads["n_kv_heads"])
    values = n_kv * (head + fields.count("v_head_dim", default=head))
    alone = fields.positive("num_hidden_layers") - fields.count("num_kv_shared_layers", default=0)
    mean = round(values * alone / fields.positive("num_hidden_layers"), 1)
    return mean if mean != 2 * heads["n_kv_heads"] * heads["head_dim"] else 0.0


def _indexed(fields: Fields) -> float:
    """Return the share of layers that compute the indexer's choice; the others use an earlier layer's."""
    kinds = fields.listed("indexer_types")
    return kinds.count("full") / len(kinds) if kinds else 1.0


def _layer_kinds(fields: Fields, n_layers: int) -> list[str]:
    """Return "full", "sliding" or "linear" per layer, from the list in the config or the class's pattern."""
    if fields.get("layer_types") is not None:
        listed = fields.listed("layer_types")
        wrong = sorted({str(kind) for kind in listed if str(kind) not in _LAYER_TYPES})
        if wrong or len(listed) != n_layers:
            raise fields.bad("layer_types", wrong or len(listed), f"{n_layers} of {', '.join(_LAYER_TYPES)}")
        return [_LAYER_TYPES[kind] for kind in listed]
    if pattern := fields.listed("hybrid_layer_pattern"):
        if len(pattern) != n_layers:
            raise fields.bad("hybrid_layer_pattern", len(pattern), f"a kind for each of {n_layers} layers")
        return ["sliding" if sliding else "full" for sliding in pattern]
    if every := fields.count("full_attention_interval", default=0):
        return ["linear" if (layer + 1) % every else "full" for layer in range(n_layers)]
    if not fields.count(*_WINDOW, default=0) or fields.get("use_sliding_window") is False:
        return ["full"] * n_layers
    if every := fields.count("sliding_window_pattern", default=0):
        return ["sliding" if (layer + 1) % every else "full" for layer in range(n_layers)]
    first = fields.count("max_window_layers", default=0) if fields.get("use_sliding_window") else 0
    return ["full"] * min(first, n_layers) + ["sliding"] * max(n_layers - first, 0)


def _linear_widths(fields: Fields) -> tuple[int, int, int, int]:
    """Return key width, value width, value heads and convolution length of a gated DeltaNet layer."""
    heads = fields.positive("linear_num_value_heads")
    keys = fields.positive("linear_num_key_heads") * fields.positive("linear_key_head_dim")
    values = heads * fields.positive("linear_value_head_dim")
    return keys, values, heads, fields.positive("linear_conv_kernel_dim", default=4)


def _feed_forward(fields: Fields, n_layers: int) -> dict[str, Any]:
    n_experts = fields.count("num_experts", "n_routed_experts", "num_local_experts", default=0)
    if not n_experts:
        return {"d_ff": fields.positive("intermediate_size")}
    chosen = fields.positive("num_experts_per_tok", "experts_per_token")
    if chosen > n_experts:
        raise fields.bad("num_experts_per_tok", chosen, f"at most the {n_experts} experts")
    n_dense = _dense_layers(fields, n_layers)
    width = fields.positive("moe_intermediate_size", "intermediate_size")
    shared = fields.count("shared_expert_intermediate_size", default=0)
    n_shared = 1 if shared else fields.count("n_shared_experts", "num_shared_experts", default=0)
    # Experts of a latent mixture work on fewer values: counted by the width of as many products.
    d_model = fields.positive("hidden_size")
    latent = fields.positive("routed_expert_hidden_size", default=d_model)
    return {
        "d_ff": fields.positive("intermediate_size_mlp", "dense_intermediate_size", "intermediate_size")
        if n_dense or fields.get("enable_moe_block") else 0,
        "n_experts": n_experts, "experts_per_token": chosen, "n_shared_experts": n_shared,
        "d_ff_expert": width * latent // d_model, "d_ff_shared_expert": shared or n_shared * width,
        "n_dense_layers": n_dense,
    }  # fmt: skip


def _dense_layers(fields: Fields, n_layers: int) -> int:
    """Count the layers without experts: as each layer says, the first or a listed few, all but every n-th."""
    for name in ("mlp_layer_types", "moe_layer_freq"):
        if isinstance(kinds := fields.get(name), list):
            if len(kinds) != n_layers:
                raise fields.bad(name, len(kinds), f"a kind for each of {n_layers} layers")
            return sum(kind in ("dense", 0) for kind in kinds)
    if isinstance(listed := fields.get("moe_layers_enum"), str):
        if (n_moe := len(listed.split(","))) > n_layers:
            raise fields.bad("moe_layers_enum", n_moe, f"at most the {n_layers} layers")
        return n_layers - n_moe
    first = fields.count("first_k_dense_replace", default=0)
    every = fields.positive("decoder_sparse_step", "interleave_moe_layer_step", default=1)
    only = {layer for layer in fields.listed("mlp_only_layers") if isinstance(layer, int)}
    if first > n_layers:
        raise fields.bad("first_k_dense_replace", first, f"at most the {n_layers} layers")
    return sum(n < first or n in only or (n + 1) % every > 0 for n in range(n_layers))


def _precision(fields: Fields) -> str:
    """Return the format of the stored weights: what the quantisation says, else the tensor type."""
    quantised = fields.get("quantization_config")
    if not isinstance(quantised, dict):
        tensor = str(fields.get("torch_dtype") or fields.get("dtype") or "").removeprefix("torch.")
        return {"float32": "fp32", "float8_e4m3fn": "fp8"}.get(tensor, "bf16")
    text = json.dumps(quantised).lower()
    if "mxfp4" in text:
        return "mxfp4"
    groups = quantised.get("config_groups")
    listed = groups.values() if isinstance(groups, dict) else ()
    weights = json.dumps([group.get("weights") for group in listed if isinstance(group, dict)]).lower()
    for bits in (4, 8):
        if f'"num_bits": {bits}' in weights or quantised.get("bits") == bits:
            return f"fp{bits}" if '"float"' in weights else f"int{bits}"
    if quantised.get("load_in_8bit") is True:
        return "int8"
    return next((stored for word, stored in _QUANTISED.items() if word in text), "bf16")


def _with_parameters(spec: ModelSpec, fields: Fields) -> ModelSpec:
    """Count the parameters; biases and norms (under 0.1 %) are left out, speculative layers too."""
    d = spec.d_model
    matrix = (3.0 if spec.gated_ffn else 2.0) * d
    embedding = float(spec.vocab * d * (1 if spec.tied_embeddings else 2))
    mixers = spec.n_full_attention_layers + spec.n_sliding_layers
    dense_layers = (
        spec.n_dense_layers if spec.is_moe and not fields.get("enable_moe_block") else spec.n_layers
    )
    body = embedding + matrix * spec.d_ff * dense_layers
    if fields.get("use_double_wide_mlp"):  # where another layer's keys and values are used
        body += matrix * spec.d_ff * fields.count("num_kv_shared_layers", default=0)
    latent = 2 * d * fields.count("routed_expert_hidden_size", default=0)
    body += spec.n_moe_layers * (matrix * spec.d_ff_shared_expert + d * spec.n_experts + latent)
    indexers = fields.count("index_n_heads", default=0)
    indexer = indexers * (spec.mla_q_rank * fields.count("index_head_dim", default=0) + d)
    indexer += d * fields.count("index_head_dim", default=0)
    body += mixers * indexer * _indexed(fields)
    body += _attention(spec, fields) + _linear(spec, fields) * spec.n_linear_attention_layers
    per_layer = fields.count("hidden_size_per_layer_input", default=0) * spec.n_layers
    body += 3 * d * per_layer
    expert = spec.n_moe_layers * matrix * spec.d_ff_expert
    looked_up = float(per_layer * fields.count("vocab_size_per_layer_input", default=spec.vocab))
    return replace(
        spec,
        params_total=body + expert * spec.n_experts + looked_up,
        params_active=body + expert * spec.experts_per_token,
        params_embedding=embedding,
    )


def _attention(spec: ModelSpec, fields: Fields) -> float:
    """Count the parameters of all full and sliding layers."""
    d, heads = spec.d_model, spec.n_heads
    if spec.attention == "mla":
        queries = heads * spec.head_dim
        query = spec.mla_q_rank * (d + queries) if spec.mla_q_rank else d * queries
        up = spec.mla_kv_rank * heads * (spec.qk_nope_dim + spec.v_head_dim)
        gate = 2 if fields.get("mla_use_output_gate") else 1
        each = query + d * (spec.mla_kv_rank + spec.mla_rope_dim) + up + gate * heads * spec.v_head_dim * d
        return float(each * spec.n_full_attention_layers)
    queries = 2 if fields.get("attn_output_gate") or spec.family == "qwen3_next" else 1
    head = fields.count("global_head_dim", default=spec.head_dim)
    n_kv = fields.count("num_global_key_value_heads", default=spec.n_kv_heads)
    value = fields.count("v_head_dim", default=head)
    keys_alone = n_kv * head + (0 if fields.get("attention_k_eq_v") else n_kv * value)
    full = d * (heads * (queries * head + value) + keys_alone)
    other = fields.get("attention_other_setting")
    other = Fields(values=other if isinstance(other, dict) else {}, where=fields.where)
    n_sliding = other.count("num_attention_heads", default=heads)
    n_kv = fields.count("swa_num_key_value_heads", default=spec.n_kv_heads)
    value = fields.count("v_head_dim", default=spec.head_dim)
    sliding = d * (n_sliding * (queries * spec.head_dim + value) + n_kv * (spec.head_dim + value))
    return float(full * spec.n_full_attention_layers + sliding * spec.n_sliding_layers)


def _linear(spec: ModelSpec, fields: Fields) -> float:
    """Count the parameters of one linear layer: gated DeltaNet, or Kimi Delta Attention (low-rank gates)."""
    if not spec.n_linear_attention_layers:
        return 0.0
    d = spec.d_model
    keys, values, value_heads, kernel = _linear_widths(fields)
    mixer = d * (2 * keys + 2 * values + value_heads) + (2 * keys + values) * kernel
    if not fields.get("delta_gates"):
        return float(mixer + d * (values + value_heads))
    low_rank = fields.positive("linear_key_head_dim") * (d + values)
    return float(mixer + low_rank + (d * values if fields.get("full_rank_gate") else low_rank))
