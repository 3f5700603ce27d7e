"""What a recommendation promises: the cheapest that holds, why not the others, the nearest if none does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import UnknownName
from roofcast.predictor import Predictor
from roofcast.predictor.advisor import Advisor, Deployment, Recommendation, Workload

CHAT: dict[str, Any] = {"model": "qwen2.5-72b", "users": 40, "isl": 2048, "osl": 512, "tpot_ms": 40}
LADDER = ("b200", "hgx-b200", "gb200-superchip", "gb200-nvl72")
Best = Callable[..., Deployment]


@pytest.fixture(scope="module")
def advisor(predictor: Predictor) -> Advisor:
    return Advisor(predictor)


@pytest.fixture(scope="module")
def chat(advisor: Advisor) -> Recommendation:
    return advisor.recommend(Workload(**CHAT))


@pytest.fixture
def best(advisor: Advisor) -> Best:
    """Return the deployment recommended for a workload."""
    return lambda confidence=0.5, **workload: advisor.recommend(Workload(**workload), confidence).ranked[0]


def test_the_best_is_the_one_of_least_expected_cost(chat: Recommendation) -> None:
    cost = [d.cost.usd_per_hour / d.probability for d in chat.ranked]
    assert cost[0] <= 1.05 * min(cost)
    assert cost[1:] == sorted(cost[1:])


@pytest.mark.parametrize("confidence", [0.5, 0.8])
def test_what_is_ranked_holds_with_the_probability_asked_for(confidence: float, advisor: Advisor) -> None:
    ranked = advisor.recommend(Workload(**CHAT), confidence).ranked
    assert min(d.probability for d in ranked) >= confidence


def test_the_predictor_says_the_same_of_it(chat: Recommendation, predictor: Predictor) -> None:
    best = chat.ranked[0]
    names = ("platform", "tp", "pp", "weight_precision", "kv_precision", "engine")
    asked = {"model": "qwen2.5-72b", "num_gpus": best.gpus, "isl": 2048, "osl": 512, "concurrency": 40}
    alone = predictor.predict(**asked, **{name: getattr(best, name) for name in names})
    assert best.output_tok_s[""] == pytest.approx(alone.output_tok_s)
    assert best.tpot_ms[""] >= alone.tpot_ms


def test_every_platform_is_ranked_or_rejected_with_a_reason(chat: Recommendation) -> None:
    named = [*(d.platform for d in chat.ranked), *chat.rejected]
    assert sorted(named) == sorted(catalogue.platforms())
    assert all(map(str, chat.rejected.values()))


def test_more_users_never_cost_less(best: Best) -> None:
    costs = [best(**{**CHAT, "users": users}).cost.usd_per_hour for users in (10, 100, 1000)]
    assert costs == sorted(costs)


def test_a_mix_gives_output_between_its_kinds(best: Best) -> None:
    base = {"model": "llama-3.1-8b", "users": 64, "ttft_ms": math.inf, "tpot_ms": math.inf}
    only = {"platforms": ("hgx-h100",), "engines": ("vllm",), "weight_precisions": ("fp8",)}
    lengths = ({"isl": 4000, "osl": 400}, {"mix": ((200, 400, 1), (4000, 400, 1))}, {"isl": 200, "osl": 400})
    long, mixed, short = (best(**base, **only, **kinds).output_tok_s[""] for kinds in lengths)
    assert long < mixed < short


def test_above_a_crossover_another_platform_is_recommended(chat: Recommendation) -> None:
    for cross in chat.crossovers:
        assert cross.platform != chat.ranked[0].platform
        assert (cross.load > 40) == (cross.direction == "above")


def test_limits_that_nothing_holds_give_the_closest_and_what_limits_it(advisor: Advisor) -> None:
    answer = advisor.recommend(Workload(**{**CHAT, "tpot_ms": 0.3}))
    assert not answer.ranked
    assert answer.closest is not None
    assert answer.limited_by is not None
    assert answer.limited_by.code == "floor"
    assert answer.limited_by.allowed == 0.3 < answer.limited_by.facts["floor_ms"]
    assert any(why.code == "misses" and why.value["tpot"] > 0 for why in answer.rejected.values())


def test_a_platform_on_which_the_model_does_not_fit_says_the_bytes(advisor: Advisor) -> None:
    reason = advisor.recommend(Workload(model="llama-3.1-405b", users=4)).rejected["b200"]
    assert (reason.code, str(reason).count(" GB")) == ("too-small", 2)
    assert reason.value > reason.allowed


def test_a_budget_rejects_what_passes_it(advisor: Advisor) -> None:
    answer = advisor.recommend(Workload(**CHAT, budget_usd=150_000))
    assert answer.ranked[0].cost.purchase_usd <= 150_000
    assert {why.allowed for why in answer.rejected.values() if why.code == "purchase"} == {150_000}


def test_a_budget_takes_a_less_sure_deployment_where_the_best_one_passes_it(best: Best) -> None:
    many: dict[str, Any] = {**CHAT, "users": 400, "platforms": ("b200",), "confidence": 0.05}
    free = best(**many)
    tight = best(**many, budget_usd=free.cost.purchase_usd - 1.0)
    assert tight.cost.purchase_usd < free.cost.purchase_usd
    assert tight.probability < free.probability


def test_a_box_replaces_itself_once(advisor: Advisor) -> None:
    ratio = advisor.replaces("hgx-b200", "hgx-b200", Workload(**CHAT))
    assert ratio.value == pytest.approx(1.0)
    assert ratio.lo < 1.0 < ratio.hi


def test_only_long_conversations_get_a_warm_tier_on_grace(advisor: Advisor, chat: Recommendation) -> None:
    long = Workload(model="qwen2.5-72b", users=16, isl=1024, osl=512, context=131072, platforms=LADDER)
    tiers = {d.platform: d.tier for d in advisor.recommend(long).ranked}
    assert not tiers["b200"]
    assert not tiers["hgx-b200"]
    assert not any(d.tier for d in chat.ranked)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("platforms", ("hgx-b2000",)),
        ("engines", ("vlm",)),
        ("weight_precisions", ("fp5",)),
        ("model", "qwenx-72"),
    ],
)
def test_a_name_that_is_not_known_is_refused(field: str, value: object, advisor: Advisor) -> None:
    with pytest.raises(UnknownName):
        advisor.recommend(Workload(**{**CHAT, field: value}))


def test_a_model_may_be_asked_for_in_the_precision_that_it_comes_in(best: Best) -> None:
    """Kimi K2 Thinking is published in INT4, which no other model is offered in."""
    own = {"model": "kimi-k2-thinking", "weight_precisions": ("int4",)}
    assert best(**{**CHAT, **own}).weight_precision == "int4"


def test_a_checkpoint_is_placed_in_the_precision_that_its_name_states(advisor: Advisor) -> None:
    asked = {
        "model": "Qwen/Qwen2.5-72B-Instruct-AWQ",
        "platforms": ("NVIDIA DGX H100",),
        "engines": ("vLLM",),
    }
    found = advisor.recommend(Workload(**{**CHAT, **asked}), 0.5)
    assert (found.model, found.ranked[0].weight_precision) == ("qwen2.5-72b", "int4")
    assert found.notes == (
        "model qwen2.5-72b, weight_precision int4 understood from 'Qwen/Qwen2.5-72B-Instruct-AWQ'",
    )
