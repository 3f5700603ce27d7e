"""What is kept: requests in flight (Little's law), tokens, and a row's independence of its neighbours."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from roofcast.features.baseline import Estimate, baseline, floor
from roofcast.features.coefficients import Coefficients
from roofcast.features.frame import feature_matrix
from roofcast.features.request import normalise

from .conftest import ALL_MODES, Question, questions, table

TERMS = ("weights", "kv", "compute", "communication", "launch", "queue")
close = np.testing.assert_allclose


@given(rows=st.lists(questions(modes=ALL_MODES), min_size=1, max_size=8))
@settings(max_examples=60)
def test_littles_law_ties_throughput_to_time(coefficients: Coefficients, rows: list[Question]) -> None:
    """The mean time in the system: the last of those that start together takes longer."""
    r = table(rows)
    low, base = floor(r), baseline(r, coefficients)
    for e in (low, base):
        known = e.feasible
        close(e.output_tok_s[known], (e.request_s * r.osl)[known], rtol=1e-12)
        close(e.total_tok_s[known], (e.request_s * (r.isl + r.osl))[known], rtol=1e-12)
        steady = known & ~r.is_mode("static-batch", "offline")
        assert np.all((e.request_s * e.e2e_s <= e.concurrency * (1 + 1e-9))[steady])
        # The floor's prompts at a rate wait for nobody, even where it cannot compute them all.
        steady &= r.is_mode("closed-loop") | (e is base)
        close((e.request_s * e.e2e_s)[steady], e.concurrency[steady], rtol=1e-9)
        assert np.all((e.e2e_s <= e.cycle_s * (1 + 1e-9))[known & r.is_mode("static-batch")])
    known = base.feasible
    steady = known & base.stable & r.is_mode("open-loop")
    close(base.request_s[steady], r.request_rate[steady], rtol=1e-9)


@given(rows=st.lists(questions(modes=("closed-loop", "open-loop", "server")), min_size=1, max_size=8))
@settings(max_examples=60)
def test_times_are_the_sums_of_their_parts(coefficients: Coefficients, rows: list[Question]) -> None:
    r = table(rows)
    base = baseline(r, coefficients)
    low = floor(r)
    close(base.e2e_s, base.ttft_mean_s + (r.osl - 1.0) * base.tpot_s, rtol=1e-9)
    # The floor's first and later tokens are each the soonest possible: not all of them at once.
    known = low.feasible
    assert np.all((low.e2e_s >= (low.ttft_s + (r.osl - 1.0) * low.tpot_s) * (1 - 1e-9))[known])
    known = base.feasible & r.is_mode("closed-loop")
    for prefix, whole in (("", base.tpot_s), ("ttft_", base.ttft_s)):
        total = sum(base.terms[prefix + name] for name in TERMS)
        close(total[known], whole[known], rtol=1e-9)


@given(rows=st.lists(questions(modes=ALL_MODES), min_size=2, max_size=12))
@settings(max_examples=30)
def test_a_row_asked_alone_gets_the_same_answer(coefficients: Coefficients, rows: list[Question]) -> None:
    r = table(rows)
    base = baseline(r, coefficients)
    matrix, _ = feature_matrix(r, floor(r), base)
    for i in range(len(r)):
        one = r.take(np.array([i]))
        alone = baseline(one, coefficients)
        for f in fields(Estimate):
            if f.name != "terms":
                close(getattr(alone, f.name)[0], getattr(base, f.name)[i], rtol=1e-9)
        features = feature_matrix(one, floor(one), alone)[0]
        close(features[0], matrix[i], rtol=1e-9, atol=1e-9)


def test_no_request_is_no_answer(coefficients: Coefficients) -> None:
    r = normalise({"model": [], "gpu": []})
    e = baseline(r, coefficients)
    assert len(r) == len(e.ttft_s) == len(floor(r).ttft_s) == 0
    assert feature_matrix(r, floor(r), e)[0].shape[0] == 0
