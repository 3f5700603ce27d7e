"""A config.json on disk becomes the shape that the catalogue knows; a bad one is refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest
from roofcast.data.huggingface import model_from_config
from roofcast.data.specs import ModelSpec

Config = dict[str, Any]


_SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
          "intermediate_size", "vocab_size")  # fmt: skip


def _dense(kind: str, *sizes: int, **more: Any) -> Config:
    return {"model_type": kind, "torch_dtype": "bfloat16", **dict(zip(_SIZES, sizes, strict=True)), **more}


LLAMA_8B = _dense(
    "llama", 32, 4096, 32, 8, 14336, 128256, tie_word_embeddings=False, max_position_embeddings=131072
)
QWEN_72B = _dense(
    "qwen2", 80, 8192, 64, 8, 29568, 152064, sliding_window=131072, max_window_layers=80,
    use_sliding_window=False, tie_word_embeddings=False, max_position_embeddings=131072,
)  # fmt: skip
QWEN3_MOE: Config = _dense(
    "qwen3_moe", 94, 4096, 64, 4, 12288, 151936, head_dim=128, num_experts=128, num_experts_per_tok=8,
    moe_intermediate_size=1536, decoder_sparse_step=1, mlp_only_layers=[], tie_word_embeddings=False,
    max_position_embeddings=40960, sliding_window=None,
)  # fmt: skip
DEEPSEEK_V3: Config = _dense(
    "deepseek_v3", 61, 7168, 128, 128, 18432, 129280, n_routed_experts=256, num_experts_per_tok=8,
    n_shared_experts=1, moe_intermediate_size=2048, first_k_dense_replace=3, moe_layer_freq=1,
    kv_lora_rank=512,
    q_lora_rank=1536, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, num_nextn_predict_layers=1,
    max_position_embeddings=163840, tie_word_embeddings=False,
    quantization_config={"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
)  # fmt: skip
QWEN35_TEXT: Config = {
    "model_type": "qwen3_5_moe_text", "num_hidden_layers": 60, "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 2, "head_dim": 256, "attn_output_gate": True, "num_experts": 512,
    "num_experts_per_tok": 10, "moe_intermediate_size": 1024, "shared_expert_intermediate_size": 1024,
    "vocab_size": 248320, "linear_num_key_heads": 16, "linear_num_value_heads": 64,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "mtp_num_hidden_layers": 1,
    "max_position_embeddings": 262144,
    "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 15,
}  # fmt: skip
LLAMA4_TEXT = _dense(
    "llama4_text", 48, 5120, 40, 8, 8192, 202048, head_dim=128, intermediate_size_mlp=16384,
    num_local_experts=128, num_experts_per_tok=1, interleave_moe_layer_step=2, attention_chunk_size=8192,
    no_rope_layers=[], max_position_embeddings=1048576, tie_word_embeddings=False,
)  # fmt: skip
GEMMA3_TEXT: Config = {
    "model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504, "num_hidden_layers": 62,
    "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128, "sliding_window": 1024,
}  # fmt: skip

REAL: dict[str, Config] = {
    "llama-3.1-8b": LLAMA_8B,
    "llama-3.1-405b": _dense("llama", 126, 16384, 128, 8, 53248, 128256, max_position_embeddings=131072),
    "qwen2.5-72b": QWEN_72B,
    "qwen3-32b": _dense(
        "qwen3", 64, 5120, 64, 8, 25600, 151936, head_dim=128, max_position_embeddings=40960
    ),
    "qwen3-0.6b": _dense(
        "qwen3", 28, 1024, 16, 8, 3072, 151936, head_dim=128, tie_word_embeddings=True,
        max_position_embeddings=40960,
    ),
    "qwen3-235b-a22b": QWEN3_MOE,
    "mixtral-8x7b": _dense(
        "mixtral", 32, 4096, 32, 8, 14336, 32000, num_local_experts=8, num_experts_per_tok=2,
        sliding_window=None, max_position_embeddings=32768,
    ),
    "mistral-7b": _dense(
        "mistral", 32, 4096, 32, 8, 14336, 32000, sliding_window=4096, max_position_embeddings=32768
    ),
    "mistral-7b-instruct-v0.2": _dense(
        "mistral", 32, 4096, 32, 8, 14336, 32000, sliding_window=None, max_position_embeddings=32768
    ),
    "deepseek-v3": DEEPSEEK_V3,
    "deepseek-v3.2": {
        **DEEPSEEK_V3, "model_type": "deepseek_v32",
        "index_n_heads": 64, "index_head_dim": 128, "index_topk": 2048,
    },
    "gpt-oss-120b": _dense(
        "gpt_oss", 36, 2880, 64, 8, 2880, 201088, head_dim=64, num_local_experts=128, num_experts_per_tok=4,
        sliding_window=128, tie_word_embeddings=False, max_position_embeddings=131072,
        layer_types=["sliding_attention", "full_attention"] * 18,
        quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
    ),
    "gemma-2-9b": _dense(
        "gemma2", 42, 3584, 16, 8, 14336, 256000, head_dim=256, sliding_window=4096,
        max_position_embeddings=8192,
    ),
    "gemma-3-27b": {"model_type": "gemma3", "text_config": GEMMA3_TEXT,
    "vision_config": {"hidden_size": 1152}},
    "qwen3.5-397b-a17b": {"model_type": "qwen3_5_moe", "text_config": QWEN35_TEXT},
    "qwen3-next-80b-a3b": {
        **QWEN35_TEXT, "model_type": "qwen3_next", "layer_types": None, "full_attention_interval": 4,
        "num_hidden_layers": 48, "hidden_size": 2048, "num_attention_heads": 16, "vocab_size": 151936,
        "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512, "linear_num_value_heads": 32,
        "intermediate_size": 5120, "decoder_sparse_step": 1, "mlp_only_layers": [],
    },
    "llama-4-maverick": {"model_type": "llama4", "text_config": LLAMA4_TEXT},
}  # fmt: skip

SHAPE = (
    "n_layers", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff", "gated_ffn", "vocab",
    "tied_embeddings",
    "attention", "mla_kv_rank", "mla_rope_dim", "mla_q_rank", "qk_nope_dim", "v_head_dim", "sliding_window",
    "n_sliding_layers", "n_full_attention_layers", "n_linear_attention_layers", "linear_state_values",
    "sparse_topk", "index_key_dim", "n_experts", "experts_per_token", "n_shared_experts", "d_ff_expert",
    "d_ff_shared_expert", "n_dense_layers", "native_weight_precision",
)  # fmt: skip


def _compressed(bits: int, kind: str, activations: str | None = None) -> Config:
    inputs = activations and {"num_bits": 8, "type": activations}
    groups = {"group_0": {"weights": {"num_bits": bits, "type": kind}, "input_activations": inputs}}
    return {"quant_method": "compressed-tensors", "config_groups": groups}


def _read(folder: Path, config: object) -> ModelSpec:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return model_from_config(folder / "config.json")


@pytest.mark.parametrize("name", REAL)
def test_a_real_config_gives_the_catalogue_entry(name: str, tmp_path: Path) -> None:
    known, found = catalogue.model(name), _read(tmp_path, REAL[name])
    wrong = {
        f: (getattr(found, f), getattr(known, f)) for f in SHAPE if getattr(found, f) != getattr(known, f)
    }
    vocab = wrong.pop("vocab", (0, 0))
    assert abs(vocab[0] - vocab[1]) <= 64  # Gemma 3 pads its table differently in the reference code
    assert wrong == {}
    assert found.params_total == pytest.approx(known.params_total, rel=0.005)
    assert found.params_active == pytest.approx(known.params_active, rel=0.02)
    assert found.params_embedding == pytest.approx(known.params_embedding, rel=0.01)


def test_the_folder_names_the_model_and_the_path_may_be_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    assert _read(folder, LLAMA_8B) == model_from_config(folder)
    assert model_from_config(folder).name == "my-llama"
    assert model_from_config(str(folder), name="other").name == "other"


QWEN_WINDOWS = {"use_sliding_window": True, "max_window_layers": 70}
QWEN_EVERY_SECOND = {"decoder_sparse_step": 2, "mlp_only_layers": [1]}


@pytest.mark.parametrize(("base", "change", "expected"), [
    (LLAMA_8B, {"_name_or_path": "org/model"}, {"hf_id": "org/model"}),
    (LLAMA_8B, {"_name_or_path": "/home/me"}, {"hf_id": ""}),
    (QWEN_72B, QWEN_WINDOWS, {"n_full_attention_layers": 70, "n_sliding_layers": 10}),
    (QWEN3_MOE, QWEN_EVERY_SECOND, {"n_dense_layers": 48, "n_moe_layers": 46, "d_ff": 12288}),
    *(
        (LLAMA_8B, {"torch_dtype": dtype}, {"native_weight_precision": precision})
        for dtype, precision in (("float16", "bf16"), ("float32", "fp32"), ("bfloat16", "bf16"))
    ),
    *(
        (LLAMA_8B, {"quantization_config": quantisation}, {"native_weight_precision": precision})
        for quantisation, precision in (
            ({"quant_method": "awq", "bits": 4}, "int4"),
            ({"quant_method": "gptq", "bits": 8}, "int8"),
            ({"quant_method": "fp8"}, "fp8"),
            ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4"),
            ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
            ({"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": True}, "int8"),
            (_compressed(4, "int", activations="float"), "int4"),
            (_compressed(4, "int"), "int4"),
            (_compressed(4, "float"), "fp4"),
            (_compressed(8, "float"), "fp8"),
            ({}, "bf16"),
        )
    ),
])  # fmt: skip
def test_a_field_of_the_config_is_read(
    base: Config, change: Config, expected: Config, tmp_path: Path
) -> None:
    found = _read(tmp_path, {**base, **change})
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize("field", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"])
@pytest.mark.parametrize("value", [None, -1, 0, 1.5, "32", True, [], float("nan"), float("inf"), 10**30])
def test_a_missing_or_senseless_size_is_refused(field: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(BadRequest) as caught:
        _read(tmp_path, {**LLAMA_8B, field: value})
    assert caught.value.field == field
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(("base", "change", "field"), [
    (LLAMA_8B, {"num_key_value_heads": 5}, "num_key_value_heads"),
    (LLAMA_8B, {"num_attention_heads": 24}, "num_attention_heads"),
    (LLAMA_8B, {"intermediate_size": None}, "intermediate_size"),
    (LLAMA_8B, {"layer_types": ["full_attention"]}, "layer_types"),
    (LLAMA_8B, {"layer_types": ["retention"] * 32}, "layer_types"),
    (LLAMA_8B, {"layer_types": "full"}, "layer_types"),
    (LLAMA_8B, {"layer_types": [["full"]] * 32}, "layer_types"),
    (LLAMA_8B, {"model_type": None}, "model_type"),
    (LLAMA_8B, {"model_type": "mamba", "ssm_cfg": {"layer": "Mamba2"}}, "model_type"),
    (LLAMA_8B, {"model_type": "deepseek_v4"}, "model_type"),
    (LLAMA_8B, {"text_config": 3}, "text_config"),
    (QWEN3_MOE, {"num_experts_per_tok": 200}, "num_experts_per_tok"),
    (QWEN3_MOE, {"moe_intermediate_size": -5}, "moe_intermediate_size"),
    (QWEN3_MOE, {"mlp_only_layers": 4}, "mlp_only_layers"),
    (QWEN3_MOE, {"decoder_sparse_step": 0}, "decoder_sparse_step"),
    (DEEPSEEK_V3, {"first_k_dense_replace": 99}, "first_k_dense_replace"),
    (DEEPSEEK_V3, {"qk_rope_head_dim": None}, "qk_rope_head_dim"),
    (QWEN35_TEXT, {"linear_num_value_heads": None}, "linear_num_value_heads"),
])  # fmt: skip
def test_fields_that_contradict_each_other_are_refused(
    base: Config, change: Config, field: str, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest) as caught:
        _read(tmp_path, {**base, **change})
    assert caught.value.field == field
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"not json", b"[1, 2]", b"null", b"3", b"[" * 100_000, b"\xff\xfe\x00{"]
)
def test_what_is_not_a_json_object_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BadRequest, match="JSON"):
        model_from_config(tmp_path)


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.json"):
        with pytest.raises(BadRequest, match="readable file"):
            model_from_config(path)
