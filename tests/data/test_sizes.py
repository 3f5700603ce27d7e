"""What names a model: the catalogue, a size, or a config.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest, UnknownName
from roofcast.data.sizes import resolve_model


def test_a_size_is_the_nearest_shape_scaled() -> None:
    named = resolve_model("300b")
    spec = catalogue.model(named.name)
    assert spec.params_total == 300e9
    assert not spec.is_moe
    assert (named.how, named.about) == ("scaled", "llama-3.1-405b")


def test_a_size_asked_for_again_or_beside_others_is_scaled_from_the_same_shape() -> None:
    first = resolve_model("310b")
    resolve_model("305b")
    assert resolve_model("310b") == first
    assert catalogue.model("305b").source == "llama-3.1-405b scaled to 3.05e+11"


def test_a_size_with_active_parameters_is_a_mixture_of_experts() -> None:
    spec = catalogue.model(resolve_model("1t-a32b").name)
    assert (spec.params_total, spec.params_active, spec.is_moe) == (1e12, 32e9, True)


def test_a_scaled_shape_lies_between_its_neighbours() -> None:
    names = ("llama-3.1-70b", resolve_model("150b").name, "llama-3.1-405b")
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
    named = resolve_model(str(folder))
    assert (named.name, named.how, named.where) == ("house-model", "config", str(folder / "config.json"))
    assert named.about == "4.2 G parameters, 4.2 G active"
    assert catalogue.model(named.name).n_layers == 30
    assert resolve_model(str(folder / "config.json")) == named


@pytest.mark.parametrize("inside", ["", "snapshots/0123abcd"])
def test_a_hub_s_cache_folder_is_a_model_under_its_own_name(tmp_path: Path, inside: str) -> None:
    folder = tmp_path / "models--Maker--Cached-9B"
    (folder / "snapshots").mkdir(parents=True)
    _config(folder / "snapshots" / "0123abcd", 31)
    assert resolve_model(str(folder / inside)).name == "Cached-9B"


def test_a_path_from_home_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _config(tmp_path / "home-model", 29)
    assert resolve_model("~/home-model").name == "home-model"


def test_a_local_copy_of_a_known_model_is_that_model_in_its_own_format(tmp_path: Path) -> None:
    folder = tmp_path / "Qwen3-32B-Instruct"
    folder.mkdir()
    config = json.loads((Path(__file__).parent / "configs.json").read_text())["qwen3-32b"]
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    named = resolve_model(str(folder))
    assert (named.name, named.weight_precision) == ("qwen3-32b", "fp8")


def test_a_local_model_changes_no_name_of_the_catalogue(tmp_path: Path) -> None:
    other = resolve_model(str(_config(tmp_path / "Qwen3-14B-FP8", 22))).name
    assert other == "Qwen3-14B-FP8-2"
    assert resolve_model("Qwen/Qwen3-14B-FP8").name == "qwen3-14b"


def test_two_shapes_of_one_name_are_two_models(tmp_path: Path) -> None:
    names = [resolve_model(str(_config(tmp_path / "twin", layers))).name for layers in (20, 24)]
    assert names == ["twin", "twin-2"]


@pytest.mark.parametrize("text", ["no-such-model", "0b", "70b-a300b", "/nowhere/config.json"])
def test_a_model_that_is_none_is_refused(text: str) -> None:
    with pytest.raises((UnknownName, BadRequest)):
        resolve_model(text)
