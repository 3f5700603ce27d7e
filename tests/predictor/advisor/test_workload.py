"""Workloads: checked at the door, and models by name, by size or from a config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest, UnknownName
from roofcast.data.sizes import resolve_model
from roofcast.predictor import Predictor
from roofcast.predictor.advisor import Workload

GOOD: dict[str, Any] = {"model": "qwen2.5-72b", "users": 10}


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": 0}, {"users": -3}, {"users": None}, {"request_rate": 2.0}, {"ttft_ms": 0},
        {"tpot_ms": float("nan")}, {"percentile": 100}, {"isl": 0}, {"prefix_cached_frac": 1.5},
        {"budget_usd": -1}, {"context": 100, "isl": 200}, {"mix": ((1000, 100, 0.0),)},
        {"mix": ((1000, 100, 1.0),) * 40},
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        Workload(**{**GOOD, **wrong})


def test_the_shares_of_a_mix_add_up_to_one() -> None:
    kinds = Workload(**GOOD, mix=((1000, 100, 3), (4000, 200, 1))).kinds
    assert [kind.share for kind in kinds] == [0.75, 0.25]


def test_a_conversation_is_a_long_prompt_that_is_cached_but_for_what_is_new() -> None:
    (kind,) = Workload(**GOOD, isl=1000, osl=500, context=10_500).kinds
    assert (kind.isl, kind.osl) == (10_000, 500)
    assert kind.isl * (1 - kind.cached) == pytest.approx(1000)


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


def test_a_scaled_shape_is_served_like_one_of_its_size(predictor: Predictor) -> None:
    """Between its neighbours: slower than 70 G parameters, faster than 405 G."""
    name, _ = resolve_model("150b")
    ask = {"gpu": "b200-sxm", "tp": 8, "concurrency": 8, "weight_precision": "fp8"}
    small, middle, large = (
        predictor.predict(model=model, **ask).baseline["tpot_ms"]
        for model in ("llama-3.1-70b", name, "llama-3.1-405b")
    )
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


def test_a_config_json_is_a_model(tmp_path: Path, predictor: Predictor) -> None:
    folder = _config(tmp_path / "house-model", 30)
    name, note = resolve_model(str(folder))
    assert (name, note) == ("house-model", f"model read from {folder}")
    assert predictor.predict(model=name, gpu="h100-sxm", concurrency=4).feasible
    assert resolve_model(str(folder / "config.json"))[0] == name


def test_two_shapes_of_one_name_are_two_models(tmp_path: Path) -> None:
    names = [resolve_model(str(_config(tmp_path / "twin", layers)))[0] for layers in (20, 24)]
    assert names == ["twin", "twin-2"]


@pytest.mark.parametrize("text", ["no-such-model", "0b", "70b-a300b", "/nowhere/config.json"])
def test_a_model_that_is_none_is_refused(text: str) -> None:
    with pytest.raises((UnknownName, BadRequest)):
        resolve_model(text)
