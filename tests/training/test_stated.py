"""Rows asked as their sources state them are judged beside the same rows aligned, and so are posts."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from roofcast.data.columns import ASKED, names
from roofcast.data.stated import names_stated
from roofcast.data.store import BenchmarkStore
from roofcast.features.request import normalise
from roofcast.training import crossfit, posts, stated, trust
from roofcast.training.fit import Sample, Settings, sample_of
from roofcast.training.model.times import TREES

QUICK = Settings(trees=dict.fromkeys(TREES, 10), threads=1, calibration_steps=2)
TERMS = list(stated.TERMS)


@pytest.fixture(scope="module")
def sample() -> Sample:
    return sample_of(BenchmarkStore().load().sample(1200, random_state=4))


@pytest.fixture(scope="module")
def records(sample: Sample) -> list[crossfit.Records]:
    again = {stated.PROTOCOL: stated.reworded(sample)}
    return crossfit.cross_fit(sample, ["family", stated.PROTOCOL], QUICK, n_folds=2, reworded=again)


@pytest.fixture(scope="module")
def scores(records: list[crossfit.Records]) -> pd.DataFrame:
    return stated.stated_scores(records[:2], records[2:])


def test_the_aligned_answers_are_those_of_the_protocol(
    records: list[crossfit.Records], scores: pd.DataFrame
) -> None:
    own = trust.protocol_scores(records[:2], 1, bounds=False).set_index(["row", "metric"])["blend"]
    here = scores[scores["metric"] != stated.E2E].set_index(["row", "metric"])["aligned"]
    pd.testing.assert_series_equal(here.sort_index(), own.sort_index(), check_names=False)


def test_words_that_say_the_same_get_the_same_answer_and_nominal_lengths_without_their_range_another(
    sample: Sample, scores: pd.DataFrame
) -> None:
    said = sample.table["stated"].map(lambda text: json.loads(text) if text else {})
    alike = said.map(lambda terms: not set(terms) & set(names(roles=("load",))))
    here = scores[alike.to_numpy()[scores["row"]]]
    assert len(here) > 100
    assert here["lengths"].equals(here["aligned"])
    nominal = said.map(lambda terms: terms.get("isl") == 1024.0).to_numpy()[scores["row"]]
    same = scores.loc[nominal, [*stated.TERMS]].eq(scores.loc[nominal, "aligned"], axis=0).mean()
    assert same["lengths"] > 0.9
    assert same["bare"] < 0.1


def test_what_settles_requests_first_can_be_handed_in(sample: Sample) -> None:
    def ask(frame: pd.DataFrame) -> object:
        return normalise(frame.assign(tp=frame["tp"].fillna(1.0)))

    few = sample.take(np.flatnonzero(sample.table["stated"].str.contains('"tp": null'))[:5])
    whole, *_ = stated.reworded(few, ask)
    assert whole.requests.tp.tolist() == [1.0] * 5
    assert (stated.reworded(few)[0].requests.tp > 1.0).any()


def test_figures_compare_the_rows_answered_both_ways_and_count_the_others() -> None:
    rows = pd.DataFrame({
        "row": range(4), "metric": "tpot_ms", "measured": 10.0, "aligned": [11.0, 9.0, 11.0, 10.0],
        "stated": [12.0, 8.0, 11.0, np.nan], "lengths": [12.0, 8.0, 11.0, 10.0],
        "layout": [11.0, 9.0, 11.0, np.nan], "subject": [11.0, 9.0, 11.0, 10.0],
        "bare": [12.0, 8.0, 11.0, 10.0],
        "source_family": ["a", "a", "b", "b"],
    })  # fmt: skip
    figures = stated.stated_figures(rows).set_index(["part", "value"])
    of_all, other = figures.loc[("rows", "all")], figures.loc[("rows", "asked otherwise")]
    assert of_all[["rows", "unanswered"]].tolist() == [3, 1]
    assert other[["rows", "unanswered"]].tolist() == [2, 1]
    assert other[["aligned", "asked", "ratio"]].tolist() == pytest.approx([10.0, 20.0, 2.0])
    assert ("terms", "subject") not in figures.index
    assert figures.loc[("source_family", "a"), "ratio"] == pytest.approx(2.0)
    table, families = stated.stated_shown(figures.reset_index().to_dict("records"))
    assert table["TPOT"].tolist()[1] == "10.0/20.0 (**2.00**)"
    assert families["asked"].tolist()[0] == "a"


def test_names_that_nobody_knows_are_counted_by_their_rows() -> None:
    said = ['{"model": "dsv4-in-house"}'] * 3 + ['{"model": "meta-llama/Llama-3.3-70B-Instruct"}', ""]
    names = names_stated(pd.DataFrame({"stated": said}))
    assert names == {"rows": 4, "names": 2, "unknown": [["dsv4-in-house", 3]]}
    assert "25.0%; of the others most are dsv4-in-house (3)" in stated.names_shown(names)


def test_posts_are_asked_in_their_words_and_compared_like_with_like() -> None:
    asked: list[pd.DataFrame] = []

    def answer(frame: pd.DataFrame) -> pd.DataFrame:
        asked.append(frame)
        known = frame["gpu"] != "DGX Spark"
        figures = {"tpot_ms": 10.0, "ttft_ms": 100.0, "ttft_mean_ms": 200.0, "output_tok_s": 1000.0}
        return pd.DataFrame({**figures, "feasible": known, "reason": "unknown gpu"}, index=frame.index)

    compared = posts.posts_compared(answer)
    assert set(asked[0]) <= set(ASKED)
    assert {"nvidia/Kimi-K2.5-NVFP4", "Qwen/Qwen3-14B-AWQ"} <= set(asked[0]["model"])
    assert compared["reason"].value_counts().to_dict() == {"": 54, "unknown gpu": 1}
    table, errors = posts.posts_shown(compared.to_dict("records"))
    row = table[table["post"].str.startswith("llama3-70b-awq")].iloc[0]
    assert (row["median TTFT"], row["mean TTFT"]) == ("100/368.6 -73%", "200/561.3 -64%")
    assert "mean TTFT" in errors


def test_every_post_has_an_address_and_a_figure() -> None:
    rows = posts.posted()
    assert rows["source_ref"].str.startswith("https://").all()
    assert rows[list(posts.MEASURED)].notna().any(axis=1).all()
