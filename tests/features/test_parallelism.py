"""How a replica is laid out over GPUs, and what each rule of thumb is worth in numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from roofcast.features.baseline import baseline, floor
from roofcast.features.coefficients import Coefficients, rates_of
from roofcast.features.collectives import all_gather_s, all_reduce_s, all_to_all_s
from roofcast.features.memory import memory_fit
from roofcast.features.roofline import communication_s, system

from . import questions
from .questions import one, with_values

FOUR_BIT = {"model": "qwen2.5-72b", "weight_precision": "fp4", "kv_precision": "fp8", "engine": "trtllm"}
ask, solve = partial(questions.ask, **FOUR_BIT), partial(questions.solve, **FOUR_BIT)


def test_gpus_gain_room_up_to_the_kv_heads_and_beyond_them_each_doubling_halves_one() -> None:
    """Long prompts on 1 to 32 GPUs of a rack: beyond the 8 KV heads 16 GPUs hold the batch of 8."""
    batch, low, base = {}, {}, {}
    for tp in (1, 2, 4, 8, 16, 32):
        r = ask(tp=tp, num_gpus=tp, platform="gb200-nvl72", mode="offline", isl=32_768, osl=1024)
        batch[tp] = memory_fit(r).max_batch[0] / tp
        low[tp], base[tp] = (e.output_tok_s[0] / tp for e in (floor(r), baseline(r, Coefficients())))
    assert batch[1] < batch[2] < batch[4] < batch[8]
    for tp in (16, 32):
        assert batch[tp] == pytest.approx(batch[tp // 2] / 2, rel=0.03)
    for rate in (low, base):
        assert rate[16] < 0.6 * rate[8]
        assert rate[32] < 0.6 * rate[16]
        assert rate[8] > 0.7 * rate[4]


def test_boxes_of_one_chip_talk_over_the_network_that_they_have() -> None:
    """Two DGX Sparks by a cable of 200 Gb/s, asked for by chip or by box; their memory is the hosts' too."""
    two = {"num_gpus": 2, "tp": 2, "concurrency": 4}
    chips, boxes = ask(gpu="gb10", **two), ask(platform="dgx-spark", **two)
    for r in (chips, boxes):
        assert (r.domain[0], r.nic_bandwidth[0], r.host_bandwidth[0]) == (1, 25e9, 0)
    times = [baseline(r, Coefficients()).tpot_s[0] for r in (chips, boxes)]
    assert times[0] == times[1]


def test_what_crosses_boxes_pays_the_network_and_a_racks_trays_share_one_domain() -> None:
    """16 x B200 in two boxes: each all-reduce passes a 50 GB/s card; 8 x H100 on two nodes are twice four."""
    boxes, rack = (solve(tp=16, num_gpus=16, concurrency=1, **on)
                   for on in ({"gpu": "b200-sxm"}, {"platform": "gb200-nvl72"}))  # fmt: skip
    assert boxes.terms["communication"][0] > 2.5 * rack.terms["communication"][0]
    assert rack.tpot_s[0] < boxes.tpot_s[0]
    eight = partial(solve, tp=8, num_gpus=8, concurrency=1)
    lone, two = (eight(gpu="h100-sxm", weight_precision="fp8", num_nodes=n) for n in (1, 2))
    assert two.terms["communication"][0] > 3 * lone.terms["communication"][0]
    trays = [eight(platform="gb200-nvl72", num_nodes=n).tpot_s[0] for n in (1, 2)]
    assert trays[0] == trays[1]


def test_the_whole_rack_divides_no_common_count_of_heads() -> None:
    """72 divides neither 64 heads nor 128: a dense model is refused, experts spread their attention."""
    dense = questions.asked(model="qwen2.5-72b", platform="gb200-nvl72", tp=72)
    assert [(n.code, n.value, n.limit) for n in dense.notes.of(0)] == [("heads", 72, 64)]
    experts = questions.ask(model="deepseek-r1", platform="gb200-nvl72", tp=72, ep=72, concurrency=2048)
    assert experts.dp[0] == 72
    assert "attention-dp" in [n.code for n in experts.notes.of(0)]


def test_a_pipeline_idles_under_one_sequence_and_is_filled_by_as_many_as_its_stages() -> None:
    """A token passes four stages in turn, no sooner than on one GPU; four sequences keep all four busy."""
    deep = {"gpu": "b200-sxm", "tp": 1, "pp": 4, "num_gpus": 4}
    flat, lone = solve(gpu="b200-sxm", tp=1, concurrency=1), solve(concurrency=1, **deep)
    assert lone.tpot_s[0] == pytest.approx(flat.tpot_s[0], rel=0.02)
    assert lone.output_tok_s[0] == pytest.approx(flat.output_tok_s[0], rel=0.02)
    tpot = {n: floor(ask(concurrency=n, mode="static-batch", **deep)).tpot_s[0] for n in (1, 4, 8)}
    assert tpot[8] > tpot[4] == pytest.approx(tpot[1], rel=1e-9)


def collectives_s(tokens: float, **columns: Any) -> tuple[Any, float]:
    """Return the fabric of a DeepSeek-R1 deployment and its collectives' time per step [s]."""
    r = questions.ask(model="deepseek-r1", weight_precision="fp8", **columns)
    s = system(r, rates_of(r, Coefficients()))
    return s.fabric, float(communication_s(s, s.decode, one(tokens))[0])


def test_experts_on_32_gpus_exchange_only_the_chosen_copies() -> None:
    """DeepSeek-R1, 8,192 tokens over 32 GPUs: 8 copies of 256 tokens x 14,336 B = 29 MB sent by each GPU.

    Gathering all tokens everywhere moves 117 MB: the all-to-all wins, there and back in 61 layers. Without
    spread attention a layer takes two all-reduces.
    """
    rack = {"platform": "gb200-nvl72", "tp": 32, "dp": 32, "num_gpus": 32}
    (fabric, exchanged), (_, gathered) = (collectives_s(8192, ep=ep, **rack) for ep in (32, 1))
    sent, whole = 8 * 256 * 14_336.0, 8192 * 14_336.0
    assert exchanged == pytest.approx(61 * 2 * float(all_to_all_s(sent, 32, fabric)[0]), rel=1e-9)
    assert gathered == pytest.approx(61 * 2 * float(all_gather_s(whole, 32, fabric)[0]), rel=1e-9)
    assert gathered > 2 * exchanged
    fabric, reduced = collectives_s(64, gpu="h200-sxm", tp=8, ep=8)
    assert reduced == pytest.approx(61 * 2 * all_reduce_s(64 * 14_336.0, 8, fabric)[0], rel=1e-9)


@pytest.mark.parametrize(("ep", "factor"), [(8, 1.2), (1, 1.0)])
def test_the_fullest_gpu_sets_the_pace_of_spread_experts(ep: int, factor: float) -> None:
    """A fifth more work on the fullest GPU lengthens the reading of weights, where experts are spread."""
    given = {"model": "deepseek-r1", "gpu": "h200-sxm", "tp": 8, "ep": ep, "concurrency": 64}
    even, uneven = (
        questions.solve(with_values({"expert_imbalance": x}), weight_precision="fp8", **given).terms[
            "weights"
        ][0]
        for x in (1.0, 1.2)
    )
    assert uneven == pytest.approx(factor * even, rel=1e-9)
