"""More hardware never slows, more load never gains back latency: laws of the physics, on random requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofcast.features.baseline import baseline, floor
from roofcast.features.coefficients import Coefficients
from roofcast.features.facts import Facts, FloatArray
from roofcast.features.memory import memory_fit
from roofcast.features.request import Requests

from .conftest import ALL_MODES, Question, questions, table


def ask(question: Question, **changes: list[Any]) -> Requests:
    """Return the requests of one question, once per value of the changed column."""
    changed = [{name: value} for name, values in changes.items() for value in values]
    return table([question | change for change in changed or [{}]])


def larger(facts: Facts, names: tuple[str, ...], factor: float) -> Facts:
    """Return the same facts, those named `factor` times as large."""
    return replace(facts, columns={n: c * factor if n in names else c for n, c in facts.columns.items()})


def no_slower(quick: FloatArray, slow: FloatArray) -> bool:
    return bool(np.all((quick <= slow * (1 + 1e-9)) | np.isnan(slow)))


def rising(values: FloatArray, slack: float = 1e-9) -> bool:
    known = values[np.isfinite(values)]
    return bool(np.all(np.diff(known) >= -slack * np.abs(known[:-1])))


@pytest.mark.parametrize("names", [
    ("bandwidth",), ("link_bandwidth", "pcie_bandwidth"),
    tuple(f"peak_{p}" for p in ("bf16", "fp8", "fp4", "int8", "int4", "fp32")),
], ids=["memory", "links", "compute"])  # fmt: skip
@given(question=questions(), factor=st.floats(1.0, 4.0))
@settings(max_examples=50)
def test_more_hardware_is_never_slower(
    names: tuple[str, ...], coefficients: Coefficients, question: Question, factor: float
) -> None:
    r = ask(question)
    quick = replace(r, gpu=larger(r.gpu, names, factor))
    before, after = baseline(r, coefficients), baseline(quick, coefficients)
    # In a closed loop time moves between the wait for the first token and the stops of later ones: the whole
    # counts, and the token of who is alone.
    alone = r.is_mode("static-batch") | (r.concurrency == 1)
    assert no_slower(after.tpot_s[alone], before.tpot_s[alone])
    # Within a hundredth: a closed loop that decodes faster queues longer, by at most what it gained.
    assert no_slower(after.e2e_s, before.e2e_s * 1.01)
    low, lower = floor(r), floor(quick)
    for name in ("tpot_s", "ttft_s", "e2e_s"):
        assert no_slower(getattr(lower, name), getattr(low, name))


@given(question=questions(modes=ALL_MODES))
@settings(max_examples=150)
def test_the_baseline_never_beats_the_floor(coefficients: Coefficients, question: Question) -> None:
    r = ask(question)
    low, base = floor(r), baseline(r, coefficients)
    assert no_slower(low.tpot_s, base.tpot_s)
    assert no_slower(low.ttft_s, base.ttft_s)


@given(question=questions())
@settings(max_examples=50)
def test_throughput_never_falls_with_concurrency(coefficients: Coefficients, question: Question) -> None:
    """Up to the memory limit; of the baseline within 2 %: its queue is an approximation."""
    r = ask(question, concurrency=[2.0**k for k in range(11)])
    fits = r.concurrency <= memory_fit(r).max_batch * r.replicas
    r = r.take(fits & (r.concurrency >= r.replicas * r.dp))
    base = baseline(r, coefficients)
    assert rising(floor(r).output_tok_s)
    if len(r) and np.isfinite(base.tpot_s[0]):
        assert rising(base.output_tok_s, slack=0.02)


@given(question=questions(modes=("closed-loop", "static-batch")))
@settings(max_examples=50)
def test_longer_prompts_never_start_sooner(coefficients: Coefficients, question: Question) -> None:
    """Of the baseline within 15 %: a prompt shorter than the weights' reading time costs no more when longer,
    while the longer context slows decoding, so that slots free up further apart and fewer prompts collide.
    """
    r = ask(question, isl=[1.0 + 2.0**k for k in range(15)])
    r = r.take(r.concurrency <= memory_fit(r).max_batch * r.replicas)
    assert rising(baseline(r, coefficients).ttft_s, slack=0.15)
    assert rising(floor(r).ttft_s)


@given(question=questions())
@settings(max_examples=50)
def test_more_kv_per_token_never_raises_the_largest_batch(question: Question) -> None:
    r = ask(question)
    wider = replace(r, model=larger(r.model, ("kv_values",), 1.5))
    assert np.all(memory_fit(wider).max_batch <= memory_fit(r).max_batch)
    eight, sixteen = ask({**question, "kv_precision": "fp8"}), ask({**question, "kv_precision": "bf16"})
    assert np.all(memory_fit(sixteen).max_batch <= memory_fit(eight).max_batch)
