"""One request: answers, errors that name the next thing to try, and infeasible as an answer."""

from __future__ import annotations

import json
import math
import pickle  # noqa: TID251 (users may pickle an answer)
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofcast.data.errors import BadBundle, BadRequest, RoofcastError, UnknownName
from roofcast.predictor import Prediction, Predictor
from roofcast.predictor.prediction import TERMS

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


def test_the_terms_sum_to_their_answers(shipped: Predictor, prediction: Prediction) -> None:
    for answer in (prediction, shipped.predict(**QUESTION)):
        assert tuple(answer.terms) == tuple(answer.ttft_terms) == TERMS
        assert sum(answer.terms.values()) == pytest.approx(answer.tpot_ms)
        assert sum(answer.ttft_terms.values()) == pytest.approx(answer.ttft_ms)
        assert answer.terms[answer.bottleneck] == max(answer.terms[name] for name in TERMS[:-1])


def test_an_answer_is_one_line_flat_plain_json_and_survives_a_pickle(prediction: Prediction) -> None:
    flat = prediction.to_dict()
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
    assert not any(isinstance(value, dict | list) for value in flat.values())
    assert 0 < flat["floor_tpot_ms"] < flat["tpot_ms"]
    assert pickle.loads(pickle.dumps(prediction)).to_dict() == flat  # noqa: S301 (our own bytes)
    assert "\n" not in str(prediction)


def test_more_of_the_requests_take_longer(predictor: Predictor, prediction: Prediction) -> None:
    wider = predictor.predict(**QUESTION, percentiles=(50, 90, 99.5)).percentiles
    assert wider[90] == prediction.percentiles[90]
    for name in ("ttft_ms", "tpot_ms", "itl_ms"):
        assert wider[50][name] <= wider[90][name] <= wider[99.5][name]
    assert wider[50]["ttft_ms"] == pytest.approx(prediction.ttft_ms)
    with pytest.raises(BadRequest, match="percentiles = 100"):
        predictor.predict(**QUESTION, percentiles=(100,))


def test_the_request_comes_back_with_its_defaults_filled(predictor: Predictor) -> None:
    request = predictor.predict(model="Qwen/Qwen2.5-72B-Instruct", platform="hgx-b200").request
    wanted = {"model": "qwen2.5-72b", "gpu": "b200-sxm", "num_gpus": 8, "engine": "vllm", "isl": 1024}
    assert wanted.items() <= request.items()
    assert (request["mode"], request["concurrency"] > 1) == ("offline", True)


@pytest.mark.parametrize(
    "written",
    [
        {"pp": None, "request_rate": math.nan, "spec_decode": "", "engine_version": None},
        {"tp": "8", "isl": np.int64(2048), "concurrency": np.float32(32)},
    ],
    ids=["missing", "text and numpy"],
)
def test_missing_values_mean_the_default_and_numbers_come_in_any_type(
    written: dict[str, Any], predictor: Predictor, prediction: Prediction
) -> None:
    assert predictor.predict(**QUESTION | written).to_dict() == prediction.to_dict()


@pytest.mark.parametrize(
    ("change", "nearest"),
    [
        ({"model": "qwen2.5-72"}, "qwen2.5-72b"), ({"gpu": "b200-smx"}, "b200-sxm"),
        ({"gpu": None, "platform": "hgx-b20"}, "hgx-b200"), ({"concurency": 8}, "concurrency"),
    ],
)  # fmt: skip
def test_an_unknown_name_raises_with_the_nearest(
    change: dict[str, Any], nearest: str, predictor: Predictor
) -> None:
    with pytest.raises(UnknownName) as caught:
        predictor.predict(**QUESTION | change)
    assert nearest in caught.value.nearest


