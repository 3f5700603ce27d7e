"""A frame: the same numbers as one by one, row for row, whatever its index, order and size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data.columns import ANSWERS
from roofcast.data.errors import BadRequest
from roofcast.predictor import Predictor
from roofcast.predictor import predictor as module
from roofcast.predictor.prediction import NUMBERS

from .conftest import QUESTION, requests_frame

COLUMNS = [
    *(f"{name}{bound}" for name in ANSWERS for bound in ("", "_lo", "_hi")),
    *(f"{level}_{name}" for level in ("baseline", "floor") for name in ANSWERS),
    *(f"goodput_request_s{bound}" for bound in ("", "_lo", "_hi")),
    "support", "feasible", "laid_out", "reason",
]  # fmt: skip
INDICES = {
    "text with repeats": pd.Index(["b", "a", "a", "c"] * 100),
    "all the same": pd.Index([7] * 400),
    "dates": pd.date_range("2026-01-01", periods=400),
    "two levels": pd.MultiIndex.from_product([range(20), range(20)], names=["i", "j"]),
}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return requests_frame(400, seed=5)


@pytest.fixture(scope="module")
def answers(predictor: Predictor, frame: pd.DataFrame) -> pd.DataFrame:
    return predictor.predict_frame(frame)


@pytest.fixture(scope="module", params=["small", "shipped"])
def answering(request: pytest.FixtureRequest, predictor: Predictor, shipped: Predictor) -> Predictor:
    return predictor if request.param == "small" else shipped


def _same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(left, right, check_exact=False, rtol=1e-9)


def test_the_columns_are_those_promised(predictor: Predictor, answers: pd.DataFrame) -> None:
    assert list(answers.columns) == COLUMNS
    assert answers["feasible"].dtype == bool
    assert set(answers["support"]) <= {"in", "near", "far"}
    none = predictor.predict_frame(pd.DataFrame())
    assert (list(none.columns), len(none)) == (COLUMNS, 0)


def test_a_row_has_the_numbers_of_predict(answering: Predictor, frame: pd.DataFrame) -> None:
    part = frame.iloc[::37]
    assert not answering.predict_frame(part)["feasible"].all()
    for (_, asked), (_, row) in zip(part.iterrows(), answering.predict_frame(part).iterrows(), strict=True):
        alone = answering.predict(**asked.to_dict()).to_dict()
        wanted = [np.nan if alone[name] is None else alone[name] for name in NUMBERS]
        np.testing.assert_allclose(row[list(NUMBERS)].to_numpy(float), wanted, rtol=1e-9)
        assert all(row[name] == alone[name] for name in ("support", "feasible", "reason"))


def test_answers_obey_littles_law_lie_within_their_bounds_and_no_time_beats_its_floor(
    answering: Predictor, frame: pd.DataFrame
) -> None:
    found = pd.concat([frame, answering.predict_frame(frame)], axis=1).query("feasible")
    assert len(found) > 200
    in_flight = found["output_tok_s"] / found["osl"] * found["e2e_ms"] / 1e3
    np.testing.assert_allclose(in_flight, found["concurrency"], rtol=1e-9)
    both = found["output_tok_s"] * (1 + found["isl"] / found["osl"])
    np.testing.assert_allclose(found["total_tok_s"], both, rtol=1e-9)
    for name in ANSWERS:
        levels = found[[f"{name}_lo", name, f"{name}_hi"]].to_numpy()
        assert (levels[:, 0] > 0).all(), name
        assert (np.diff(levels, axis=1) >= 0).all(), name
    for name in ("ttft_ms", "tpot_ms", "e2e_ms"):
        for level in (name, f"{name}_lo", f"baseline_{name}"):
            assert (found[level] >= found[f"floor_{name}"] * (1 - 1e-12)).all(), level


def test_a_bad_row_says_why_and_harms_no_other(predictor: Predictor) -> None:
    bad = pd.DataFrame([QUESTION] * 4).astype(object)
    bad.loc[0, "model"], bad.loc[2, "isl"], bad.loc[3, "model"] = "qwen9-9b", -3, None
    answers = predictor.predict_frame(bad)
    for row, words in {0: "unknown model 'qwen9-9b'; nearest", 2: "isl = -3", 3: "model is required"}.items():
        assert words in answers.loc[row, "reason"]
        assert (answers.loc[row, "support"], answers.loc[row, "feasible"]) == ("far", False)
        assert answers.loc[row, list(NUMBERS)].isna().all()
    _same(answers.loc[[1]], predictor.predict_frame(pd.DataFrame([QUESTION] * 2)).loc[[1]])


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_the_index_is_kept(
    index: pd.Index, predictor: Predictor, frame: pd.DataFrame, answers: pd.DataFrame
) -> None:
    _same(predictor.predict_frame(frame.set_axis(index)), answers.set_axis(index))


def test_answers_do_not_depend_on_the_chunks(
    predictor: Predictor, frame: pd.DataFrame, answers: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rows, asked in ((1, 9), (7, 400), (399, 400), (400, 400)):
        monkeypatch.setattr(module, "CHUNK_ROWS", rows)
        _same(predictor.predict_frame(frame[:asked]), answers[:asked])


def test_a_cell_that_holds_a_list_or_a_mapping_harms_no_other_row(predictor: Predictor) -> None:
    good = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "tp": 1, "concurrency": 8}
    for name in good:
        rows = [good, *({**good, name: odd} for odd in ([1], {"a": 1}, b"x")), good]
        found = predictor.predict_frame(pd.DataFrame(rows, dtype=object))
        assert found["feasible"].tolist() == [True, False, False, False, True]
        assert found["reason"].str.contains(name).iloc[1:4].all()


def test_what_is_no_frame_is_refused(predictor: Predictor) -> None:
    wrong: Any
    for wrong in ({"model": ["llama-3.1-8b"]}, [], None):
        with pytest.raises(BadRequest, match="a pandas DataFrame"):
            predictor.predict_frame(wrong)


def test_a_column_given_twice_is_refused(predictor: Predictor, frame: pd.DataFrame) -> None:
    with pytest.raises(BadRequest, match="at most once"):
        predictor.predict_frame(pd.concat([frame, frame[["tp"]]], axis=1))
