"""One request: answers and what they say of themselves, errors that name the next thing to try."""

from __future__ import annotations

import json
import math
import pickle  # noqa: TID251 (users may pickle an answer)
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadBundle, BadRequest, UnknownName
from roofcast.predictor import Prediction, Predictor, predict
from roofcast.predictor.prediction import NUMBERS, TERMS

from .conftest import QUESTION

COLD = """
import json, sys
from roofcast.predictor import Predictor
prediction = Predictor.load({bundle!r}).predict(**{question!r})
{then}
print(json.dumps([name.split(".")[0] for name in sys.modules]))
"""
SHOWN = "from roofcast.predictor.show import show; show(prediction)"
# What one request needs none of; rich draws.
HEAVY = {"pandas", "pyarrow", "scipy", "sklearn", "lightgbm", "mlflow", "optuna", "matplotlib", "pandera"}
TOO_LARGE = {"model": "qwen2.5-72b", "gpu": "h100-sxm", "weight_precision": "bf16", "concurrency": 1}
BORROWED = {"model": "qwen3-32b", "gpu": "mi325x", "tp": 1}


def test_the_terms_sum_to_their_answers(shipped: Predictor, prediction: Prediction) -> None:
    for answer in (prediction, shipped.predict(**QUESTION)):
        assert tuple(answer.terms) == tuple(answer.ttft_terms) == TERMS
        assert sum(answer.terms.values()) == pytest.approx(answer.tpot_ms)
        assert sum(answer.ttft_terms.values()) == pytest.approx(answer.ttft_ms)
        assert answer.terms[answer.bottleneck] == max(answer.terms[name] for name in TERMS[:-1])


@pytest.mark.parametrize("kind", ["gpu", "platform"])
def test_every_gpu_and_platform_answers_in_numbers(shipped: Predictor, kind: str) -> None:
    names = list({"gpu": catalogue.gpus, "platform": catalogue.platforms}[kind]())
    asked = {"model": "llama-3.1-8b", "weight_precision": "bf16", "num_gpus": 2, "tp": 2, "concurrency": 4}
    limits = {"ttft_limit_ms": 60_000, "tpot_limit_ms": 1000}  # goodput is a number where limits are asked
    answers = shipped.predict_frame(pd.DataFrame({kind: names}).assign(**asked, **limits))
    assert answers["feasible"].all()
    assert np.isfinite(answers[list(NUMBERS)]).all(axis=None)


def test_the_module_answers_by_the_shipped_bundle_loaded_once(
    shipped: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[object] = []
    home = sys.modules[Predictor.__module__]
    home._shipped.cache_clear()  # type: ignore[attr-defined]
    monkeypatch.setattr(Predictor, "load", lambda: loads.append(1) or shipped)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: predict(**QUESTION), range(16)))
    assert len(loads) == 1
    assert {answer.tpot_ms for answer in answers} == {shipped.predict(**QUESTION).tpot_ms}
    with pytest.raises(UnknownName, match="concurrency"):
        predict(concurency=8)  # type: ignore[call-arg]


# DGX Sparks, one and joined by their network: NVIDIA's developer blog and forum, conselara.dev.
@pytest.mark.parametrize(("asked", "tpot_ms"), [
    ({"model": "llama-3.1-8b", "weight_precision": "fp8", "isl": 2048, "osl": 128}, 1000 / 20.5),
    ({"model": "qwen3-32b", "weight_precision": "fp8", "tp": 4, "num_gpus": 4, "osl": 128}, 51.95),
    ({"model": "qwen3-235b-a22b", "weight_precision": "int4", "tp": 2, "ep": 2, "num_gpus": 2}, 1000 / 17.0),
    ({"model": "gpt-oss-120b"}, 1000 / 35.0),
])  # fmt: skip
def test_what_was_published_of_a_machine_never_trained_on_lies_in_its_interval(
    asked: dict[str, Any], tpot_ms: float, shipped: Predictor
) -> None:
    found = shipped.predict(gpu="gb10", engine="vllm", concurrency=1, **asked)
    assert found.tpot_ms_lo < tpot_ms < found.tpot_ms_hi


def test_an_answer_is_one_line_flat_plain_json_and_survives_a_pickle(prediction: Prediction) -> None:
    flat = prediction.to_dict()
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
    assert not any(isinstance(value, dict | list) for value in flat.values())
    assert 0 < flat["floor_tpot_ms"] < flat["tpot_ms"]
    assert pickle.loads(pickle.dumps(prediction)).to_dict() == flat  # noqa: S301 (our own bytes)
    assert "\n" not in str(prediction)


