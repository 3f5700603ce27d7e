"""What fits, worked by hand from published sizes."""

from __future__ import annotations

from typing import Any

import pytest

from roofcast.features.memory import USABLE_SHARE, WORKSPACE_BYTES, MemoryFit, memory_fit
from roofcast.features.request import normalise


def fit(model: str, gpu: str, tp: int, **columns: Any) -> MemoryFit:
    given = {"model": model, "gpu": gpu, "tp": tp, "num_gpus": tp, "weight_precision": "bf16",
             "kv_precision": "bf16", "isl": 2048, "osl": 512, **columns}  # fmt: skip
    r = normalise({name: [value] for name, value in given.items()})
    assert r.valid[0], r.reason[0]
    return memory_fit(r)


@pytest.mark.parametrize(
    ("model", "gpu", "tp", "precision", "fits"),
    [
        ("llama-3.1-405b", "h100-sxm", 8, "bf16", False),  # 812 GB of weights, 8 x 78 usable
        ("llama-3.1-405b", "h200-sxm", 8, "bf16", True),  # 8 x 140
        ("llama-3.1-405b", "h100-sxm", 8, "fp8", True),
        ("llama-3.1-405b", "h100-sxm", 16, "bf16", True),
        ("qwen2.5-72b", "h100-sxm", 1, "bf16", False),  # 145 GB
        ("qwen2.5-72b", "h100-sxm", 2, "bf16", True),
        ("qwen2.5-72b", "b200-sxm", 1, "bf16", True),
        ("qwen2.5-72b", "b200-sxm", 1, "fp4", True),
        ("deepseek-r1", "h100-sxm", 8, "fp8", False),  # 673 GB
        ("deepseek-r1", "h200-sxm", 8, "fp8", True),
        ("gpt-oss-120b", "h100-sxm", 1, "fp4", True),  # 69 GB
    ],
)
def test_which_models_fit_where(model: str, gpu: str, tp: int, precision: str, fits: bool) -> None:
    assert fit(model, gpu, tp, weight_precision=precision).fits[0] == fits


def test_the_largest_batch_is_the_room_beside_the_weights() -> None:
    found = fit("qwen2.5-72b", "h100-sxm", 2)
    weights = 2 * 72.705e9 / 2
    sequence = 2560 * 327_680 / 2
    available = 85.5e9 * USABLE_SHARE - WORKSPACE_BYTES
    assert found.weight_bytes[0] == pytest.approx(weights, rel=1e-6)
    assert found.sequence_bytes[0] == sequence
    assert found.available_bytes[0] == pytest.approx(available, rel=1e-3)
    held = (2048 + 256) * 327_680 / 2  # on average half of the answer is there
    assert found.max_batch[0] == (available - weights) // held == 14
    whole = fit("qwen2.5-72b", "h100-sxm", 2, engine="trtllm")
    assert whole.max_batch[0] == (available - weights) // sequence == 13


def test_what_does_not_fit_says_what_it_needs() -> None:
    found = fit("llama-3.1-405b", "h100-sxm", 8)
    assert found.needed_bytes[0] == pytest.approx(811.7e9 / 8 + 2560 * 516_096 / 8, rel=1e-4)
    assert found.available_bytes[0] == pytest.approx(85.5e9 * USABLE_SHARE - WORKSPACE_BYTES, rel=1e-3)


def test_small_cards_lose_a_tenth_at_most_to_workspace() -> None:
    assert fit("qwen2.5-1.5b", "t4", 1).available_bytes[0] == pytest.approx(
        16.1e9 * (USABLE_SHARE - 0.1), rel=1e-2
    )


def test_gpus_beyond_the_kv_heads_add_no_room_for_a_sequence() -> None:
    eight, sixteen = fit("qwen2.5-72b", "h100-sxm", 8), fit("qwen2.5-72b", "h100-sxm", 16)
    assert sixteen.sequence_bytes[0] == eight.sequence_bytes[0]
    assert fit("qwen2.5-72b", "h100-sxm", 4).sequence_bytes[0] == 2 * eight.sequence_bytes[0]


def test_eight_bit_kv_doubles_the_batch() -> None:
    wide, narrow = fit("qwen2.5-72b", "b200-sxm", 8), fit("qwen2.5-72b", "b200-sxm", 8, kv_precision="fp8")
    assert narrow.sequence_bytes[0] == wide.sequence_bytes[0] / 2
    assert narrow.max_batch[0] == pytest.approx(2 * wide.max_batch[0], abs=1)


def test_attention_data_parallelism_gives_an_mla_model_room_on_every_gpu() -> None:
    together = fit("deepseek-r1", "h200-sxm", 8, weight_precision="fp8")
    apart = fit("deepseek-r1", "h200-sxm", 8, weight_precision="fp8", dp=8)
    assert apart.sequence_bytes[0] == together.sequence_bytes[0]
    assert apart.weight_bytes[0] > together.weight_bytes[0]
    assert apart.max_batch[0] > 6 * together.max_batch[0]
    assert apart.max_batch[0] % 8 == 0


def test_a_sequence_must_fit_on_one_attention_group() -> None:
    """23 GB of KV, 8 x 7.7 GB beside the weights: enough in sum, too little on each GPU."""
    found = fit("qwen3-235b-a22b", "h100-sxm", 8, dp=8, isl=120_000, osl=1000)
    room = found.available_bytes[0] - found.weight_bytes[0]
    assert room < found.sequence_bytes[0] < 8 * room
    assert not found.fits[0]


def test_pipeline_stages_share_weights_and_cache() -> None:
    one, four = fit("llama-3.1-405b", "h200-sxm", 8), fit("llama-3.1-405b", "h200-sxm", 8, pp=4, num_gpus=32)
    assert four.weight_bytes[0] == one.weight_bytes[0] / 4
    assert four.sequence_bytes[0] == one.sequence_bytes[0] / 4


def test_both_pools_of_a_disaggregated_deployment_must_hold_the_weights() -> None:
    pools = {"disagg": 1, "decode_gpus": 8, "decode_tp": 8, "weight_precision": "fp8"}
    assert fit("deepseek-r1", "h200-sxm", 8, prefill_gpus=8, prefill_tp=8, **pools).fits[0]
    assert not fit("deepseek-r1", "h200-sxm", 8, prefill_gpus=4, prefill_tp=4, **pools).fits[0]
