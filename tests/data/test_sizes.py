"""What names a model: the catalogue, a size, or a config.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest, UnknownName
from roofcast.data.sizes import resolve_model


def test_a_size_is_the_nearest_shape_scaled() -> None:
    name, note = resolve_model("300b")
    spec = catalogue.model(name)
    assert spec.params_total == 300e9
    assert not spec.is_moe
    assert "llama-3.1-405b" in note


def test_a_size_asked_for_again_or_beside_others_is_scaled_from_the_same_shape() -> None:
    first = resolve_model("310b")
    resolve_model("305b")
    assert resolve_model("310b") == first
    assert catalogue.model("305b").source == "llama-3.1-405b scaled to 3.05e+11"


def test_a_size_with_active_parameters_is_a_mixture_of_experts() -> None:
    spec = catalogue.model(resolve_model("1t-a32b")[0])
    assert (spec.params_total, spec.params_active, spec.is_moe) == (1e12, 32e9, True)


def test_a_scaled_shape_lies_between_its_neighbours() -> None:
    names = ("llama-3.1-70b", resolve_model("150b")[0], "llama-3.1-405b")
    specs = [catalogue.model(name) for name in names]
    small, middle, large = (spec.n_layers * spec.d_model * spec.d_ff for spec in specs)
    assert small < middle < large


def _config(folder: Path, layers: int) -> Path:
    folder.mkdir(exist_ok=True)
    config = {
        "model_type": "qwen2", "num_hidden_layers": layers, "hidden_size": 3072, "num_attention_heads": 24,
        "num_key_value_heads": 8, "intermediate_size": 9000, "vocab_size": 152064, "torch_dtype": "bfloat16",
        "max_position_embeddings": 32768,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_config_json_is_a_model(tmp_path: Path) -> None:
    folder = _config(tmp_path / "house-model", 30)
    name, note = resolve_model(str(folder))
    assert (name, note) == ("house-model", f"model read from {folder}")
    assert catalogue.model(name).n_layers == 30
    assert resolve_model(str(folder / "config.json"))[0] == name


def test_two_shapes_of_one_name_are_two_models(tmp_path: Path) -> None:
    names = [resolve_model(str(_config(tmp_path / "twin", layers)))[0] for layers in (20, 24)]
    assert names == ["twin", "twin-2"]


@pytest.mark.parametrize("text", ["no-such-model", "0b", "70b-a300b", "/nowhere/config.json"])
def test_a_model_that_is_none_is_refused(text: str) -> None:
    with pytest.raises((UnknownName, BadRequest)):
        resolve_model(text)
