"""Coefficients travel unchanged; infeasible and bad rows answer NaN with the numbers; the floor is ideal."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from roofcast.features.baseline import Estimate, baseline, floor
from roofcast.features.coefficients import ENGINE_KINDS, Coefficients, default_coefficients, rates_of
from roofcast.features.facts import ARCHITECTURES
from roofcast.features.request import Requests, normalise


def ask(**columns: Any) -> Requests:
    given = {"model": "qwen2.5-72b", "gpu": "h100-sxm", "tp": 8, "weight_precision": "bf16", "isl": 1000,
             "osl": 200, "concurrency": 8}  # fmt: skip
    return normalise({name: [value] for name, value in (given | columns).items()})


def moved(r: Requests, name: str, factor: float) -> tuple[Estimate, Estimate]:
    """Return the baseline before and after one coefficient is multiplied."""
    entries = default_coefficients()
    changed = {**entries, name: replace(entries[name], value=entries[name].value * factor)}
    return baseline(r, Coefficients()), baseline(r, Coefficients(entries=changed))


def test_coefficients_survive_json() -> None:
    there = Coefficients()
    back = Coefficients.from_dict(json.loads(json.dumps(there.to_dict())))
    assert {n: replace(c, standard_error=0.0) for n, c in back.entries.items()} == {
        n: replace(c, standard_error=0.0) for n, c in there.entries.items()
    }


def test_every_prior_lies_within_its_bounds_and_has_a_unit() -> None:
    for name, c in default_coefficients().items():
        assert c.low <= c.prior <= c.high, name
        assert c.value == c.prior
        assert c.unit


def test_each_architecture_and_engine_has_its_own_coefficients() -> None:
    names = set(default_coefficients())
    assert {f"weight_bandwidth.{a}" for a in ARCHITECTURES} <= names
    assert {f"step_us.{e}" for e in ENGINE_KINDS} <= names


@pytest.mark.parametrize(
    ("gpu", "precision", "share"),
    [
        ("h100", "bf16", "compute_bf16.hopper"),
        ("h100", "fp8", "compute_fp8.hopper"),
        ("h100", "fp4", "compute_bf16.hopper"),
        ("h100", "int4", "compute_bf16.hopper"),
        ("a100", "fp8", "compute_bf16.ampere"),
        ("b200", "fp4", "compute_fp4.blackwell"),
        ("b300-sxm", "fp4", "compute_fp4.blackwell"),
        ("l40s", "fp8", "compute_fp8.ampere"),
        ("mi355x", "fp4", "compute_fp4.cdna4"),
        ("v100", "bf16", "compute_bf16.other"),
    ],
)
def test_the_compute_share_is_that_of_the_units_used(gpu: str, precision: str, share: str) -> None:
    entries = default_coefficients()
    marked = Coefficients(entries={**entries, share: replace(entries[share], value=0.123)})
    assert rates_of(ask(gpu=gpu, weight_precision=precision), marked).compute[0] == 0.123


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("weight_bandwidth.hopper", "tpot_s"),
        ("kv_bandwidth.hopper", "tpot_s"),
        ("compute_bf16.hopper", "ttft_s"),
        ("attention_compute.hopper", "ttft_s"),
        ("collective_bandwidth", "ttft_s"),
    ],
)
def test_a_larger_share_of_a_peak_is_faster(name: str, answer: str) -> None:
    before, after = moved(ask(), name, 1.2)
    assert getattr(after, answer)[0] < getattr(before, answer)[0]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("layer_us.hopper", "tpot_s"),
        ("layer_factor.vllm", "tpot_s"),
        ("step_us.vllm", "tpot_s"),
        ("sequence_us.vllm", "tpot_s"),
        ("stall.vllm", "tpot_s"),
        ("collective_latency", "tpot_s"),
        ("first_token_ms.vllm", "ttft_s"),
        ("first_token_per_ktok_ms.vllm", "ttft_s"),
        ("queue.vllm", "ttft_s"),
        ("wait_steps.vllm", "ttft_s"),
    ],
)
def test_a_larger_overhead_is_slower(name: str, answer: str) -> None:
    before, after = moved(ask(), name, 1.2)
    assert getattr(after, answer)[0] > getattr(before, answer)[0]


def test_another_architectures_coefficient_changes_nothing() -> None:
    before, after = moved(ask(), "weight_bandwidth.cdna3", 0.5)
    assert after.tpot_s[0] == before.tpot_s[0]


def test_what_does_not_fit_is_nan_with_the_bytes() -> None:
    e = baseline(ask(tp=1), Coefficients())
    assert not e.feasible[0]
    assert np.isnan([e.ttft_s[0], e.tpot_s[0], e.e2e_s[0], e.output_tok_s[0], e.total_tok_s[0]]).all()
    assert e.bytes_needed[0] > 145e9 > e.bytes_available[0] > 70e9
    assert np.isnan(floor(ask(tp=1)).tpot_s[0])


def test_a_bad_row_is_nan_and_its_neighbour_is_not() -> None:
    r = normalise({"model": ["nope", "qwen2.5-72b"], "gpu": ["h100-sxm"] * 2, "tp": [8, 8], "osl": [1, 1]})
    e = baseline(r, Coefficients())
    assert e.feasible.tolist() == [False, True]
    assert np.isnan(e.ttft_s[0])
    assert e.ttft_s[1] > 0


def test_the_floor_has_no_overhead_and_no_queue() -> None:
    e = floor(ask(concurrency=64))
    for name in ("launch", "queue", "ttft_launch", "ttft_queue"):
        assert e.terms[name][0] == pytest.approx(0.0, abs=1e-12)


def test_the_floor_knows_no_fabric_but_the_datasheets() -> None:
    """An L40S box with a poor PCIe tree may be slow; what its links allow is not."""
    low = floor(ask(gpu="l40s", weight_precision="fp8", concurrency=256))
    message = 256 * 8192 * 2
    assert low.terms["communication"][0] == pytest.approx(80 * 2 * message / 32e9, rel=1e-9)


def test_one_output_token_has_a_first_and_no_other() -> None:
    e = baseline(ask(osl=1), Coefficients())
    assert e.e2e_s[0] == pytest.approx(e.ttft_s[0], rel=1e-12)
