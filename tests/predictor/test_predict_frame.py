"""A frame: the same numbers as one by one, row for row, whatever its index, order and size."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from roofcast.data.columns import ANSWERS
from roofcast.data.errors import BadRequest
from roofcast.predictor import Predictor
from roofcast.predictor import predictor as module
from roofcast.predictor.prediction import NUMBERS
from roofcast.predictor.predictor import ANSWER_COLUMNS

from .conftest import QUESTION, requests_frame

COLUMNS = [
    *(f"{name}{bound}" for name in ANSWERS for bound in ("", "_lo", "_hi")),
    *(f"{level}_{name}" for level in ("baseline", "floor") for name in ANSWERS),
    "support", "feasible", "reason",
]  # fmt: skip


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return requests_frame(400, seed=5)


@pytest.fixture(scope="module")
def answers(predictor: Predictor, frame: pd.DataFrame) -> pd.DataFrame:
    return predictor.predict_frame(frame)


@pytest.fixture(scope="module", params=["small", "shipped"])
def answering(request: pytest.FixtureRequest, predictor: Predictor) -> Predictor:
    """The small predictor of these tests, and the one that is shipped."""
    return predictor if request.param == "small" else Predictor.load()


@pytest.fixture(scope="module")
def answered(answering: Predictor, frame: pd.DataFrame) -> pd.DataFrame:
    """The requests that fit, with their answers."""
    table = pd.concat([frame, answering.predict_frame(frame)], axis=1)
    return table[table["feasible"]]


def _same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(left, right, check_exact=False, rtol=1e-9)


def test_the_columns_are_those_promised(answers: pd.DataFrame) -> None:
    assert list(answers.columns) == COLUMNS == list(ANSWER_COLUMNS)
    assert answers["feasible"].dtype == bool
    assert set(answers["support"]) <= {"in", "near", "far"}


def test_a_row_has_the_numbers_of_predict(answering: Predictor, frame: pd.DataFrame) -> None:
    part = frame.iloc[::37]
    for (_, asked), (_, row) in zip(part.iterrows(), answering.predict_frame(part).iterrows(), strict=True):
        alone = answering.predict(**asked.to_dict()).to_dict()
        wanted = [np.nan if alone[name] is None else alone[name] for name in NUMBERS]
        np.testing.assert_allclose(row[list(NUMBERS)].to_numpy(float), wanted, rtol=1e-9)
        assert all(row[name] == alone[name] for name in ("support", "feasible", "reason"))


def test_times_and_rates_obey_littles_law(answered: pd.DataFrame) -> None:
    assert len(answered) > 200
    in_flight = answered["output_tok_s"] / answered["osl"] * answered["e2e_ms"] / 1e3
    np.testing.assert_allclose(in_flight, answered["concurrency"], rtol=1e-9)
    both = answered["output_tok_s"] * (1 + answered["isl"] / answered["osl"])
    np.testing.assert_allclose(answered["total_tok_s"], both, rtol=1e-9)


@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_lies_within_its_bounds(name: str, answered: pd.DataFrame) -> None:
    assert (answered[f"{name}_lo"] > 0).all()
    assert (answered[f"{name}_lo"] <= answered[name]).all()
    assert (answered[name] <= answered[f"{name}_hi"]).all()


@pytest.mark.parametrize("name", ["ttft_ms", "tpot_ms", "e2e_ms"])
def test_no_time_is_under_its_floor(name: str, answered: pd.DataFrame) -> None:
    for level in (name, f"{name}_lo", f"baseline_{name}"):
        assert (answered[level] >= answered[f"floor_{name}"] * (1 - 1e-12)).all()


def test_rows_that_cannot_be_answered_are_nan_with_a_reason(answers: pd.DataFrame) -> None:
    odd = answers[~answers["feasible"]]
    assert len(odd)
    assert odd[list(NUMBERS)].isna().all(axis=None)
    assert odd["reason"].str.contains("does not fit").all()


def test_a_bad_row_says_why_and_harms_no_other(predictor: Predictor) -> None:
    good = pd.DataFrame([QUESTION] * 3)
    bad = good.astype(object).copy()
    bad.loc[0, "model"], bad.loc[2, "isl"] = "qwen9-9b", -3
    answers = predictor.predict_frame(bad)
    assert "unknown model 'qwen9-9b'; nearest" in answers.loc[0, "reason"]
    assert "isl = -3 is not allowed" in answers.loc[2, "reason"]
    assert answers.loc[[0, 2], list(NUMBERS)].isna().all(axis=None)
    assert not answers.loc[[0, 2], "feasible"].any()
    assert answers.loc[0, "support"] == "far"
    _same(answers.loc[[1]], predictor.predict_frame(good).loc[[1]])


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(["b", "a", "a", "c"]), pd.Index([7, 7, 7, 7]), pd.date_range("2026-01-01", periods=4),
        pd.MultiIndex.from_product([["x", "y"], [1, 2]], names=["i", "j"]),
    ],
    ids=["text with repeats", "all the same", "dates", "two levels"],
)  # fmt: skip
def test_the_index_is_kept(index: pd.Index, predictor: Predictor, frame: pd.DataFrame) -> None:
    part = frame.iloc[:4]
    answers = predictor.predict_frame(part.set_axis(index))
    pd.testing.assert_index_equal(answers.index, index)
    _same(answers.reset_index(drop=True), predictor.predict_frame(part))


def test_an_empty_frame_gives_an_empty_one(predictor: Predictor, frame: pd.DataFrame) -> None:
    answers = predictor.predict_frame(frame.iloc[:0])
    assert (list(answers.columns), len(answers)) == (COLUMNS, 0)
    assert len(predictor.predict_frame(pd.DataFrame())) == 0


def test_rows_without_any_known_column_say_what_is_missing(predictor: Predictor) -> None:
    answers = predictor.predict_frame(pd.DataFrame({"colour": ["red"]}))
    assert "model is required" in answers.loc[0, "reason"]


def test_answers_do_not_depend_on_the_order(
    predictor: Predictor, frame: pd.DataFrame, answers: pd.DataFrame
) -> None:
    order = np.random.default_rng(0).permutation(len(frame))
    _same(predictor.predict_frame(frame.iloc[order]), answers.iloc[order])


@pytest.mark.parametrize("rows", [1, 7, 64, 399, 400, 401])
def test_answers_do_not_depend_on_the_chunks(
    rows: int,
    predictor: Predictor,
    frame: pd.DataFrame,
    answers: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", rows)
    part = frame if rows > 1 else frame.iloc[:9]
    _same(predictor.predict_frame(part), answers.iloc[: len(part)])


def test_other_columns_are_ignored_and_the_frame_is_left_alone(
    predictor: Predictor, frame: pd.DataFrame, answers: pd.DataFrame
) -> None:
    more = frame.assign(colour="red", tpot_ms=1.0)
    before = more.copy(deep=True)
    _same(predictor.predict_frame(more), answers)
    pd.testing.assert_frame_equal(more, before)


def test_text_and_number_columns_of_any_type_mean_the_same(
    predictor: Predictor, frame: pd.DataFrame, answers: pd.DataFrame
) -> None:
    other = frame.assign(
        model=frame["model"].astype("category"),
        gpu=frame["gpu"].astype(object),
        tp=frame["tp"].astype("Int64"),
        isl=frame["isl"].astype(str),
        concurrency=frame["concurrency"].astype(object),
    )
    _same(predictor.predict_frame(other), answers)


def test_a_column_given_twice_is_refused(predictor: Predictor, frame: pd.DataFrame) -> None:
    with pytest.raises(BadRequest, match="at most once"):
        predictor.predict_frame(pd.concat([frame, frame[["tp"]]], axis=1))