def test_other_units_follow_from_the_answers_with_their_intervals(prediction: Prediction) -> None:
    gpus, osl = prediction.request["num_gpus"], prediction.request["osl"]
    for here, there in (("", ""), ("_lo", "_hi"), ("_hi", "_lo")):
        output = getattr(prediction, f"output_tok_s{here}")
        assert getattr(prediction, f"request_s{here}") == pytest.approx(output / osl)
        assert getattr(prediction, f"tok_s_per_gpu{here}") == pytest.approx(output / gpus)
        assert getattr(prediction, f"tok_s_per_user{here}") == 1e3 / getattr(prediction, f"tpot_ms{there}")


def test_goodput_is_of_the_requests_that_hold_the_limits(
    predictor: Predictor, prediction: Prediction
) -> None:
    """Half of them at the median, nearly all far above it, few below; without limits there is none."""
    assert math.isnan(prediction.goodput_request_s)
    assert prediction.to_dict()["goodput_request_s"] is None
    shares = []
    for of_median in (0.9, 1.0, 1.1, 100.0):
        found = predictor.predict(**QUESTION, tpot_limit_ms=of_median * prediction.tpot_ms)
        assert found.goodput_request_s_lo <= found.goodput_request_s <= found.goodput_request_s_hi
        assert found.request["tpot_limit_ms"] == pytest.approx(of_median * prediction.tpot_ms)
        shares.append(found.goodput_request_s / found.request_s)
    assert shares == sorted(shares)
    assert shares[0] < 0.2 < shares[1] == pytest.approx(0.5)
    assert shares[-1] == pytest.approx(1.0, abs=1e-3)
    both = predictor.predict(**QUESTION, tpot_limit_ms=prediction.tpot_ms, ttft_limit_ms=prediction.ttft_ms)
    assert both.goodput_request_s == pytest.approx(0.25 * both.request_s)


def test_more_of_the_requests_take_longer(predictor: Predictor, prediction: Prediction) -> None:
    wider = predictor.predict(**QUESTION, percentiles=(50, 90, 99.5)).percentiles
    assert wider[90] == prediction.percentiles[90]
    for name in ("ttft_ms", "tpot_ms", "itl_ms"):
        assert wider[50][name] <= wider[90][name] <= wider[99.5][name]
    assert wider[50]["ttft_ms"] == pytest.approx(prediction.ttft_ms)
    wrong: Any
    for wrong, words in (((100,), "100"), (50, "50"), (("a",), "'a'"), (None, "None")):
        with pytest.raises(BadRequest, match=f"percentiles = .*{words}"):
            predictor.predict(**QUESTION, percentiles=wrong)


@pytest.mark.parametrize(
    ("change", "field", "nearest"),
    [
        ({"model": "qwen2.5-72"}, "model", "qwen2.5-72b"), ({"gpu": "b200-smx"}, "gpu", "b200-sxm"),
        ({"gpu": None, "platform": "hgx-b20"}, "platform", "hgx-b200"), ({"tp": 16}, "num_gpus", ""),
        ({"concurency": 8}, "request column", "concurrency"), ({"platform": "hgx-h100"}, "gpu", ""),
        *((change, next(iter(change)), "") for change in (
            {"isl": math.inf}, {"isl": 10_000_000}, {"osl": "many"}, {"concurrency": -1}, {"tp": 2.5},
            {"tp": 3}, {"pp": 100, "num_gpus": 800}, {"prefix_cached_frac": 1.5}, {"weight_precision": "fp5"},
            {"gpu": None}, {"mode": "open-loop", "concurrency": None}, {"date": "today"}, {"model": ["x"]},
        )),
    ],
)  # fmt: skip
def test_a_bad_value_raises_naming_its_field_and_the_nearest_in_one_line(
    change: dict[str, Any], field: str, nearest: str, predictor: Predictor
) -> None:
    with pytest.raises((BadRequest, UnknownName)) as caught:
        predictor.predict(**QUESTION | change)
    error = caught.value
    assert (error.field if isinstance(error, BadRequest) else error.kind) == field
    assert nearest in ("", *getattr(error, "nearest", ()))
    assert "\n" not in str(error)


def test_a_model_that_does_not_fit_is_an_answer(predictor: Predictor) -> None:
    answer = predictor.predict(model="qwen2.5-72b", gpu="h100-sxm", tp=1, weight_precision="bf16")
    assert (answer.feasible, answer.bottleneck) == (False, "memory capacity")
    assert math.isnan(answer.tpot_ms)
    assert answer.to_dict()["tpot_ms"] is None
    assert str(answer).startswith("infeasible: does not fit")


