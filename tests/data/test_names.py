"""Names as people, drivers, hubs and clouds write them lead to one entry, or are refused with the nearest."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import UnknownName
from roofcast.data.hardware import resolve_hardware
from roofcast.data.sizes import resolve_model
from roofcast.data.vocabulary import ENGINES, engine_named

# As typed, the model, the precision of weights, and of the KV cache where the name states it.
CHECKPOINTS = """
Qwen/Qwen3-32B-FP8 | qwen3-32b | fp8
Qwen/Qwen3-32B | qwen3-32b |
qwen3_32b | qwen3-32b |
models--Qwen--Qwen3-32B | qwen3-32b |
/data/models/Qwen3-32B-FP8 | qwen3-32b | fp8
/data/models/Qwen3-32B-FP8/ | qwen3-32b | fp8
/models/Qwen3-32B/fp8 | qwen3-32b | fp8
C:\\models\\Qwen3-32B-AWQ | qwen3-32b | int4
/nowhere/hub/models--Qwen--Qwen3-32B-FP8/snapshots/98b63908b41686889a6ade39 | qwen3-32b | fp8
Qwen/Qwen3-32B@main | qwen3-32b |
qwen3-32b@fp8 | qwen3-32b | fp8
https://huggingface.co/Qwen/Qwen3-32B-FP8/tree/main | qwen3-32b | fp8
https://huggingface.co/Qwen/Qwen3-32B/blob/main/config.json | qwen3-32b |
qwen-7b-chat-int4 | qwen-7b | int4
7b-int4 | 7b | int4
30b-a3b-fp8 | 30b-a3b | fp8
unsloth/Qwen3-32B-unsloth-bnb-4bit | qwen3-32b | int4
bartowski/Qwen_Qwen3-32B-GGUF | qwen3-32b |
hf.co/unsloth/Qwen3-32B-GGUF:UD-Q4_K_XL | qwen3-32b | int4
Qwen3-32B-Q8_0.gguf | qwen3-32b | int8
Qwen3-32B-IQ4_XS.gguf | qwen3-32b | int4
Qwen3-235B-A22B-Q4_K_M-00001-of-00003.gguf | qwen3-235b-a22b | int4
Qwen/Qwen3-235B-A22B-GPTQ-Int4 | qwen3-235b-a22b | int4
Qwen/Qwen3-235B-A22B-Instruct-2507-FP8 | qwen3-235b-a22b-2507 | fp8
Qwen/Qwen3-235B-A22B-Thinking-2507 | qwen3-235b-a22b-thinking-2507 |
Qwen/Qwen3-14B-Thinking-2507 | qwen3-14b |
Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8 | qwen2.5-7b | int8
Qwen/Qwen2.5-72B-Instruct-AWQ | qwen2.5-72b | int4
mlx-community/Qwen3-14B-4bit | qwen3-14b | int4
QuantTrio/Qwen3-Coder-480B-A35B-Instruct-AWQ | qwen3-coder-480b-a35b | int4
qwen3:30b-a3b | qwen3-30b-a3b |
qwen3-coder:30b | qwen3-coder-30b-a3b |
meta-llama/Llama-3.1-8B-Instruct | llama-3.1-8b |
meta-llama/Meta-Llama-3.1-8B-Instruct | llama-3.1-8b |
llama3.1:8b | llama-3.1-8b |
llama3.1:8b-instruct-q4_K_M | llama-3.1-8b | int4
llama-3-1-8b | llama-3.1-8b |
accounts/fireworks/models/llama-v3p1-70b-instruct | llama-3.1-70b |
llama3-70b-awq | llama-3-70b | int4
nvidia/Llama-3.1-405B-Instruct-NVFP4 | llama-3.1-405b | fp4
amd/Llama-3.1-405B-Instruct-FP8-KV | llama-3.1-405b | fp8 | fp8
nvidia/Llama-3.1-8B-Instruct-W4A16-kv8 | llama-3.1-8b | int4 | fp8
RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic | llama-3.3-70b | fp8
RedHatAI/Llama-3.3-70B-Instruct-quantized.w8a8 | llama-3.3-70b | int8
RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16 | llama-3.1-8b | int4
neuralmagic_Llama-2-7b-chat-hf-FP8 | llama-2-7b | fp8
TheBloke/Llama-2-70B-chat-GPTQ | llama-2-70b | int4
RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic | llama-4-scout | fp8
mistralai/Mistral-7B-Instruct-v0.1 | mistral-7b |
TheBloke/Mistral-7B-Instruct-v0.2-AWQ | mistral-7b-instruct-v0.2 | int4
nvidia/DeepSeek-R1-0528-NVFP4-v2 | deepseek-r1-0528 | fp4
nvidia/DeepSeek-R1-FP4 | deepseek-r1 | fp4
unsloth/DeepSeek-V3-bf16 | deepseek-v3 | bf16
DeepSeek-V4-Flash-0731 | deepseek-v4-flash |
deepseek-v3.1:671b | deepseek-v3.1 |
amd/DeepSeek-R1-0528-MXFP4-Preview | deepseek-r1-0528 | fp4
deepseek-ai/DeepSeek-R1-Distill-Llama-70B | deepseek-r1-distill-llama-70b |
RedHatAI/DeepSeek-R1-Distill-Llama-70B-quantized.w4a16 | deepseek-r1-distill-llama-70b | int4
gpt-oss:20b | gpt-oss-20b |
unsloth/gpt-oss-120b-GGUF:F16 | gpt-oss-120b | bf16
google/gemma-3-27b-it-qat-q4_0-gguf | gemma-3-27b | int4
google/gemma-4-31B-it | gemma-4-31b-it |
RedHatAI/gemma-4-31B-it-FP8-block | gemma-4-31b-it | fp8
nvidia/Gemma-4-31B-NVFP4 | gemma-4-31b-it | fp4
zai-org/GLM-4.5-Air-FP8 | glm-4.5-air | fp8
moonshotai/Kimi-K2-Instruct-0905 | kimi-k2 |
nvidia/Llama-3_3-Nemotron-Super-49B-v1_5-FP8 | llama-3.3-nemotron-super-49b-v1.5 | fp8
nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8 | nemotron-3-nano-30b-a3b | fp8
phi4:14b | phi-4 |
deepseek-ai/DeepSeek-R1-0528-Qwen3-8B | qwen3-8b |
deepseek-r1:70b | deepseek-r1-distill-llama-70b |
deepseek-r1:671b | deepseek-r1 |
"""

# As typed, the GPU, how many, the platform.
HARDWARE = """
NVIDIA H100 80GB HBM3 | h100-sxm
NVIDIA-H100-80GB-HBM3 | h100-sxm
h100 | h100-sxm
H100 SXM5 | h100-sxm
NVIDIA H100 PCIe | h100-pcie
NVIDIA H100 NVL | h100-nvl
1x H100 NVL 95GB | h100-nvl | 1
nvidia-h100-mega-80gb | h100-sxm
NVIDIA B200 | b200-sxm
8x B200-SXM-180GB | b200-sxm | 8
NVIDIA B300 SXM6 AC | b300-sxm
NVIDIA GH200 480GB | gh200-96g
NVIDIA GH200 144G HBM3e | gh200-144g
AMD Instinct MI300X | mi300x
AMD Instinct MI300X OAM | mi300x
AMD_Instinct_MI325X_OAM | mi325x
gfx942 | mi300x
A100-SXM4-80GB | a100-80g
NVIDIA A100-SXM4-40GB | a100-40g
NVIDIA A100 80GB PCIe | a100-pcie
A100 (80G) | a100-80g
1x A100 40GB | a100-40g | 1
nvidia-tesla-a100 | a100-40g
NVIDIA A800-SXM4-80GB | a800-80g
NVIDIA H20-3e | h20-3e
NVIDIA H20 141GB | h20-3e
Tesla V100-SXM2-32GB | v100
Tesla V100-SXM2-16GB | v100-16g
NVIDIA GeForce RTX 4090 | rtx4090
NVIDIA GeForce RTX 4090 D | rtx4090d
4090 | rtx4090
NVIDIA L40S | l40s
4x L40S | l40s | 4
NVIDIA RTX 6000 Ada Generation | rtx6000ada
NVIDIA RTX PRO 6000 Blackwell Server Edition | rtx-pro-6000
8x RTX PRO 6000 (PCIe) | rtx-pro-6000 | 8
Intel Gaudi 3 | gaudi3
8xH100 | h100-sxm | 8
8 x H200 | h200-sxm | 8
8x H200s | h200-sxm | 8
2x L40s | l40s | 2
2x RTX 4080S | rtx4080-super | 2
H200*8 | h200-sxm | 8
GPU 0: NVIDIA H200 (UUID: GPU-5a-7c) | h200-sxm
NVIDIA H200, 143771 MiB | h200-sxm
AMD Instinct MI300X VF | mi300x
4*H200 | h200-sxm | 4
H100:8 | h100-sxm | 8
gpu_8x_h100_sxm5 | h100-sxm | 8
2x 8x H800, 1P1D | h800 | 16
2 nodes x 8 B200 | b200-sxm | 16
AMD MI300X GPU (8x) | mi300x | 8
8x H100 (p5.48xlarge) | h100-sxm | 8
1x H100 (Modal) | h100-sxm | 1
Nebius 8xH200 node | h200-sxm | 8
NVIDIA H200x8 | h200-sxm | 8
RTX 6000 Pro Blackwell Server Edition | rtx-pro-6000
8x NVIDIA B200 183GB NVSwitch, Xeon 8570 | b200-sxm | 8
trn1.32xlarge | trn1 | 16
TPU v6e-8 (Trillium) | tpu-v6e | 8
Dell PowerEdge XE9680 (8x H100-SXM-80GB, TensorRT) | h100-sxm | 8
p5.48xlarge | h100-sxm | 8
p5en.48xlarge | h200-sxm | 8
p4d.24xlarge | a100-40g | 8
p4de.24xlarge | a100-80g | 8
p6-b200.48xlarge | b200-sxm | 8
g6e.xlarge | l40s | 1
g6e.48xlarge | l40s | 8
a2-highgpu-1g | a100-40g | 1
a2-ultragpu-8g | a100-80g | 8
a3-highgpu-8g | h100-sxm | 8
2x a3-megagpu-8g (16x H100) | h100-sxm | 16
GCP a3-ultragpu-8g (8x H200 141GB) | h200-sxm | 8
a4-highgpu-8g | b200-sxm | 8
g4-standard-384 | rtx-pro-6000 | 8
2x GCP g4-standard-384 (8x RTX PRO 6000) | rtx-pro-6000 | 16
Standard_ND96isr_H100_v5 | h100-sxm | 8
Standard_ND_MI300X_v5 | mi300x | 8
BM.GPU.MI300X.8 | mi300x | 8
hgx-b200 | b200-sxm | 0 | hgx-b200
NVIDIA DGX H100 | h100-sxm | 0 | hgx-h100
2x HGX B200 | b200-sxm | 16 | hgx-b200
GB200 NVL72 | gb200 | 0 | gb200-nvl72
"""


def _table(text: str, columns: int) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    return [row + [""] * (columns - len(row)) for row in rows]


@pytest.mark.parametrize(("typed", "model", "weight", "kv"), _table(CHECKPOINTS, 4))
def test_a_checkpoint_is_its_model_in_the_precision_that_its_name_states(
    typed: str, model: str, weight: str, kv: str
) -> None:
    named = resolve_model(typed)
    assert (named.name, named.weight_precision, named.kv_precision) == (model, weight, kv)


@pytest.mark.parametrize("typed", [
    "Qwen3-31B", "Qwen/Qwen2.5-VL-33B-Instruct-AWQ", "Qwen3-32B-Coder", "Qwen/Qwen3-Embedding-8B",
    "deepseek-r1:30b", "Mistral-7B-Instruct-v0.4", "Llama-70B", "Llama-3-405B", "meta-llama/Llama-Guard-3-8B",
    "Qwen3-235B-A22B-REAP-FP8", "phi-4-2507", "fp8", "Q4_K_M", "-00001-of-00003.gguf",
])  # fmt: skip
def test_what_may_be_another_model_is_refused(typed: str) -> None:
    with pytest.raises(UnknownName):
        resolve_model(typed)


def test_every_shipped_model_is_found_by_each_of_its_names_and_by_its_quantised_checkpoints() -> None:
    for name, spec in catalogue.shipped_models().items():
        for way in catalogue.ways(spec):
            assert catalogue.model(way).name == name
            assert (
                catalogue.model(f"somebody/{way.rsplit('/', 1)[-1]}-FP8-dynamic").shape_key == spec.shape_key
            )


@pytest.mark.parametrize(("typed", "gpu", "count", "platform"), _table(HARDWARE, 4))
def test_hardware_is_a_gpu_how_many_and_perhaps_a_platform(
    typed: str, gpu: str, count: str, platform: str
) -> None:
    named = resolve_hardware(typed)
    assert (named.gpu, named.num_gpus, named.platform) == (gpu, int(count or 0), platform)


def test_a_drivers_list_of_like_gpus_is_so_many_of_one() -> None:
    listed = "".join(f"GPU {i}: NVIDIA H200 (UUID: GPU-{i})\n" for i in range(4))
    for text in (listed, "NVIDIA H200\n" * 4, "NVIDIA H200, 143771 MiB\n" * 4):
        assert (resolve_hardware(text).gpu, resolve_hardware(text).num_gpus) == ("h200-sxm", 4)


@pytest.mark.parametrize("typed", [
    "H100,H200", "8x H100; 8x H200", "NVIDIA H100 PCIe\nNVIDIA H200", "0x H100", "-1x H100", "0 H100",
    "4x V100S",
])  # fmt: skip
def test_two_chips_or_none_of_one_are_no_gpu(typed: str) -> None:
    with pytest.raises(UnknownName):
        resolve_hardware(typed)


@pytest.mark.parametrize(("typed", "among"), [
    ("H100 80GB", "h100-pcie h100-sxm"), ("8x H100", "h100-nvl h100-pcie h100-sxm"), ("h100-sxm", ""),
    ("NVIDIA H100 80GB HBM3", ""), ("A100 40GB", ""), ("B200", ""),
])  # fmt: skip
def test_a_gpu_named_by_its_chip_alone_says_among_which_it_is_the_usual_one(typed: str, among: str) -> None:
    assert " ".join(resolve_hardware(typed).among) == among


@pytest.mark.parametrize(("typed", "near"), [
    ("A100-PCIE-41GB", "a100-pcie"), ("H100 64GB", "h100-sxm"), ("RTX 4090 48GB", "rtx4090"),
    ("H800 PCIe", "h800"),
    ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", ""), ("RTX 6000", "rtx6000ada"), ("MI300A", "mi300x"),
    *((typed, "") for typed in ("", " ", "8x", "()", "nvidia", "GPU", "80GB", "sxm")),
])  # fmt: skip
def test_memory_and_form_are_never_ignored(typed: str, near: str) -> None:
    with pytest.raises(UnknownName) as caught:
        resolve_hardware(typed)
    assert {near} - {""} <= set(caught.value.nearest)


def test_every_gpu_and_platform_is_found_by_each_of_its_names() -> None:
    for kind, entries in (("gpu", catalogue.gpus()), ("platform", catalogue.platforms())):
        for name, spec in entries.items():
            for way in catalogue.ways(spec):
                assert getattr(resolve_hardware(way, kind), kind) == name


@pytest.mark.parametrize(("typed", "name", "version"), [
    ("vLLM", "vllm", ""), ("vllm 0.9.1", "vllm", "0.9.1"), ("vllm==0.10.1.1", "vllm", "0.10.1.1"),
    ("vllm/vllm-openai:v0.9.1", "vllm", "0.9.1"), ("TRT-LLM", "trtllm", ""), ("tensorrt_llm", "trtllm", ""),
    ("TensorRT-LLM 1.2", "trtllm", "1.2"), ("SGLang", "sglang", ""), ("sgl", "sglang", ""),
    ("text-generation-inference", "tgi", ""), ("llama.cpp", "llamacpp", ""), ("llama-server", "llamacpp", ""),
    ("ollama", "llamacpp", ""), ("nim", "trtllm", ""), ("llm-d", "vllm", ""), ("dynamo", "vllm", ""),
    ("dynamo (sglang)", "sglang", ""), ("lmdeploy", "other", ""), ("exllamav2", "", ""), ("vlm", "", ""),
])  # fmt: skip
def test_an_engine_is_known_in_every_spelling(typed: str, name: str, version: str) -> None:
    assert engine_named(typed) == (name, version)


@pytest.mark.parametrize(("typed", "near"), [
    ("vlm", "vllm"), ("sglnag", "sglang"), ("tensortllm", "trtllm"), ("exllamav2", ""), ("xllm", ""),
])  # fmt: skip
def test_a_typing_error_is_near_an_engine_and_another_engine_is_not(typed: str, near: str) -> None:
    assert ENGINES.near(typed)[:1] == ((near,) if near else ())


def _posts(shared_root: Path) -> list[dict[str, str]]:
    file = shared_root / "cases" / "posts.csv"
    if not file.exists():
        pytest.skip("no collected posts here")
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def test_models_in_public_posts_are_those_that_a_reader_took_them_for(shared_root: Path) -> None:
    for row in _posts(shared_root):
        if known := catalogue.model_called(row["model"]):
            named = resolve_model(row["model_raw"])
            assert named.name == known.name
            assert named.weight_precision in ("", row["weight_precision"])


def test_hardware_in_public_posts_is_what_a_reader_took_it_for(shared_root: Path) -> None:
    for row in _posts(shared_root):
        if row["gpu"] in catalogue.gpus():
            named = resolve_hardware(row["platform_raw"])
            assert row["gpu"] == named.gpu or row["gpu"] in named.among
            assert named.num_gpus in (0, int(row["num_gpus"]))