@pytest.mark.parametrize(
    ("change", "field"),
    [
        *((change, next(iter(change))) for change in (
            {"isl": 0}, {"isl": -5}, {"isl": math.inf}, {"isl": 10_000_000}, {"osl": 0}, {"osl": "many"},
            {"concurrency": -1}, {"concurrency": -math.inf}, {"request_rate": 0}, {"tp": 0}, {"tp": 2.5},
            {"tp": 3}, {"pp": 100, "num_gpus": 800}, {"prefix_cached_frac": 1.5}, {"model": None},
            {"prefix_cached_frac": -0.1}, {"weight_precision": "fp5"}, {"kv_precision": "huge"},
            {"mode": "closed"}, {"mode": "open-loop", "concurrency": None}, {"spec_decode": "magic"},
            {"date": "yesterday"}, {"gpu": None}, {"model": 7}, {"model": ["llama-3.1-8b"]},
        )),
        ({"tp": 16}, "num_gpus"), ({"platform": "hgx-h100"}, "gpu"),
    ],
)  # fmt: skip
def test_a_bad_value_raises_naming_its_field_in_one_line(
    change: dict[str, Any], field: str, predictor: Predictor
) -> None:
    with pytest.raises((BadRequest, UnknownName)) as caught:
        predictor.predict(**QUESTION | change)
    error = caught.value
    assert isinstance(error, RoofcastError)
    assert (error.field if isinstance(error, BadRequest) else error.kind) == field
    assert "\n" not in str(error)


def test_a_precision_without_units_is_refused_or_runs_as_weight_only(predictor: Predictor) -> None:
    question = QUESTION | {"gpu": "a100-80g", "weight_precision": "fp4", "engine": "vllm"}
    answer = predictor.predict(**question)
    assert (answer.feasible, answer.request["weight_precision"]) == (True, "fp4")
    assert "this GPU has no fp4 units" in answer.reason
    with pytest.raises(BadRequest, match="units"):
        predictor.predict(**question | {"gpu": "v100", "weight_precision": "fp8"})


def test_a_gpu_whose_data_sheet_names_no_pcie_serves_a_pipeline(predictor: Predictor) -> None:
    answer = predictor.predict(model="llama-3.1-70b", gpu="vr200", tp=8, pp=2, num_gpus=16, concurrency=16)
    assert answer.feasible
    assert answer.tpot_ms_lo < answer.tpot_ms < answer.tpot_ms_hi


def test_a_model_that_does_not_fit_is_an_answer(predictor: Predictor) -> None:
    answer = predictor.predict(model="qwen2.5-72b", gpu="h100-sxm", tp=1, weight_precision="bf16")
    assert (answer.feasible, answer.bottleneck) == (False, "memory capacity")
    assert math.isnan(answer.tpot_ms)
    assert answer.to_dict()["tpot_ms"] is None
    assert str(answer).startswith("infeasible: does not fit")


def test_the_shipped_bundle_says_what_it_was_trained_on(shipped: Predictor) -> None:
    assert len(shipped.manifest["data_fingerprint"]) == 64
    assert shipped.manifest["errors"]
    assert {"isl", "osl", "concurrency"} <= set(shipped.manifest["training_ranges"])


def test_a_source_is_a_bundle_or_a_registered_model(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from roofcast.training import tracking

    asked: list[str] = []
    monkeypatch.setattr(tracking, "download_bundle", lambda uri: asked.append(uri) or bundle)
    assert Predictor.load("models:/roofcast@champion").manifest["data_fingerprint"] == "0" * 64
    assert asked == ["models:/roofcast@champion"]
    with pytest.raises(BadBundle):
        Predictor.load(bundle / "nothing")


@pytest.mark.parametrize(("then", "heavy"), [("", HEAVY | {"rich"}), (SHOWN, HEAVY)])
def test_one_request_loads_no_data_frame_and_no_learning_library(
    then: str, heavy: set[str], bundle: Path
) -> None:
    code = COLD.format(bundle=str(bundle), question=QUESTION, then=then)
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert not set(json.loads(done.stdout.splitlines()[-1])) & heavy
