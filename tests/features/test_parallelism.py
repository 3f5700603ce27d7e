"""How a replica is laid out over GPUs, and what each rule of thumb is worth in numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from roofcast.features.baseline import Estimate, baseline, floor
from roofcast.features.coefficients import Coefficients, rates_of
from roofcast.features.collectives import all_gather_s, all_reduce_s, all_to_all_s
from roofcast.features.memory import memory_fit
from roofcast.features.request import Requests, normalise
from roofcast.features.roofline import communication_s, fabric_of, system
from roofcast.features.work import decode_layout, kv_bytes_stored, kv_share

FOUR_BIT = {"weight_precision": "fp4", "kv_precision": "fp8", "engine": "trtllm"}
LONG: dict[str, Any] = {"platform": "gb200-nvl72", "mode": "offline", "isl": 32_768, "osl": 1024, **FOUR_BIT}


def ask(model: str = "qwen2.5-72b", **columns: Any) -> Requests:
    return normalise({name: [value] for name, value in ({"model": model} | columns).items()})


def solve(model: str = "qwen2.5-72b", **columns: Any) -> Estimate:
    r = ask(model, **columns)
    assert r.valid[0], r.reason[0]
    return baseline(r, Coefficients())


def kv_bytes_per_gpu(tp: int) -> float:
    r = ask(tp=tp, num_gpus=tp, **LONG)
    return float((kv_bytes_stored(r, np.ones(1)) * kv_share(r, decode_layout(r)))[0])


def rate_per_gpu(tp: int, bound: bool) -> float:
    r = ask(tp=tp, num_gpus=tp, **LONG)
    estimate = floor(r) if bound else baseline(r, Coefficients())
    return float(estimate.output_tok_s[0]) / tp


# ------------------------------------------------------------------------------------- tensor parallelism


@pytest.mark.parametrize(
    ("tp", "each"), [(1, 163_840), (2, 81_920), (4, 40_960), (8, 20_480), (16, 20_480), (64, 20_480)]
)
def test_beyond_its_eight_kv_heads_qwen_72b_copies_them(tp: int, each: float) -> None:
    """80 layers x 2 x 128 B = 20,480 B per head and token: the least that a GPU can hold."""
    assert kv_bytes_per_gpu(tp) == each


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_up_to_the_kv_heads_every_gpu_makes_room_for_more_sequences(tp: int) -> None:
    """Weights are shared by more GPUs, the cache is split: room per GPU grows."""
    half, whole = (memory_fit(ask(tp=t, num_gpus=t, **LONG)).max_batch[0] / t for t in (tp // 2, tp))
    assert whole > half


def test_each_doubling_beyond_the_kv_heads_halves_the_batch_and_the_throughput_of_a_gpu() -> None:
    """TP = 16 and 32 hold the batch of TP = 8 (a little more: fewer weights each) on twice and four times."""
    batch = {tp: memory_fit(ask(tp=tp, num_gpus=tp, **LONG)).max_batch[0] / tp for tp in (8, 16, 32)}
    for bound in (False, True):
        rate = {tp: rate_per_gpu(tp, bound) for tp in (4, 8, 16, 32)}
        assert rate[16] < 0.6 * rate[8]
        assert rate[32] < 0.6 * rate[16]
        assert rate[8] > 0.7 * rate[4]
    assert batch[16] == pytest.approx(batch[8] / 2, rel=0.03)
    assert batch[32] == pytest.approx(batch[16] / 2, rel=0.03)


def test_a_rack_takes_sixteen_gpus_as_one_domain_and_boxes_do_not() -> None:
    """16 x B200 in two boxes: each all-reduce passes a 50 GB/s card. In a rack it stays on NVLink."""
    question = {"tp": 16, "num_gpus": 16, "concurrency": 1, **FOUR_BIT}
    boxes, rack = solve(gpu="b200-sxm", **question), solve(platform="gb200-nvl72", **question)
    assert boxes.terms["communication"][0] > 2.5 * rack.terms["communication"][0]
    assert rack.tpot_s[0] < boxes.tpot_s[0]


def test_the_whole_rack_divides_no_common_count_of_heads() -> None:
    """72 divides neither 64 heads nor 128: a dense model is refused, experts spread their attention."""
    dense = ask(platform="gb200-nvl72", tp=72)
    assert not dense.valid[0]
    assert "tp = 72 does not divide the 64 attention heads" in dense.reason[0]
    experts = ask("deepseek-r1", platform="gb200-nvl72", tp=72, ep=72, concurrency=2048)
    assert experts.valid[0]
    assert experts.dp[0] == 72
    assert "attention data parallelism assumed" in experts.reason[0]


def test_a_replica_over_two_boxes_of_four_pays_the_network() -> None:
    """The same eight GPUs: num_nodes = 2 limits the scale-up domain to four; a rack's trays share theirs."""
    question = {"tp": 8, "num_gpus": 8, "concurrency": 1, **FOUR_BIT}
    one, two = (
        solve(gpu="h100-sxm", num_nodes=n, **(question | {"weight_precision": "fp8"})) for n in (1, 2)
    )
    assert two.terms["communication"][0] > 3 * one.terms["communication"][0]
    trays = [solve(platform="gb200-nvl72", num_nodes=n, **question).tpot_s[0] for n in (1, 2)]
    assert trays[0] == trays[1]


