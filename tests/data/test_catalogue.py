"""The catalogues are complete, sourced, unambiguous and agree with arithmetic."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest, UnknownName
from roofcast.data.specs import GpuSpec, ModelSpec, PlatformSpec

Entry = GpuSpec | PlatformSpec | ModelSpec
LOOK_UP: dict[type, Callable[[str], Entry]] = {
    GpuSpec: catalogue.gpu, PlatformSpec: catalogue.platform, ModelSpec: catalogue.model,
}  # fmt: skip
MODELS = list(catalogue.models().values())
ALL: list[Entry] = [*catalogue.gpus().values(), *catalogue.platforms().values(), *MODELS]


def _id(entry: Entry) -> str:
    return f"{type(entry).__name__.removesuffix('Spec').lower()}:{entry.name}"


def _value(value: Any, field: str) -> object:
    for part in field.split("."):
        value = value[part] if isinstance(value, Mapping) else getattr(value, part)
    return value


@pytest.mark.parametrize("entry", ALL, ids=_id)
def test_every_entry_has_a_source_its_conflicts_and_is_found_in_any_case(entry: Entry) -> None:
    """By its name, its aliases and its hub id, which are thereby no other entry's."""
    assert len(entry.source) >= 10
    for conflict in entry.conflicts:
        assert conflict.in_use == _value(entry, conflict.field)
        assert conflict.others
    for way in (entry.name, *entry.aliases, getattr(entry, "hf_id", "") or entry.name):
        assert LOOK_UP[type(entry)](way) is LOOK_UP[type(entry)](f" {way.upper()} ") is entry


@pytest.mark.parametrize("spec", catalogue.gpus().values(), ids=_id)
def test_a_gpu_has_sane_orders_of_magnitude(spec: GpuSpec) -> None:
    assert 15e9 < spec.memory_bytes < 350e9
    assert 0.2e12 < spec.memory_bandwidth < 25e12
    assert all(8e12 <= peak <= 40e15 for peak in spec.flops.values())
    assert min(spec.link_bandwidth, spec.link_domain, spec.peak_flops("bf16")) > 0


# Peaks are dense, each halving of bits doubles them; link rates are one way.
@pytest.mark.parametrize(("name", "doubled", "link"), [
    ("a100-80g", (), 300e9), ("h100-sxm", ("bf16", "fp8"), 450e9), ("h200-sxm", ("bf16", "fp8"), 450e9),
    *((gpu, ("bf16", "fp8", "fp4"), 900e9) for gpu in ("b200-sxm", "gb200")),
    *((gpu, ("bf16", "fp8"), 900e9) for gpu in ("b300-sxm", "gb300")),
    ("mi355x", ("bf16", "fp8", "fp4"), None),
])  # fmt: skip
def test_peaks_are_dense_and_links_one_way(name: str, doubled: tuple[str, ...], link: float | None) -> None:
    spec = catalogue.gpu(name)
    for wide, narrow in pairwise(doubled):
        assert spec.flops[narrow] == pytest.approx(2 * spec.flops[wide], rel=0.01)
    assert link in (None, spec.link_bandwidth)


def test_a_platform_holds_known_gpus_and_agrees_with_their_links() -> None:
    for platform in catalogue.platforms().values():
        gpu = catalogue.gpus()[platform.gpu]
        assert platform.scale_up_domain <= max(gpu.link_domain, platform.num_gpus)
        assert platform.link_bandwidth in (0.0, gpu.link_bandwidth)


def _attention(spec: ModelSpec) -> float:
    if spec.attention == "mla":
        queries = spec.n_heads * spec.head_dim
        query = spec.mla_q_rank * (spec.d_model + queries) or spec.d_model * queries
        latent = spec.d_model * (spec.mla_kv_rank + spec.mla_rope_dim)
        up = spec.mla_kv_rank * spec.n_heads * (spec.qk_nope_dim + spec.v_head_dim)
        return query + latent + up + spec.n_heads * spec.v_head_dim * spec.d_model
    return spec.d_model * spec.head_dim * 2 * (spec.n_heads + spec.n_kv_heads)


