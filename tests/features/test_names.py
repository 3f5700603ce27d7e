"""What names in requests are taken for, and that the answer says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data import catalogue
from roofcast.data.vocabulary import ENGINES, PRECISIONS
from roofcast.features import names
from roofcast.features.request import Requests, normalise

from .questions import ask, asked

Row = dict[str, Any]
CONFIGS = Path(__file__).parents[1] / "data" / "configs.json"


def named(r: Requests) -> tuple[str, str, int, str, str]:
    """Return model, GPU, number of GPUs, and the precisions of weights and cache."""
    weight, kv = PRECISIONS[r.weight_precision[0]], PRECISIONS[r.kv_precision[0]]
    model, gpu = list(catalogue.models())[r.model.codes[0]], list(catalogue.gpus())[r.gpu.codes[0]]
    return model, gpu, int(r.num_gpus[0]), weight, kv


@pytest.mark.parametrize(("request_", "as_if"), [
    ({"model": "Qwen/Qwen3-32B-FP8", "gpu": "NVIDIA H100 80GB HBM3"},
     {"model": "qwen3-32b", "gpu": "h100-sxm", "weight_precision": "fp8"}),
    ({"model": "amd/Llama-3.1-405B-Instruct-FP8-KV", "gpu": "8x AMD Instinct MI300X OAM"},
     {"model": "llama-3.1-405b", "gpu": "mi300x", "num_gpus": 8, "weight_precision": "fp8",
      "kv_precision": "fp8"}),
    ({"model": "qwen3-32b", "gpu": "hgx-b200"}, {"model": "qwen3-32b", "platform": "hgx-b200"}),
    ({"model": "qwen3-32b", "platform": "8x H100 SXM"},
     {"model": "qwen3-32b", "gpu": "h100-sxm", "num_gpus": 8}),
    ({"model": "qwen3-32b", "gpu": "2x p5.48xlarge", "num_gpus": 8},
     {"model": "qwen3-32b", "gpu": "h100-sxm", "num_gpus": 8}),
    ({"model": "Qwen/Qwen3-32B-AWQ", "gpu": "l40s", "weight_precision": "FP16", "kv_precision": "auto"},
     {"model": "qwen3-32b", "gpu": "l40s", "weight_precision": "bf16"}),
    ({"model": "qwen3-32b", "gpu": "l40s", "engine": "Ollama", "weight_precision": "Q4_K_M"},
     {"model": "qwen3-32b", "gpu": "l40s", "engine": "llamacpp", "weight_precision": "int4"}),
])  # fmt: skip
def test_names_as_they_are_typed_ask_what_the_catalogue_s_names_ask(request_: Row, as_if: Row) -> None:
    r, other = ask(**request_), ask(**as_if)
    assert named(r) == named(other)
    for part in ("tp", "engine", "domain", "nic_bandwidth", "host_bytes", "kv_given"):
        assert getattr(r, part)[0] == getattr(other, part)[0], part


@pytest.mark.parametrize(("request_", "said"), [
    ({"model": "Qwen/Qwen3-32B-FP8", "gpu": "h100-sxm"},
     "model qwen3-32b, weight_precision fp8 understood from 'Qwen/Qwen3-32B-FP8'"),
    ({"model": "Qwen/Qwen3-32B-FP8", "gpu": "h100-sxm", "weight_precision": "bf16"},
     "model qwen3-32b understood from 'Qwen/Qwen3-32B-FP8'"),
    ({"model": "qwen3-32b", "gpu": "H100"},
     "gpu h100-sxm assumed, the usual one of h100-nvl, h100-pcie, h100-sxm"),
    ({"model": "qwen3-32b", "gpu": "4x L40S"}, "num_gpus 4 understood from '4x L40S'"),
    ({"model": "qwen3-32b", "gpu": "p5.48xlarge"}, "gpu h100-sxm understood from 'p5.48xlarge'"),
    ({"model": "qwen3-32b", "gpu": "DGX H100"}, "gpu 'DGX H100' is the platform hgx-h100: taken as platform"),
    ({"model": "qwen3-32b", "platform": "l40s"}, "platform 'l40s' is the GPU l40s: taken as gpu"),
    ({"model": "70b", "gpu": "h200-sxm"}, "model of size 70b: the shape of"),
    ({"model": "qwen3-32b", "gpu": "l4", "engine": "vllm 0.9.1"},
     "engine vllm, engine_version 0.9.1 understood from 'vllm 0.9.1'"),
    ({"model": "qwen3-32b", "gpu": "l4", "engine": "nim"}, "engine trtllm understood from 'nim'"),
    ({"model": "qwen3-32b", "gpu": "l4", "weight_precision": "Q8_0"},
     "weight_precision int8 understood from 'Q8_0'"),
])  # fmt: skip
def test_what_was_understood_is_said(request_: Row, said: str) -> None:
    assert said in ask(**request_).reason[0]


def test_names_of_the_catalogue_need_no_word() -> None:
    r = ask(model="qwen3-32b", gpu="h100-sxm", engine="TensorRT-LLM", weight_precision="NVFP4",
            isl=1, osl=1, concurrency=1)  # fmt: skip
    assert [note.code for note in r.notes.of(0)] == ["widened"]


@pytest.mark.parametrize(("request_", "said"), [
    ({"engine": "vlm"}, "unknown engine 'vlm'; nearest: vllm"),
    ({"gpu": "A100-PCIE-41GB"}, "unknown gpu 'A100-PCIE-41GB'; nearest: a100-40g"),
    ({"platform": "hgx-b300"}, "gpu and platform disagree"),
    ({"model": "qwen3-33b"}, "unknown model 'qwen3-33b'; nearest: qwen3-32b"),
    ({"model": "/nowhere/config.json"}, "'/nowhere/config.json' is not allowed: a readable file"),
])  # fmt: skip
def test_what_cannot_be_understood_is_refused_with_the_nearest(request_: Row, said: str) -> None:
    r = asked(**{"model": "qwen3-32b", "gpu": "h100-sxm", **request_})
    assert not r.valid[0]
    assert said in r.reason[0]


def _local(folder: Path, **more: Any) -> str:
    config = json.loads(CONFIGS.read_text(encoding="utf-8"))["qwen3-32b"] | more
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(folder)


def test_a_config_json_is_taken_row_by_row_and_its_parameters_are_told(tmp_path: Path) -> None:
    quantised = _local(tmp_path / "mine-fp8", quantization_config={"quant_method": "fp8"})
    shorter = _local(tmp_path / "mine-40", num_hidden_layers=40)
    models = [shorter, quantised, "qwen3-32b", str(tmp_path / "none")]
    r = normalise(pd.DataFrame({"model": models, "gpu": "h200-sxm"}))
    assert r.valid.tolist() == [True, True, True, False]
    assert r.model.n_layers[:3].tolist() == [40, 64, 64]
    assert [PRECISIONS[code] for code in r.weight_precision[:3]] == ["bf16", "fp8", "bf16"]
    file = f"{quantised}/config.json"
    assert f"model read from {file}: 32.8 G parameters, 32.8 G active" in r.reason[1]


def test_each_distinct_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[str] = []
    for door in ("resolve_model", "resolve_hardware"):
        real = getattr(names, door)

        def counted(text: str, *more: str, real: Any = real) -> Any:
            asked_for.append(text)
            return real(text, *more)

        monkeypatch.setattr(names, door, counted)
    frame = pd.DataFrame({"model": ["Qwen/Qwen3-32B-FP8", "qwen3-8b"] * 500, "gpu": "8xH100"})
    r = normalise(frame)
    assert sorted(asked_for) == ["8xH100", "Qwen/Qwen3-32B-FP8", "qwen3-8b"]
    assert np.bincount(r.weight_precision).tolist() == [500, 500]


def test_stored_engines_keep_the_place_that_models_were_trained_with() -> None:
    stored = {"vllm-atom": "atom", "1cat-vllm": "vllm", "nim": "trtllm", "tgis": "tgi", "qserve": "other",
              "transformers-neuronx": "other", "optimum-habana": "other"}  # fmt: skip
    r = normalise({"engine": list(stored), "model": ["qwen3-8b"] * 7, "gpu": ["l4"] * 7})
    assert [ENGINES[code] for code in r.engine] == list(stored.values())
    assert r.valid.all()
