"""How a replica is laid out over GPUs, and what each rule of thumb is worth in numbers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from roofcast.features.baseline import Estimate, floor
from roofcast.features.coefficients import Coefficients, rates_of
from roofcast.features.collectives import all_gather_s, all_reduce_s, all_to_all_s
from roofcast.features.memory import memory_fit
from roofcast.features.request import Requests, normalise
from roofcast.features.roofline import communication_s, system
from roofcast.features.work import decode_layout, kv_bytes_stored, kv_share

from . import questions
from .questions import one, with_values

FOUR_BIT = {"weight_precision": "fp4", "kv_precision": "fp8", "engine": "trtllm"}
LONG: dict[str, Any] = {"platform": "gb200-nvl72", "mode": "offline", "isl": 32_768, "osl": 1024, **FOUR_BIT}


def ask(model: str = "qwen2.5-72b", **columns: Any) -> Requests:
    return questions.ask(model=model, **columns)


def solve(model: str = "qwen2.5-72b", coefficients: Coefficients | None = None, **columns: Any) -> Estimate:
    return questions.solve(coefficients, model=model, **columns)


@pytest.fixture(scope="module")
def by_degree() -> dict[int, dict[str, float]]:
    """Long prompts on 1 to 64 GPUs of a rack: KV bytes per token, sequences and rates, each per GPU."""
    found = {}
    for tp in (1, 2, 4, 8, 16, 32, 64):
        r = ask(tp=tp, num_gpus=tp, **LONG)
        found[tp] = {
            "kv": float((kv_bytes_stored(r, one(1)) * kv_share(r, decode_layout(r)))[0]),
            "batch": float(memory_fit(r).max_batch[0]) / tp,
            "floor": float(floor(r).output_tok_s[0]) / tp,
            "rate": float(solve(tp=tp, num_gpus=tp, **LONG).output_tok_s[0]) / tp,
        }
    return found


def test_beyond_its_eight_kv_heads_qwen_72b_copies_them(by_degree: dict[int, dict[str, float]]) -> None:
    """80 layers x 2 x 128 B = 20,480 B per head and token: the least that a GPU can hold."""
    assert [x["kv"] for x in by_degree.values()] == [163_840, 81_920, 40_960, *[20_480] * 4]


def test_up_to_the_kv_heads_gpus_make_room_and_beyond_each_doubling_halves_what_one_does(
    by_degree: dict[int, dict[str, float]],
) -> None:
    """Weights are shared by more GPUs, the cache is split; beyond, TP = 16 holds the batch of 8 on twice."""
    batch = [x["batch"] for x in by_degree.values()]
    assert all(less < more for less, more in pairwise(batch[:4]))
    for tp in (16, 32):
        half, whole = by_degree[tp // 2], by_degree[tp]
        assert whole["batch"] == pytest.approx(half["batch"] / 2, rel=0.03)
        assert whole["floor"] < 0.6 * half["floor"]
        assert whole["rate"] < 0.6 * half["rate"]
    assert all(by_degree[8][name] > 0.7 * by_degree[4][name] for name in ("floor", "rate"))


def test_a_rack_takes_sixteen_gpus_as_one_domain_and_boxes_do_not() -> None:
    """16 x B200 in two boxes: each all-reduce passes a 50 GB/s card. In a rack it stays on NVLink."""
    question = {"tp": 16, "num_gpus": 16, "concurrency": 1, **FOUR_BIT}
    boxes, rack = solve(gpu="b200-sxm", **question), solve(platform="gb200-nvl72", **question)
    assert boxes.terms["communication"][0] > 2.5 * rack.terms["communication"][0]
    assert rack.tpot_s[0] < boxes.tpot_s[0]


def test_the_whole_rack_divides_no_common_count_of_heads() -> None:
    """72 divides neither 64 heads nor 128: a dense model is refused, experts spread their attention."""
    dense = normalise({"model": ["qwen2.5-72b"], "platform": ["gb200-nvl72"], "tp": [72]})
    assert [(n.code, n.value, n.limit) for n in dense.notes.of(0)] == [("heads", 72, 64)]
    experts = ask("deepseek-r1", platform="gb200-nvl72", tp=72, ep=72, concurrency=2048)
    assert experts.dp[0] == 72
    assert "attention-dp" in [n.code for n in experts.notes.of(0)]


def test_a_replica_over_two_boxes_of_four_pays_the_network() -> None:
    """The same eight GPUs: num_nodes = 2 limits the scale-up domain to four; a rack's trays share theirs."""
    question = {"tp": 8, "num_gpus": 8, "concurrency": 1, **FOUR_BIT}
    one_box, two = (
        solve(gpu="h100-sxm", num_nodes=n, **(question | {"weight_precision": "fp8"})) for n in (1, 2)
    )
    assert two.terms["communication"][0] > 3 * one_box.terms["communication"][0]
    trays = [solve(platform="gb200-nvl72", num_nodes=n, **question).tpot_s[0] for n in (1, 2)]
    assert trays[0] == trays[1]


