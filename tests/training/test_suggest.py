"""What is suggested is what narrows intervals most, by the strata and widths of the bundle itself."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from roofcast.data import errors
from roofcast.features.request import normalise
from roofcast.predictor import Predictor
from roofcast.training.model.model import Model
from roofcast.training.model.support import support_of
from roofcast.training.suggest import KNOWN, choose, questions, suggest, widths

MEASURED = pd.DataFrame({"model": ["llama-3.3-70b", "qwen2.5-72b"], "gpu": "h100-sxm", "tp": 4})
MEASURED = MEASURED.assign(engine="vllm", concurrency=16)


@pytest.fixture(scope="module")
def model() -> Model:
    """The shipped model, made to know two setups on one GPU and nothing else."""
    return replace(Predictor.load().model, support=support_of(normalise(MEASURED)))


def test_a_nearer_stratum_never_has_the_wider_interval(model: Model) -> None:
    asked = normalise(questions("hgx-b200", ["llama-3.3-70b", "deepseek-r1"]))
    width = widths(model, asked)
    assert width.shape == (len(asked), len(KNOWN))
    assert (np.diff(width, axis=1) >= 0).all()
    assert (width > 0).all()


def test_each_choice_is_worth_what_it_narrows_and_no_more_than_the_one_before(model: Model) -> None:
    asked = questions("hgx-b200", ["llama-3.3-70b", "deepseek-r1", "qwen2.5-72b"])
    r = normalise(asked)
    chosen = choose(model, r, 12)
    gains = [one.narrowed for one in chosen]
    # Within a twentieth gains are a tie, and the setup most like the others goes first.
    assert all(later <= earlier / 0.95 for earlier, later in itertools.pairwise(gains))
    width = widths(model, r)
    rows_chosen = [one.row for one in chosen]
    known = replace(model, support=support_of(normalise(pd.concat([MEASURED, asked.iloc[rows_chosen]]))))
    gpu_seen = MEASURED.assign(gpu="b200-sxm", model="gpt-oss-120b").iloc[:1]
    before = replace(model, support=support_of(normalise(pd.concat([MEASURED, gpu_seen]))))

    def mean(of: Model) -> float:
        strata = [KNOWN.index(str(stratum)) for stratum in of.support.stratum(r)]
        return float(width[np.arange(len(r)), strata].mean())

    assert sum(gains) == pytest.approx(mean(before) - mean(known))


def test_what_is_asked_most_comes_first_and_what_is_known_never(model: Model) -> None:
    assert choose(model, normalise(MEASURED.assign(concurrency=[4, 64])), 5) == []
    asked = questions("hgx-b200", ["llama-3.3-70b", "deepseek-r1"])
    often = np.where(asked["model"] == "deepseek-r1", 100.0, 1.0)
    (first,) = choose(model, normalise(asked), 1, often)
    assert asked["model"][first.row] == "deepseek-r1"


def test_the_budget_is_kept_and_no_setup_comes_twice() -> None:
    rows = suggest(Predictor.load().model, platform="mi355x-8x", budget=6)
    assert len(rows) == 6
    assert not rows[["model", "engine", "weight_precision", "tp", "isl", "osl"]].duplicated().any()
    assert set(rows["engine"]) <= {"vllm", "sglang"}
    assert (rows["narrowed"] > 0).all()


def test_weights_are_the_published_ones_or_narrower_ones_the_chip_multiplies() -> None:
    asked = questions("hgx-h100", ["gpt-oss-120b", "deepseek-r1", "llama-3.3-70b"])
    served = asked.groupby("model")["weight_precision"].unique().map(set).to_dict()
    assert served == {"gpt-oss-120b": {"fp4"}, "deepseek-r1": {"fp8"}, "llama-3.3-70b": {"bf16", "fp8"}}


@pytest.mark.parametrize(
    ("asked", "error", "names"),
    [
        ({"platform": "hgx-b20"}, errors.UnknownName, "hgx-b20.*hgx-b200"),
        ({"models": ["lama-3.3-70b"]}, errors.UnknownName, "lama-3.3-70b.*llama-3.3-70b"),
        ({"budget": 0}, errors.BadRequest, "budget = 0"),
    ],
)
def test_what_cannot_be_suggested_is_refused(
    asked: dict[str, object], error: type[Exception], names: str
) -> None:
    with pytest.raises(error, match=names):
        suggest(Predictor.load().model, **{"platform": "hgx-b200", "budget": 1, **asked})


def test_the_command_prints_json_rows(capsys: pytest.CaptureFixture[str]) -> None:
    from roofcast.predictor.commands.learn import suggest as command

    command(platform="hgx-b200", budget=2, model=["llama-3.3-70b"], as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in rows] == ["llama-3.3-70b"] * 2
