"""The bundle that is shipped loads, and its answers keep the promises the small model's keep."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from roofcast.data.columns import ANSWERS
from roofcast.predictor import Predictor

from .conftest import QUESTION, requests_frame

pytestmark = pytest.mark.skipif(
    not files("roofcast.predictor").joinpath("bundle", "manifest.json").is_file(),
    reason="no bundle is shipped yet",
)


@pytest.fixture(scope="module")
def shipped() -> Predictor:
    return Predictor.load()


@pytest.fixture(scope="module")
def answers(shipped: Predictor) -> pd.DataFrame:
    frame = requests_frame(2000, seed=9)
    table = pd.concat([frame, shipped.predict_frame(frame)], axis=1)
    return table[table["feasible"]]


def test_the_documented_question_has_an_answer(shipped: Predictor) -> None:
    answer = shipped.predict(**QUESTION)
    assert answer.feasible
    assert answer.floor["tpot_ms"] < answer.tpot_ms_lo < answer.tpot_ms < answer.tpot_ms_hi
    assert sum(answer.terms.values()) == pytest.approx(answer.tpot_ms)
    assert sum(answer.ttft_terms.values()) == pytest.approx(answer.ttft_ms)


def test_the_manifest_says_what_it_was_trained_on(shipped: Predictor) -> None:
    assert len(shipped.manifest["data_fingerprint"]) == 64
    assert shipped.manifest["errors"]
    assert {"isl", "osl", "concurrency"} <= set(shipped.manifest["training_ranges"])


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_lies_within_its_bounds(name: str, answers: pd.DataFrame) -> None:
    assert (answers[f"{name}_lo"] <= answers[name]).all()
    assert (answers[name] <= answers[f"{name}_hi"]).all()


@pytest.mark.parametrize("name", ["ttft_ms", "tpot_ms", "e2e_ms"])
def test_no_time_is_under_its_floor(name: str, answers: pd.DataFrame) -> None:
    assert (answers[name] >= answers[f"floor_{name}"] * (1 - 1e-12)).all()


def test_times_and_rates_obey_littles_law(answers: pd.DataFrame) -> None:
    in_flight = answers["output_tok_s"] / answers["osl"] * answers["e2e_ms"] / 1e3
    np.testing.assert_allclose(in_flight, answers["concurrency"], rtol=1e-9)


def test_a_row_has_the_numbers_of_predict(shipped: Predictor, answers: pd.DataFrame) -> None:
    columns = list(requests_frame(1).columns)
    for _, row in answers.iloc[::200].iterrows():
        alone = shipped.predict(**row[columns].to_dict()).to_dict()
        for name in ANSWERS:
            assert alone[name] == pytest.approx(row[name], rel=1e-9)
