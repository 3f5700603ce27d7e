"""What is kept: requests in flight (Little's law), tokens, and a row's independence of its neighbours."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from roofcast.features.baseline import Estimate, baseline, floor
from roofcast.features.coefficients import Coefficients
from roofcast.features.frame import feature_matrix
from roofcast.features.request import Requests, normalise

from .conftest import ALL_MODES, questions


def table(rows: list[dict[str, Any]]) -> Requests:
    """Return the valid requests of several questions, asked at once."""
    names = dict.fromkeys(name for row in rows for name in row)
    r = normalise({name: [row.get(name) for row in rows] for name in names})
    return r.take(r.valid)


@given(rows=st.lists(questions(modes=ALL_MODES), min_size=1, max_size=8))
@settings(max_examples=60)
def test_littles_law_ties_throughput_to_time_in_every_mode(
    coefficients: Coefficients, rows: list[dict[str, Any]]
) -> None:
    """The floor's prompts wait for nobody: where they would have to, it serves fewer than its times say."""
    r = table(rows)
    for e, exact in ((floor(r), False), (baseline(r, coefficients), True)):
        known = e.feasible
        in_flight, rate = e.concurrency[known], e.request_s[known]
        assert np.all(rate * e.e2e_s[known] <= in_flight * (1 + 1e-9))
        if exact:
            np.testing.assert_allclose(rate * e.e2e_s[known], in_flight, rtol=1e-9)
        np.testing.assert_allclose(e.output_tok_s[known], rate * r.osl[known], rtol=1e-12)
        np.testing.assert_allclose(e.total_tok_s[known], rate * (r.isl + r.osl)[known], rtol=1e-12)


@given(rows=st.lists(questions(modes=("closed-loop", "open-loop", "server")), min_size=1, max_size=8))
@settings(max_examples=40)
def test_the_end_is_the_first_token_and_the_rest(
    coefficients: Coefficients, rows: list[dict[str, Any]]
) -> None:
    r = table(rows)
    for e in (floor(r), baseline(r, coefficients)):
        np.testing.assert_allclose(e.e2e_s, e.ttft_s + (r.osl - 1.0) * e.tpot_s, rtol=1e-9)


@given(rows=st.lists(questions(modes=("open-loop",)), min_size=1, max_size=8))
@settings(max_examples=40)
def test_no_rate_above_the_asked_one_is_served(
    coefficients: Coefficients, rows: list[dict[str, Any]]
) -> None:
    r = table(rows)
    e = baseline(r, coefficients)
    steady = e.feasible & e.stable
    np.testing.assert_allclose(e.request_s[steady], r.request_rate[steady], rtol=1e-9)


@given(rows=st.lists(questions(modes=ALL_MODES), min_size=2, max_size=12))
@settings(max_examples=30)
def test_a_row_asked_alone_gets_the_same_answer(
    coefficients: Coefficients, rows: list[dict[str, Any]]
) -> None:
    r = table(rows)
    low, base = floor(r), baseline(r, coefficients)
    matrix, _ = feature_matrix(r, low, base)
    for i in range(len(r)):
        one = r.take(np.array([i]))
        alone = baseline(one, coefficients)
        for f in fields(Estimate):
            if f.name != "terms":
                np.testing.assert_allclose(getattr(alone, f.name)[0], getattr(base, f.name)[i], rtol=1e-9)
        features = feature_matrix(one, floor(one), alone)[0]
        np.testing.assert_allclose(features[0], matrix[i], rtol=1e-9, atol=1e-9)


@given(rows=st.lists(questions(), min_size=1, max_size=8))
@settings(max_examples=40)
def test_the_terms_of_a_token_add_up(coefficients: Coefficients, rows: list[dict[str, Any]]) -> None:
    r = table(rows)
    e = baseline(r, coefficients)
    known = e.feasible
    names = ("weights", "kv", "compute", "communication", "launch", "queue")
    np.testing.assert_allclose(sum(e.terms[n] for n in names)[known], e.tpot_s[known], rtol=1e-9)
    first = sum(e.terms[f"ttft_{n}"] for n in names)[known]
    np.testing.assert_allclose(first, e.ttft_s[known], rtol=1e-9)


def test_no_request_is_no_answer(coefficients: Coefficients) -> None:
    r = normalise({"model": [], "gpu": []})
    e = baseline(r, coefficients)
    assert len(r) == len(e.ttft_s) == len(floor(r).ttft_s) == 0
    assert feature_matrix(r, floor(r), e)[0].shape[0] == 0