def _parameters(spec: ModelSpec) -> tuple[float, float]:
    """Total and active parameters from the shape, without biases and norms."""
    matrix = (3 if spec.gated_ffn else 2) * spec.d_model
    dense = matrix * spec.d_ff * (spec.n_dense_layers if spec.is_moe else spec.n_layers)
    shared = spec.n_moe_layers * (matrix * spec.d_ff_shared_expert + spec.d_model * spec.n_experts)
    expert = spec.n_moe_layers * matrix * spec.d_ff_expert
    embedding = spec.vocab * spec.d_model * (1 if spec.tied_embeddings else 2)
    rest = dense + shared + embedding + spec.n_layers * _attention(spec)
    return rest + expert * spec.n_experts, rest + expert * spec.experts_per_token


# What the plain formula does not describe: recurrent mixers, encoders, layers that differ among themselves.
UNEVEN = {"t5", "gemma3n", "gemma4", "nemotron-nas", "decilm", "gptj", "phi", "mimo-v2", "step3", "step3p5",
          "mistral-large4", "muse-spark", "laguna"}  # fmt: skip
MIXED = {m.name for m in MODELS if m.attention == "hybrid" or m.n_linear_attention_layers}
PLAIN = [m for m in MODELS if m.name not in MIXED and m.family not in UNEVEN]


@pytest.mark.parametrize("spec", PLAIN, ids=_id)
def test_parameters_agree_with_the_shape(spec: ModelSpec) -> None:
    total, active = _parameters(spec)
    assert spec.params_total == pytest.approx(total, rel=0.03)
    assert spec.params_active == pytest.approx(active, rel=0.03)


@pytest.mark.parametrize("spec", [m for m in MODELS if m.name in MIXED or m.family in UNEVEN], ids=_id)
def test_parameters_agree_with_the_name_where_layers_differ(spec: ModelSpec) -> None:
    """A name says them rounded and often without embeddings; "-a3b" means the active ones."""
    said = re.findall(r"(?<![\w.])(a?)(\d+(?:\.\d+)?)b(?![a-z])", spec.name)
    for active, billions in said:
        counted = spec.params_active if active else spec.params_total
        assert counted / 1e9 == pytest.approx(float(billions), rel=0.3)


@pytest.mark.parametrize("spec", MODELS, ids=_id)
def test_a_model_is_coherent(spec: ModelSpec) -> None:
    kinds = spec.n_full_attention_layers + spec.n_sliding_layers + spec.n_linear_attention_layers
    assert 0 < kinds <= spec.n_layers
    assert spec.n_heads % spec.n_kv_heads == 0
    assert 0 < spec.params_active <= spec.params_total > spec.params_embedding
    assert spec.experts_per_token <= spec.n_experts
    assert (spec.n_sliding_layers > 0) <= (spec.sliding_window > 0)
    assert (spec.n_linear_attention_layers > 0) == (spec.linear_state_values > 0)
    assert spec.native_weight_precision in ("bf16", "fp8", "fp4", "mxfp4", "int8", "int4")


@pytest.mark.parametrize(("one", "other", "alike"), [
    ("deepseek-r1", "deepseek-r1-0528", True), ("llama-3-70b", "llama-3.3-70b", True),
    ("llama-2-70b", "llama-3-70b", False),
])  # fmt: skip
def test_models_of_one_shape_share_their_shape_key(one: str, other: str, alike: bool) -> None:
    assert (catalogue.model(one).shape_key == catalogue.model(other).shape_key) == alike


