"""FLOPs and bytes against published configurations, worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roofcast.features.request import Requests, normalise
from roofcast.features.work import (
    Layout,
    attention_bytes_each,
    causal_pairs,
    decode_layout,
    distinct_experts,
    kv_bytes_read,
    kv_bytes_stored,
    kv_share,
    peak_flops,
    prefill_layout,
    prefill_work,
    step_weight_bytes,
    step_work,
    stored_weight_bytes,
    weight_bytes_each,
)


def ask(model: str, gpu: str = "b200", tp: int = 1, **columns: Any) -> Requests:
    given = {
        "model": model,
        "gpu": gpu,
        "tp": tp,
        "weight_precision": "bf16",
        "kv_precision": "bf16",
        **columns,
    }
    r = normalise({name: [value] for name, value in given.items()})
    assert r.valid[0], r.reason[0]
    return r


def layout(tp: float = 1.0, dp: float = 1.0, ep: float = 1.0) -> Layout:
    return Layout(tp=np.array([tp]), ep=np.array([ep]), dp=np.array([dp]), pp=np.ones(1))


def one(value: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([float(value)])


def per_token(r: Requests, at: float) -> float:
    return float((kv_bytes_stored(r, one(at + 1)) - kv_bytes_stored(r, one(at)))[0])


# --------------------------------------------------------------------------------------------------- KV


@pytest.mark.parametrize(
    ("model", "kv", "expected"),
    [
        ("qwen2.5-72b", "fp8", 80 * 2 * 8 * 128),  # 163,840: 2 KB in each of 80 layers
        ("qwen2.5-72b", "bf16", 80 * 2 * 8 * 128 * 2),
        ("llama-3.1-8b", "bf16", 32 * 2 * 8 * 128 * 2),  # 128 KiB
        ("llama-3.1-405b", "bf16", 126 * 2 * 8 * 128 * 2),
        ("deepseek-r1", "bf16", 61 * (512 + 64) * 2),  # MLA: the latent and the rotary part, once
        ("deepseek-v3.2", "bf16", 61 * (512 + 64 + 128) * 2),  # and the indexer's key
        ("gpt-oss-120b", "bf16", 18 * 2 * 8 * 64 * 2),  # past the window only the 18 full layers grow
        ("gemma-3-27b", "bf16", 10 * 2 * 16 * 128 * 2),  # 10 full layers of 62
        ("qwen3.5-397b-a17b", "bf16", 15 * 2 * 2 * 256 * 2),  # 15 full layers of 60
    ],
)
def test_kv_per_token_far_into_a_context(model: str, kv: str, expected: float) -> None:
    assert per_token(ask(model, kv_precision=kv), 20_000) == expected


def test_sliding_layers_keep_and_read_their_window_only() -> None:
    r = ask("gpt-oss-120b")
    expected = (18 * 1000 + 18 * 128) * 1024 * 2
    assert kv_bytes_stored(r, one(1000))[0] == expected
    assert kv_bytes_read(r, one(1000))[0] == expected
    assert per_token(r, 100) == 36 * 1024 * 2


def test_linear_layers_keep_a_state_whatever_the_context() -> None:
    r = ask("qwen3.5-397b-a17b")
    state = 45 * 1_085_440 * 4  # float32; read and written each step
    assert kv_bytes_stored(r, one(1000))[0] == 15 * 1000 * 1024 * 2 + state
    assert kv_bytes_read(r, one(1000))[0] == 15 * 1000 * 1024 * 2 + 2 * state


def test_sparse_attention_reads_the_chosen_keys_and_all_index_keys() -> None:
    r = ask("deepseek-v3.2")
    assert kv_bytes_read(r, one(50_000))[0] == 61 * (2048 * 576 + 50_000 * 128) * 2
    assert kv_bytes_read(r, one(1000))[0] == 61 * 1000 * 704 * 2


@pytest.mark.parametrize(("tp", "share"), [(1, 1.0), (4, 0.25), (8, 0.125), (16, 0.125), (64, 0.125)])
def test_kv_heads_are_copied_beyond_one_per_gpu(tp: int, share: float) -> None:
    assert kv_share(ask("qwen2.5-72b", tp=tp, num_gpus=64), layout(tp))[0] == share


@pytest.mark.parametrize(("tp", "dp", "share"), [(8, 1, 1.0), (8, 8, 1.0)])
def test_the_mla_latent_is_never_split(tp: int, dp: int, share: float) -> None:
    assert kv_share(ask("deepseek-r1", tp=tp), layout(tp, dp))[0] == share


# ---------------------------------------------------------------------------------------------- weights


def test_weights_in_bf16_are_two_bytes_per_parameter() -> None:
    r = ask("qwen2.5-72b")
    assert stored_weight_bytes(r, layout())[0] == pytest.approx(2 * 72.705e9, rel=1e-6)
    assert stored_weight_bytes(r, layout(8))[0] == pytest.approx(2 * 72.705e9 / 8, rel=1e-6)


def test_four_bit_weights_carry_scales_and_leave_the_embeddings_in_16_bits() -> None:
    r = ask("qwen2.5-72b", weight_precision="fp4")
    assert weight_bytes_each(r)[0] == 0.5 + 1 / 16
    expected = (72.705e9 - 2.491e9) * 0.5625 + 2.491e9 * 2
    assert stored_weight_bytes(r, layout())[0] == pytest.approx(expected, rel=1e-6)


def test_a_model_published_in_four_bits_is_never_stored_wider() -> None:
    assert weight_bytes_each(ask("gpt-oss-120b", gpu="h100", weight_precision="bf16"))[0] == 0.53125
    assert attention_bytes_each(ask("gpt-oss-120b", gpu="h100", weight_precision="bf16"))[0] == 2.0


def test_four_bit_expert_models_keep_attention_in_eight_bits() -> None:
    assert attention_bytes_each(ask("deepseek-r1", weight_precision="fp4"))[0] == 1.0
    assert attention_bytes_each(ask("qwen2.5-72b", weight_precision="fp4"))[0] == 0.5625


def test_a_step_reads_no_embedding_table() -> None:
    r = ask("qwen2.5-72b")
    head = 152_064 * 8192
    expected = 2 * (72.705e9 - 2.491e9 + head)
    assert step_weight_bytes(r, layout(), one(1))[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("experts", "chosen", "tokens", "touched"),
    [
        (256, 8, 1, 8.0),
        (256, 8, 2, 8 + 8 * (1 - 8 / 256)),
        (256, 8, 32, 163.3),
        (128, 4, 10_000, 128.0),
        (8, 2, 0, 0.0),
        (0, 0, 5, 0.0),
        (4, 4, 1, 4.0),
    ],
)
def test_distinct_experts(experts: float, chosen: float, tokens: float, touched: float) -> None:
    found = distinct_experts(one(experts), one(chosen), one(tokens))[0]
    assert found == pytest.approx(touched, abs=0.05)


def test_distinct_experts_agrees_with_drawing_them() -> None:
    rng = np.random.default_rng(0)
    drawn = [len({e for _ in range(20) for e in rng.choice(64, 6, replace=False)}) for _ in range(400)]
    assert distinct_experts(one(64), one(6), one(20))[0] == pytest.approx(np.mean(drawn), rel=0.01)


def test_one_token_of_an_expert_model_reads_its_active_parameters() -> None:
    r = ask("mixtral-8x7b")
    read = step_weight_bytes(r, layout(), one(1))[0]
    embedding_table = 32_000 * 4096
    assert read == pytest.approx(2 * (12.88e9 - embedding_table), rel=0.01)


# ------------------------------------------------------------------------------------------------ FLOPs


def test_a_dense_decode_step_takes_two_flop_per_parameter_and_token() -> None:
    r = ask("llama-3.1-8b")
    work = step_work(r, layout(), one(16), one(16), one(1000))
    assert work.linear_flops[0] == pytest.approx(16 * 2 * (8.03e9 - 128_256 * 4096), rel=1e-3)
    assert work.attention_flops[0] == 16 * 32 * 1000 * 32 * 4 * 128
    assert work.kv_bytes[0] == 16 * 1000 * 131_072


def test_tensor_parallelism_divides_the_work() -> None:
    r = ask("llama-3.1-8b", tp=4)
    whole = step_work(r, layout(1), one(16), one(16), one(1000))
    part = step_work(r, layout(4), one(16), one(16), one(1000))
    for name in ("weight_bytes", "kv_bytes", "linear_flops", "attention_flops"):
        assert getattr(part, name)[0] == pytest.approx(getattr(whole, name)[0] / 4, rel=1e-12)


def test_attention_data_parallelism_keeps_whole_attention_weights_and_its_own_sequences() -> None:
    r = ask("deepseek-r1", tp=8, dp=8)
    together = step_work(r, layout(8, 1), one(64), one(64), one(1000))
    apart = step_work(r, layout(8, 8), one(64), one(64), one(1000))
    assert apart.kv_bytes[0] == together.kv_bytes[0] / 8
    copied = 2 * 11.519812864e9 * 7 / 8
    assert apart.weight_bytes[0] - together.weight_bytes[0] == pytest.approx(
        copied * attention_bytes_each(r)[0] / 2, rel=1e-9
    )


def test_the_attention_group_that_holds_the_only_sequence_sets_the_pace() -> None:
    r = ask("deepseek-r1", tp=8, dp=8)
    single = step_work(r, layout(8, 8), one(1), one(1), one(1000))
    eight = step_work(r, layout(8, 8), one(8), one(8), one(1000))
    assert single.kv_bytes[0] == eight.kv_bytes[0]


def test_absorbed_mla_decoding_works_on_the_latent() -> None:
    work = step_work(ask("deepseek-r1"), layout(), one(1), one(1), one(1000))
    assert work.attention_flops[0] == 2 * 61 * 1000 * 128 * (2 * 512 + 64)


def test_draft_tokens_cost_flops_but_no_more_kv() -> None:
    r = ask("llama-3.1-8b")
    plain = step_work(r, layout(), one(8), one(8), one(1000))
    drafts = step_work(r, layout(), one(32), one(8), one(1000))
    assert drafts.kv_bytes[0] == plain.kv_bytes[0]
    assert drafts.linear_flops[0] == 4 * plain.linear_flops[0]
    assert drafts.attention_flops[0] == 4 * plain.attention_flops[0]


@pytest.mark.parametrize(
    ("tokens", "cached", "limit", "pairs"),
    [
        (1000, 0, 1e12, 500_000),  # t^2 / 2
        (1000, 1000, 1e12, 1_500_000),  # t (c + t / 2)
        (1000, 0, 200, 200 * 100 + 800 * 200),  # grows to the window, then stays
        (1000, 500, 200, 1000 * 200),
        (100, 0, 200, 5_000),
    ],
)
def test_causal_pairs(tokens: float, cached: float, limit: float, pairs: float) -> None:
    assert causal_pairs(one(tokens), one(cached), one(limit))[0] == pairs


def test_a_prefill_of_llama_8b() -> None:
    r = ask("llama-3.1-8b")
    work = prefill_work(r, layout(), one(1000), one(0), one(1))
    head = 128_256 * 4096
    assert work.linear_flops[0] == pytest.approx(2 * 1000 * (8.03e9 - 2 * head) + 2 * head, rel=1e-3)
    assert work.attention_flops[0] == 2 * 32 * 500_000 * 32 * 256
    assert work.weight_bytes[0] == step_weight_bytes(r, layout(), one(1000))[0]


def test_prompts_prefilled_together_share_the_reading_of_weights() -> None:
    r = ask("llama-3.1-8b")
    alone = prefill_work(r, layout(), one(1000), one(0), one(1))
    four = prefill_work(r, layout(), one(1000), one(0), one(4))
    assert four.weight_bytes[0] == alone.weight_bytes[0]
    assert four.linear_flops[0] == 4 * alone.linear_flops[0]
    assert four.attention_flops[0] == 4 * alone.attention_flops[0]


def test_layouts_of_the_two_pools() -> None:
    r = ask("deepseek-r1", num_gpus=24, disagg=1, prefill_gpus=8, decode_gpus=16, prefill_tp=8, decode_tp=16,
            decode_dp=16, prefill_dp=1)  # fmt: skip
    assert (prefill_layout(r).tp[0], prefill_layout(r).attention_tp[0]) == (8, 8)
    assert (decode_layout(r).tp[0], decode_layout(r).attention_tp[0]) == (16, 1)


@pytest.mark.parametrize(
    ("gpu", "precision", "peak"),
    [("h100", "fp4", "bf16"), ("h100", "fp8", "fp8"), ("a100", "fp8", "bf16"), ("b200", "fp4", "fp4")],
)
def test_the_peak_is_that_of_the_units_used(gpu: str, precision: str, peak: str) -> None:
    r = ask("qwen2.5-72b", gpu=gpu, weight_precision=precision)
    assert peak_flops(r, r.weight_precision)[0] == getattr(r.gpu, f"peak_{peak}")[0]
