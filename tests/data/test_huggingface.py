"""A config.json on disk becomes the shape that the catalogue knows; a bad one is refused with a reason."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest
from roofcast.data.huggingface import model_from_config
from roofcast.data.specs import ModelSpec

Config = dict[str, Any]

# The config.json of published models, cut down to what is read.
REAL: dict[str, Config] = json.loads(Path(__file__).with_name("configs.json").read_text(encoding="utf-8"))
LLAMA_8B, QWEN_72B, QWEN3_MOE, DEEPSEEK_V3 = (
    REAL[name] for name in ("llama-3.1-8b", "qwen2.5-72b", "qwen3-235b-a22b", "deepseek-v3")
)
QWEN35_TEXT: Config = REAL["qwen3.5-397b-a17b"]["text_config"]
# What the file does not say; counts are compared within a tolerance, and so is Gemma 3's padded vocabulary.
OTHER = {"name", "aliases", "hf_id", "family", "source", "notes", "conflicts", "vocab",
         "params_total", "params_active", "params_embedding"}  # fmt: skip


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
    names = {f.name for f in fields(ModelSpec)} - OTHER
    assert {n: getattr(found, n) for n in names} == {n: getattr(known, n) for n in names}
    assert abs(found.vocab - known.vocab) <= 64
    assert found.params_total == pytest.approx(known.params_total, rel=0.005)
    assert found.params_active == pytest.approx(known.params_active, rel=0.02)
    assert found.params_embedding == pytest.approx(known.params_embedding, rel=0.01)


def test_the_folder_names_the_model_and_the_path_may_be_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    assert _read(folder, LLAMA_8B) == model_from_config(folder)
    assert model_from_config(folder).name == "my-llama"
    assert model_from_config(str(folder), name="other").name == "other"


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B), encoding="utf-8-sig")
    assert model_from_config(tmp_path).n_layers == 32


QWEN_WINDOWS = {"use_sliding_window": True, "max_window_layers": 70}
QWEN_EVERY_SECOND = {"decoder_sparse_step": 2, "mlp_only_layers": [1]}


@pytest.mark.parametrize(("base", "change", "expected"), [
    (LLAMA_8B, {"_name_or_path": "org/model"}, {"hf_id": "org/model"}),
    (LLAMA_8B, {"_name_or_path": "/home/me"}, {"hf_id": ""}),
    (QWEN_72B, QWEN_WINDOWS, {"n_full_attention_layers": 70, "n_sliding_layers": 10}),
    (QWEN3_MOE, QWEN_EVERY_SECOND, {"n_dense_layers": 48, "n_moe_layers": 46, "d_ff": 12288}),
    *((LLAMA_8B, {"torch_dtype": dtype}, {"native_weight_precision": precision})
      for dtype, precision in (("float16", "bf16"), ("float32", "fp32"), ("bfloat16", "bf16"))),
    *((LLAMA_8B, {"quantization_config": quantisation}, {"native_weight_precision": precision})
      for quantisation, precision in (
        ({"quant_method": "awq", "bits": 4}, "int4"), ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "fp8"}, "fp8"), ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        (_compressed(4, "int", activations="float"), "int4"), (_compressed(4, "int"), "int4"),
        (_compressed(4, "float"), "fp4"), (_compressed(8, "float"), "fp8"), ({}, "bf16"))),
])  # fmt: skip
def test_a_field_of_a_config_is_read(base: Config, change: Config, expected: Config, tmp_path: Path) -> None:
    found = _read(tmp_path, {**base, **change})
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(("base", "change", "field"), [
    *((LLAMA_8B, {field: value}, field)
      for field in ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
      for value in (None, -1, 0, 1.5, "32", True, [], float("nan"), float("inf"), 10**30)),
    (LLAMA_8B, {"num_key_value_heads": 5}, "num_key_value_heads"),
    (LLAMA_8B, {"num_attention_heads": 24}, "num_attention_heads"),
    (LLAMA_8B, {"intermediate_size": None}, "intermediate_size"),
    *((LLAMA_8B, {"layer_types": value}, "layer_types")
      for value in (["full_attention"], ["retention"] * 32, "full", [["full"]] * 32)),
    *((LLAMA_8B, {"model_type": value}, "model_type") for value in (None, "deepseek_v4")),
    (LLAMA_8B, {"model_type": "mamba", "ssm_cfg": {"layer": "Mamba2"}}, "model_type"),
    (LLAMA_8B, {"text_config": 3}, "text_config"),
    (QWEN3_MOE, {"num_experts_per_tok": 200}, "num_experts_per_tok"),
    (QWEN3_MOE, {"moe_intermediate_size": -5}, "moe_intermediate_size"),
    (QWEN3_MOE, {"mlp_only_layers": 4}, "mlp_only_layers"),
    (QWEN3_MOE, {"decoder_sparse_step": 0}, "decoder_sparse_step"),
    (DEEPSEEK_V3, {"first_k_dense_replace": 99}, "first_k_dense_replace"),
    (DEEPSEEK_V3, {"qk_rope_head_dim": None}, "qk_rope_head_dim"),
    (QWEN35_TEXT, {"linear_num_value_heads": None}, "linear_num_value_heads"),
    (QWEN35_TEXT, {"linear_attn_config": {"num_heads": "many"}}, "linear_num_value_heads"),
    (LLAMA_8B, {"hybrid_layer_pattern": [0, 1]}, "hybrid_layer_pattern"),
    (LLAMA_8B, {"sparse_attention_config": {"sparse_topk_blocks": 16}}, "model_type"),
    (QWEN3_MOE, {"mlp_layer_types": ["dense"]}, "mlp_layer_types"),
    (REAL["hunyuan-a13b"], {"moe_topk": [8] * 31 + [4]}, "num_experts_per_tok"),
])  # fmt: skip
def test_missing_senseless_and_contradicting_fields_are_refused(
    base: Config, change: Config, field: str, tmp_path: Path
) -> None:
    with pytest.raises(BadRequest) as caught:
        _read(tmp_path, {**base, **change})
    assert caught.value.field == field
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"not json", b"[1, 2]", b"null", b"3", b"[" * 100_000, b"\xff\xfe\x00{"]
)
def test_what_is_not_a_json_object_and_a_missing_file_are_refused(content: bytes, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.json"):
        with pytest.raises(BadRequest, match="readable file"):
            model_from_config(path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BadRequest, match="JSON"):
        model_from_config(tmp_path)
