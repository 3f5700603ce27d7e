"""An explanation adds up: corrections, elasticities, neighbours, the comparison of two configurations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofcast.data.columns import FIGURES
from roofcast.data.store import STORE_VARIABLE, BenchmarkStore
from roofcast.features.measured import MeasuredFabric
from roofcast.features.request import normalise
from roofcast.predictor import Prediction, Predictor
from roofcast.predictor.explain import Explanation, compare, group_of, with_changes
from roofcast.predictor.neighbours import distances, nearest
from roofcast.predictor.prediction import TERMS
from roofcast.training.model.model import Model
from roofcast.training.model.trees import Trees

from .conftest import OPTIONS, QUESTION, Run


def test_contributions_are_lightgbms_sum_to_the_prediction_and_speak_of_something(trained: Model) -> None:
    booster = trained.boosters["ttft"]
    matrix = np.random.default_rng(1).normal(size=(5, len(trained.feature_names)))
    parts = Trees(booster.model_to_string()).contributions(matrix)
    np.testing.assert_allclose(parts, booster.predict(matrix, pred_contrib=True), atol=1e-12)
    np.testing.assert_allclose(parts.sum(axis=1), booster.predict(matrix), atol=1e-12)
    assert "other" not in map(group_of, trained.feature_names)


def test_the_groups_multiply_to_the_answers_correction_which_no_measured_fabric_changes(
    explanation: Explanation, prediction: Prediction, predictor: Predictor
) -> None:
    for part in explanation.corrections.values():
        assert math.prod(part.groups.values()) == pytest.approx(part.factor)
        assert part.factor == pytest.approx(math.exp(part.weight * part.raw))
    factor = explanation.corrections["tpot"].factor
    # What is left is the agreement with the other answers.
    assert prediction.tpot_ms == pytest.approx(prediction.baseline["tpot_ms"] * factor, rel=0.05)
    slow = MeasuredFabric(gpu="b200-sxm", bandwidth_scale=0.1, alpha_scale=3.0)
    found = predictor.explain(fabric=slow, **QUESTION)
    assert found.corrections == explanation.corrections
    moved = [e.sensitivity["link bandwidth"]["tpot_ms"] for e in (found, explanation)]
    assert moved[0] < moved[1] < 0.0


def test_hardware_costs_no_time_load_no_throughput_and_the_elasticities_sum_to_one(
    predictor: Predictor, explanation: Explanation
) -> None:
    alone = predictor.explain(model="llama-3.1-8b", gpu="h100-sxm", tp=1, concurrency=16).sensitivity
    hardware = ("memory bandwidth", "compute peak", "link bandwidth")
    for moved in (alone, explanation.sensitivity):
        assert all(moved[fact]["tpot_ms"] <= 0.0 for fact in hardware)
        assert moved["concurrency"]["output_tok_s"] >= 0.0
        assert set(moved["tokens in"]) == set(FIGURES)
    # Without a link, every rate and overhead twice as good halves the time.
    overhead = alone["launch and scheduler overhead"]["tpot_ms"]
    assert overhead - sum(alone[fact]["tpot_ms"] for fact in hardware) == pytest.approx(1.0, abs=0.03)
    assert alone["link bandwidth"]["tpot_ms"] == 0.0


def test_a_measured_row_is_its_own_nearest_neighbour_in_the_store_in_use(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = BenchmarkStore().load()
    rows = table[(table["mode"] == "closed-loop") & (table["tp"] > 1)].iloc[::2000]
    assert len(rows) > 3
    for _, row in rows.iterrows():
        found = nearest(normalise(rows.loc[[row.name]]))
        assert (found[0].distance, found[0].differs) == (0.0, {})
        assert [n.distance for n in found] == sorted(n.distance for n in found)
    BenchmarkStore.create(tmp_path / "mine.parquet", table.head(3))
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "mine.parquet"))
    assert {n.row_id for n in predictor.explain(**QUESTION).neighbours} == set(table.head(3)["row_id"])


def test_each_difference_adds_its_own_distance() -> None:
    same = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "engine": "vllm", "isl": 1000, "concurrency": 8.0}
    changes: list[dict[str, Any]] = [
        {}, {"model": "qwen2.5-72b"}, {"gpu": "b200-sxm"}, {"engine": "sglang"}, {"isl": 2000},
        {"concurrency": 64.0}, {"weight_precision": "fp8"}, {"spec_decode": "eagle"},
    ]  # fmt: skip
    rows = [{**same, **change} for change in changes]
    known = normalise({name: [row.get(name) for row in rows] for name in set().union(*rows)})
    parts = distances(normalise({k: [v] for k, v in same.items()}), known)
    assert [bool(total) for total in np.sum(list(parts.values()), axis=0)] == [False, *[True] * 7]
    assert parts["lengths"][4] == pytest.approx(math.log(2.0))
    assert parts["model"][1] > parts["gpu"][2]


def test_two_configurations_differ_by_their_terms(predictor: Predictor, prediction: Prediction) -> None:
    other = predictor.predict(**{**QUESTION, "gpu": "h200-sxm", "tp": 4})
    found, back = compare(prediction, other), compare(other, prediction)
    assert sum(found.terms.values()) == pytest.approx(prediction.tpot_ms - other.tpot_ms)
    assert sum(found.ttft_terms.values()) == pytest.approx(prediction.ttft_ms - other.ttft_ms)
    assert found.ratios["tpot_ms"] * back.ratios["tpot_ms"] == pytest.approx(1.0)
    assert found.differs == {"gpu": ("b200-sxm", "h200-sxm"), "tp": (8, 4), "replicas": (1, 2)}
    # The reason names the term that makes most of the difference, and what does not fit.
    slower = 1 if prediction.tpot_ms >= other.tpot_ms else -1
    largest = max(TERMS, key=lambda name: slower * found.terms[name])
    assert f"most of it {largest.replace('_', ' ')} ({found.terms[largest]:+.3g} ms)" in found.reason
    small = predictor.predict(**{**QUESTION, "gpu": "l4", "tp": 1, "num_gpus": 1})
    assert "does not fit" in compare(prediction, small).reason


def test_another_gpu_replaces_the_platform_and_keeps_the_number_of_gpus(predictor: Predictor) -> None:
    request = {"model": "llama-3.1-70b", "platform": "hgx-b200", "concurrency": 8}
    first = predictor.predict(**request)
    there = with_changes(request, {"gpu": "h200-sxm"}, first)
    assert there == {"model": "llama-3.1-70b", "gpu": "h200-sxm", "num_gpus": 8, "concurrency": 8}
    assert with_changes(there, {"platform": "hgx-b200"}, first) == request
    counted = {"model": "llama-3.1-70b", "gpu": "8x H100", "concurrency": 8}
    assert with_changes(counted, {"gpu": "h200-sxm"}, predictor.predict(**counted)) == there


def test_the_command_prints_words_json_a_comparison_or_an_error(
    run: Run, bundle: Path, predictor: Predictor, tmp_path: Path
) -> None:
    call, plot = f"explain {OPTIONS} --bundle {bundle}", tmp_path / "why.html"
    code, out, _ = run(f"{call} --against gpu=h200-sxm,tp=4 --plot {plot}")
    assert (code, plot.is_file()) == (0, True)
    assert all(words in out for words in ("nearest measured rows", "against qwen2.5-72b on 8 x h200-sxm"))
    printed = run(f"{call} --against mode=open-loop,request_rate=5 --json")[1]
    found = json.loads(printed, parse_constant=pytest.fail)
    assert found["prediction"] == predictor.predict(**QUESTION).to_dict()
    assert found["against"]["differs"]["request_rate"] == [None, 5.0]
    wrong = {"": "does not fit", "--against gpu=": "--against", "--against gpus=l4": "num_gpus"}
    for more, words in wrong.items():
        large = "--model qwen2.5-72b --gpu h100-sxm --tp 1 --weight-precision bf16"
        code, out, err = run(f"explain {OPTIONS if more else large} --bundle {bundle} {more}")
        assert (code, out, words in err) == (2, "", True)
