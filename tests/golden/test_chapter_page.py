"""Where the chapter behind this project agrees with the numbers, and where no machine reaches its figures."""

from __future__ import annotations

import pytest

from .chapter_page import WORKLOADS, recommended

# Those of the chapter's answers that come out of the numbers.
AGREED = tuple(WORKLOADS)[:3]


@pytest.mark.parametrize("workload", AGREED)
def test_the_chapters_answer_comes_out_of_the_numbers(workload: str) -> None:
    assert recommended(workload).ranked[0].platform == WORKLOADS[workload][0]


def test_cold_kv_lies_in_grace_where_the_chapter_puts_it() -> None:
    best = recommended("Qwen2.5-72B, many users at 128k").ranked[0]
    assert (best.tier["kv_hot_tokens"], best.boxes) == (16384, 1)


def test_very_many_long_contexts_take_several_racks() -> None:
    """Beside rows of boxes, which cost about the same."""
    (nvl72,) = (d for d in recommended("very many long contexts").ranked if d.platform == "gb200-nvl72")
    assert nvl72.boxes > 1
    assert nvl72.cost_ratio < 1.5


def test_one_b200_has_the_best_price_per_token_where_it_suffices() -> None:
    ranked = recommended(AGREED[0]).ranked
    assert min(ranked, key=lambda d: d.cost.usd_per_tok_s).platform == "b200"
    assert min(ranked, key=lambda d: d.cost.usd_per_m_output).platform == "b200"