# ----------------------------------------------------------------------------------- pipeline parallelism


def test_a_lone_sequence_leaves_all_stages_but_one_idle() -> None:
    """A token passes four stages in turn: no sooner than on one GPU, so three GPUs of four wait."""
    one = solve(gpu="b200-sxm", tp=1, concurrency=1, **FOUR_BIT)
    four = solve(gpu="b200-sxm", tp=1, pp=4, num_gpus=4, concurrency=1, **FOUR_BIT)
    assert four.tpot_s[0] == pytest.approx(one.tpot_s[0], rel=0.02)
    assert four.output_tok_s[0] == pytest.approx(one.output_tok_s[0], rel=0.02)


def test_as_many_sequences_as_stages_fill_the_bubbles() -> None:
    """Four sequences, one in each stage: a token in the same time, four times the throughput."""
    low = {
        n: floor(ask(gpu="b200-sxm", tp=1, pp=4, num_gpus=4, concurrency=n, mode="static-batch", **FOUR_BIT))
        for n in (1, 4, 8)
    }
    assert low[4].tpot_s[0] == pytest.approx(low[1].tpot_s[0], rel=1e-9)
    assert low[8].tpot_s[0] > low[4].tpot_s[0]
    rate = {n: n / float(e.tpot_s[0]) for n, e in low.items()}
    assert rate[4] == pytest.approx(4 * rate[1], rel=1e-9)


# ------------------------------------------------------------------------------------- expert parallelism


def spread(ep: int, gpus: int, tokens: float, model: str = "deepseek-r1") -> tuple[Requests, float]:
    """Return a deployment with attention spread over all GPUs, and its collectives' time per step [s]."""
    r = ask(model, platform="gb200-nvl72", tp=gpus, dp=gpus, ep=ep, num_gpus=gpus, weight_precision="fp8")
    assert r.valid[0], r.reason[0]
    s = system(r, rates_of(r, Coefficients()))
    return r, float(communication_s(s, s.decode, tokens * np.ones(1))[0])


def test_experts_on_32_gpus_exchange_only_the_chosen_copies() -> None:
    """DeepSeek-R1, 8,192 tokens over 32 GPUs: 8 copies of 256 tokens x 14,336 B = 29 MB sent by each GPU.

    Gathering all tokens everywhere moves 117 MB: the all-to-all wins, there and back in 61 layers.
    """
    r, time = spread(32, 32, 8192)
    fabric = fabric_of(r, rates_of(r, Coefficients()))
    sent, whole = 8 * 256 * 14_336.0, 8192 * 14_336.0
    assert time == pytest.approx(61 * 2 * float(all_to_all_s(sent, 32, fabric)[0]), rel=1e-9)
    assert spread(1, 32, 8192)[1] == pytest.approx(
        61 * 2 * float(all_gather_s(whole, 32, fabric)[0]), rel=1e-9
    )
    assert spread(1, 32, 8192)[1] > 2 * time


def test_without_spread_attention_a_layer_takes_two_all_reduces() -> None:
    r = ask("deepseek-r1", gpu="h200-sxm", tp=8, ep=8, weight_precision="fp8")
    s = system(r, rates_of(r, Coefficients()))
    time = communication_s(s, s.decode, 64 * np.ones(1))
    assert time[0] == pytest.approx(61 * 2 * all_reduce_s(64 * 14_336.0, 8, s.fabric)[0], rel=1e-9)


def test_the_fullest_gpu_sets_the_pace_of_spread_experts() -> None:
    """A fifth more work on the fullest GPU lengthens the reading of weights, where experts are spread."""
    entries = dict(Coefficients().entries)
    entries["expert_imbalance"] = replace(entries["expert_imbalance"], value=1.2)
    uneven = Coefficients(entries=entries)
    entries = entries | {"expert_imbalance": replace(entries["expert_imbalance"], value=1.0)}
    even = Coefficients(entries=entries)
    for ep, factor in ((8, 1.2), (1, 1.0)):
        r = ask("deepseek-r1", gpu="h200-sxm", tp=8, ep=ep, weight_precision="fp8", concurrency=64)
        ratio = baseline(r, uneven).terms["weights"] / baseline(r, even).terms["weights"]
        assert ratio[0] == pytest.approx(factor, rel=1e-9)