def test_a_source_is_a_bundle_or_a_registered_model(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from roofcast.training import tracking

    asked: list[str] = []
    monkeypatch.setattr(tracking, "download_bundle", lambda uri: asked.append(uri) or bundle)
    assert Predictor.load("models:/roofcast@champion").manifest["data_fingerprint"] == "0" * 64
    assert asked == ["models:/roofcast@champion"]
    with pytest.raises(BadBundle):
        Predictor.load(bundle / "nothing")


def test_the_shipped_bundle_says_what_it_was_trained_on(shipped: Predictor) -> None:
    assert {"data_fingerprint", "errors", "training_ranges"} <= {k for k, v in shipped.manifest.items() if v}


@pytest.mark.parametrize(("then", "heavy"), [("", HEAVY | {"rich"}), (SHOWN, HEAVY)])
def test_one_request_loads_no_data_frame_and_no_learning_library(
    then: str, heavy: set[str], bundle: Path
) -> None:
    code = COLD.format(bundle=str(bundle), question=QUESTION, then=then)
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert not set(json.loads(done.stdout.splitlines()[-1])) & heavy


def test_the_defaults_that_were_assumed_are_named(predictor: Predictor) -> None:
    reason = predictor.predict(model="qwen2.5-72b", platform="hgx-b200").reason
    assert all(f"{name} assumed" in reason for name in ("engine", "isl", "osl"))


def test_a_model_that_does_not_fit_names_the_degree_that_does(predictor: Predictor) -> None:
    (found,) = re.findall(r"fits from tp=(\d+)", predictor.predict(**TOO_LARGE, tp=1, engine="vllm").reason)
    assert predictor.predict(**TOO_LARGE, tp=int(found)).feasible
    assert not predictor.predict(**TOO_LARGE, tp=int(found) // 2).feasible


def test_a_rate_above_the_sustainable_one_is_named(predictor: Predictor) -> None:
    answer = predictor.predict(**QUESTION | {"concurrency": None, "mode": "open-loop", "request_rate": 1e6})
    assert "above what this deployment sustains" in answer.reason


@pytest.mark.parametrize(("tp", "copies"), [(8, []), (16, ["2"]), (32, ["4"])])
def test_a_tensor_parallel_degree_past_the_kv_heads_says_how_often_they_are_held(
    tp: int, copies: list[str], predictor: Predictor
) -> None:
    asked = {"model": "qwen2.5-72b", "gpu": "b200-sxm", "kv_precision": "fp8", "isl": 64000, "osl": 1000}
    # 65,000 tokens x 80 layers x 2 KB = 10.65 GB over eight heads: 1.33 GB for each GPU that holds one.
    held = re.findall(r"each is held by (\d+) GPUs, 1,331 MB", predictor.predict(tp=tp, **asked).reason)
    assert held == copies


def test_a_gpu_never_measured_says_whose_coefficients_it_borrows(
    predictor: Predictor, shipped: Predictor
) -> None:
    assert "never measured" not in predictor.predict(**QUESTION).reason
    # The small model of these tests has no fitted coefficient; the shipped one has.
    for model, words in ((predictor, "priors that no row has moved"), (shipped, "rows of other GPUs")):
        reason = model.predict(**BORROWED).reason
        assert "mi325x was never measured: its coefficients are those of architecture cdna3" in reason
        assert words in reason


@pytest.mark.parametrize(("hot", "tier"), [(4096, "the host link"), (59_000, "HBM, by its bandwidth")])
def test_what_lies_in_host_memory_names_the_tier_that_limits(
    hot: float, tier: str, predictor: Predictor
) -> None:
    asked = {"model": "qwen2.5-72b", "platform": "gb200-nvl72", "tp": 4, "num_gpus": 4, "concurrency": 4}
    answer = predictor.predict(**asked, isl=60_000, kv_hot_tokens=hot)
    assert answer.feasible
    assert f"the tier that limits is {tier}" in answer.reason


def test_a_gpu_whose_data_sheet_names_no_pcie_serves_a_pipeline(predictor: Predictor) -> None:
    answer = predictor.predict(model="llama-3.1-70b", gpu="vr200", tp=8, pp=2, num_gpus=16, concurrency=16)
    assert answer.feasible
    assert answer.tpot_ms_lo < answer.tpot_ms < answer.tpot_ms_hi