def test_a_pipeline_idles_under_one_sequence_and_is_filled_by_as_many_as_its_stages() -> None:
    """A token passes four stages in turn, no sooner than on one GPU; four sequences keep all four busy."""
    deep = {"gpu": "b200-sxm", "tp": 1, "pp": 4, "num_gpus": 4, **FOUR_BIT}
    flat = solve(gpu="b200-sxm", tp=1, concurrency=1, **FOUR_BIT)
    lone = solve(concurrency=1, **deep)
    assert lone.tpot_s[0] == pytest.approx(flat.tpot_s[0], rel=0.02)
    assert lone.output_tok_s[0] == pytest.approx(flat.output_tok_s[0], rel=0.02)
    tpot = {n: floor(ask(concurrency=n, mode="static-batch", **deep)).tpot_s[0] for n in (1, 4, 8)}
    assert tpot[4] == pytest.approx(tpot[1], rel=1e-9)
    assert tpot[8] > tpot[4]


def collectives_s(tokens: float, **columns: Any) -> tuple[Any, float]:
    """Return the fabric of a DeepSeek-R1 deployment and its collectives' time per step [s]."""
    r = ask("deepseek-r1", weight_precision="fp8", **columns)
    s = system(r, rates_of(r, Coefficients()))
    return s.fabric, float(communication_s(s, s.decode, one(tokens))[0])


def test_experts_on_32_gpus_exchange_only_the_chosen_copies() -> None:
    """DeepSeek-R1, 8,192 tokens over 32 GPUs: 8 copies of 256 tokens x 14,336 B = 29 MB sent by each GPU.

    Gathering all tokens everywhere moves 117 MB: the all-to-all wins, there and back in 61 layers. Without
    spread attention a layer takes two all-reduces.
    """
    rack = {"platform": "gb200-nvl72", "tp": 32, "dp": 32, "num_gpus": 32}
    fabric, exchanged = collectives_s(8192, ep=32, **rack)
    _, gathered = collectives_s(8192, ep=1, **rack)
    sent, whole = 8 * 256 * 14_336.0, 8192 * 14_336.0
    assert exchanged == pytest.approx(61 * 2 * float(all_to_all_s(sent, 32, fabric)[0]), rel=1e-9)
    assert gathered == pytest.approx(61 * 2 * float(all_gather_s(whole, 32, fabric)[0]), rel=1e-9)
    assert gathered > 2 * exchanged
    fabric, reduced = collectives_s(64, gpu="h200-sxm", tp=8, ep=8)
    assert reduced == pytest.approx(61 * 2 * all_reduce_s(64 * 14_336.0, 8, fabric)[0], rel=1e-9)


@pytest.mark.parametrize(("ep", "factor"), [(8, 1.2), (1, 1.0)])
def test_the_fullest_gpu_sets_the_pace_of_spread_experts(ep: int, factor: float) -> None:
    """A fifth more work on the fullest GPU lengthens the reading of weights, where experts are spread."""
    columns = {"gpu": "h200-sxm", "tp": 8, "ep": ep, "weight_precision": "fp8", "concurrency": 64}
    even, uneven = (
        solve("deepseek-r1", with_values(expert_imbalance=x), **columns).terms["weights"] for x in (1.0, 1.2)
    )
    np.testing.assert_allclose(uneven, factor * even, rtol=1e-9)
