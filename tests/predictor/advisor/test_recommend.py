"""What a recommendation promises: the cheapest that holds, why not the others, the nearest if none does."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest, UnknownName
from roofcast.predictor import Predictor
from roofcast.predictor.advisor import Advisor, Economics, Recommendation, Workload

CHAT: dict[str, Any] = {"model": "qwen2.5-72b", "users": 40, "isl": 2048, "osl": 512, "tpot_ms": 40}
LADDER = ("b200", "hgx-b200", "gb200-superchip", "gb200-nvl72")


@pytest.fixture(scope="module")
def advisor(predictor: Predictor) -> Advisor:
    return Advisor(predictor)


@pytest.fixture(scope="module")
def chat(advisor: Advisor) -> Recommendation:
    return advisor.recommend(Workload(**CHAT))


def test_the_best_is_the_one_of_least_expected_cost(chat: Recommendation) -> None:
    cost = [d.cost.usd_per_hour / d.probability for d in chat.ranked]
    assert cost[0] <= 1.05 * min(cost)
    assert cost[1:] == sorted(cost[1:])


def test_everything_ranked_holds_the_limits_with_the_probability_asked_for(advisor: Advisor) -> None:
    for confidence in (0.5, 0.8):
        answer = advisor.recommend(Workload(**CHAT), confidence)
        assert answer.ranked
        assert all(d.probability >= confidence for d in answer.ranked)


def test_a_recommendation_is_what_the_predictor_says_of_it(
    chat: Recommendation, predictor: Predictor
) -> None:
    best = chat.best
    assert best is not None
    alone = predictor.predict(
        model="qwen2.5-72b", platform=best.platform, num_gpus=best.gpus, tp=best.tp, pp=best.pp,
        weight_precision=best.weight_precision, kv_precision=best.kv_precision, engine=best.engine, isl=2048,
        osl=512, concurrency=40,
    )  # fmt: skip
    assert best.output_tok_s[""] == pytest.approx(alone.output_tok_s)
    assert best.tpot_ms[""] >= alone.tpot_ms


def test_every_platform_is_ranked_or_rejected_with_a_reason(chat: Recommendation) -> None:
    named = [*(d.platform for d in chat.ranked), *chat.rejected]
    assert sorted(named) == sorted(catalogue.platforms())
    assert all(map(str, chat.rejected.values()))


def test_more_users_never_cost_less(advisor: Advisor) -> None:
    costs = []
    for users in (10, 100, 1000):
        best = advisor.recommend(Workload(**{**CHAT, "users": users})).best
        assert best is not None
        costs.append(best.cost.usd_per_hour)
    assert costs == sorted(costs)


def test_a_request_rate_is_a_load_too(advisor: Advisor) -> None:
    answer = advisor.recommend(Workload(model="llama-3.1-8b", request_rate=5.0, isl=1000, osl=200))
    assert answer.best is not None
    assert answer.best.output_tok_s[""] <= 5.0 * 200 * 1.001


def test_a_mix_costs_between_its_kinds(advisor: Advisor) -> None:
    base = {"model": "llama-3.1-8b", "users": 64, "ttft_ms": math.inf, "tpot_ms": math.inf}
    only = {"platforms": ("hgx-h100",), "engines": ("vllm",), "weight_precisions": ("fp8",)}

    def rate(**lengths: Any) -> float:
        best = advisor.recommend(Workload(**base, **only, **lengths)).best
        assert best is not None
        return best.output_tok_s[""]

    short, long = rate(isl=200, osl=400), rate(isl=4000, osl=400)
    assert long < rate(mix=((200, 400, 1), (4000, 400, 1))) < short


def test_above_a_crossover_another_platform_is_recommended(chat: Recommendation, advisor: Advisor) -> None:
    assert chat.best is not None
    for cross in chat.crossovers:
        assert cross.platform != chat.best.platform
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
    answer = advisor.recommend(Workload(model="llama-3.1-405b", users=4))
    reason = answer.rejected["b200"]
    assert (reason.code, str(reason).count(" GB")) == ("too-small", 2)
    assert reason.value > reason.allowed


def test_a_budget_rejects_what_passes_it(advisor: Advisor) -> None:
    answer = advisor.recommend(Workload(**CHAT, budget_usd=150_000))
    assert answer.best is not None
    assert answer.best.cost.purchase_usd <= 150_000
    assert {why.allowed for why in answer.rejected.values() if why.code == "purchase"} == {150_000}


def test_a_budget_takes_a_less_sure_deployment_where_the_best_one_passes_it(advisor: Advisor) -> None:
    many: dict[str, Any] = {**CHAT, "users": 400, "platforms": ("b200",)}
    free = advisor.recommend(Workload(**many), 0.05).best
    assert free is not None
    tight = advisor.recommend(Workload(**many, budget_usd=free.cost.purchase_usd - 1.0), 0.05).best
    assert tight is not None
    assert tight.cost.purchase_usd < free.cost.purchase_usd
    assert tight.probability < free.probability


def test_a_budget_under_the_cheapest_platform_is_refused(advisor: Advisor) -> None:
    with pytest.raises(BadRequest, match="at least 45,000"):
        advisor.recommend(Workload(**CHAT, budget_usd=1000))


def test_renting_finds_its_own_platforms(predictor: Predictor) -> None:
    rented = Advisor(predictor, Economics(basis="reserve")).recommend(Workload(**CHAT))
    assert "mi355x-8x" in {d.platform for d in rented.ranked}


def test_a_price_of_ones_own_changes_the_ranking(predictor: Predictor) -> None:
    gift = Economics(purchase_usd={"hgx-h200": 10.0})
    best = Advisor(predictor, gift).recommend(Workload(**CHAT)).best
    assert best is not None
    assert best.platform == "hgx-h200"


def test_a_box_replaces_itself_once(advisor: Advisor) -> None:
    ratio = advisor.replaces("hgx-b200", "hgx-b200", Workload(**CHAT))
    assert ratio.value == pytest.approx(1.0)
    assert ratio.lo < 1.0 < ratio.hi


def test_long_conversations_are_offered_a_warm_tier_on_grace_alone(advisor: Advisor) -> None:
    long = Workload(model="qwen2.5-72b", users=16, isl=1024, osl=512, context=131072, platforms=LADDER)
    answer = advisor.recommend(long)
    assert all("kv_hot_tokens" not in d.tier for d in answer.ranked if d.platform in ("b200", "hgx-b200"))
    assert all(not d.tier for d in advisor.recommend(Workload(**CHAT)).ranked)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"platforms": ("hgx-b2000",)}, UnknownName),
        ({"engines": ("vlm",)}, UnknownName),
        ({"weight_precisions": ("fp5",)}, UnknownName),
        ({"model": "qwenx-72"}, UnknownName),
    ],
)
def test_a_name_that_is_not_known_is_refused(
    wrong: dict[str, Any], error: type[Exception], advisor: Advisor
) -> None:
    with pytest.raises(error):
        advisor.recommend(Workload(**{**CHAT, **wrong}))


def test_a_model_may_be_asked_for_in_the_precision_that_it_comes_in(advisor: Advisor) -> None:
    """Kimi K2 Thinking is published in INT4, which no other model is offered in."""
    answer = advisor.recommend(
        Workload(**{**CHAT, "model": "kimi-k2-thinking", "weight_precisions": ("int4",)})
    )
    assert {d.weight_precision for d in (*answer.ranked, answer.closest) if d} == {"int4"}


def test_the_answer_is_json_without_nan(chat: Recommendation) -> None:
    text = json.dumps(chat.to_dict(), allow_nan=False)
    assert json.loads(text)["met"] is True