@pytest.mark.parametrize(("look_up", "typed", "name"), [
    (catalogue.gpu, "B200", "b200-sxm"), (catalogue.gpu, "H100 SXM", "h100-sxm"),
    (catalogue.gpu, "h100", "h100-sxm"), (catalogue.gpu, "h100_pcie", "h100-pcie"),
    (catalogue.gpu, "gh200", "gh200-96g"), (catalogue.gpu, "a100-80g-pcie", "a100-pcie"),
    (catalogue.gpu, "dgx spark", "gb10"), (catalogue.gpu, "gfx1151", "strix-halo"),
    (catalogue.gpu, "RTX PRO 6000 Blackwell Max-Q Workstation Edition", "rtx-pro-6000-maxq"),
    (catalogue.gpu, "RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000-ws"),
    (catalogue.model, "Qwen/Qwen2.5-72B-Instruct", "qwen2.5-72b"),
    (catalogue.model, "qwen2.5-72b-instruct", "qwen2.5-72b"),
    (catalogue.model, "meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
    (catalogue.model, "meta-llama/Meta-Llama-3.1-405B-Instruct", "llama-3.1-405b"),
    (catalogue.model, "Llama-2-70b-chat-hf", "llama-2-70b"),
    (catalogue.model, "Qwen/Qwen3-235B-A22B-Instruct-2507", "qwen3-235b-a22b-2507"),
    (catalogue.model, "mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
    (catalogue.model, "google/gemma-3-27b-it", "gemma-3-27b"),
    (catalogue.model, "somebody/Qwen3-32B", "qwen3-32b"),
    (catalogue.model, "deepseek-ai/DeepSeek-V3-0324", "deepseek-v3"),
])  # fmt: skip
def test_names_people_use(look_up: Callable[[str], Entry], typed: str, name: str) -> None:
    assert look_up(typed).name == name


@pytest.mark.parametrize(("look_up", "typed", "nearest"), [
    (catalogue.gpu, "b20", ("b200-sxm",)), (catalogue.model, "qwen2.5-71b", ("qwen2.5-72b",)),
    (catalogue.platform, "hgx-b20", ("hgx-b200",)),
    *((catalogue.model, typed, ()) for typed in ("", " ", "/", "-instruct", "\n", "x" * 10_000)),
])  # fmt: skip
def test_an_unknown_name_is_refused_with_the_nearest(look_up: Any, typed: str, nearest: Any) -> None:
    with pytest.raises(UnknownName) as caught:
        look_up(typed)
    assert set(nearest) <= set(caught.value.nearest)


def test_what_is_no_name_and_no_precision_is_refused_and_catalogues_are_read_only() -> None:
    for ask in (lambda: catalogue.gpu(None), lambda: catalogue.gpu("b200-sxm").peak_flops("fp3")):  # type: ignore[arg-type]
        with pytest.raises(BadRequest):
            ask()
    for mapping in (catalogue.gpus(), catalogue.gpu("b200").flops):
        with pytest.raises(TypeError):
            mapping["x"] = 1.0  # type: ignore[index]


# In a process of its own: a model added stays.
ADDED_MEANWHILE = """
from dataclasses import replace
from roofcast.data import catalogue

@catalogue.follows_models
def names():
    before = list(catalogue.models())
    catalogue.add_model(replace(catalogue.model("qwen3-32b"), name="mine", n_layers=65, aliases=(), hf_id=""))
    return before

print("mine" in names(), "mine" in names(), catalogue.model("mine").n_layers)
"""


def test_what_was_made_of_the_models_while_one_was_added_is_made_anew() -> None:
    done = subprocess.run([sys.executable, "-c", ADDED_MEANWHILE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "65"]


@pytest.mark.parametrize(("column", "look_up"), [("gpu", catalogue.gpu), ("model", catalogue.model)])
def test_every_frequent_name_resolves(shared_root: Path, column: str, look_up: Any) -> None:
    files = (shared_root / "benchmarks").glob("*.csv")
    names = pd.concat(
        [pd.read_csv(file, usecols=[column], dtype=str)[column] for file in files]
    ).value_counts()
    for name in names[names >= 20].index:
        look_up(name)


# Families that people name without a size: each of their sizes resolves.
NO_SIZE = {"OpenGVLab/InternVL2.5": "OpenGVLab/InternVL2_5-8B", "google/gemma-4": "google/gemma-4-31B-it"}


def test_every_wanted_model_resolves(shared_root: Path) -> None:
    wanted = (shared_root / "cases" / "models_wanted.txt").read_text(encoding="utf-8").splitlines()
    names = [line.split(" (")[0].strip() for line in wanted if line and not line.startswith("#")]
    assert len(names) > 20
    for name in names:
        catalogue.model(NO_SIZE.get(name, name))
